"""The profile's ``web`` section: which keys there are, and what each must be. Pure; host and board use the same code."""

from iot_platform.module import plain

from .module import password_ok


def check(web):
    """Every error of the section: a list of ``(key, problem, expected form)``, empty for a good one, or for none at all."""
    if web is None:
        return []
    if not isinstance(web, dict):
        return [("web", "is wrong", "an object, such as {}")]
    return [("web." + key, "is wrong", expected) for key, good, expected in _OPTIONAL if key in web and not good(web[key])]


def _is_host(value):
    """True for what a Host header may hold: a name or an address, without a port."""
    return isinstance(value, str) and 0 < len(value) <= 100 and value == value.lower() and plain(value, b"-.[]:")


def _is_hosts(value):
    return isinstance(value, list) and len(value) <= 8 and all(_is_host(host) for host in value)


def _between(low, high):
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


_OPTIONAL = (
    ("port", _between(1, 65535), "a TCP port, 1 to 65535"),
    ("password", password_ok, "a password of 8 characters to 64 bytes"),
    ("hosts", _is_hosts, 'at most 8 more names of the board in lower case, such as ["door.example.org"]'),
    ("max_streams", _between(1, 12), "event streams at once, 1 to 12"),
    ("session_s", _between(60, 86_400), "seconds after which an unused login ends, 60 to 86400"),
)
