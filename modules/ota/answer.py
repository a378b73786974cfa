"""The beginning of an answer, status line and headers, and what they mean: see http. Imported until they have been read."""

from .connection import LINE, bad
from .errors import OtaError

_MAX_HEAD = 4096
_MAX_RETRY_S = 7 * 86_400
_NEEDED = (b"content-length", b"transfer-encoding", b"content-encoding", b"content-range", b"etag", b"location", b"retry-after")


def read_head(response, offset):
    """Status line and headers. Generator."""
    budget = _MAX_HEAD
    old = found = None
    while found is None or 100 <= response.status < 200:
        line = yield from response.connection.line(LINE)
        old, response.status = _status(line)
        found = {}
        while line:
            budget -= len(line) + 2
            if budget < 0:
                raise OtaError("too_large", "the answer's headers have more than %d bytes" % _MAX_HEAD)
            line = yield from response.connection.line(LINE)
            _header(line, found)
    _understand(response, found, old, offset)


def _understand(response, found, old, offset):
    ok = response.status in (200, 206)
    _frame(response, found.get(b"content-length"), found.get(b"transfer-encoding"), old)
    if ok and found.get(b"content-encoding", b"identity").lower() != b"identity":
        raise bad("it is compressed, though that was not asked for")
    if response.status == 206:
        response.content_range = _content_range(found.get(b"content-range", b""))
        _check_range(response, offset)
    response.length_known = response.chunked or response.left is not None
    if ok and (response.left or 0) > response.most:
        raise response.too_large()
    response.etag = _text(found.get(b"etag"), 128)
    if response.status in (301, 302, 303, 307, 308):
        response.location = _text(found.get(b"location"), LINE)
        if not response.location:
            raise OtaError("redirect", "a redirect that leads nowhere")
    after = found.get(b"retry-after", b"")
    response.retry_after = min(_digits(after), _MAX_RETRY_S) if after.isdigit() and len(after) < 10 else None


def _frame(response, length, encoding, old):
    """What ends the body (RFC 9112, section 6.3), where anything ambiguous is refused."""
    if length is not None:
        response.content_length = response.left = _digits(length)
    if encoding is not None:
        if old or length is not None or encoding.lower() != b"chunked":
            raise bad("its length is not clear")
        response.chunked, response.left = True, 0
    if response.status in (204, 304):
        response.chunked, response.left = False, 0


def _check_range(response, offset):
    first, last, total = response.content_range
    wrong = not offset or first != offset or last < first or (total is not None and last >= total)
    if wrong or response.content_length not in (None, last - first + 1):
        raise bad("it is not the part that was asked for")
    if response.left is None:
        response.left = last - first + 1


def _status(line):
    """``(True for HTTP/1.0, status)``."""
    if line[:8] not in (b"HTTP/1.1", b"HTTP/1.0") or line[8:9] != b" " or line[12:13] not in (b"", b" "):
        raise bad("it is not HTTP")
    status = _digits(line[9:12])
    if not 100 <= status < 600 or status == 101:
        raise bad("it has no proper status")
    return line[7:8] == b"0", status


def _header(line, found):
    """Keep a header that is needed. Twice the same, or a line that is none: refused."""
    name, colon, value = line.partition(b":")
    if line and (not colon or not name or name.strip() != name or b" " in name or b"\r" in value or b"\0" in value):
        raise bad("a header is malformed")
    name = name.lower()
    if name in _NEEDED:
        if name in found:
            raise bad("a header stands there twice")
        found[name] = value.strip()


def _content_range(value):
    """``bytes 5-9/10`` -> (5, 9, 10); the total may be ``*``, None then."""
    unit, _space, value = value.partition(b" ")
    span, slash, total = value.strip().partition(b"/")
    first, dash, last = span.partition(b"-")
    if unit.lower() != b"bytes" or not slash or not dash:
        raise bad("it does not say which part of the file it is")
    return _digits(first), _digits(last), None if total == b"*" else _digits(total)


def _digits(value):
    if not 0 < len(value) < 11 or not all(48 <= c <= 57 for c in value):
        raise bad("a number is malformed")
    return int(value)


def _text(value, most):
    """A header's value as text if it is short, printable and without spaces, else None."""
    if value is None or not 0 < len(value) <= most or not all(33 <= c <= 126 for c in value):
        return None
    return value.decode()
