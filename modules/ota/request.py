"""What is sent to a server, and where it goes: see http. Imported until it has been made."""

from . import urls
from .errors import OtaError

_TEXT = (
    "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: iot-platform-ota\r\nAccept-Encoding: identity\r\nConnection: close\r\n%s\r\n"
)


def origin(base_url, headers):
    """``(origin, text)``: the scheme, host and port that `headers` belong to, and these as they are sent."""
    private = "".join("%s: %s\r\n" % (_clean(k), _clean(v)) for k, v in (headers or {}).items())
    return urls.split(base_url, "not_configured")[:3], private


def absolute(base, url):
    """``(url, origin)`` of a URL that may be relative."""
    url = urls.join(base, url)
    return url, urls.split(url)[:3]


def message(url, extra):
    """``(scheme, host, port, text)``: where to connect, and what to send there."""
    scheme, host, port, target = urls.split(url)
    return scheme, host, port, _TEXT % (target, urls.host_header(scheme, host, port), extra)


def follow(url, location, scheme):
    """Where a redirect leads: ``(url, origin)``."""
    url = urls.join(url, location)
    found = urls.split(url, "redirect")[:3]
    if scheme == "https" and found[0] == "http":
        raise OtaError("redirect", "a redirect from https to http is not followed")
    return url, found


def conditions(etag, offset, if_range):
    """More header lines: what the answer depends on."""
    text = "If-None-Match: %s\r\n" % _clean(etag) if etag else ""
    if offset:
        text += "Range: bytes=%d-\r\n" % offset
        if if_range and if_range[0] == '"':  # a weak one never matches here: the digest has to show that it was the same file
            text += "If-Range: %s\r\n" % _clean(if_range)
    return text


def _clean(text):
    """`text`, unless it could end a header."""
    if not isinstance(text, str) or not text or not all(" " <= c <= "~" for c in text):
        raise OtaError("not_configured", "a request header must be printable ASCII text")
    return text
