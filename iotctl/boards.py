"""What of a profile will not fit on a kind of board, or not work there: see docs/ports.md."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path

from iotctl import bundle, project, tree
from iotctl.errors import IotctlError
from iotctl.profile import Problem, Profile
from modules.ota.bundle.lists import cell
from modules.ota.install import files as on_flash
from modules.ota.install import prepare
from modules.ota.release.paths import key, skips
from sim.ports import PORTS, Port

BLOCK = 4096
_KEPT = (416, 300, 300, 300, 300)  # bytes of what a board has written at that moment: the stage's digest, two slots each of
# what OTA remembers and of preferences
HEAP = Path(__file__).with_name("heap.json")  # measured: `python -m bench heap --write`
_MEASURED = ("serial_log", "wifi", "ota", "mqtt", "web")
_SOCKETS = {"iot_platform.sockets": "socket"}  # what a module needs with it
_RELEASE = "this release"  # its modules, or what is in files/ and lib/
_BY_FILE = "ota"  # needs no network as long as it asks no server


def problems(profile: Profile, name: str, files: tree.Files | None = None) -> list[Problem]:
    """Every one, for a good profile. IotctlError when there is no such board.

    :param files: what such a board gets, where that is made already.
    """
    port = find(name)
    return [*_disk(files or flashed(profile), port), *_heap(profile, port), *_modules(profile, port)]


def find(name: str) -> Port:
    if name not in PORTS:
        raise IotctlError(f"there is no board {name!r}; there are {', '.join(PORTS)}")
    return PORTS[name]


def flashed(profile: Profile) -> tree.Files:
    """What a board gets, with the list of its files."""
    return bundle.make(profile, tree.collect(profile, "1.0.0"), bundle.Options("1.0.0", 1_000_000)).flashed


def _heap(profile: Profile, port: Port) -> list[Problem]:
    takes, there = heap(profile, port), int(port.heap.rstrip("k"))
    expected = f"less than {there} KB, {port.one}'s heap"
    found = []
    if takes.at_rest > there:
        found.append(Problem("activeModules", f"take {takes.at_rest} KB of heap", expected))
    update = takes.update_boot + (takes.tls or 0)
    if "ota" in profile.modules and update > there:
        found.append(Problem("activeModules", f"need {update} KB of heap to update", expected))
    return found


def _modules(profile: Profile, port: Port) -> list[Problem]:
    found = []
    for name in profile.modules:
        missing = sorted(_needs(project.module(profile.places, name)) & set(port.missing))
        if missing and name == _BY_FILE:
            what = "asks no server on a board without a network"
            found.append(Problem("ota.url", what, "updates as files: an upload at the console, or a copy on its disk"))
        elif missing:
            found.append(Problem("activeModules", f"names {name}", f"{' and '.join(missing)}, which {port.one} has not"))
    return found


def _needs(folder: Path) -> set[str]:
    """The built-in modules that the files of a module import."""
    names: set[str] = set()
    for path in (path for path in sorted(folder.rglob("*.py")) if "tests" not in path.relative_to(folder).parts):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {_SOCKETS.get(name, name) for name in names}


def _disk(files: tree.Files, port: Port) -> list[Problem]:
    """The tree, and beside it an update in which every file changes."""
    need = budget(files, port)
    there, kb = port.flash // BLOCK, BLOCK // 1024
    expected = f"at most {there * kb} KB, {port.one}'s disk"
    if need.tree > there:
        return [Problem(_RELEASE, f"makes a tree of {need.tree * kb} KB", expected)]
    if need.all > there:
        return [Problem(_RELEASE, f"needs {need.all * kb} KB for an update of every file", expected)]
    return []


@dataclass(frozen=True)
class Budget:
    """Blocks: a tree with its list, what a board writes beside it, and an update in which every file is another one."""

    tree: int
    own: int
    update: int

    @property
    def all(self) -> int:
        """What a disk must have, so that such an update finds as many as it asks for."""
        return self.tree + self.own + self.update


def budget(files: tree.Files, port: Port) -> Budget:
    """See Budget; `files` with `.ota/release`, their list, which an update brings beside the one that is there."""
    inline = min(4 * max(port.readsize, port.progsize), BLOCK // 8)  # littlefs' bound, with the cache that MicroPython gives it
    own = sum(file_blocks(size, inline) for size in (*_KEPT, len(files[bundle.LIST]))) + 2  # and the stage's folder
    return Budget(tree_blocks(files, inline), own, update_blocks(files))


@dataclass(frozen=True)
class Heap:
    """KiB that the platform's own modules take at rest and in an update boot; `others` were not measured.

    `tls`: what a connection takes beside that, None where the profile names none that speaks TLS.
    """

    at_rest: int
    update_boot: int
    tls: int | None
    others: tuple[str, ...]


def heap(profile: Profile, port: Port) -> Heap:
    """What of a board's heap these modules take, on 32 bits."""
    table = json.loads(HEAP.read_text())
    more = " ".join(name for name in ("mqtt", "web") if name in profile.modules)
    others = tuple(name for name in profile.modules if name not in _MEASURED)
    secure = str(profile.section("ota").get("url")).startswith("https:") or profile.section("mqtt").get("tls")
    return Heap(table["at_rest"][more], table["update_boot"], port.tls_k if secure else None, others)


def tree_blocks(files: tree.Files, inline: int = prepare._INLINE) -> int:
    """Blocks of 4 KiB that a tree takes on littlefs: each folder has two, and so has the root."""
    return sum(file_blocks(len(data), inline) for data in files.values()) + 2 * len(tree.folders(files)) + 2


def update_blocks(files: tree.Files) -> int:
    """Free blocks that a board asks for before it fetches all of these files: the sum in modules/ota/install/prepare.py."""
    need, folders = prepare._METADATA * 8, [cell(name, 0).rpartition("/")[0] for name in ("stage", "backup")]
    for n, path in enumerate(sorted(files.keys() - {bundle.LIST}, key=key)):  # what is not staged has a number, too
        if not skips(path, ()):
            need += prepare._eighths(n, len(files[path]), BLOCK, folders)
    return need // 8


def file_blocks(size: int, inline: int = prepare._INLINE) -> int:
    """Of one file; one of at most `inline` bytes lies beside its name."""
    return int(on_flash.blocks(size, BLOCK)) if size > inline else 0
