"""URLs: taken apart, put together, and where a redirect leads; and what the headers of an answer say. Pure text.

A URL is accepted if it is ``http`` or ``https``, has a plain host name or an address (IPv6 in brackets), no credentials, and not
one character that could end a line or a word of a request.

>>> join("http://host/a/b?q", "../c")
'http://host/c'
"""

import time

from iot_platform.module import plain, printable
from micropython import const

from ..errors import OtaError

MAX_URL = const(4200)
_MAX_RETRY_S = const(7 * 86_400)
_NEEDED = const(b" content-length transfer-encoding content-range etag location retry-after connection ")
_PORTS = {"http": 80, "https": 443}


def split(url, reason="bad_response"):
    """``(scheme, host, port, target)``; target is path and query, beginning with ``/``. OtaError `reason` if not accepted."""
    scheme, mark, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme not in _PORTS or not mark or len(url) > MAX_URL or not printable(url):
        raise OtaError(reason, "not an http or https URL")
    rest = rest.split("#")[0]
    end = min(i for i in (rest.find("/"), rest.find("?"), len(rest)) if i >= 0)
    six = rest[:1] == "["
    host, colon, port = rest[six:end].partition("]" if six else ":")
    if six:
        host = host if colon and port[:1] in ("", ":") else ""
        colon, port = port[:1], port[1:]
    if "@" in rest[:end]:
        raise OtaError(reason, "a URL must not contain credentials")
    if not host or not plain(host, b":." if six else b"-._"):
        raise OtaError(reason, "a URL has no proper host")
    if colon and not (0 < len(port) < 6 and port.isdigit() and 0 < int(port) < 65536):
        raise OtaError(reason, "a URL has no proper port")
    target = rest[end:]
    return scheme, host.lower(), int(port) if colon else _PORTS[scheme], target if target[:1] == "/" else "/" + target


def check_host(host, own, others):
    """OtaError unless a redirect may lead from the host `own` to `host`: only to itself, and to `others`."""
    if host != own and host not in others:
        raise OtaError("redirect", "a redirect to %s is not followed: ota.redirect_hosts does not name it" % host)


def host_header(scheme, host, port):
    if ":" in host:
        host = "[" + host + "]"
    return host if port == _PORTS[scheme] else host + ":" + str(port)


def join(base, location):
    """The URL that `location`, absolute or relative (RFC 3986, section 5), means in an answer from `base`."""
    location = location.split("#")[0]
    scheme, colon, _rest = location.partition(":")
    if colon and scheme and plain(scheme, b"+-."):  # x:..., but not a?u=http://... or /a:b
        return location
    scheme, host, port, target = split(base)
    if location.startswith("//"):
        return scheme + ":" + location
    path = target.split("?")[0]
    path_given, mark, query = location.partition("?")
    if path_given:
        path = _without_dots(path_given if path_given[:1] == "/" else path[: path.rindex("/") + 1] + path_given)
    elif not mark:
        query = target.partition("?")[2]
        mark = query and "?"
    return "%s://%s%s%s%s" % (scheme, host_header(scheme, host, port), path, mark, query)


def _without_dots(path):
    out = []
    parts = path.split("/")[1:]
    for part in parts:
        if part == "..":
            if out:
                out.pop()
        elif part != ".":
            out.append(part)
    if parts[-1] in (".", ".."):
        out.append("")
    return "/" + "/".join(out)


# -- headers


def needed(line):
    """True for the beginning of a header that is kept, or of none."""
    at = line.find(b":")
    return at < 0 or b" " + bytes(line[:at]).lower() + b" " in _NEEDED


def header(line, found):
    """Keep a header that is needed. Twice the same, or a line that is none: refused."""
    name, colon, value = line.partition(b":")
    if line and (not colon or not name or name.strip() != name or b" " in name or b"\r" in value or b"\0" in value):
        raise bad("a header is malformed")
    name = name.lower()
    if line and b" " + name + b" " in _NEEDED:
        if name in found:
            raise bad("a header stands there twice")
        found[name] = value.strip()


def digits(value):
    if not 0 < len(value) < 11 or not all(48 <= c <= 57 for c in value):
        raise bad("a number is malformed")
    return int(value)


def retry_after(value):
    """Seconds; None where it says nothing. A date such as ``Sun, 06 Nov 1994 08:49:37 GMT`` counts where the time is known."""
    now = time.gmtime()
    try:
        if not value.isdigit():
            _name, day, month, year, clock = value.split()[:5]
            month = b"JanFebMarAprMayJunJulAugSepOctNovDec".index(month) // 3 + 1
            hour, minute, second = clock.split(b":")
            date = int(year), month, int(day), int(hour), int(minute), int(second), 0, 0, 0
            return None if now[0] < 2024 else min(max(time.mktime(date) - time.mktime(now), 0), _MAX_RETRY_S)
        return min(digits(value), _MAX_RETRY_S)
    except (ValueError, OverflowError, OtaError):
        return None


def short_text(value, most):
    """A header's value as text if it is short, printable and without spaces, else None."""
    if value is None or not 0 < len(value) <= most or not all(33 <= c <= 126 for c in value):
        return None
    return value.decode()


def clean(text):
    """`text`, unless it could end a header."""
    if not isinstance(text, str) or not text or not printable(text, 32):
        raise OtaError("not_configured", "a request header must be printable ASCII text")
    return text


def bad(what):
    """The error for an answer that breaks HTTP's rules, or ours."""
    return OtaError("bad_response", "the server's answer is not understood: " + what)
