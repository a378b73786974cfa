"""Light MQTT clients that behave as boards do: `python -m bench.clients PORT SITE COUNT`, until it is killed.

Each has a connection of its own with a last will, tells its values, numbers twice a minute, follows the channel file as a board's
check would, takes an update with the states that a board goes through, and answers commands. A line on stdout every ten seconds:
how many are connected, and how many messages were sent since the last line.
"""

from __future__ import annotations

import asyncio
import json
import random
import struct
import sys
import time
from pathlib import Path
from typing import Any

from iotctl.offers import Offer, Site
from modules.ota.release import policy

KIND = "sim-board"
_NOISY_S = 30
_CHECK_S = 20
_SLICES = 100  # a round of what is due is spread over so many parts
_STATES = (  # seconds after its check, and what a board says then
    (0.0, {"ota/status": "downloading", "ota/progress": "0"}),
    (1.5, {"ota/progress": "50"}),
    (3.0, {"ota/status": "installing", "ota/progress": "100"}),
    (3.5, {"ota/status": "rebooting", "online": "false"}),
    (6.0, {"online": "true", "ota/status": "trial"}),
    (8.0, {"ota/status": "confirmed"}),
)


class Fleet:
    """All of them, and what their channel says."""

    def __init__(self, port: int, site: Site, count: int) -> None:
        self.port, self.sent = port, 0
        self._site = site
        self.clients = [Client(self, number) for number in range(count)]

    @property
    def offer(self) -> Offer:
        return self._site.offer(KIND, "stable") or {"version": ""}

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number, client in enumerate(self.clients):
            await loop.create_connection(lambda client=client: client, "127.0.0.1", self.port)  # type: ignore[misc]
            if number % 50 == 49:
                await asyncio.sleep(0.05)
        await asyncio.gather(self._rounds(_NOISY_S, Client.tell_numbers), self._rounds(_CHECK_S, Client.check), self._report())

    async def _rounds(self, every_s: float, what: Any) -> None:
        while True:
            for part in range(_SLICES):
                began = time.monotonic()
                self._site.look()
                for client in self.clients[part::_SLICES]:
                    what(client)
                await asyncio.sleep(max(0.0, every_s / _SLICES - (time.monotonic() - began)))

    async def _report(self) -> None:
        while True:
            print(json.dumps({"connected": sum(client.connected for client in self.clients), "sent": self.sent}), flush=True)
            self.sent = 0
            await asyncio.sleep(10)


class Client(asyncio.Protocol):
    """One board's connection. MQTT 3.1.1, QoS 0."""

    def __init__(self, fleet: Fleet, number: int) -> None:
        self._fleet = fleet
        self._id = f"c{number:05}"
        self._base = f"{KIND}/{self._id}"
        self._version = "1.0.0"
        self._busy = False
        self._rest = b""
        self._transport: Any = None
        self.connected = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        will = _text(f"{self._base}/status/online") + _text("false")
        flags = 0x02 | 0x04 | 0x20  # a clean session; a will, retained
        self._write(0x10, _text("MQTT") + struct.pack(">BBH", 4, flags, 90) + _text(self._id) + will)

    def connection_lost(self, _error: Exception | None) -> None:
        self.connected = False

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while True:
            found = _packet(self._rest)
            if found is None:
                return
            kind, body, self._rest = found
            if kind == 0x20:
                self._begin()
            elif kind & 0xF0 == 0x30:
                size = struct.unpack_from(">H", body)[0]
                self._command(body[2 : 2 + size].decode().partition("/command/")[2])

    def tell_numbers(self) -> None:
        if self.connected:
            self._tell({"freeram": str(random.randrange(40_000, 90_000)), "rssi": str(-random.randrange(40, 85))})

    def check(self) -> None:
        """As a board does when it is due."""
        offer = self._fleet.offer
        if self.connected and not self._busy and offer["version"] > self._version and policy.rollout_allows(offer, self._id):
            self._update("")

    def _begin(self) -> None:
        self.connected = True
        self._write(0x82, b"\0\1" + _text(f"{self._base}/command/#") + b"\0")
        values = {
            "online": "true",
            "version": self._version,
            "ota/status": "up_to_date",
            "ota/channel": "stable",
            "ota/error": "",
        }
        self._tell({**values, "freedisk": "400000", "safe_mode": "false", "update_boot": "0", "ip": "10.0.0.7"})
        self.tell_numbers()

    def _command(self, path: str) -> None:
        if path == "ota/update" and not self._busy and self._fleet.offer["version"] > self._version:
            self._reply(path, {"ok": True, "state": "started"})
            self._update(path)
        else:
            self._reply(path, {"ok": True, "state": "up_to_date", "version": self._version})

    def _update(self, path: str) -> None:
        self._busy = True
        loop, version = asyncio.get_running_loop(), self._fleet.offer["version"]
        for after, values in _STATES:
            loop.call_later(after, self._tell, {**values, "ota/available": version})
        loop.call_later(_STATES[-1][0], self._end, version, path)

    def _end(self, version: str, path: str) -> None:
        self._version, self._busy = version, False
        self._tell({"version": version})
        if path:
            self._reply(path, {"ok": True, "state": "confirmed", "version": version})

    def _tell(self, values: dict[str, str]) -> None:
        for key, value in values.items():
            self._publish(f"{self._base}/status/{key}", value, 1)

    def _reply(self, path: str, value: dict[str, Any]) -> None:
        self._publish(f"{self._base}/reply/{path}", json.dumps(value), 0)

    def _publish(self, topic: str, text: str, retain: int) -> None:
        self._fleet.sent += 1
        self._write(0x30 | retain, _text(topic) + text.encode())

    def _write(self, first: int, body: bytes) -> None:
        size = len(body)
        head = bytes((first, size)) if size < 128 else bytes((first, size & 0x7F | 0x80, size >> 7))
        self._transport.write(head + body)


def _text(text: str) -> bytes:
    return struct.pack(">H", len(text.encode())) + text.encode()


def _packet(data: bytes) -> tuple[int, bytes, bytes] | None:
    """The first packet's type and body, and what follows it; None while it is not whole."""
    size = shift = 0
    for at in range(1, min(len(data), 5)):
        size |= (data[at] & 0x7F) << shift
        shift += 7
        if data[at] < 0x80:
            whole = at + 1 + size
            return (data[0], data[at + 1 : whole], data[whole:]) if len(data) >= whole else None
    return None


if __name__ == "__main__":
    asyncio.run(Fleet(int(sys.argv[1]), Site(Path(sys.argv[2])), int(sys.argv[3])).run())
