"""A socket's methods, tried without waiting: what a connection needs for as long as it lasts. Opening one: see dial."""

import errno

try:
    from time import ticks_diff, ticks_ms
except ImportError:  # CPython
    from time import monotonic

    def ticks_ms():
        return int(monotonic() * 1000)

    def ticks_diff(end, start):
        return end - start


try:
    import tls
except ImportError:
    try:
        import ssl as tls
    except ImportError:
        tls = None

SOON = 2  # what a generator yields that waits for a socket: true, so that a loop with other things to do goes on with them
_AGAIN = (errno.EAGAIN, errno.EINPROGRESS)
_WANT = (tls.SSLWantReadError, tls.SSLWantWriteError) if hasattr(tls, "SSLWantReadError") else ()  # CPython's EAGAIN
_TEXT = {
    "connect": "no connection to the server",
    "timeout": "the server does not answer",
    "tls": "no secure connection to the server",
    "connection_lost": "the connection was lost",
}


def attempt(call, argument, reason, error):
    """The result of a socket's method, or None if it would block (MicroPython returns that, CPython raises it).

    :param reason: what a failure is called, unless the system says that it was a timeout or a certificate.
    """
    try:
        return call(argument)
    except OSError as failure:
        if failure.errno in _AGAIN or isinstance(failure, _WANT):
            return None
        if failure.errno == errno.ETIMEDOUT:
            reason = "timeout"
        raise error(reason, "%s: %s" % (_TEXT[reason], failure))
    except ValueError as failure:  # MicroPython's word for a certificate that is refused
        raise error("tls", "%s: %s" % (_TEXT["tls"], str(failure).strip()))
