"""What is put through power cuts: one line a scenario, made of an old tree, a new tree, and what happens."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tests.support import origin

Files = dict[str, bytes]
_BASE: Files = {"app/a.py": b"A = 1\n" * 40, "app/b.py": b"B = 1\n" * 700, "www/index.html": b"<p>old</p>" * 30}
_NINE: Files = {"app/m0.py": b"Old = 1\n", **{f"app/m{i}.py": b"from app.m0 import Old\n" * 20 for i in range(1, 9)}}
_NINE_NEW = {path: data.replace(b"Old", b"New") for path, data in _NINE.items()}


@dataclass(frozen=True)
class Scenario:
    """`old` and `new` are added to what both trees have; `action` is the driver's, the rest are its switches."""

    name: str
    old: Files
    new: Files
    action: str = "install"  # or "update" and "ready" over HTTP, "rollback" by hand, "prefs", "migrate"
    bad: bool = False  # what is installed fails its trial: only what ran before is right in the end
    newer: bool = False  # after the cut the archive of 1.2.0 lies there instead
    keep: bool = False  # keep_previous
    fill: str = ""  # something fills the disk: "asked", "staged", "trial", "saved", or "noted": in the update boot, which fails
    requests: int = 0  # for parts of the bundle, in the uncut run: the server counts
    ranges: bool = True  # the server knows them; one that does not sends the whole file each time
    update_boot: bool = False  # the board is short of memory unless it is in an update boot
    resumed: bool = False  # the download takes longer than what a cut may cost; for time's sake single cuts, the server there
    loader: str = ""  # the release brings another ota_boot.py: "good", or what is wrong with it (runner.LOADERS)
    restarts: bool = False  # the board is restarted in the trial, more often than a version may fail
    prefs: bool = False  # preferences are saved just before the update, and in its trial
    delete: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()  # files of the new tree that the board's profile keeps away
    extra: Files = field(default_factory=dict)  # files on the board that no release lists
    aside: Files = field(default_factory=dict)  # such files in the way of the new version: it moves them to /moved
    blocks: int = 128  # of 4 KiB: the size of the flash
    like: str = "unix"  # whose habits the board has
    large: bool = False  # seconds a cut: `make torture` takes an evenly spread sample

    @property
    def online(self) -> bool:
        """True when the bundle comes from a server."""
        return self.action in ("update", "ready")

    @property
    def ends_as(self) -> str:
        """Which of the two trees is on the board when all is done."""
        there, back = ("old", "new") if self.action in ("rollback", "prefs") else ("new", "old")
        return back if self.bad or self.fill == "noted" else there


def _changed(**files: bytes) -> Files:
    return {**_BASE, **files}


_SWAP_OLD: Files = {**_BASE, "x.py": b"# a file\n", "lib/y/a.py": b"a\n", "lib/y/b.py": b"b\n"}
_SWAP_NEW: Files = {**_BASE, "x.py/z.py": b"# in a folder\n", "lib/y": b"# a file now\n"}
_TWIN_NEW: Files = {**_BASE, "x/__init__.py": b"# a package\n", "lib/y/a.py": b"a\n", "lib/y/b.py": b"b\n"}
_MANY: Files = {f"d{i // 30}/f{i}.txt": b"old %d " % i * 30 for i in range(300)}
_MANY_NEW: Files = {path: data.replace(b"old", b"new") for path, data in _MANY.items()}
_SMALL: Files = {f"d/f{i:02}.txt": b"old %d " % i * 50 for i in range(64)}  # an RP2 keeps them beside their names
_SMALL_NEW: Files = {path: data.replace(b"old", b"new") for path, data in _SMALL.items()}
_LARGE: Files = {**_BASE, "app/data.bin": random.Random(1).randbytes(36_000)}  # what has arrived is kept after each 32 KiB
_FAR: Files = {**_BASE, "lib/a.bin": random.Random(2).randbytes(9_000)}
_FAR_NEW: Files = {**_FAR, "app/b.py": b"B = 2\n" * 700, "www/index.html": b"<p>new</p>" * 30}
_MOVED: Files = {"app/a.py": _BASE["app/a.py"], "deep/er/new.py": b"N = 1\n" * 90, "www/index.html": b"<p>new</p>" * 30}
_TRASH: Files = {"trash/a.txt": b"1", "trash/b/c.txt": b"2"}
_TOOL: Files = {**_MOVED, "tool.py": b"T = 1\n", "lib/thing.py": b"B = 1\n", "app/own.txt": b"ours"}
_ASIDE: Files = {"tool/data.bin": b"precious", "tool/deep/er.txt": b"more" * 300, "lib/thing/x": b"y", "app/own.txt": b"mine"}
_LEFTOVERS: Files = {".ota/backup/e3": b"junk", ".ota/stage/7/e1": b"junk", ".ota/reserve/a0/x": b""}

SCENARIOS = (
    Scenario("one file", _BASE, _changed(**{"app/b.py": b"B = 2\n" * 700})),
    Scenario("nine files", _NINE, _NINE_NEW),
    Scenario("added and removed", _BASE, _MOVED),
    Scenario("file and folder", _SWAP_OLD, _SWAP_NEW),
    Scenario("file and folder, bad", _SWAP_OLD, _SWAP_NEW, bad=True),
    Scenario("folder and file", _SWAP_NEW, _SWAP_OLD),
    Scenario("folder and file, bad", _SWAP_NEW, _SWAP_OLD, bad=True),
    Scenario("module and package", _SWAP_OLD, _TWIN_NEW),
    Scenario("module and package, bad", _SWAP_OLD, _TWIN_NEW, bad=True),
    Scenario("package and module", _TWIN_NEW, _SWAP_OLD),
    Scenario("package and module, bad", _TWIN_NEW, _SWAP_OLD, bad=True),
    Scenario("delete", _BASE, _MOVED, delete=("trash",), extra=_TRASH),
    Scenario("delete, bad", _BASE, _MOVED, bad=True, delete=("trash",), extra=_TRASH),
    Scenario("the user's data in a module's way", _BASE, _TOOL, aside=_ASIDE),
    Scenario("the user's data in a module's way, bad", _BASE, _TOOL, bad=True, aside=_ASIDE),
    Scenario("a file that the profile excludes", _BASE, {**_MOVED, "zz.txt": b"not here"}, excluded=("zz.txt",)),
    Scenario("fails its trial", _NINE, _NINE_NEW, bad=True),
    Scenario("restarted in its trial", _NINE, _NINE_NEW, restarts=True),
    Scenario("a newer one follows", _NINE, _NINE_NEW, newer=True),
    Scenario("leftovers", _BASE, _MOVED, extra=_LEFTOVERS),
    Scenario("a version is kept", _SWAP_OLD, _SWAP_NEW, keep=True),
    Scenario("the way back", _SWAP_OLD, _SWAP_NEW, action="rollback", keep=True),
    Scenario("the way back, bad", _SWAP_OLD, _SWAP_NEW, action="rollback", keep=True, bad=True),
    Scenario("the loader", _BASE, _MOVED, loader="good"),
    Scenario("a loader that loops", _BASE, _MOVED, loader="loops", newer=True),
    Scenario("a loader that raises", _BASE, _MOVED, loader="raises", newer=True),
    Scenario("a loader that never becomes ready", _BASE, _MOVED, loader="never becomes ready", newer=True),
    Scenario("a loader that has no feed", _BASE, _MOVED, loader="has no feed", newer=True),
    Scenario("over http", _BASE, _MOVED, action="update", requests=3),
    Scenario("over http, file and folder, bad", _SWAP_OLD, _SWAP_NEW, action="update", bad=True, requests=3),
    Scenario("over http, two ranges", _FAR, _FAR_NEW, action="update", requests=3),
    Scenario("over http, a large file", _BASE, _LARGE, action="update", resumed=True, requests=2),
    Scenario("over http, no ranges", _BASE, _MOVED, action="update", ranges=False, requests=2),
    Scenario("ready, then installed", _BASE, _MOVED, action="ready", requests=3),
    Scenario("update boot", _BASE, _MOVED, action="update", update_boot=True, requests=3),
    Scenario("update boot, bad", _SWAP_OLD, _SWAP_NEW, action="update", update_boot=True, bad=True, requests=3),
    Scenario("update boot, disk full", _BASE, _MOVED, action="update", update_boot=True, fill="noted", requests=3, blocks=72),
    Scenario("migration", {}, _LARGE, action="migrate", extra=origin.library()),
    Scenario("migration, bad", {}, _LARGE, action="migrate", bad=True, extra=origin.library()),
    Scenario("a full disk that heals", _BASE, _MOVED, action="update", fill="asked", delete=("ballast",), requests=5, large=True),
    Scenario("preferences", _BASE, _BASE, action="prefs"),
    Scenario("preferences on a full disk", _BASE, _BASE, action="prefs", fill="saved", blocks=72),
    Scenario("preferences and an update", _BASE, _MOVED, prefs=True),
    Scenario("disk full after staging", _SWAP_OLD, _SWAP_NEW, fill="staged", blocks=72),
    Scenario("disk full after staging, bad", _SWAP_OLD, _SWAP_NEW, fill="staged", bad=True, blocks=72),
    Scenario("disk full in the trial", _SWAP_OLD, _SWAP_NEW, fill="trial", blocks=72),
    Scenario("disk full in the trial, bad", _SWAP_OLD, _SWAP_NEW, fill="trial", bad=True, blocks=72),
    Scenario("small files, disk full after staging", _SMALL, _SMALL_NEW, fill="staged", blocks=232, large=True, like="pico-w"),
    Scenario(
        "small files, disk full in the trial", _SMALL, _SMALL_NEW, fill="trial", bad=True, blocks=232, large=True, like="pico-w"
    ),
    Scenario("300 files", _MANY, _MANY_NEW, blocks=880, large=True),
    Scenario("300 files, disk full after staging", _MANY, _MANY_NEW, fill="staged", blocks=880, large=True),
    Scenario("300 files, disk full in the trial", _MANY, _MANY_NEW, fill="trial", bad=True, blocks=880, large=True),
)
