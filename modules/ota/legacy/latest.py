"""The line of the `latest` protocol: what public-micropython-iot-platform's servers say is current.

    <url>/<shortName in lower case>/latest     ->  1.4.0;firmware.tar.gz;120;43210;<sha256>;

Fields from the third on may be missing: older servers give ``version;file;`` or ``version;file;kb;sha256``.
"""

from iot_platform.words import name_ok

from . import versions
from .checks import is_digest
from .errors import OtaError, status_error

_MAX_LATEST = 256
_TOTAL_MS = 60_000


def parse_latest(text):
    """``(version, file, size_kb, size, sha256)`` of a `latest` line, None for what it does not say; OtaError ``bad_channel``."""
    fields = text.strip().split(";")
    if fields[-1] == "":
        fields.pop()
    if not 2 <= len(fields) <= 5 or "\n" in text.strip():
        raise _bad_line("it has not two to five fields")
    version, file = fields[:2]
    if not versions.valid(version):
        raise _bad_line("its version is none")
    if not name_ok(file):
        raise _bad_line("its file name is not a plain one")
    if len(fields) == 4 and len(fields[3]) == 64:
        fields.insert(3, "")
    size_kb, size, sha256 = fields[2:] + [""] * (5 - len(fields))
    sha256 = sha256.lower()
    if sha256 and not is_digest(sha256):
        raise _bad_line("its digest is none")
    return version, file, _number(size_kb), _number(size), sha256 or None


def latest(ota):
    """Ask for the `latest` line. Generator; returns what parse_latest does."""
    from .ask import read_body
    from .through_requests import Response

    response = Response(ota, ota.url("latest"), _TOTAL_MS)
    try:
        if response.status != 200:
            raise status_error(response, "latest")
        body = yield from read_body(response, _MAX_LATEST)
    finally:
        ota.count(response)
        response.close()
    try:
        return parse_latest(bytes(body).decode())
    except UnicodeError:
        raise _bad_line("it is not text")


def _number(text):
    """A field's whole number, None when it is empty; OtaError when it is something else."""
    if not text:
        return None
    if len(text) > 9 or not all("0" <= c <= "9" for c in text):
        raise _bad_line("a size is not a number")
    return int(text)


def _bad_line(what):
    return OtaError("bad_channel", "the server's `latest` is not right: " + what)
