"""`libraries.toml` of a project: other people's drivers for its boards' /lib, pinned by digest, fetched once when it is built.

    [ssd1306]                                              # /lib/ssd1306.py, and what else the package has
    mip = "ssd1306"                                        # its name in MicroPython's package index, or in another one's `index`
    version = "0.1.0"
    sha256 = "..."                                         # of what `sha256sum` prints of its files: iotctl build says it

    [hcsr04]                                               # /lib/hcsr04.py
    url = "https://example.org/hcsr04.py"                  # a file
    sha256 = "..."

    [umqtt]                                                # /lib/umqtt/*.py
    url = "https://example.org/micropython-umqtt-1.0.tar.gz"   # an archive: an sdist
    sha256 = "..."
    folder = "micropython-umqtt-1.0/umqtt"                 # of the archive

    [bmp280]                                               # /lib/bmp280.py
    path = "../drivers/bmp280.py"                          # of this computer: a file, or a folder

What has another digest than it says here is not used, whoever sent it. `version` and `license` (of SPDX) may stand there too, for
the bill of materials.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

from iotctl import CACHE, files
from iotctl.errors import IotctlError
from modules.ota.errors import OtaError
from modules.ota.release.paths import check as check_path

NAME = "libraries.toml"
_MOST = 4 << 20  # bytes of a download
_PATIENCE_S = 30
_SAID = ("version", "license")
_KEYS = {
    "mip": ("mip", "index", "sha256", *_SAID),
    "url": ("url", "sha256", "folder", *_SAID),
    "path": ("path", *_SAID),
}
_MOST_FILES = 100  # of a package, with those that it needs


def collect(project: Path) -> dict[str, Path]:
    """Path on the board to file, for all of the project's libraries. IotctlError for one that cannot be had, or is not right."""
    found: dict[str, Path] = {}
    for name, given in _read(project).items():
        try:
            found.update(_library(project, name, given))
        except (IotctlError, OtaError, OSError, ValueError, tarfile.TarError) as error:
            raise IotctlError(f"{project / NAME}: {name}: {error}") from None
    return found


def about(project: Path) -> list[dict[str, Any]]:
    """What libraries.toml says of each, with `name` and `files` (below lib/): after collect()."""
    return [
        {**given, "name": name, "files": [path.removeprefix("lib/") for path in _library(project, name, given)]}
        for name, given in _read(project).items()
    ]


def _read(project: Path) -> dict[str, Any]:
    path = project / NAME
    return files.read_toml(path) if path.is_file() else {}


def _library(project: Path, name: str, given: Any) -> dict[str, Path]:
    kind = next((key for key in _KEYS if isinstance(given, dict) and key in given), None)
    if kind is None or not all(key in _KEYS[kind] and isinstance(given[key], str) for key in given):
        raise IotctlError("expected mip, version and sha256, or url and sha256 (and folder, of an archive), or path")
    check_path(f"lib/{name}.py")
    if kind == "path":
        place = project / given["path"]
        if not place.exists():
            raise IotctlError(f"there is no {place}")
    elif kind == "mip":
        place = _package(given)
        return {f"lib/{each.relative_to(place).as_posix()}": each for each in sorted(place.rglob("*.*")) if each.is_file()}
    else:
        place = _fetched(given)
    if place.is_file():
        return {f"lib/{name}.py": place}
    inside = [each for each in sorted(place.rglob("*.py")) if not each.relative_to(place).parts[0].startswith(("test", "."))]
    if not inside:
        raise IotctlError("has no Python files")
    return {f"lib/{name}/{each.relative_to(place).as_posix()}": each for each in inside}


def _fetched(given: dict[str, str]) -> Path:
    """The file, or the folder of the archive, in the cache."""
    sha256, folder = _pinned(given), given.get("folder")
    kept = CACHE / "libraries" / (sha256 or "none")
    if not kept.is_file() or _digest(kept.read_bytes()) != sha256:
        data = _download(given["url"])
        _check_pinned(given["url"], _digest(data), sha256)
        kept.parent.mkdir(parents=True, exist_ok=True)
        files.replace(kept, data)
    return kept if folder is None else _unpacked(kept, folder.strip("/"))


def _package(given: dict[str, str]) -> Path:
    """The folder of a package of a mip index, in the cache."""
    sha256 = _pinned(given)
    place = CACHE / "libraries" / f"mip-{sha256 or 'none'}"
    kept = {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*.*") if path.is_file()}
    if not kept or _digest(_sums(kept)) != sha256:
        found: dict[str, bytes] = {}
        _ask_index(given.get("index") or _index(), given["mip"], given.get("version", "latest"), found, set())
        _check_pinned(f"{given['mip']} {given.get('version', '(the latest)')}", _digest(_sums(found)), sha256)
        for path, data in found.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            files.replace(place / path, data)
    return place


def _pinned(given: dict[str, str]) -> str:
    sha256 = given.get("sha256", "")
    if sha256 and (len(sha256) != 64 or sha256.strip("0123456789abcdef")):
        raise IotctlError("sha256 is wrong: expected 64 digits, 0 to 9 and a to f")
    return sha256


def _ask_index(index: str, name: str, version: str, found: dict[str, bytes], asked: set[str]) -> None:
    """Add the sources of a package, and of those that it needs, to `found`. In mip's format a file's name is its digest."""
    if name in asked:
        return
    asked.add(name)
    value = json.loads(_download(f"{index}/package/py/{quote(name, '')}/{quote(version, '')}.json"))
    if value.get("urls"):
        raise IotctlError(f"{name} has files that lie elsewhere: name them by url")
    for path, short in value.get("hashes", ()):
        check_path(path)
        found[path] = _download(f"{index}/file/{short[:2]}/{short}")
        if len(found) > _MOST_FILES or not _digest(found[path]).startswith(short):
            raise IotctlError(f"the index has another {path} than it says, or more than {_MOST_FILES} files")
    for needed, its_version in value.get("deps", ()):
        _ask_index(index, needed, its_version, found, asked)


def _index() -> str:
    from mpremote import mip

    return str(mip._PACKAGE_INDEX)


def _sums(found: dict[str, bytes]) -> bytes:
    """What `sha256sum` prints of these files."""
    return "".join(f"{_digest(data)}  {path}\n" for path, data in sorted(found.items())).encode()


def _download(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=_PATIENCE_S) as answer:
        data = bytes(answer.read(_MOST + 1))
    if len(data) > _MOST:
        raise IotctlError(f"{url} has more than {_MOST} bytes")
    return data


def _check_pinned(what: str, found: str, pinned: str) -> None:
    if not pinned:
        raise IotctlError(f'sha256 is missing. Look at what you get; then pin it: sha256 = "{found}"')
    if found != pinned:
        raise IotctlError(f"{what} has the sha256 {found}, not the one that is pinned")


def _unpacked(archive: Path, folder: str) -> Path:
    place = archive.with_name(f"{archive.name}-{_digest(folder.encode())[:16]}")
    with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as tar:
        for member in tar.getmembers():
            inside = member.name.removeprefix(folder + "/")
            if member.isfile() and inside != member.name and inside.endswith(".py"):
                check_path(inside)
                content = tar.extractfile(member)
                assert content
                target = place / inside
                target.parent.mkdir(parents=True, exist_ok=True)
                files.replace(target, content.read())
    if not place.is_dir():
        raise IotctlError(f"the archive has no folder {folder} with Python files")
    return place


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
