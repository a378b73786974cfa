"""libraries.toml: other people's drivers in a release, pinned by digest, from a server or a folder."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iotctl import libraries, tree
from iotctl import profile as profiles
from iotctl.errors import IotctlError
from iotctl.serve import Server
from sim import micropython
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
    ("[driver]\nurl = 'http://127.0.0.1:1/x.py'\nsha256 = '1234'\n", "sha256 is wrong"),
    (f"[driver]\nurl = 'http://127.0.0.1:1/x.py'\nsha256 = '{'0' * 64}'\n", "Connection refused"),
    ("[driver]\npath = 'nowhere.py'\n", "there is no"),
    ("[driver]\nversion = '1.0'\n", "expected mip, version and sha256, or url"),
    ("driver = 1\n", "expected mip"),
    ("['../x']\npath = 'profile.json'\n", "path"),
    ("[driver\n", "line 1"),
])  # fmt: skip
def test_a_bad_line_is_named(place: Place, text: str, says: str) -> None:
    with pytest.raises(IotctlError, match=says):
        pinned(place, text)


def index(server: Server, **packages: dict[str, Any]) -> str:
    """Put packages where a mip index has them: each its files, and what it needs. Returns the lines of libraries.toml for one."""
    for name, package in packages.items():
        files: dict[str, bytes] = package["files"]
        hashes = [(path, hashlib.sha256(data).hexdigest()[:8]) for path, data in files.items()]
        value = {"v": 1, "version": "1.0", "hashes": hashes, "deps": package.get("deps", []), "urls": package.get("urls", [])}
        place = server.directory / "package" / "py" / name / "1.0.json"
        place.parent.mkdir(parents=True)
        place.write_text(json.dumps(value))
        for (_path, short), data in zip(hashes, files.values(), strict=True):
            kept = server.directory / "file" / short[:2] / short
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(data)
    return f'index = "{server.url}"\nversion = "1.0"\n'


def test_a_package_comes_by_its_name_with_what_it_needs(place: Place, server: Server) -> None:
    """The build says the digest, and takes nothing before it is pinned. MicroPython's own mip gets the same files."""
    needs = {"files": {"bus/__init__.py": DRIVER, "bus/wire.py": b"LOUD = 11\n"}}
    where = index(server, screen={"files": {"screen.py": b"import bus\n"}, "deps": [["bus", "1.0"]]}, bus=needs)
    text = f"[anything]\nmip = 'screen'\n{where}"
    before = pinned(place, "")
    with pytest.raises(IotctlError, match="sha256 is missing. Look at what you get; then pin it") as refused:
        pinned(place, text)
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {path}\n" for path, data in
                   (("bus/__init__.py", DRIVER), ("bus/wire.py", b"LOUD = 11\n"), ("screen.py", b"import bus\n")))  # fmt: skip
    said = str(refused.value).rpartition("then pin it: ")[2]
    assert said == f'sha256 = "{hashlib.sha256(sums.encode()).hexdigest()}"'
    wanted = {"lib/screen.mpy", "lib/bus/__init__.mpy", "lib/bus/wire.mpy"}
    assert pinned(place, text + said) - before == wanted
    place.built()
    parts = {part["name"]: part for part in json.loads((place.root / "dist" / "1.4.0.cdx.json").read_bytes())["components"]}
    assert parts["anything"]["version"] == "1.0" and len(parts["anything"]["components"]) == 3
    assert parts["anything"]["hashes"][0]["content"] in said
    install = f"import mip\nmip.install('screen', index='{server.url}', version='1.0', mpy=False, target='{place.root}/mip')"
    subprocess.run([micropython.find(), "-c", install], check=True, capture_output=True, timeout=60)
    theirs = {str(path.relative_to(place.root / "mip")): path.read_bytes() for path in (place.root / "mip").rglob("*.py")}
    assert libraries._digest(libraries._sums(theirs)) in said
    server.close()
    assert pinned(place, text + said) - before == wanted, "without a network"


@pytest.mark.parametrize(("package", "says"), [
    ({"files": {"x.py": DRIVER}, "deps": [["x", "1.0"]]}, "not the one that is pinned"),
    ({"files": {"../x.py": DRIVER}}, "path"),
    ({"files": {}, "urls": [["x.py", "http://127.0.0.1:1/x.py"]]}, "lie elsewhere: name them by url"),
    ({"files": {"x.py": DRIVER}, "deps": [["nowhere", "1.0"]]}, "404"),
])  # fmt: skip
def test_what_an_index_must_not_bring_is_refused(place: Place, server: Server, package: dict[str, Any], says: str) -> None:
    with pytest.raises(IotctlError, match=f"libraries.toml: x: .*{says}"):
        pinned(place, f"[x]\nmip = 'x'\nsha256 = '{'0' * 64}'\n{index(server, x=package)}")


def test_a_file_of_an_index_that_is_another_one_is_refused(place: Place, server: Server) -> None:
    where = index(server, x={"files": {"x.py": DRIVER}})
    next((server.directory / "file").glob("*/*")).write_bytes(b"import os\n")
    with pytest.raises(IotctlError, match="the index has another x.py than it says"):
        pinned(place, f"[x]\nmip = 'x'\n{where}")


def test_an_archive_cannot_write_elsewhere(place: Place, server: Server) -> None:
    (server.directory / "bus-1.0.tar.gz").write_bytes(archive({"bus-1.0/../../evil.py": b"", "bus-1.0/good.py": b""}))
    with pytest.raises(IotctlError, match="bus: "):
        pinned(place, f"[bus]\n{of(server, 'bus-1.0.tar.gz')}folder = 'bus-1.0'\n")
    assert not list(place.root.rglob("evil.py"))
