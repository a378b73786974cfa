"""Where the dashboard listens, and that it does."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from iotctl.dashboard.live import Live
from iotctl.dashboard.server import make_app
from iotctl.errors import IotctlError
from iotctl.fleet import Address
from iotctl.keys import PrivateKey
from iotctl.register import Register


@dataclass(frozen=True)
class Place:
    """Where it listens, and the other names that browsers may know it by."""

    host: str
    port: int
    names: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/"

    @property
    def local(self) -> bool:
        return self.host == "localhost" or self.host == "::1" or self.host.startswith("127.")

    def listen(self) -> socket.socket:
        """Before anybody is told of it. IotctlError when that cannot be."""
        try:
            return socket.create_server((self.host, self.port), family=socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        except OSError as error:
            raise IotctlError(f"cannot listen at {self.url}: {error.strerror}") from None


def run(
    address: Address, site: Path, key: PrivateKey | None, register: Register, place: Place, say: Callable[[str], None]
) -> None:
    """Serve it until Ctrl-C. IotctlError when the broker is not there."""
    password = secrets.token_urlsafe(12)
    live = Live(address, site, key, register)
    with live.fleet as fleet, place.listen() as sock:
        fleet.settle()
        say(f"the dashboard of {address} is at {place.url}  password: {password}  (Ctrl-C ends)")
        if not place.local:
            say("it speaks plain HTTP: on a network that you do not trust, put a proxy with TLS before it (--name)")
        config = uvicorn.Config(
            make_app(live, password, place.names, lambda: server.should_exit),
            log_level="error",
            proxy_headers=False,
            server_header=False,
            limit_concurrency=200,
            timeout_graceful_shutdown=2,
        )
        server = uvicorn.Server(config)
        server.run([sock])
