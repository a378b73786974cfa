"""What the sources are before any board runs them: the tree's files and blocks, the code's size, the time that a build takes."""

from __future__ import annotations

import ast
import json
import re
import shutil
import tempfile
import time
from collections.abc import Container
from pathlib import Path
from typing import Any

from bench import reference
from bench.lab import NAME, all_modules, platform_files
from iotctl import ROOT, boards, bundle, mpy, tree
from iotctl.profile import Profile
from iotctl.tree import Files
from sim.board import BLOCK, Board

_SIZES = (100, 200, 400)
_PROBE = b"import os\nv = os.statvfs('/')\nprint('blocks', v[2] - v[3])\n"


def tree_size() -> dict[str, Any]:
    """The tree of all modules on littlefs. `counted_k` follows from the sizes of its files; `blocks_k` is what a file system has
    less with them on it. That is more where a folder's list of files is too long for one pair of blocks.
    """
    files = {**platform_files(all_modules()), "profile.json": (ROOT / "profile.json").read_bytes(), "version": b"1.0.0\n"}
    found = {"files": len(files), "bytes": sum(map(len, files.values()))}
    return {**found, "blocks_k": _measured(files) * BLOCK // 1024, "counted_k": (boards.tree_blocks(files) - 2) * BLOCK // 1024}


def _measured(files: Files) -> int:
    """Blocks that a board's file system has less when they are on it. statvfs counts the two blocks of each folder twice."""
    rest = {path: data for path, data in files.items() if path != "main.py"}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        board = Board(Path(folder) / "board.img", heap="512k")
        used = []
        for content in ({}, rest):
            board.format()
            board.write({**content, "boot.py": b"", "main.py": _PROBE})
            found = re.search(r"blocks (\d+)", board.boot_once().output)
            assert found
            used.append(int(found[1]))
    started_with = boards.file_blocks(len(files["boot.py"])) + boards.file_blocks(len(files["main.py"]))
    return used[1] - used[0] + started_with - 2 * len(tree.folders(files))


def code() -> dict[str, Any]:
    """modules/ota: files, lines, and the circles of imports at the top of its files (each a list of modules)."""
    folder = ROOT / "modules" / "ota"
    paths = sorted(folder.rglob("*.py"))
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    found = circles({name: _imports(name, path, names) for name, path in names.items()})
    return {"files": len(paths), "lines": sum(len(path.read_text().splitlines()) for path in paths), "circles": found}


def _imports(name: str, path: Path, names: Container[str]) -> set[str]:
    """Which of `names` a file imports when it is imported. A package is not among them where only modules of it are meant."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in _top(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        else:
            base = ".".join(package.split(".")[: len(package.split(".")) + 1 - node.level]) if node.level else ""
            origin = ".".join(part for part in (base, node.module) if part)
            found |= {inner if (inner := f"{origin}.{alias.name}") in names else origin for alias in node.names}
    return {other for other in found if other in names and other != name}


def _top(tree_: ast.AST) -> list[ast.Import | ast.ImportFrom]:
    """Imports outside of functions."""
    found: list[ast.Import | ast.ImportFrom] = []
    for node in ast.iter_child_nodes(tree_):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(node)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            found += _top(node)
    return found


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of which each member reaches each other one."""
    reach = {name: _reachable(graph, name) for name in graph}
    groups = {tuple(sorted(other for other in reach[name] if name in reach[other])) for name in graph if name in reach[name]}
    return [list(group) for group in sorted(groups)]


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = [*graph[start]]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += graph[name]
    return found


def build() -> dict[str, Any]:
    """Seconds to make a bundle, nothing compiled before: of the default profile's tree, and of more and more files.

    `linear`: how much longer a file of the largest takes than one of the smallest.
    """
    raw = (ROOT / "profile.json").read_bytes()
    profile = Profile(ROOT / "profile.json", raw, json.loads(raw))
    found: dict[str, Any] = {"seconds": round(_seconds(profile), 2)}
    points = [{"files": size, "seconds": round(_many(size), 2)} for size in _SIZES]
    slowest, fastest = points[-1], points[0]
    growth = (slowest["seconds"] / slowest["files"]) / (fastest["seconds"] / fastest["files"])
    return {**found, "points": points, "linear": round(growth, 2)}


def _many(count: int) -> float:
    """With so many files of 2.5 KB in a module of its own: a tree of the runtime and that module, so nothing else counts."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        source = Path(name)
        for folder in ("platform", "lib"):
            shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
        more = reference.scaled(count, count * 2500)
        for path, data in {"__init__.py": b"class Module:\n    pass\n", **more}.items():
            target = source / "modules" / "many" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        value = {"shortName": NAME, "activeModules": ["many"]}
        return _seconds(Profile(source / "profile.json", json.dumps(value).encode(), value))


def _seconds(profile: Profile) -> float:
    """What `iotctl build` does, with an empty cache of compiled code."""
    cache = mpy._CACHE
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        mpy._CACHE = Path(folder)
        try:
            began = time.monotonic()
            files = tree.collect(profile, "1.0.0")
            bundle.pack(bundle.make(profile, files, bundle.Options("1.0.0", 1_000_000)))
            return time.monotonic() - began
        finally:
            mpy._CACHE = cache
