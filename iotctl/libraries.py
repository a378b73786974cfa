"""`libraries.toml` of a project: other people's drivers for its boards' /lib, pinned by digest, fetched once when it is built.

    [ssd1306]                                              # /lib/ssd1306.py
    url = "https://example.org/ssd1306.py"                 # a file: of a repository, or of a mip index
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
import tarfile
import urllib.request
from pathlib import Path
from typing import Any

from iotctl import CACHE, files
from iotctl.errors import IotctlError
from modules.ota.errors import OtaError
from modules.ota.release.paths import check as check_path

NAME = "libraries.toml"
_MOST = 4 << 20  # bytes of a download
_PATIENCE_S = 30
_SAID = ("version", "license")
_KEYS = {"url": ("url", "sha256", "folder", *_SAID), "path": ("path", *_SAID)}


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
        raise IotctlError("expected url and sha256 (and folder, of an archive), or path")
    check_path(f"lib/{name}.py")
    if kind == "path":
        place = project / given["path"]
        if not place.exists():
            raise IotctlError(f"there is no {place}")
    else:
        place = _fetched(name, given)
    if place.is_file():
        return {f"lib/{name}.py": place}
    inside = [each for each in sorted(place.rglob("*.py")) if not each.relative_to(place).parts[0].startswith(("test", "."))]
    if not inside:
        raise IotctlError("has no Python files")
    return {f"lib/{name}/{each.relative_to(place).as_posix()}": each for each in inside}


def _fetched(name: str, given: dict[str, str]) -> Path:
    """The file, or the folder of the archive, in the cache."""
    sha256 = given.get("sha256", "")
    if len(sha256) != 64 or sha256.strip("0123456789abcdef"):
        raise IotctlError("sha256 is missing: 64 digits, 0 to 9 and a to f")
    kept = CACHE / "libraries" / sha256
    if not kept.is_file() or _digest(kept.read_bytes()) != sha256:
        with urllib.request.urlopen(given["url"], timeout=_PATIENCE_S) as answer:
            data = answer.read(_MOST + 1)
        if _digest(data) != sha256:
            raise IotctlError(f"{given['url']} has the sha256 {_digest(data)}, not the one that is pinned")
        kept.parent.mkdir(parents=True, exist_ok=True)
        files.replace(kept, data)
    folder = given.get("folder")
    return kept if folder is None else _unpacked(kept, folder.strip("/"))


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
