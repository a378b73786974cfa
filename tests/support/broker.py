"""A real mosquitto on a port of its own, and an observer that sees all its messages.

    with Broker(folder) as broker, Observer(broker) as seen:
        seen.publish("board/command/ota/check")
        seen.wait("board/reply/ota/check", '"ok": true')
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import paho.mqtt.client as paho

from tests.support.ports import free_port

PATIENCE_S = 60


@dataclass
class Broker:
    """mosquitto. `users` need their password then; `certificates` (a folder) makes it speak TLS as `server`.

    :param forbidden: topics that nobody may subscribe to as they stand.
    """

    folder: Path
    users: dict[str, str] = field(default_factory=dict)
    certificates: Path | None = None
    server: str = "server"
    forbidden: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        config = [f"listener {self.port} 127.0.0.1", f"allow_anonymous {'false' if self.users else 'true'}"]
        if os.getuid() == 0:
            config.append("user root")
        if self.users:
            passwords = self.folder / "passwords"
            passwords.touch()
            for name, password in self.users.items():
                command = ["mosquitto_passwd", "-b", str(passwords), name, password]
                subprocess.run(command, check=True, capture_output=True)
            config.append(f"password_file {passwords}")
        if self.certificates:
            config.append(f"certfile {self.certificates / self.server}.pem")
            config.append(f"keyfile {self.certificates / self.server}.key")
        if self.forbidden:
            plugin = next(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"))
            config += [f"plugin {plugin}", f"plugin_opt_config_file {self.folder / 'access.json'}"]
            acls = [{"acltype": "subscribeLiteral", "topic": topic, "allow": False} for topic in self.forbidden]
            every = dict.fromkeys(("publishClientSend", "publishClientReceive", "subscribe", "unsubscribe"), True)
            access = {
                "defaultACLAccess": every,
                "roles": [{"rolename": "all", "acls": acls}],
                "groups": [{"groupname": "all", "roles": [{"rolename": "all"}]}],
                "anonymousGroup": "all",
            }
            (self.folder / "access.json").write_text(json.dumps(access))
        path = self.folder / "mosquitto.conf"
        path.write_text("\n".join(config) + "\n")
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        log = (self.folder / "mosquitto.log").open("ab")
        self._process = subprocess.Popen([program, "-v", "-c", str(path)], stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError((self.folder / "mosquitto.log").read_text())

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    @property
    def log(self) -> str:
        return (self.folder / "mosquitto.log").read_text()

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


@dataclass(frozen=True)
class Message:
    topic: str
    text: str
    retained: bool


class Observer:
    """Sees every message of a broker, in order; comes back by itself when the broker does."""

    def __init__(self, broker: Broker, user: str = "", password: str = "") -> None:
        self.messages: list[Message] = []
        self._news = threading.Condition()
        self._ready = threading.Event()
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(1, 1)
        if user:
            self._client.username_pw_set(user, password)
        if broker.certificates:
            self._client.tls_set(str(broker.certificates / "ca.pem"))
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_arguments: self._ready.set()
        self._client.on_message = self._message
        self._port = broker.port

    def __enter__(self) -> Observer:
        self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        assert self._ready.wait(PATIENCE_S)
        return self

    def __exit__(self, *_error: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: str | bytes = "", retain: bool = False) -> int:
        """Publish; returns the number of the next message that will be seen."""
        since = self.now()
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(PATIENCE_S)
        return since

    def now(self) -> int:
        with self._news:
            return len(self.messages)

    def wait(self, topic: str, part: str = "", since: int = 0, timeout: float = PATIENCE_S) -> Message:
        """The first message of `topic` (from number `since` on) that has `part` in it."""
        return self.wait_for(lambda message: message.topic == topic and part in message.text, since, timeout)

    def wait_for(self, wanted: Callable[[Message], bool], since: int = 0, timeout: float = PATIENCE_S) -> Message:
        deadline = time.monotonic() + timeout
        with self._news:
            while True:
                for message in self.messages[since:]:
                    if wanted(message):
                        return message
                since = len(self.messages)
                left = deadline - time.monotonic()
                if left <= 0 or not self._news.wait(left):
                    raise AssertionError("\n".join(f"{m.topic} {m.text}" for m in self.messages[-60:]))

    def of(self, topic: str, since: int = 0) -> list[Message]:
        """What has come on a topic."""
        with self._news:
            return [message for message in self.messages[since:] if message.topic == topic]

    def _connected(self, client: paho.Client, *_more: Any) -> None:
        client.subscribe("#", qos=1)

    def _message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        with self._news:
            self.messages.append(Message(message.topic, message.payload.decode(errors="replace"), message.retain))
            self._news.notify_all()


def parsed(message: Message) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(message.text)
    return value
