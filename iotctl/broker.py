"""An MQTT broker inside this program, for `make demo`: amqtt on a thread of its own, for this machine only.

    broker = EmbeddedBroker()
    broker.start()
    ...
    broker.close()

Whoever has many boards takes a broker that was made for that, such as mosquitto.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from typing import Any

from iotctl.errors import IotctlError

_START_S = 15


class EmbeddedBroker:
    """Listens on a port of its own; takes everybody who can reach it, which is this machine."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        with socket.socket() as sock:
            sock.bind((self.host, 0))
            self.port = int(sock.getsockname()[1])
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._broker: Any = None

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def start(self) -> None:
        """IotctlError when it cannot listen."""
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(_START_S)
        except Exception as error:  # amqtt has many classes for it
            raise IotctlError(f"the broker at {self.address} does not start: {error}") from error

    def close(self) -> None:
        if self._broker:
            asyncio.run_coroutine_threadsafe(self._broker.shutdown(), self._loop).result(_START_S)
            self._broker = None
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_START_S)

    async def _start(self) -> None:
        from amqtt.broker import Broker

        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        config = {
            "listeners": {"default": {"type": "tcp", "bind": self.address}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
        broker = Broker(config)
        await broker.start()
        self._broker = broker
