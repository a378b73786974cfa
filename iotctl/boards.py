"""What of a profile will not fit on a kind of board, or not work there: see docs/ports.md."""

from __future__ import annotations

import ast
from pathlib import Path

from iotctl import project, tree
from iotctl.errors import IotctlError
from iotctl.profile import Problem, Profile
from sim.ports import PORTS, Port

_BLOCK = 4096
_SPARE = 16  # blocks that an update needs beside what it stages: modules/ota/install/prepare.py
_SOCKETS = {"iot_platform.sockets": "socket"}  # what a module needs with it
_BY_FILE = "ota"  # needs no network as long as it asks no server


def problems(profile: Profile, name: str) -> list[Problem]:
    """Every one, for a good profile. IotctlError when there is no such board."""
    if name not in PORTS:
        raise IotctlError(f"there is no board {name!r}; there are {', '.join(PORTS)}")
    port = PORTS[name]
    return [*_disk(profile, port), *_modules(profile, port)]  # the first of them compiles all


def _modules(profile: Profile, port: Port) -> list[Problem]:
    found = []
    for name in profile.modules:
        missing = sorted(_needs(project.module(profile.places, name)) & set(port.missing))
        if missing and name == _BY_FILE:
            what = "asks no server on a board without a network"
            found.append(Problem("ota.url", what, "updates as files: an upload at the console, or a copy on its disk"))
        elif missing:
            found.append(Problem("activeModules", f"names {name}", f"{' and '.join(missing)}, which a {port.name} has not"))
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


def _disk(profile: Profile, port: Port) -> list[Problem]:
    """The tree and, beside it, all of it again: an update in which every file changes."""
    blocks = tree_blocks(tree.collect(profile, "1.0.0"))
    there = port.flash // _BLOCK
    kb = _BLOCK // 1024
    if blocks > there:
        return [Problem("activeModules", f"make a tree of {blocks * kb} KB", f"at most {there * kb} KB, a {port.name}'s disk")]
    if 2 * blocks + _SPARE > there:
        needs = f"need {(2 * blocks + _SPARE) * kb} KB for an update of every file"
        return [Problem("activeModules", needs, f"at most {there * kb} KB, a {port.name}'s disk")]
    return []


def tree_blocks(files: tree.Files) -> int:
    """Blocks of 4 KiB that a tree takes on littlefs."""
    folders = {path[:at] for path in files for at in range(len(path)) if path[at] == "/"}
    return sum((len(data) + len(data) // 256 + _BLOCK) // _BLOCK for data in files.values()) + 2 * len(folders) + 2
