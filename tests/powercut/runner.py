"""Cuts the power at every flash operation of every life of an update, and looks at what the board makes of it.

The uncut run gives the lives (from one reset to the next): the image before each, and a log of its operations, from which the
image is made that a cut at any of them leaves. What a cut before an operation leaves is what a cut after the one before it
leaves: such a pair is looked at once, and counts as two cuts.

A case is such an image, or two cuts: the boot after the first one is logged as well. Then:

1. The board boots until it is stable, and nobody asks it for anything. After the loader's first run, and when it is stable, every
   file and folder is compared with both versions. That gives the verdict, old or new.
2. What the scenario does is done again, until the board is stable. It must end where the uncut run ends.
3. Where the old version is kept, the board goes back to it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

from iotctl import ROOT, archive, bundle, migrate, mpy, publish, serve
from iotctl.profile import Profile
from iotctl.tree import folders
from modules.ota.release.manifest import PIECE
from sim import flashlog
from sim.board import BLOCK, Board, BoardError, Boot, Cut, Tree
from tests.powercut.scenario import SCENARIOS, Files, Scenario
from tests.support import origin

MODES = ("before", "torn", "after")
NETWORKS = ("", "wifi off", "server away")
_HEAP = "256k"
_MOST_BOOTS = 9
_ARCHIVE = "new_firmware.tar.gz"
_IGNORED = (
    ".ota", _ARCHIVE, f"{_ARCHIVE}.1", "prefs.json", "prefs.json.1", "ballast", "ota_boot.py", "ota_boot_old.py", "boot.keep",
)  # fmt: skip
_STAYS = {".ota/state.0", ".ota/state.1", ".ota/release"}
_ORIGIN = b"""
import machine
import modules.ota.ota as ota

ota.load()
if ota.waiting():
    ota.install_new_firmware()
else:
    print("STABLE")
machine.reset()
"""
_MAIN = b"import sys\nsys.path.append('/sys')\nimport driver\ndriver.main()\n"
_PREFS = b'{"wifi.ssid": "home", "count": 1}'
_THEIRS = b'{"wifi": {"ssid": "home", "password": "secret"}}'
_RUNS = b"    global ready, restart\n"
LOADERS = {  # the proven one with a change; what loops has its watchdog bite at once
    "good": (b"", b""),
    "loops": (_RUNS, _RUNS + b"    sys.modules['machine'].WDT(timeout=1)\n    while True:\n        pass\n"),
    "raises": (_RUNS, _RUNS + b"    raise OSError(5)\n"),
    "never becomes ready": (b"    ready = True\n", b"    ready = False\n"),
    "has no feed": (b"feed()", b"feeds()"),
}


@dataclass(frozen=True)
class Case:
    """One cut, or two: enough to do it again."""

    scenario: str
    fs: str
    life: int
    first: Cut
    second: Cut | None = None
    network: str = ""  # while the board recovers; later the server is back

    def replay(self) -> str:
        parts = [self.scenario, self.fs, str(self.life), str(self.first.at), self.first.mode]
        parts += [str(self.second.at), self.second.mode] if self.second else []
        return ":".join([*parts, self.network] if self.network else parts)


@dataclass
class Outcome:
    """What became of a case: old, new, mixed or unbootable; and whether the preferences were lost."""

    case: Case
    verdict: str
    lost: bool = False
    detail: str = ""

    @property
    def good(self) -> bool:
        return self.verdict in ("old", "new") and not self.lost


@dataclass
class Lives:
    """The uncut run: for each life the image before it and its operations; and the two trees."""

    scenario: Scenario
    fs: str
    folder: Path
    url: str
    counts: list[int]
    old: Tree
    new: Tree
    broken: bool = False

    @cached_property
    def operations(self) -> list[list[flashlog.Operation]]:
        return [flashlog.read(self.folder / f"life{life}.log") for life in range(len(self.counts))]

    def image(self, life: int, where: Cut) -> bytes:
        return flashlog.cut((self.folder / f"life{life}.img").read_bytes(), self.operations[life], where)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "operations"}  # each process reads them itself


def by_name(name: str) -> Scenario:
    return next(scenario for scenario in SCENARIOS if scenario.name == name)


def run(
    scenario: Scenario, fs: str, *, sample: int | None, doubles: int, workers: int, broken: bool = False
) -> tuple[list[Outcome], float]:
    """All cases of a scenario, on all cores; the outcomes, and the seconds that it took.

    :param sample: about so many cuts, evenly spread, instead of all.
    :param doubles: two cuts behind every so many first ones; 0 for none.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=_fast_folder()) as folder, Site(Path(folder), scenario.ranges) as site:
        lives = record(scenario, fs, Path(folder), site, broken)
        single = _thinned(list(single_cuts(lives)), sample)
        double = list(_first_cuts(lives, doubles)) if doubles else []
        with ProcessPoolExecutor(workers) as pool:
            outcomes = [outcome for found in pool.map(_Single(lives), single, chunksize=4) for outcome in found]
            outcomes += [outcome for found in pool.map(_Double(lives), double) for outcome in found]
    return outcomes, time.monotonic() - began


def single_cuts(lives: Lives) -> Iterator[tuple[Case, ...]]:
    """Every cut of every life; those that leave the same image together. Without network only the torn ones, for time's sake."""
    for network in NETWORKS if lives.scenario.online and not lives.scenario.resumed else ("",):
        for life, count in enumerate(lives.counts):
            at = [Case(lives.scenario.name, lives.fs, life, Cut(n, mode), None, network) for n in range(count) for mode in MODES]
            yield from [(at[0],)] if at and not network else ()
            for n in range(count):
                yield (at[3 * n + 1],)  # torn
                if not network:
                    yield tuple(at[3 * n + 2 : 3 * n + 4])  # after it, and before the next one


def _first_cuts(lives: Lives, step: int) -> Iterator[Case]:
    """Every so many operations, torn and after it in turn."""
    operations = [(life, at) for life, count in enumerate(lives.counts) for at in range(count)]
    for n, (life, at) in enumerate(operations[::step]):
        yield Case(lives.scenario.name, lives.fs, life, Cut(at, MODES[1 + n % 2]))


def _thinned(found: list[tuple[Case, ...]], sample: int | None) -> list[tuple[Case, ...]]:
    """Evenly spread; about `sample` cuts, of which a pair has two."""
    wanted = min(len(found), sample * 2 // 3) if sample else len(found)
    return [found[i * len(found) // wanted] for i in range(wanted)]


def replay(text: str, broken: bool = False, like: str | None = None) -> Outcome:
    """Do one case again."""
    parts = text.split(":")
    network = parts.pop() if parts[-1] in NETWORKS else ""
    second = Cut(int(parts[5]), parts[6]) if len(parts) > 5 else None
    case = Case(parts[0], parts[1], int(parts[2]), Cut(int(parts[3]), parts[4]), second, network)
    scenario = by_name(case.scenario)
    scenario = replace(scenario, like=like or scenario.like)
    with tempfile.TemporaryDirectory(dir=_fast_folder()) as folder, Site(Path(folder), scenario.ranges) as site:
        lives = record(scenario, case.fs, Path(folder), site, broken)
        with _board(lives) as board:
            board.image.write_bytes(lives.image(case.life, case.first))
            if second:
                board.boot_once(cut=second)
            return judge(case, lives, board)


# -- the uncut run


def record(scenario: Scenario, fs: str, folder: Path, site: serve.Server, broken: bool = False) -> Lives:
    """Run the scenario uncut, life by life. AssertionError when it does not end as it should."""
    url = site.url
    old, new = _tree(scenario, "1.0.0", url), _tree(scenario, "1.1.0", url)
    _write_system(folder / "sys")
    lives = Lives(scenario, fs, folder, url, [], _expected(old, scenario, True), _expected(new, scenario, False), broken)
    if scenario.newer:
        (folder / "newer").write_bytes(bundle.pack(_bundle(scenario, "1.2.0", _tree(scenario, "1.2.0", url))))
    made_old, made_new = _bundle(scenario, "1.0.0", old), _bundle(scenario, "1.1.0", new)
    with _board(lives) as board:
        board.format()
        board.write({**old, **scenario.extra, **scenario.aside, **_beside(scenario, made_old)})
        if scenario.online:
            _publish(folder, made_new)
        elif scenario.action != "prefs":
            (folder / "archive").write_bytes(_packed(scenario, made_new, old))
            board.write({_ARCHIVE: (folder / "archive").read_bytes()})
        if scenario.action == "rollback":  # the way there is not cut, only the way back
            board.env.update(_environment(lives, replace(scenario, action="install", bad=False)))
            assert _live(board), "the way there does not end"
            board.env.update(_environment(lives, scenario))
        cause = "power"
        for life in range(_MOST_BOOTS):
            board.snapshot(folder / f"life{life}.img")
            boot = board.boot_once(cause=cause, log=folder / f"life{life}.log")
            cause = boot.cause
            # a board that is bitten by its watchdog writes no counters any more
            bitten = len(flashlog.read(folder / f"life{life}.log")) if cause == "watchdog" else None
            lives.counts.append(boot.counters.operations if bitten is None else bitten)
            if "STABLE" in boot.output:
                break
        else:
            raise AssertionError(f"{scenario.name}: the uncut run does not come to rest:\n{boot.output}")
        ended = _verdict(board.read(), lives)
        assert ended == scenario.ends_as, f"{scenario.name} on {fs}: the uncut run ends as {ended}:\n{boot.output}"
        assert all(len(found) == count for found, count in zip(lives.operations, lives.counts, strict=True))
        asked = [(request.headers.get("range"), request.status) for request in site.requests if request.path.endswith(".gz")]
        assert len(asked) == scenario.requests, f"{scenario.name}: the bundle was asked for in other parts: {asked}"
    return lives


# -- the cases


class _Single:
    """Judges a cut, or a pair that leaves the same image, for a pool of processes."""

    def __init__(self, lives: Lives) -> None:
        self.lives = lives

    def __call__(self, cases: tuple[Case, ...]) -> list[Outcome]:
        with _board(self.lives) as board:
            board.image.write_bytes(self.lives.image(cases[0].life, cases[0].first))
            outcome = judge(cases[0], self.lives, board)
        return [replace(outcome, case=case) for case in cases]


class _Double:
    """Judges a second cut at every second operation of the boot that follows a first one."""

    def __init__(self, lives: Lives) -> None:
        self.lives = lives

    def __call__(self, first: Case) -> list[Outcome]:
        with _board(self.lives) as board:
            start = self.lives.image(first.life, first.first)
            board.image.write_bytes(start)
            log = board.image.with_suffix(".log")
            board.boot_once(log=log)
            operations = flashlog.read(log)
            outcomes = []
            for at in range(0, len(operations), 2):
                second = Cut(at, MODES[1 + at // 2 % 2])
                board.image.write_bytes(flashlog.cut(start, operations, second))
                outcomes.append(judge(replace(first, second=second), self.lives, board))
        return outcomes


def judge(case: Case, lives: Lives, board: Board) -> Outcome:
    """What becomes of a board whose power has been cut, and which is switched on now."""
    try:
        return _judge(case, lives, board)
    except BoardError as error:  # a damaged FAT
        return Outcome(case, "mixed", detail=str(error))


def _judge(case: Case, lives: Lives, board: Board) -> Outcome:
    scenario = lives.scenario
    board.env.update(TORTURE_ACTION="", TORTURE_NETWORK=case.network)
    boots: list[Boot] = []
    if not _live(board, boots):
        return Outcome(case, "unbootable", detail=_story(boots))
    loaded = next((boot.tree for boot in boots if boot.tree), None)  # of the first one in which boot.py came to its end
    if loaded is None or _verdict(loaded, lives, "moved") == "mixed":  # what goes there is moved after the confirmation
        return Outcome(case, "mixed", detail="when the loader had run\n" + _story(boots))
    rested = board.read()
    verdict = _verdict(rested, lives)
    if scenario.loader not in ("", "good") and rested.files.get("ota_boot.py") != _loader():
        return Outcome(case, "unbootable", detail="the proven loader is gone\n" + _story(boots))
    if verdict == "mixed" or (scenario.bad and verdict != scenario.ends_as):
        return Outcome(case, "mixed", detail=f"stable as {verdict}\n{_story(boots)}")
    if _noted(loaded) and not case.network and verdict != scenario.ends_as:
        return Outcome(case, "mixed", detail=f"the noted job was lost\n{_story(boots)}")
    return _converge(case, lives, board, rested, verdict, boots)


def _converge(case: Case, lives: Lives, board: Board, rested: Tree, verdict: str, boots: list[Boot]) -> Outcome:
    """The server is back, and what was going on is asked for again: the board must come to the scenario's end."""
    scenario = lives.scenario
    board.env.update(_environment(lives, scenario), TORTURE_NETWORK="")
    if scenario.newer:
        board.write({_ARCHIVE: (lives.folder / "newer").read_bytes()})
    if scenario.action == "migrate" and verdict == "old" and not scenario.bad:  # the old platform has thrown it away
        board.write({_ARCHIVE: (lives.folder / "archive").read_bytes()})
    if not _live(board, boots):
        return Outcome(case, "unbootable", detail=_story(boots))
    tree = board.read()
    wanted = {"old": lives.old, "new": lives.new}[scenario.ends_as]
    if scenario.newer:
        wanted = _expected(_tree(scenario, "1.2.0", lives.url), scenario, False)
    gave_up = verdict == "old" and _failed_before(tree)  # the trial had no network: not tried again yet
    if gave_up:
        wanted = lives.old
    if not _same(tree, wanted, *_unseen(scenario)):
        return Outcome(case, "mixed", detail="it does not end where it should\n" + _story(boots))
    if scenario.resumed and not _went_on(rested, boots):
        return Outcome(case, "mixed", detail="what had arrived was fetched again\n" + _story(boots))
    if scenario.action == "migrate" and scenario.bad:  # what lies below .ota goes with the next attempt
        if tree.files["boot.py"] != _origins()["boot.py"]:
            return Outcome(case, "mixed", detail="it has our boot.py still\n" + _story(boots))
        return Outcome(case, verdict, _preferences_lost(tree, scenario), _story(boots))
    if left := _left_behind(tree, scenario):
        return Outcome(case, "mixed", detail=f"left behind: {left}\n{_story(boots)}")
    if not _loader_is_good(tree, scenario, gave_up):
        return Outcome(case, "unbootable", detail="the loader is not what it should be\n" + _story(boots))
    if scenario.keep and scenario.action == "install" and not _way_back(lives, board, boots):
        return Outcome(case, "mixed", detail="the kept version is not the old one\n" + _story(boots))
    return Outcome(case, verdict, _preferences_lost(tree, scenario), _story(boots))


def _way_back(lives: Lives, board: Board, boots: list[Boot]) -> bool:
    """Go back to the kept version by hand: True when it is the old one."""
    board.env.update(_environment(lives, replace(lives.scenario, action="rollback")))
    return _live(board, boots) and _verdict(board.read(), lives) == "old"


def _live(board: Board, boots: list[Boot] | None = None) -> bool:
    """Boot until the board says that it is stable; False when it never does."""
    boots = [] if boots is None else boots
    for number in range(_MOST_BOOTS):
        cause = "power" if number == 0 else boots[-1].cause
        boots.append(board.boot_once(timeout=60, cause=cause, dump=not any(boot.tree for boot in boots)))
        if "STABLE" in boots[-1].output:
            return True
        if boots[-1].cause in ("dead", "timeout", "crash"):
            return False
    return False


def _story(boots: list[Boot]) -> str:
    return "\n-- boot\n".join(boot.output[-1500:] for boot in boots)


# -- what must be there


def _verdict(tree: Tree, lives: Lives, *unseen: str) -> str:
    unseen += _unseen(lives.scenario)
    return "old" if _same(tree, lives.old, *unseen) else "new" if _same(tree, lives.new, *unseen) else "mixed"


def _unseen(scenario: Scenario) -> tuple[str, ...]:
    """A platform that a board went back to gets its boot.py back with the next restart, and is told that it has this version."""
    return ("boot.py", "version", "migrate.log") if scenario.action == "migrate" and scenario.bad else ()


def _same(found: Tree, wanted: Tree, *unseen: str) -> bool:
    live, wanted = found.without(*_IGNORED, *unseen), wanted.without(*unseen)
    return live.files == wanted.files and live.folders == wanted.folders


def _noted(tree: Tree) -> bool:
    """True when a job waits for an update boot that it may still have."""
    return any(f".ota/job.{n}" in tree.files for n in range(3))


def _went_on(rested: Tree, boots: list[Boot]) -> bool:
    """True when nothing was fetched again that OTA remembered as arrived. Once its list has moved, a stage begins anew."""
    slots = [rested.files[path].split(b"\n") for path in (".ota/state.0", ".ota/state.1") if path in rested.files]
    whole = [slot for slot in slots if len(slot) > 1 and slot[1]]
    part = json.loads(max(whole, key=lambda slot: int(slot[1].split()[0]))[0]).get("part") if whole else None
    staged = re.findall(r"staging (\d+) bytes", "".join(boot.output for boot in boots))
    return not part or ".ota/list" not in rested.files or int(staged[0]) < PIECE


def _failed_before(tree: Tree) -> bool:
    return any(b'"no_network"' in tree.files.get(f".ota/state.{n}", b"") for n in (0, 1))


def _left_behind(tree: Tree, scenario: Scenario) -> list[str]:
    """What an update has left below .ota, when there is nothing left to do."""
    own = {path for path in tree.files | dict.fromkeys(tree.folders, b"") if path.startswith(".ota/")}
    kept = {path for path in own if scenario.keep and path.startswith(".ota/previous")}
    return sorted(own - _STAYS - kept)


def _loader_is_good(tree: Tree, scenario: Scenario, gave_up: bool) -> bool:
    if not scenario.loader or gave_up:
        return tree.files.get("ota_boot.py") == _loader()
    return tree.files.get("ota_boot.py") == _newer_loader("good") and tree.files.get("ota_boot_old.py") == _loader()


def _preferences_lost(tree: Tree, scenario: Scenario) -> bool:
    if scenario.action == "migrate":
        found = json.loads(tree.files.get("prefs.json", b"{}"))
        return found != (json.loads(_THEIRS) if scenario.bad else {"wifi.ssid": "home", "wifi.password": "secret"})
    if scenario.action != "prefs" and not scenario.prefs:
        return tree.files.get("prefs.json") != _PREFS
    slots = [data for name, data in tree.files.items() if name.startswith("prefs.json") and _whole(data)]
    values = [json.loads(data.split(b"\n")[0]) for data in slots]
    return not any(value.get("wifi.ssid") == "home" and value["count"] > 1 for value in values)


def _whole(slot: bytes) -> bool:
    payload, _, last = slot.partition(b"\n")
    if not last:
        return payload == _PREFS
    counter, _, digest = last.strip().partition(b" ")
    return digest.decode() == hashlib.sha256(payload + counter).hexdigest()


# -- what is made for it


def _expected(files: Files, scenario: Scenario, old: bool) -> Tree:
    """The tree of a version, with the files that no release lists: what `delete` names is gone in the new one."""
    more = {p: d for p, d in scenario.extra.items() if old or not any(p.startswith(name + "/") for name in scenario.delete)}
    aside = {path if old else f"moved/{path}": data for path, data in scenario.aside.items()}
    merged = {path: data for path, data in {**files, **more, **aside}.items() if path not in scenario.excluded}
    return Tree(merged, folders(merged)).without(*_IGNORED)


def _tree(scenario: Scenario, version: str, url: str) -> Files:
    if scenario.action == "migrate" and version == "1.0.0":
        return _origins()
    files = {"1.0.0": scenario.old, "1.1.0": scenario.new, "1.2.0": _newer(scenario.new)}[version]
    profile = {
        "shortName": "torture",
        "activeModules": ["ota"],
        "ota": {
            "url": url, "tmp_filename": _ARCHIVE, "excluded_files": list(scenario.excluded), "confirm_timeout_s": 60,
            "delete": list(scenario.delete) if version != "1.0.0" else [], "keep_previous": scenario.keep,
        },
    }  # fmt: skip
    made = {
        **files,
        "boot.py": (ROOT / "platform" / "boot.py").read_bytes(),
        "ota_boot.py": _loader_of(scenario, version),
        "main.py": _MAIN,
        "version": version.encode() + b"\n",
        "profile.json": json.dumps(profile).encode(),
    }
    if scenario.bad and version == ("1.0.0" if scenario.action == "rollback" else "1.1.0"):
        made["bad.txt"] = b"this release fails its trial"
    return made


def _origins() -> Files:
    """A board of the platform that this one follows: it installs what lies there, without any network."""
    files = origin.tree("http://127.0.0.1:1", "1.0.0", pages=5_000)
    return {**files, "main.py": _ORIGIN}


def _beside(scenario: Scenario, made: bundle.Bundle) -> Files:
    """What is on the flash beside the old tree."""
    return {"prefs.json": _THEIRS} if scenario.action == "migrate" else {".ota/release": made.listing, "prefs.json": _PREFS}


def _packed(scenario: Scenario, made: bundle.Bundle, old: Files) -> bytes:
    if scenario.action != "migrate":
        return bundle.pack(made)
    raw = made.files["profile.json"]
    before = migrate.Old(sorted(old), "1.0.0", json.loads(old["profile.json"]), old["boot.py"])
    given = Profile(Path("profile.json"), raw, json.loads(raw))
    return archive.gzip(archive.tar(migrate.members(made, given, [before], ask=False)))


def _newer(files: Files) -> Files:
    """Every other file is not what 1.1.0 has: what was staged of that would be seen."""
    return {path: data + b"# newer\n" if n % 2 else data for n, (path, data) in enumerate(files.items())}


@cache
def _loader() -> bytes:
    return (ROOT / "platform" / "ota_boot.py").read_bytes()


def _loader_of(scenario: Scenario, version: str) -> bytes:
    """What is wrong with 1.1.0's is mended in 1.2.0."""
    if not scenario.loader or version == "1.0.0":
        return _loader()
    return _newer_loader(scenario.loader if version == "1.1.0" else "good")


@cache
def _newer_loader(what: str) -> bytes:
    old, new = LOADERS[what]
    assert old in _loader()
    return (_loader().replace(old, new) if old else _loader()) + b"# newer\n"


def _bundle(scenario: Scenario, version: str, files: Files) -> bundle.Bundle:
    raw = files["profile.json"]
    given = Profile(Path("profile.json"), raw, json.loads(raw))
    return bundle.make(given, files, bundle.Options(version, bundle.default_sequence(version)))


def _publish(folder: Path, made: bundle.Bundle) -> None:
    path = folder / f"{made.header['version']}.tar.gz"
    path.write_bytes(bundle.pack(made))
    publish.publish(path, folder / "site", publish.Options())


class _board:
    """A board of the scenario in a folder of its own."""

    def __init__(self, lives: Lives) -> None:
        self._folder = tempfile.TemporaryDirectory(dir=_fast_folder())
        image = Path(self._folder.name) / "board.img"
        env = {"SIMULATOR_MOUNT": str(lives.folder / "sys"), **_environment(lives, lives.scenario)}
        like, size = lives.scenario.like, lives.scenario.blocks * BLOCK
        self._made = Board(image, like=like, fs=lives.fs, size=size, heap=_HEAP if like == "unix" else None, env=env)

    def __enter__(self) -> Board:
        return self._made

    def __exit__(self, *_error: object) -> None:
        self._folder.cleanup()


def _environment(lives: Lives, scenario: Scenario) -> dict[str, str]:
    return {
        "TORTURE_ACTION": scenario.action,
        "TORTURE_FILL": scenario.fill,
        "TORTURE_PREFS": "1" if scenario.prefs else "",
        "TORTURE_RESTARTS": "400" if scenario.restarts else "",  # in the trial's number: four
        "TORTURE_SHORT": "1" if scenario.update_boot else "",
        "TORTURE_BROKEN": "1" if lives.broken else "",
        "SIMULATOR_WATCHDOG_MS": "60000" if lives.broken else "",  # at the REPL, where broken boards end, it bites at once
    }


@cache
def _system() -> Files:
    """The driver, and what it needs of the product."""
    found: Files = {}
    for folder in ("platform/iot_platform", "modules/ota"):
        names = folder.removeprefix("platform/")
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = f"{names}/{path.relative_to(ROOT / folder)}"
            found[name.removesuffix(".py") + ".mpy"] = mpy.compile_source(path.read_bytes(), name)
    driver = Path(__file__).parent / "driver.py"
    found["driver.mpy"] = mpy.compile_source(driver.read_bytes(), "driver.py")
    return found


def _write_system(folder: Path) -> None:
    """Beside the flash, so that importing it costs no operation of the flash and no time."""
    for path, data in _system().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


class _NoRanges(serve.Handler):
    """Sends the whole file, whatever is asked for."""

    def _span(self, _etag: str, _size: int) -> None:
        return None


class Site(serve.Server):
    """The update server of the scenarios that download."""

    def __init__(self, folder: Path, ranges: bool) -> None:
        (folder / "site").mkdir()
        super().__init__(folder / "site", handler_class=serve.Handler if ranges else _NoRanges)


def _fast_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
