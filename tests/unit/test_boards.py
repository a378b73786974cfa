"""`iotctl check --board`: what of a profile will not fit on a board, or not work there."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from iotctl import boards
from tests.unit.iotctl_fixture import make_place, run


@pytest.mark.parametrize("board", ["pico-w", "esp32"])
def test_the_default_profile_is_good_on_a_board_with_a_network(board: str) -> None:
    result = run("check", "profile.json", "--board", board)
    assert result.exit_code == 0, result.stdout
    assert f"is good on {board}" in result.stdout


def test_a_plain_pico_has_no_network() -> None:
    result = run("check", "profile.json", "--board", "pico", "--json")
    assert result.exit_code == 1
    for word in ("names wifi", "names mqtt", "asks no server"):
        assert word in result.stdout
    assert "names serial_log" not in result.stdout


@pytest.mark.parametrize(("size", "problem"), [(380_000, "for an update of every file"), (900_000, "makes a tree of")])
def test_a_tree_that_is_too_large_for_the_disk(tmp_path: Path, size: int, problem: str) -> None:
    place = make_place(tmp_path)
    (place.source / "modules/door/picture.bin").write_bytes(random.Random(size).randbytes(size))
    assert run("check", place.profile).exit_code == 0
    result = run("check", place.profile, "--board", "pico-w", "--json")
    assert result.exit_code == 1
    (found,) = json.loads(result.stdout)["errors"]
    assert (
        found["key"] == "this release" and problem in found["problem"] and found["expected"] == "at most 848 KB, a pico-w's disk"
    )


def test_there_is_no_such_board() -> None:
    assert run("check", "profile.json", "--board", "abacus").exit_code != 0


def test_a_heap_that_is_too_small_is_said_before_anything_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = make_place(tmp_path)
    table = tmp_path / "heap.json"
    monkeypatch.setattr(boards, "HEAP", table)
    for rest, update, problem in ((100, 110, ""), (300, 110, "take 300 KB of heap"), (100, 200, "need 200 KB of heap to update")):
        table.write_text(json.dumps({"at_rest": {"": rest}, "update_boot": update}))
        result = run("check", place.profile, "--board", "pico-w", "--json")
        assert [each["problem"] for each in json.loads(result.stdout)["errors"]] == ([problem] if problem else [])


def test_the_table_knows_every_choice_of_modules() -> None:
    found = json.loads(boards.HEAP.read_text())
    assert found["at_rest"].keys() == {"", "mqtt", "web", "mqtt web"}
    assert found["at_rest"][""] < found["at_rest"]["web"] < found["at_rest"]["mqtt web"] and found["update_boot"] > 50
