"""Ordinary hosts of files, as they answer: what each says beside the file, and what it wants. docs/hosting.md has the recipes."""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from iotctl import serve

SIGNED = "?Policy=" + "eyJTdGF0ZW1lbnQiOlt7IlJlc291cmNl" * 8 + "&Signature=" + "Fh3~kQ-x" * 43 + "__&Key-Pair-Id=K2JCJMDEHXQW5F"
_BLOB = "/github-production-release-asset/8611/"
_CSP = "default-src 'none'; connect-src 'self' " + " ".join(f"{n:03}.blob.core.windows.net" for n in range(110))


class Host(serve.Handler):
    """`extra`: headers of every file. `tag`: an ETag that is not made of the content."""

    extra: dict[str, str] = {}
    tag = ""

    def reply(self, status: HTTPStatus, headers: dict[str, str], body: bytes) -> None:
        more = self.extra if status < HTTPStatus.BAD_REQUEST else {}
        super().reply(status, {**headers, **more, **({"ETag": self.tag} if self.tag else {})}, body)


class Nginx(Host):
    server_version, sys_version = "nginx/1.22.1", ""
    extra = {"Last-Modified": "Fri, 27 Nov 2026 12:00:00 GMT", "Connection": "keep-alive"}


class Apache(Host):
    """It takes a .gz for an encoding, and calls it so."""

    extra = {"Content-Encoding": "x-gzip", "Vary": "Accept-Encoding", "Last-Modified": "Fri, 27 Nov 2026 12:00:00 GMT"}


class Caddy(Host):
    extra = {"Alt-Svc": 'h3=":443"; ma=2592000', "Vary": "Accept-Encoding", "Server": "Caddy"}


class Bucket(Host):
    """S3 behind CloudFront: nothing without the signature in the query."""

    extra = {"x-amz-id-2": "Zk9" * 26, "x-amz-server-side-encryption": "AES256", "Via": "1.1 f0.cloudfront.net", "X-Cache": "Hit"}

    def do_GET(self) -> None:
        if {"Policy", "Signature", "Key-Pair-Id"} <= parse_qs(urlsplit(self.path).query).keys():
            super().do_GET()
        else:
            self.reply(HTTPStatus.FORBIDDEN, {"Content-Type": "application/xml"}, b"<Error><Code>MissingKey</Code></Error>")


class Pages(Host):
    extra = {"Cache-Control": "max-age=600", "x-proxy-cache": "MISS", "X-Served-By": "cache-fra-eddf8230020-FRA", "Age": "0"}


class Releases(Host):
    """GitHub's: a file is at another host, for some minutes, at an address that is signed."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path.startswith(_BLOB) and parse_qs(parts.query).get("sig"):
            self.path = "/" + parts.path.removeprefix(_BLOB)
            super().do_GET()
        elif self._find() is None:
            self.reply(HTTPStatus.NOT_FOUND, {}, b"Not Found")
        else:
            signature = hashlib.sha512(self.path.encode()).hexdigest() * 8
            to = f"http://localhost:{self.server.server_port}{_BLOB}{self.path[1:]}?sp=r&sv=2018-11-09&sig={signature}"
            self.reply(HTTPStatus.FOUND, {"Location": to, "Content-Security-Policy": _CSP}, b"")


HOSTS: dict[str, type[Host]] = {host.__name__.lower(): host for host in (Nginx, Apache, Caddy, Bucket, Pages, Releases)}
