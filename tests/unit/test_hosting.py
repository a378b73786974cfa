"""Ordinary hosts: the board's own transport gets a channel file and parts of a bundle from each, as docs/hosting.md says.

nginx and Caddy are asked themselves where they are installed, Python's server always; of the others there are imitations.
"""

from __future__ import annotations

import getpass
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from iotctl import serve
from iotctl.board_code import finish
from modules.ota.errors import OtaError
from modules.ota.job import Job
from modules.ota.transport.http import Http
from modules.ota.transport.ranges import FromServer
from tests.support.hosts import HOSTS, SIGNED
from tests.support.ports import free_port

CHANNEL = b'{"format":2}\nsignature\n'
BUNDLE = bytes(range(256)) * 64
SERVERS: dict[str, Callable[[Path, int], list[str]]] = {
    "python": lambda site, port: [sys.executable, "-m", "http.server", "-d", str(site), "-b", "127.0.0.1", str(port)],
    "nginx": lambda site, port: ["nginx", "-e", "stderr", "-c", str(_nginx(site, port)), "-p", str(site.parent)],
    "caddy": lambda site, port: ["caddy", "file-server", "--root", str(site), "--listen", f"127.0.0.1:{port}"],
}


def _nginx(site: Path, port: int) -> Path:
    places = "".join(f"{kind}_temp_path {site.parent}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config = site.parent / "nginx.conf"
    config.write_text(
        f"user {getpass.getuser()} {getpass.getuser()}; daemon off; pid {site.parent}/nginx.pid; events {{}}\n"
        f"http {{ access_log off; {places} server {{ listen 127.0.0.1:{port}; root {site}; gzip on; }} }}\n"
    )
    return config


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    (folder / "door").mkdir(parents=True)
    (folder / "door" / "stable.json").write_bytes(CHANNEL)
    (folder / "door" / "1.1.0.tar.gz").write_bytes(BUNDLE)
    return folder


def board(url: str, hosts: tuple[str, ...] = ()) -> tuple[Http, Callable[[str], str]]:
    """What a board with this ota.url asks with, and the URL of each of its files."""
    ota: Any = SimpleNamespace(cfg={"url": url}, name_on_server="Door")
    return Http(url, hosts=hosts), lambda file: str(Job.url(ota, file))


def gets_it_all(url: str, hosts: tuple[str, ...] = ()) -> None:
    """The channel file; of the bundle its head, and two parts."""
    http, where = board(url, hosts)
    try:
        response = finish(http.get(where("stable.json")))
        assert (response.status, finish(response.read_all(4096))) == (200, CHANNEL)
        response.close()
        source = FromServer(http, where("1.1.0.tar.gz"), 100, len(BUNDLE), lambda *words: None)
        for begin, end in ((0, 100), (200, 3000), (9000, len(BUNDLE))):
            finish(source.go(begin, end))
            view, found = memoryview(bytearray(700)), b""
            while n := finish(source.read_into(view)):
                found += view[:n]
            assert found == BUNDLE[begin:end]
        source.close()
    finally:
        http.close()


@pytest.mark.parametrize("name", HOSTS)
def test_a_board_gets_what_it_needs_from_an_ordinary_host(site: Path, name: str) -> None:
    class Host(serve.Server):
        handler_class = HOSTS[name]

    with Host(site) as server:
        gets_it_all(server.url + (SIGNED if name == "bucket" else ""), ("localhost",))
        assert server.requests[0].status == (302 if name == "releases" else 200)


def test_what_a_host_refuses_is_said(site: Path) -> None:
    class Host(serve.Server):
        handler_class = HOSTS["bucket"]

    with Host(site) as server:
        http, where = board(server.url)
        assert finish(http.get(where("stable.json"))).status == 403, "without its signature"
        http.close()
    Host.handler_class = HOSTS["releases"]
    with Host(site) as server, pytest.raises(OtaError, match="ota.redirect_hosts does not name it"):
        gets_it_all(server.url)


@pytest.fixture
def running(site: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The real server; its address."""
    if request.param != "python" and not shutil.which(request.param):
        pytest.skip(f"{request.param} is not installed")
    port = free_port()
    process = subprocess.Popen(SERVERS[request.param](site, port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("running", SERVERS, indirect=True)
def test_a_board_gets_what_it_needs_from_the_server_itself(running: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            gets_it_all(running)
            return
        except OtaError as error:  # it has not started yet
            if error.reason != "connect" or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
