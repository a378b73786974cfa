"""The page's files: gzipped when the board's tree was made, sent in small pieces, cached by digest."""

import binascii
import os

from microdot.microdot import Response

from .refused import Refused

_FOLDER = "/modules/web/www/"
_TYPES = {"html": "text/html; charset=utf-8", "js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8"}
_TYPES["svg"] = "image/svg+xml"


async def serve(_server, request):
    """``/`` is index.html. With a query (its digest) a file is kept for ever, without one it is asked for each time."""
    name = request.path[1:] or "index.html"
    path = _FOLDER + name + ".gz"
    if "/" in name or name[:1] == "." or not _exists(path):
        raise Refused(404, "not_found", "there is nothing at this address")
    headers = {"Content-Type": _TYPES.get(name.rpartition(".")[2], "application/octet-stream"), "Content-Encoding": "gzip"}
    headers["Cache-Control"] = "max-age=31536000, immutable" if request.sock[0].query else "no-cache"
    f = open(path, "rb")
    f.seek(-8, 2)
    etag = '"%s"' % binascii.hexlify(f.read(8)).decode()  # gzip ends with the content's checksum and length
    headers["ETag"] = etag
    if request.headers.get("If-None-Match") == etag:
        f.close()
        return Response(b"", 304, headers)
    headers["Content-Length"] = str(f.tell())
    f.seek(0)
    return Response(f, 200, headers)


def _exists(path):
    try:
        return not os.stat(path)[0] & 0x4000
    except OSError:
        return False
