"""`"ca": "system"` in a profile: the root certificates of the servers that it names, as this computer trusts them, in the tree.

A board has no store of authorities, and no memory for one: it gets those that it needs, in the file `/system`.
"""

from __future__ import annotations

import socket
import ssl
import sys
from typing import Any

from iotctl.errors import IotctlError
from modules.ota.transport import urls

NAME = "system"
_MOST = 8192  # bytes that a board reads of the file: see iot_platform.sockets
_PATIENCE_S = 15


def needed(value: dict[str, Any]) -> list[tuple[str, int]]:
    """The servers of a good profile whose roots are wanted: hosts and ports."""
    ota, mqtt = value.get("ota") or {}, value.get("mqtt") or {}
    found = []
    if ota.get("ca") == NAME and str(ota.get("url")).startswith("https:"):
        found = [urls.split(ota["url"])[1:3], *((host, 443) for host in ota.get("redirect_hosts", ()))]
    if mqtt.get("ca") == NAME and mqtt.get("host"):
        found.append((mqtt["host"], mqtt.get("port") or 8883))
    return found


def roots(servers: list[tuple[str, int]]) -> bytes:
    """Their certificates, PEM. IotctlError when one of them does not answer, or is not to be trusted."""
    found = {_root(host, port): None for host, port in servers}
    made = "".join(map(ssl.DER_cert_to_PEM_cert, found)).encode()
    if len(made) > _MOST:
        raise IotctlError(f"ca: the roots of {len(servers)} servers have {len(made)} bytes: a board reads {_MOST}")
    return made


def _root(host: str, port: int) -> bytes:
    try:
        with (
            socket.create_connection((host, port), _PATIENCE_S) as plain,
            ssl.create_default_context().wrap_socket(plain, server_hostname=host) as secure,
        ):
            if sys.version_info >= (3, 13):
                return secure.get_verified_chain()[-1]
            found: Any = secure._sslobj  # type: ignore[attr-defined]
            return ssl.PEM_cert_to_DER_cert(found.get_verified_chain()[-1].public_bytes())
    except OSError as error:
        raise IotctlError(f"ca: {host}:{port}, whose authority the board needs: {error}") from None
