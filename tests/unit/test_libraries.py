"""libraries.toml: other people's drivers in a release, pinned by digest, from a server or a folder."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from iotctl import libraries, tree
from iotctl import profile as profiles
from iotctl.errors import IotctlError
from iotctl.serve import Server
from tests.unit.iotctl_fixture import Place, make_place

DRIVER = b"SPEED = 9600\n"
SDIST = {"bus-1.0/setup.py": b"", "bus-1.0/bus/__init__.py": b"from .wire import LOUD\n", "bus-1.0/bus/wire.py": b"LOUD = 11\n"}


def archive(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(libraries, "CACHE", tmp_path / "cache")
    return make_place(tmp_path)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "driver.py").write_bytes(DRIVER)
    (tmp_path / "web" / "bus-1.0.tar.gz").write_bytes(archive(SDIST))
    with Server(tmp_path / "web") as running:
        yield running


def pinned(place: Place, text: str) -> set[str]:
    """What of /lib a release has with these libraries."""
    (place.source / libraries.NAME).write_text(text)
    return {path for path in tree.collect(profiles.read_good(place.profile), "1.0.0") if path.startswith("lib/")}


def of(server: Server, name: str) -> str:
    data = (server.directory / name).read_bytes()
    return f'url = "{server.url}/{name}"\nsha256 = "{hashlib.sha256(data).hexdigest()}"\n'


def test_the_bill_of_materials_names_them(place: Place, server: Server) -> None:
    """With files, origin and the digest that is pinned; version and licence as far as somebody has said them."""
    said = 'version = "1.0"\nlicense = "MIT"\n'
    text = f"[driver]\n{of(server, 'driver.py')}[bus]\n{of(server, 'bus-1.0.tar.gz')}folder = 'bus-1.0/bus'\n{said}"
    (place.source / libraries.NAME).write_text(text)
    place.built()
    bill = json.loads((place.root / "dist" / "1.4.0.cdx.json").read_bytes())
    parts = {part["name"]: part for part in bill["components"]}
    driver, bus = parts["driver"], parts["bus"]
    assert driver["type"] == "library" and [part["name"] for part in driver["components"]] == ["lib/driver.mpy"]
    assert driver["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(DRIVER).hexdigest()}]
    assert driver["externalReferences"] == [{"type": "distribution", "url": f"{server.url}/driver.py"}]
    assert not {"version", "licenses"} & set(driver)
    assert (bus["version"], bus["licenses"]) == ("1.0", [{"license": {"id": "MIT"}}])
    assert {part["name"] for part in bus["components"]} == {"lib/bus/__init__.mpy", "lib/bus/wire.mpy"}


def test_libraries_are_fetched_once_and_compiled(place: Place, server: Server) -> None:
    (place.root / "mine.py").write_bytes(b"MINE = 1\n")
    bus = of(server, "bus-1.0.tar.gz") + "folder = 'bus-1.0/bus'\n"
    text = f"[driver]\n{of(server, 'driver.py')}[bus]\n{bus}[own]\npath = '../mine.py'\n"
    wanted = {"lib/driver.mpy", "lib/bus/__init__.mpy", "lib/bus/wire.mpy", "lib/own.mpy"}
    before = pinned(place, "")
    assert pinned(place, text) - before == wanted
    server.close()
    assert pinned(place, text) - before == wanted, "without a network"


def test_what_has_another_digest_is_not_used(place: Place, server: Server) -> None:
    text = of(server, "driver.py")
    (server.directory / "driver.py").write_bytes(DRIVER + b"import os\n")
    with pytest.raises(IotctlError, match=r"libraries.toml: driver: http.*/driver.py has the sha256 [0-9a-f]{64}, not the one"):
        pinned(place, f"[driver]\n{text}")


@pytest.mark.parametrize(("text", "says"), [
    ("[driver]\nurl = 'http://127.0.0.1:1/x.py'\n", "sha256 is missing"),
    (f"[driver]\nurl = 'http://127.0.0.1:1/x.py'\nsha256 = '{'0' * 64}'\n", "Connection refused"),
    ("[driver]\npath = 'nowhere.py'\n", "there is no"),
    ("[driver]\nversion = '1.0'\n", "expected url and sha256"),
    ("driver = 1\n", "expected url and sha256"),
    ("['../x']\npath = 'profile.json'\n", "path"),
    ("[driver\n", "line 1"),
])  # fmt: skip
def test_a_bad_line_is_named(place: Place, text: str, says: str) -> None:
    with pytest.raises(IotctlError, match=says):
        pinned(place, text)


def test_an_archive_cannot_write_elsewhere(place: Place, server: Server) -> None:
    (server.directory / "bus-1.0.tar.gz").write_bytes(archive({"bus-1.0/../../evil.py": b"", "bus-1.0/good.py": b""}))
    with pytest.raises(IotctlError, match="bus: "):
        pinned(place, f"[bus]\n{of(server, 'bus-1.0.tar.gz')}folder = 'bus-1.0'\n")
    assert not list(place.root.rglob("evil.py"))
