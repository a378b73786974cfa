"""The update boot: which modules start when OTA has left a note, how its boots are counted, and what no cut can make of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sim.board import Board, Cut
from tests.support.world import sources

_MODULE = """from iot_platform.module import Module as Base
{before}

class Module(Base):
    def __init__(self, platform):
        super().__init__(platform)
        self.kept = {kept}

    def start(self):
        {start}
"""
_WITNESS = """p = self.platform
        p.log("update boot", p.update_boot, "runs", sorted(p.modules))

    def tick(self):
        import gc
        gc.collect()
        self.platform.log("free", gc.mem_free(), "expected", self.platform.free_in_update_boot())
        self.platform.request_reset("seen")"""
_LAMP = _MODULE.format(before="", kept="bytearray(20000)", start="self.more = [bytearray(100) for _ in range(60)]")
_NAMES = ["lamp", "ota", "serial_log"]


def _ota(before: str = "", start: str = _WITNESS) -> str:
    """A module in OTA's place that says what it sees, and asks for a restart."""
    return _MODULE.format(before=before, kept="None", start=start)


def _files(**ota: str) -> dict[str, bytes]:
    """The real loader, runtime and console, a module that only an ordinary boot has, and a witness."""
    real = {path: data for path, data in sources(("serial_log",)).items() if not path.startswith("modules/ota/")}
    profile = json.dumps({"shortName": "door", "activeModules": _NAMES}).encode()
    own = {"modules/lamp/__init__.py": _LAMP.encode(), "modules/ota/__init__.py": _ota(**ota).encode()}
    return {**real, **own, "profile.json": profile}


@pytest.fixture(params=["lfs", "fat"])
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Board]:
    made = Board(tmp_path / "board.img", fs=request.param)
    made.format()
    made.write(_files())
    yield made
    made.stop()


def _boot(board: Board, cut: Cut | None = None) -> tuple[int, list[str]]:
    """One life of the board: its update_boot (-1 when it never came so far), and the modules that ran."""
    output = board.boot_once(cut=cut).output
    found = re.search(r"update boot (\d+) runs (\[.*\])", output)
    assert found or cut, output
    return (int(found[1]), json.loads(found[2].replace("'", '"'))) if found else (-1, [])


def _notes(board: Board) -> list[str]:
    return sorted(path[5:] for path in board.read().files if path.startswith(".ota/job"))


def _free(board: Board) -> list[int]:
    """One life of the board: the free heap, and what the runtime says that an update boot has."""
    return [int(n) for n in re.findall(r"I free (\d+) expected (\d+)", board.boot_once().output)[0]]


UPDATE = ["ota", "serial_log"]


def test_a_note_leads_to_three_update_boots_and_then_to_an_ordinary_one(board: Board) -> None:
    assert _boot(board) == (0, _NAMES)
    board.write({".ota/job.0": b"{}"})
    for n in (1, 2, 3):
        assert _boot(board) == (n, UPDATE)
        assert _notes(board) == [f"job.{n}"], "one rename, nothing else"
    for _again in range(2):
        assert _boot(board) == (0, _NAMES)
        assert _notes(board) == ["job.3"], "only OTA removes it"


NO_NOTES = ("job.x", "job", "job.-1", "job.+1", "job.01", "job.1e3", "xjob.0", "job.0.new", "job.99999999999")


@pytest.mark.parametrize("name", NO_NOTES)
def test_what_is_no_note_changes_nothing(board: Board, name: str) -> None:
    board.write({f".ota/{name}": b"{}"})
    assert _boot(board) == (0, _NAMES)
    assert board.read().files[f".ota/{name}"] == b"{}"


def test_a_damaged_name_beside_a_note_does_not_hide_it(board: Board) -> None:
    board.write({".ota/job.x": b"", ".ota/job.1": b"{}", ".ota/job.0": b"{}"})  # the last two as FAT leaves a rename that was cut
    assert _boot(board) == (2, UPDATE)
    assert _notes(board) == ["job.0", "job.2", "job.x"]


@pytest.mark.parametrize(
    ("state", "modules"),
    [("trial.0", _NAMES), ("confirmed", _NAMES), ("undone", _NAMES)],
    ids=["on trial", "confirmed", "undone"],
)
def test_no_update_boot_while_there_is_something_else_to_be_done(board: Board, state: str, modules: list[str]) -> None:
    board.write({f".ota/{state}": b"", ".ota/job.0": b"{}"})
    assert _boot(board) == (0, modules)
    assert _notes(board) == ["job.0"]


def test_a_board_in_safe_mode_gets_its_update_boot_as_well(board: Board) -> None:
    board.write({".ota/fails.3": b"", ".ota/job.0": b"{}"})
    assert _boot(board) == (1, UPDATE)
    assert _notes(board) == ["job.1"]


@pytest.mark.parametrize("board", ["lfs"], indirect=True)  # FAT erases a sector and then writes it: what it loses nobody can keep
def test_power_that_is_cut_at_any_operation_costs_no_note_and_no_more_than_one_boot(board: Board, tmp_path: Path) -> None:
    board.write({".ota/job.0": b"{}"})
    board.boot_once(cut=Cut(0, "before"))  # the first boot makes what every boot finds
    board.snapshot(tmp_path / "start.img")
    operations = board.boot_once().counters.operations
    assert operations > 0
    for at in range(operations + 1):
        for mode in ("before", "torn", "after"):
            board.restore(tmp_path / "start.img")
            _boot(board, Cut(at, mode))
            boot, modules = _boot(board)
            assert boot in (1, 2) and modules == UPDATE, f"operation {at} {mode}: boot {boot} of {modules}"


def test_an_update_boot_that_fails_is_counted_all_the_same(board: Board) -> None:
    """The worst of modules cannot keep the board in update boots."""
    board.write({**_files(start="raise SystemExit"), ".ota/job.0": b"{}"})
    for n in (1, 2, 3):
        output = board.boot_once().output
        assert f"update boot {n} of 3" in output and _notes(board) == [f"job.{n}"]
    assert "update boot" not in board.boot_once().output


@pytest.mark.parametrize(
    "ota",
    [
        {"before": "raise ValueError('no OTA today')"},
        {"before": "from iot_platform import runtime\nruntime.UPDATE_BOOT_S = 0", "start": "self.job = 'update'"},
    ],
    ids=["without OTA", "with an OTA that comes to no end"],
)
def test_an_update_boot_that_leads_nowhere_ends_by_itself(board: Board, ota: dict[str, str]) -> None:
    board.write({**_files(**ota), ".ota/job.0": b"{}"})
    for n in (1, 2, 3):
        output = board.boot_once().output
        assert f"update boot {n} of 3" in output and "restarting: the update boot has come to no end" in output
    board.write({"modules/lamp/__init__.py": _ota().encode()})
    assert _boot(board)[0] == 0 and _notes(board) == ["job.3"]


def test_what_an_update_boot_has_free_is_known_in_every_boot(board: Board) -> None:
    """To within what the two boots do not have in common: one log line more or less, a key on the bus."""
    now, expected = _free(board)
    assert expected - now > 26_000, "the lamp's memory"
    board.write({".ota/job.0": b"{}"})
    found, again = _free(board)
    assert abs(found - expected) < 1_500 and abs(found - again) < 1_500, (now, expected, found, again)
