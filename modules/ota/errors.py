"""The one exception of an update, and the reasons it can carry.

A reason is a short, stable, machine-readable word: it goes into telemetry, replies and the state that survives a reboot.
The sentence is for a person. What the caller should do follows from the kind:

    transport      the network or the server failed: try again later, with a growing pause
    damage         what arrived is not what was signed, so far as one can tell: from a server it is fetched again in the same way,
                   a file that was brought is refused at once
    verification   what was announced is not for this board: refuse it, never fetch it again
    storage        this board cannot hold or write it now
    state          this is not the moment, or not the board, for what was asked; or "internal", a mistake of this updater
"""

from micropython import const

# Strings, not lists: those would take 1.4 KB of a board's heap for ever.
_TRANSPORT = const(" no_network dns connect timeout http_status bad_response too_large redirect tls connection_lost ")
_DAMAGE = const(" bad_channel bad_bundle bad_signature no_signature bad_member bad_digest expired ")  # and a clock may be wrong
_VERIFICATION = const(" wrong_name old_sequence far_sequence wrong_mpy bad_path protected_path bad_key version_mismatch ")
_STORAGE = const(" no_space flash_error no_memory ")


class OtaError(Exception):
    """What an update refuses or fails with; `retry` is after how many seconds the server asked to be tried again, or None."""

    def __init__(self, reason, message, retry=None):
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retry = retry

    @property
    def kind(self):
        word = " %s " % self.reason
        if word in _TRANSPORT:
            return "transport"
        if word in _DAMAGE:
            return "damage"
        if word in _VERIFICATION:
            return "verification"
        return "storage" if word in _STORAGE else "state"


def from_system(error):
    """The OtaError for what the file system or the heap had to say, an OSError or a MemoryError; or it is one."""
    if isinstance(error, OtaError):
        return error
    if isinstance(error, MemoryError):
        return OtaError("no_memory", "too little memory: %s" % error)
    if error.errno == 28:  # ENOSPC
        return OtaError("no_space", "the disk is full")
    return OtaError("flash_error", "the file system answered %r" % error)
