"""`iotctl check --board`: what of a profile will not fit on a board, or not work there."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(("size", "problem"), [(380_000, "for an update of every file"), (900_000, "make a tree of")])
def test_a_tree_that_is_too_large_for_the_disk(tmp_path: Path, size: int, problem: str) -> None:
    place = make_place(tmp_path)
    (place.source / "modules/door/picture.bin").write_bytes(random.Random(size).randbytes(size))
    assert run("check", place.profile).exit_code == 0
    result = run("check", place.profile, "--board", "pico-w", "--json")
    assert result.exit_code == 1
    assert problem in result.stdout


def test_there_is_no_such_board() -> None:
    assert run("check", "profile.json", "--board", "abacus").exit_code != 0
