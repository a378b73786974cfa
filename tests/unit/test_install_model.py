"""The install protocol: the model at every cut and double cut, and the recovery loader held against the model.

hypothesis chooses the trees: files that become folders and back, folders that empty, files that stay.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import types
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iotctl import ROOT
from tests.unit import install_model as model

NAMES = ("a", "a/b", "a/c", "a/b/d", "e", "e/f", "g.py", "g/__init__.py", "h/i/j", "h", "k")


def _fits(path: str, tree: dict[str, str]) -> bool:
    return not any(folder in tree for folder in model.parents(path)) and not any(p.startswith(path + "/") for p in tree)


@st.composite
def trees(draw: st.DrawFn, tag: str) -> dict[str, str]:
    """A tree of files in which no name is both file and folder."""
    tree: dict[str, str] = {}
    for path in draw(st.permutations(NAMES)):
        if draw(st.booleans()) and _fits(path, tree):
            tree[path] = draw(st.sampled_from(("same", tag)))
    return tree


@st.composite
def updates(draw: st.DrawFn) -> tuple[dict[str, str], dict[str, str], model.Journal]:
    """An old tree, a new tree, and a journal between them in any order."""
    old, new = draw(trees("old")), draw(trees("new"))
    paths = [path for path in sorted(old | new) if old.get(path) != new.get(path)]
    return old, new, [model.Entry(path, path in new, path in old) for path in draw(st.permutations(paths))]


def _start(old: dict[str, str], new: dict[str, str], journal: model.Journal) -> model.Files:
    fs = model.Files(dict(old), {""} | {folder for path in old for folder in model.parents(path)})
    fs.files.update({f"S{n}": new[entry.path] for n, entry in enumerate(journal) if entry.put})
    return fs


def _sweep(fs: model.Files, step: object, journal: model.Journal, goal: dict[str, str], folders: set[str] | None) -> model.Files:
    """Cut `step` everywhere, and its repetition everywhere, and look at what the recovery makes of it."""
    first = 0
    while True:
        at_first = fs.copy()
        done = model.run(at_first, step, journal, first)  # type: ignore[arg-type]
        second = 0
        while not done:
            at_second = at_first.copy()
            recovered = model.run(at_second, step, journal, second)  # type: ignore[arg-type]
            if not recovered:
                model.run(at_second, step, journal)  # type: ignore[arg-type]
            assert at_second.live() == goal
            assert folders is None or at_second.folders == folders
            if recovered:
                break
            second += 1
        if done:
            assert at_first.live() == goal
            return at_first
        first += 1


@given(updates())
def test_every_cut_and_double_cut_of_the_model_ends_in_one_version(update: tuple) -> None:
    old, new, journal = update
    start = _start(old, new, journal)
    applied = _sweep(start, model.apply, journal, new, None)
    _sweep(applied, model.undo, journal, old, start.folders)


@given(updates())
def test_undo_of_a_half_finished_apply_restores_the_old_version(update: tuple) -> None:
    old, new, journal = update
    start = _start(old, new, journal)
    cut = 0
    while True:
        half = start.copy()
        if model.run(half, model.apply, journal, cut):
            break
        _sweep(half, model.undo, journal, old, start.folders)
        cut += 1


# -- the recovery loader on real folders


class PowerCut(BaseException):
    """Not an Exception: nothing in the loader may catch it."""


class Disk:
    """The `os` that the loader gets: the real one, counting and cutting the operations that change something."""

    def __init__(self) -> None:
        self.cut_at: int | None = None
        self.operations = 0
        self.listdir, self.stat = os.listdir, os.stat

    def _operation(self) -> None:
        if self.cut_at is not None and self.operations >= self.cut_at:
            raise PowerCut
        self.operations += 1

    def rename(self, source: str, target: str) -> None:
        self._operation()
        assert not os.path.exists(target), f"{target} is in the way"
        os.rename(source, target)

    def mkdir(self, path: str) -> None:
        self._operation()
        os.mkdir(path)

    def rmdir(self, path: str) -> None:
        self._operation()
        os.rmdir(path)

    def remove(self, path: str) -> None:
        self._operation()
        os.remove(path)


class LoaderBoard:
    """A folder as a board's disk, and boots of the recovery loader on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.disk = Disk()

    def put(self, path: str, content: str) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)

    def write(self, old: dict[str, str], new: dict[str, str], journal: model.Journal) -> None:
        for path, content in old.items():
            self.put(path, content)
        lines = [json.dumps({"format": 1, "old": "1", "new": "2", "attempts": 1, "timeout_s": 60})]
        for n, entry in enumerate(journal):
            lines.append(f"{n} {'+' if entry.put else '-'}{int(entry.had)} {entry.path}")
            (self.root / ".ota/backup").mkdir(parents=True, exist_ok=True)
            if entry.put:
                self.put(f".ota/stage/e{n}", new[entry.path])
        body = "".join(line + "\n" for line in lines)
        self.put(".ota/journal", body + f"end {hashlib.sha256(body.encode()).hexdigest()}\n")

    def boot(self, cut_at: int | None = None) -> bool:
        """One boot, cut before operation `cut_at`; True when the loader came to its end."""
        loader = _fresh_loader(self.root, self.disk)
        self.disk.operations, self.disk.cut_at = 0, cut_at
        try:
            loader.run()
        except PowerCut:
            return False
        finally:
            self.disk.cut_at = None
        return True

    def state(self) -> str:
        names = [p.name for p in (self.root / ".ota").iterdir() if p.is_file() and p.name != "reason"]
        assert len(names) == 1, names
        return names[0]

    def files(self) -> dict[str, str]:
        found = (p for p in self.root.rglob("*") if p.is_file() and ".ota" not in p.parts)
        return {str(p.relative_to(self.root)): p.read_text() for p in found}

    def folders(self) -> set[str]:
        found = (p for p in self.root.rglob("*") if p.is_dir() and ".ota" not in p.parts)
        return {str(p.relative_to(self.root)) for p in found}


@cache
def _loader_code() -> types.CodeType:
    path = ROOT / "platform" / "ota_boot.py"
    return compile(path.read_text(), str(path), "exec")


def _fresh_loader(root: Path, disk: Disk) -> Any:
    """The loader as a boot imports it, with this disk below it; compiled once, for there are thousands of boots."""
    ota_boot: Any = types.ModuleType("ota_boot")
    sys.modules["ota_boot"] = ota_boot
    exec(_loader_code(), ota_boot.__dict__)
    ota_boot.ROOT = str(root)
    ota_boot._imports()
    ota_boot.os = disk
    return ota_boot


@pytest.fixture(autouse=True)
def board_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython has no `machine`, no watchdog and no ticks; the loader gets along without, but for the ticks.

    Every boot but the first is the fault of the version on trial: its program restarted the board.
    """
    import time

    machine = types.ModuleType("machine")
    machine.reset_cause = lambda: 2  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "machine", machine)
    monkeypatch.setitem(sys.modules, "ota_boot", types.ModuleType("ota_boot"))  # so that the one that others use comes back
    monkeypatch.setattr(time, "ticks_ms", lambda: 0, raising=False)
    monkeypatch.setattr(time, "ticks_add", lambda a, b: a + b, raising=False)


def _folders_of(tree: dict[str, str]) -> set[str]:
    return {folder for path in tree for folder in model.parents(path)}


def _recover(board: LoaderBoard) -> None:
    for _boot in range(4):
        board.boot()


@settings(max_examples=40, deadline=None)
@given(updates())
def test_the_loader_agrees_with_the_model_at_every_cut(update: tuple) -> None:
    """Apply, then (after one boot without a confirmation) undo, each cut before every operation of the loader."""
    old, new, journal = update
    cut = 0
    while True:
        with tempfile.TemporaryDirectory() as folder:
            board = LoaderBoard(Path(folder))
            board.write(old, new, journal)
            finished = board.boot(cut)
            if not finished:
                board.boot()
            reference = _start(old, new, journal)
            model.apply(reference, journal)
            if board.state() == "trial.1":
                assert board.files() == reference.live() == new
                assert board.folders() == _folders_of(new)
            else:  # the boot that was cut had been counted: the second one undid
                assert board.state() == "undone"
            _recover(board)
            assert board.state() == "undone"
            assert board.files() == old
            assert board.folders() == _folders_of(old)
        if finished:
            return
        cut += 1


@settings(max_examples=40, deadline=None)
@given(updates())
def test_the_loader_finishes_an_undo_that_was_cut_anywhere(update: tuple) -> None:
    old, new, journal = update
    cut = 0
    while True:
        with tempfile.TemporaryDirectory() as folder:
            board = LoaderBoard(Path(folder))
            board.write(old, new, journal)
            board.boot()
            finished = board.boot(cut)  # one attempt is allowed, so this boot undoes
            _recover(board)
            assert board.files() == old
            assert board.folders() == _folders_of(old)
            assert board.state() == "undone"
        if finished:
            return
        cut += 1


@settings(max_examples=60, deadline=None)
@given(updates(), st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_the_loader_survives_three_cuts_in_a_row(update: tuple, first: int, second: int, third: int) -> None:
    old, new, journal = update
    with tempfile.TemporaryDirectory() as folder:
        board = LoaderBoard(Path(folder))
        board.write(old, new, journal)
        for cut in (first, second, third):
            board.boot(cut)
        _recover(board)
        assert board.files() == old
        assert board.folders() == _folders_of(old)
        assert board.state() == "undone"


@settings(max_examples=25, deadline=None)
@given(updates(), st.data())
def test_a_damaged_journal_changes_nothing(update: tuple, data: st.DataObject) -> None:
    old, new, journal = update
    with tempfile.TemporaryDirectory() as folder:
        board = LoaderBoard(Path(folder))
        board.write(old, new, journal)
        path = board.root / ".ota/journal"
        raw = bytearray(path.read_bytes())
        position = data.draw(st.integers(0, len(raw) - 2))
        raw[position] ^= 1 << data.draw(st.integers(0, 6))
        path.write_bytes(raw)
        board.boot()
        assert board.state() == "undone"
        assert board.files() == old


def test_the_model_finds_a_mixed_tree_when_the_folder_clean_up_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof can fail: without pruning, a folder stands where a file of the new version must go."""
    monkeypatch.setattr(model, "_prune", lambda fs, paths: None)
    old, new = {"a/b": "old"}, {"a": "new"}
    journal = [model.Entry("a", True, False), model.Entry("a/b", False, True)]
    with pytest.raises(AssertionError):
        model.run(_start(old, new, journal), model.apply, journal)


def test_the_loader_drops_a_journal_of_an_unknown_format(tmp_path: Path) -> None:
    board = LoaderBoard(tmp_path)
    body = json.dumps({"format": 99}) + "\n0 -1 a\n"
    board.put("a", "old")
    board.put(".ota/journal", body + f"end {hashlib.sha256(body.encode()).hexdigest()}\n")
    board.boot()
    assert board.files() == {"a": "old"}
    assert board.state() == "undone"
    shutil.rmtree(tmp_path / ".ota")
