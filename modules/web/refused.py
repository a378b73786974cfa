"""Why a request gets no: every such answer is JSON, ``{"error": reason, "message": sentence}``."""


class Refused(Exception):
    """``args``: the HTTP status; one word for a program; a sentence for a person; seconds after which it may work, or None."""

    def __init__(self, status, reason, message, wait=None):
        super().__init__(status, reason, message, wait)
