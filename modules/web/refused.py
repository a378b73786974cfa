"""Why a request gets no: every such answer is JSON, ``{"error": reason, "message": sentence}``."""

from microdot.microdot import HTTPException


class Refused(HTTPException):
    """
    :param status: the HTTP status.
    :param reason: one word for a program; `message` is a sentence for a person.
    :param wait: seconds after which the client may try again, or None.
    """

    def __init__(self, status, reason, message, wait=None):
        self.status_code = status
        self.reason = (reason, message, wait)
