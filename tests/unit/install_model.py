"""Reference model of the install protocol: apply and undo over a tree of names, where every operation is one atomic step.

It knows nothing of files on disk, so it can be cut thousands of times a second. test_install_model.py sweeps it through every
cut and every cut of the recovery, and then holds platform/ota_boot.py to the same results on real folders.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field


class Cut(Exception):
    """The power failed before this operation."""


@dataclass(frozen=True)
class Entry:
    """One line of a journal: `put` brings new content from the stage, `had` says that an old file existed."""

    path: str
    put: bool
    had: bool


Journal = list[Entry]


@dataclass
class Files:
    """A file system in which rename, mkdir and rmdir are atomic and strict about what must or must not exist."""

    files: dict[str, str] = field(default_factory=dict)
    folders: set[str] = field(default_factory=lambda: {""})
    operations: int = 0
    cut_at: int | None = None

    def _operation(self) -> None:
        self.operations += 1
        if self.cut_at is not None and self.operations > self.cut_at:
            raise Cut

    def exists(self, path: str) -> bool:
        return path in self.files or path in self.folders

    def rename(self, source: str, target: str) -> None:
        self._operation()
        assert source in self.files, f"{source} does not exist"
        assert parent(target) in self.folders, f"{target} has no folder"
        assert not self.exists(target), f"{target} is in the way"
        self.files[target] = self.files.pop(source)

    def mkdir(self, path: str) -> None:
        self._operation()
        assert not self.exists(path) and parent(path) in self.folders
        self.folders.add(path)

    def rmdir(self, path: str) -> None:
        self._operation()
        self.folders.remove(path)

    def is_empty(self, path: str) -> bool:
        return not any(name.startswith(path + "/") for name in itertools.chain(self.files, self.folders))

    def copy(self) -> Files:
        return Files(dict(self.files), set(self.folders))

    def live(self) -> dict[str, str]:
        """The tree without the stage (S...) and the backup (B...)."""
        return {path: content for path, content in self.files.items() if path[0] not in "SB"}


def parent(path: str) -> str:
    return path.rpartition("/")[0]


def parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = parent(path)
        yield path


def apply(fs: Files, journal: Journal) -> None:
    """Old files to the backup, emptied folders away, new files from the stage."""
    for n, entry in enumerate(journal):
        if entry.had and not fs.exists(f"B{n}"):
            fs.rename(entry.path, f"B{n}")
    _prune(fs, (entry.path for entry in journal if not entry.put))
    for n, entry in enumerate(journal):
        if entry.put and fs.exists(f"S{n}"):
            _move_to(fs, f"S{n}", entry.path)


def undo(fs: Files, journal: Journal) -> None:
    """The reverse, from wherever an apply has got to."""
    for n, entry in enumerate(journal):
        if entry.put and not fs.exists(f"S{n}"):
            fs.rename(entry.path, f"S{n}")
    _prune(fs, (entry.path for entry in journal if not entry.had))
    for n, entry in enumerate(journal):
        if entry.had and fs.exists(f"B{n}"):
            _move_to(fs, f"B{n}", entry.path)


def run(fs: Files, step: Callable[[Files, Journal], None], journal: Journal, cut_at: int | None = None) -> bool:
    """Run a step, cut after `cut_at` operations; True when it came to its end."""
    fs.operations, fs.cut_at = 0, cut_at
    try:
        step(fs, journal)
    except Cut:
        return False
    finally:
        fs.cut_at = None
    return True


def _prune(fs: Files, paths: Iterable[str]) -> None:
    for path in paths:
        for folder in parents(path):
            if folder in fs.folders and fs.is_empty(folder):
                fs.rmdir(folder)


def _move_to(fs: Files, source: str, target: str) -> None:
    for folder in reversed(list(parents(target))):
        if folder not in fs.folders:
            fs.mkdir(folder)
    fs.rename(source, target)
