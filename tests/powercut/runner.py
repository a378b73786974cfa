"""Cuts the power at every flash operation of every life of an update, and looks at what the board makes of it.

The uncut run gives the lives (from one reset to the next), a snapshot of the image before each, and how many operations each has.
A case is a cut in one life, perhaps a second one in the boot that follows, and then boots until the board is stable. After the
first boot, and in the end, every file and folder is compared with both versions.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from iotctl import ROOT, bundle, delta, mpy, publish, serve
from iotctl.profile import Profile
from sim.board import Board, Boot, Cut, Tree
from tests.powercut.scenario import SCENARIOS, Files, Scenario

MODES = ("before", "torn", "after")
_SIZE = 2 * 1024 * 1024
_HEAP = "256k"
_MOST_BOOTS = 9
_IGNORED = (".ota", "new_firmware.tar.gz", "prefs.json", "prefs.json.1", "ballast", "ota_boot.py", "ota_boot_old.py", "boot.keep")
_MAIN = b"import sys\nsys.path.append('/sys')\nimport driver\n"
_PREFS = b'{"wifi.ssid": "home", "count": 1}'


@dataclass(frozen=True)
class Case:
    """One cut, or two: enough to do it again."""

    scenario: str
    fs: str
    life: int
    first: Cut
    second: Cut | None = None
    offline: bool = False

    def replay(self) -> str:
        parts = [self.scenario, self.fs, str(self.life), str(self.first.at), self.first.mode]
        parts += [str(self.second.at), self.second.mode] if self.second else []
        return ":".join(parts) + (":offline" if self.offline else "")


@dataclass
class Outcome:
    """What became of a case: old, new, mixed or unbootable; and whether the preferences were lost."""

    case: Case
    verdict: str
    lost: bool
    detail: str = ""


@dataclass
class Lives:
    """The uncut run: a snapshot of the image before each life, its operations, and the two trees."""

    folder: Path
    snapshots: list[Path]
    operations: list[int]
    old: Tree
    new: Tree


def by_name(name: str) -> Scenario:
    return next(scenario for scenario in SCENARIOS if scenario.name == name)


def cases(lives: Lives, scenario: Scenario, fs: str, sample: int | None, doubles: int) -> Iterator[Case]:
    """Every cut of every life, evenly thinned to about `sample`; then two cuts behind every `doubles`-th first one."""
    everything = [(life, at, mode) for life, n in enumerate(lives.operations) for at in range(n + 1) for mode in MODES]
    step = max(1, len(everything) // sample) if sample else 1
    for life, at, mode in everything[:: step if step % 3 else step + 1]:
        yield Case(scenario.name, fs, life, Cut(at, mode), offline=scenario.action == "update" and at % 2 == 0)
    firsts = [(life, at) for life, n in enumerate(lives.operations) for at in range(n)]
    for life, at in firsts[::doubles] if doubles else ():
        for second in range(0, 2 * lives.operations[life], 2):
            yield Case(scenario.name, fs, life, Cut(at, "torn"), Cut(second, MODES[second // 2 % 3]))


def run(
    scenario: Scenario, fs: str, *, sample: int | None, doubles: int, workers: int, broken: bool = False
) -> tuple[list[Outcome], float]:
    """All cases of a scenario, on all cores; the outcomes, and the seconds that it took."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=_fast_folder()) as folder, _Site(Path(folder)) as site:
        lives = record(scenario, fs, Path(folder), site.url, broken)
        todo = list(cases(lives, scenario, fs, sample, doubles))
        with ProcessPoolExecutor(workers) as pool:
            outcomes = list(pool.map(_Judge(lives, site.url, broken), todo, chunksize=4))
    return outcomes, time.monotonic() - began


def replay(text: str) -> Outcome:
    """Do one case again."""
    parts = text.split(":")
    offline = parts[-1] == "offline"
    parts = parts[:-1] if offline else parts
    second = Cut(int(parts[5]), parts[6]) if len(parts) > 5 else None
    case = Case(parts[0], parts[1], int(parts[2]), Cut(int(parts[3]), parts[4]), second, offline)
    with tempfile.TemporaryDirectory() as folder, _Site(Path(folder)) as site:
        lives = record(by_name(case.scenario), case.fs, Path(folder), site.url, False)
        return judge(case, lives, site.url, False)


def record(scenario: Scenario, fs: str, folder: Path, url: str, broken: bool) -> Lives:
    """Run the scenario uncut, life by life."""
    old, new = _tree(scenario, "1.0.0", url), _tree(scenario, "1.1.0", url)
    _write_system(folder / "sys")
    board = _board(scenario, fs, folder / "first.img", folder, broken=broken)
    board.format()
    made_old, made_new = _bundle(scenario, "1.0.0", old), _bundle(scenario, "1.1.0", new)
    board.write({**old, **scenario.extra, ".ota/release": made_old.listing, "prefs.json": _PREFS})
    if scenario.action in ("install", "rollback"):
        board.write({"new_firmware.tar.gz": bundle.pack(_delta(made_old, made_new) if scenario.delta else made_new)})
    if scenario.newer:
        (folder / "newer").write_bytes(bundle.pack(_bundle(scenario, "1.2.0", _tree(scenario, "1.2.0", url))))
    if scenario.action == "update":
        _publish(folder, [made_old, made_new] if scenario.delta else [made_new])
    if scenario.keep:  # the way there is not cut, only the way back
        _live_to_the_end(_board(replace(scenario, action="install"), fs, board.image, folder, broken=False))
    snapshots, operations = [], []
    for life in range(_MOST_BOOTS):
        snapshots.append(folder / f"life{life}.img")
        board.snapshot(snapshots[-1])
        boot = board.boot_once(cause="power" if life == 0 else "hard")
        operations.append(boot.counters.operations)
        if "STABLE" in boot.output:
            break
    else:
        raise AssertionError(f"{scenario.name}: the uncut run does not come to rest:\n{boot.output}")
    return Lives(folder, snapshots, operations, _expected(old, scenario, True), _expected(new, scenario, False))


class _Judge:
    """judge() with its surroundings, for a pool of processes."""

    def __init__(self, lives: Lives, url: str, broken: bool) -> None:
        self.lives, self.url, self.broken = lives, url, broken

    def __call__(self, case: Case) -> Outcome:
        return judge(case, self.lives, self.url, self.broken)


def judge(case: Case, lives: Lives, url: str, broken: bool) -> Outcome:
    """Cut, boot, compare; boot on until the board is stable, and compare again."""
    scenario = by_name(case.scenario)
    with tempfile.TemporaryDirectory(dir=_fast_folder()) as folder:
        board = _board(scenario, case.fs, Path(folder) / "board.img", lives.folder, broken=broken)
        board.restore(lives.snapshots[case.life])
        board.boot_once(cut=case.first, cause="power" if case.life == 0 else "hard")
        if case.second:
            board.boot_once(cut=case.second, cause="power")
        after_one = board.boot_once(only_boot=True)
        verdict = _verdict(board.read(), lives)
        if verdict == "mixed":
            return Outcome(case, verdict, False, after_one.output)
        if scenario.newer:
            board.write({"new_firmware.tar.gz": (lives.folder / "newer").read_bytes()})
        offline = _board(scenario, case.fs, board.image, lives.folder, broken=broken, offline=True)
        last = _live_to_the_end(offline if case.offline else board)
        if case.offline and last and _verdict(board.read(), lives) != "mixed":
            last = _live_to_the_end(board)  # the server is back
        return _outcome(case, scenario, board, lives, last, url)


def _outcome(case: Case, scenario: Scenario, board: Board, lives: Lives, last: Boot | None, url: str) -> Outcome:
    tree = board.read()
    if last is None:
        return Outcome(case, "unbootable", False, board.boot_once().output[-1500:])
    verdict = _verdict(tree, lives)
    if scenario.newer and _same(tree, _expected(_tree(scenario, "1.2.0", url), scenario, False)):
        verdict = "new"
    elif scenario.newer or (scenario.bad and verdict != "old"):
        return Outcome(case, "mixed", False, f"ended as {verdict}\n{last.output}")
    loaders = [name for name in ("ota_boot.py", "ota_boot_old.py") if name in tree.files]
    if not loaders or not tree.files[loaders[0]]:
        return Outcome(case, "unbootable", False, "no loader is left")
    return Outcome(case, verdict, _preferences_lost(tree, scenario), last.output)


def _preferences_lost(tree: Tree, scenario: Scenario) -> bool:
    if scenario.action != "prefs":
        return tree.files.get("prefs.json") != _PREFS
    slots = [data for name, data in tree.files.items() if name.startswith("prefs.json") and _whole(data)]
    values = [json.loads(data.split(b"\n")[0]) for data in slots]
    return not any(value.get("wifi.ssid") == "home" and value["count"] in (1, 2) for value in values)


def _whole(slot: bytes) -> bool:
    payload, _, last = slot.partition(b"\n")
    if not last:
        return payload == _PREFS
    counter, _, digest = last.strip().partition(b" ")
    return digest.decode() == hashlib.sha256(payload + counter).hexdigest()


def _live_to_the_end(board: Board) -> Boot | None:
    """Boot until the board says that it is stable; None when it never does."""
    for boot_number in range(_MOST_BOOTS):
        boot = board.boot_once(timeout=30, cause="power" if boot_number == 0 else "hard")
        if "STABLE" in boot.output:
            return boot
        if boot.cause in ("dead", "timeout", "crash"):
            return None
    return None


def _verdict(tree: Tree, lives: Lives) -> str:
    return "old" if _same(tree, lives.old) else "new" if _same(tree, lives.new) else "mixed"


def _same(found: Tree, wanted: Tree) -> bool:
    live = found.without(*_IGNORED)
    return live.files == wanted.files and live.folders == wanted.folders


def _expected(files: Files, scenario: Scenario, old: bool) -> Tree:
    """The tree of a version, with the files that no release lists: what `delete` names is gone in the new one."""
    more = {p: d for p, d in scenario.extra.items() if old or not any(p.startswith(name + "/") for name in scenario.delete)}
    merged = {**files, **more}
    folders = {path[:at] for path in merged for at, char in enumerate(path) if char == "/"}
    return Tree(merged, folders).without(*_IGNORED)


def _tree(scenario: Scenario, version: str, url: str) -> Files:
    files = scenario.old if version == "1.0.0" else scenario.new
    profile = {
        "shortName": "torture",
        "activeModules": ["ota"],
        "ota": {
            "url": url, "tmp_filename": "new_firmware.tar.gz", "excluded_files": [], "confirm_timeout_s": 10,
            "delete": list(scenario.delete) if version != "1.0.0" else [], "keep_previous": scenario.keep,
        },
    }  # fmt: skip
    loader = (ROOT / "platform" / "ota_boot.py").read_bytes()
    made = {
        **files,
        "boot.py": (ROOT / "platform" / "boot.py").read_bytes(),
        "ota_boot.py": loader + b"# newer\n" if scenario.loader and version != "1.0.0" else loader,
        "main.py": _MAIN,
        "version": version.encode() + b"\n",
        "profile.json": json.dumps(profile).encode(),
    }
    if scenario.bad and version == "1.1.0":
        made["bad.txt"] = b"this release fails its trial"
    return made


def _bundle(scenario: Scenario, version: str, files: Files) -> bundle.Bundle:
    raw = files["profile.json"]
    given = Profile(Path("profile.json"), raw, json.loads(raw))
    return bundle.make(given, files, bundle.Options(version, bundle.default_sequence(version)))


def _publish(folder: Path, releases: list[bundle.Bundle]) -> None:
    for made in releases:
        path = folder / f"{made.header['version']}.tar.gz"
        path.write_bytes(bundle.pack(made))
        publish.publish(path, folder / "site", publish.Options(deltas=1))


def _delta(old: bundle.Bundle, new: bundle.Bundle) -> bundle.Bundle:
    made = delta.make(old, new)
    assert made
    return made


def _board(scenario: Scenario, fs: str, image: Path, folder: Path, *, broken: bool, offline: bool = False) -> Board:
    env = {"TORTURE_ACTION": scenario.action, "TORTURE_FILL": scenario.fill, "SIM_MOUNT": str(folder / "sys")}
    env.update({"TORTURE_BROKEN": "1"} if broken else {})
    env.update({"TORTURE_STREAMED": "1"} if scenario.streamed else {})
    env.update({"TORTURE_OFFLINE": "1"} if offline else {})
    return Board(image, fs=fs, size=_SIZE, heap=_HEAP, env=env)


@cache
def _system() -> Files:
    """The driver, and what it needs of the product."""
    found: Files = {}
    for folder in ("platform/iot_platform", "modules/ota", "modules/serial_log"):
        names = folder.removeprefix("platform/")
        for path in sorted((ROOT / folder).glob("*.py")):
            found[f"{names}/{path.stem}.mpy"] = mpy.compile_source(path.read_bytes(), f"{names}/{path.name}")
    driver = Path(__file__).parent / "driver.py"
    found["driver.mpy"] = mpy.compile_source(driver.read_bytes(), "driver.py")
    found["tarfile.mpy"] = mpy.compile_source((ROOT / "lib" / "tarfile.py").read_bytes(), "tarfile.py")
    return found


def _write_system(folder: Path) -> None:
    """Beside the flash, so that importing it costs no operation of the flash and no time."""
    for path, data in _system().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


class _Site(serve.Server):
    """The update server of the scenarios that download."""

    def __init__(self, folder: Path) -> None:
        (folder / "site").mkdir()
        super().__init__(folder / "site")

    def __enter__(self) -> _Site:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def _fast_folder() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
