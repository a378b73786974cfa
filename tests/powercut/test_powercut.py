"""An evenly spread sample of `make torture`, and that it can fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from iotctl import ROOT
from sim import flashlog
from sim.board import Cut
from tests.powercut import fat, runner
from tests.powercut.__main__ import replay_command, summary
from tests.powercut.scenario import SCENARIOS, Scenario
from tests.support import figures

_SAMPLE = 22
# Of the large ones: seconds a cut. `make torture` has all of them.
_ON_LITTLEFS = (
    "300 files, disk full in the trial",
    "small files, disk full after staging",
    "small files, disk full in the trial",
)
_ON_FAT = ("nine files", "file and folder, bad", "the way back", "over http", "preferences", "300 files")


@pytest.mark.parametrize(
    "scenario", [s for s in SCENARIOS if not s.large or s.name in _ON_LITTLEFS], ids=lambda scenario: scenario.name
)
def test_every_cut_ends_in_one_version(scenario: Scenario) -> None:
    bad = [outcome for outcome in _judged(scenario, "lfs", 3 if scenario.large else _SAMPLE) if not outcome.good]
    assert not bad, f"{bad[0].verdict}: {replay_command(bad[0].case)}\n{bad[0].detail}"


def test_updates_on_fat_lose_no_more_than_fat_alone() -> None:
    """FAT on bare flash erases a sector before it writes it again: what was in it is gone when power fails between."""
    alone = fat.alone()
    updates = [outcome for name in _ON_FAT for outcome in _judged(runner.by_name(name), "fat", 15)]
    bad = sum(not outcome.good for outcome in updates)
    share = f"{alone['mixed']} of {alone['cuts']} cuts of a plain rename"
    figures.note("power cuts on FAT that damage it", f"{bad} of {len(updates)} cuts of updates, {share}")
    assert 0 < alone["mixed"] < alone["cuts"], "FAT alone is what this is compared with"
    assert bad / len(updates) <= alone["mixed"] / alone["cuts"]


def _judged(scenario: Scenario, fs: str, sample: int) -> list[runner.Outcome]:
    outcomes, seconds = runner.run(scenario, fs, sample=sample, doubles=0, workers=1)
    print(summary(scenario.name, fs, outcomes, seconds))
    assert len(outcomes) >= min(sample // 2, 9)
    return outcomes


@pytest.mark.parametrize(("name", "step"), [("preferences", 1), ("file and folder, bad", 90)])
def test_two_cuts_end_in_one_version(name: str, step: int) -> None:
    """Behind every so many first cuts, at every second operation of the boot that follows; `make torture` has far more."""
    outcomes, _seconds = runner.run(runner.by_name(name), "lfs", sample=1, doubles=step, workers=1)
    double = [outcome for outcome in outcomes if outcome.case.second]
    assert len(double) >= 3
    bad = [outcome for outcome in outcomes if not outcome.good]
    assert not bad, f"{bad[0].verdict}: {replay_command(bad[0].case)}\n{bad[0].detail}"


def test_the_image_made_from_the_log_is_what_a_real_cut_leaves(tmp_path: Path) -> None:
    """Byte by byte, at operations of all kinds: otherwise torture would judge images that no board has."""
    log, kinds = tmp_path / "cut.log", set[bool]()
    with runner.Site(tmp_path, True) as site:
        lives = runner.record(runner.by_name("file and folder"), "lfs", tmp_path, site)
        start = (tmp_path / "life0.img").read_bytes()
        with runner._board(lives) as board:
            for at in range(0, lives.counts[0] - 9, 7):
                for mode in runner.MODES:
                    board.image.write_bytes(start)
                    assert board.boot_once(cut=Cut(at, mode), log=log).cause == "power"
                    operations = flashlog.read(log)  # of this very life: littlefs notes the time in each file
                    assert board.image.read_bytes() == flashlog.cut(start, operations, Cut(at, mode)), f"{at} {mode}"
                    kinds.update(bool(operation.data) for operation in operations[at:])
    assert kinds == {True, False}, "no erase, or no program was among them"


def test_a_cut_outside_a_life_is_none(tmp_path: Path) -> None:
    with pytest.raises(IndexError):
        flashlog.cut(bytes(4096), [], Cut(0, "torn"))


def test_a_broken_installer_is_found_out() -> None:
    """The journal's rename before the stage is complete: torture must say so, or it proves nothing."""
    options = ["--broken", "--fs", "lfs", "--scenario", "nine files", "--sample", "24", "--json"]
    done = subprocess.run([sys.executable, "-m", "tests.powercut", *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    row = json.loads(done.stdout)
    assert list(row) == ["scenario", "fs", "cuts", "old", "new", "mixed", "unbootable", "lost_preferences", "seconds"]
    assert row["mixed"] + row["unbootable"] > 0
    assert row["cuts"] == sum(row[verdict] for verdict in ("old", "new", "mixed", "unbootable"))
    again = next(line for line in done.stderr.splitlines() if line.startswith("again: make torture ARGS="))
    assert runner.replay(again.split("--replay ")[1].split(" --broken")[0].strip("'"), broken=True).good is False


def test_a_plain_rename_on_littlefs_survives_every_cut() -> None:
    row = fat.alone("lfs")
    assert row["mixed"] == 0 and row["old"] > 0 and row["new"] > 0
