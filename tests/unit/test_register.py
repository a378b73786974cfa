"""fleet.toml, and what iotctl does with it without a broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from iotctl import register
from iotctl.errors import IotctlError
from iotctl.register import Entry
from tests.unit.iotctl_fixture import run

GOOD = """
[[board]]
id = "door/24a1"
name = "Front door"
group = "house"
tags = ["outside"]

[[board]]
id = "gate/1"
"""


def test_a_register_is_read_and_its_groups_found(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(GOOD)
    found = register.read(path)
    assert found == {"door/24a1": Entry("door/24a1", "Front door", "house", ("outside",)), "gate/1": Entry("gate/1")}
    assert register.group(found, "house") == ["door/24a1"]
    with pytest.raises(IotctlError, match="no board is in the group cellar; there are: house"):
        register.group(found, "cellar")
    result = run("update", "--group", "cellar", "--fleet", path)
    assert result.exit_code == 1 and "no board is in the group cellar" in result.output
    assert run("assign", "door/1", "--fleet", path).exit_code == run("assign", "door/1").exit_code == run("assign").exit_code == 2
    assert run("update", "--group", "house", "--all", "--fleet", path).exit_code == 2


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (GOOD + '[[board]]\nid = "gate/1"', "board 3: gate/1 stands twice"),
        ("[[board]]\nname = 'x'", "board 1: id is shortName/id"),
        ("[[board]]\nid = 'door'", "board 1: id is shortName/id"),
        ("[[board]]\nid = 'door/+'", "board 1: id is shortName/id"),
        ("[[board]]\nid = 1", "id, name and group are texts"),
        ("[[board]]\nid = 'a/b'\ntags = 'x'", "id, name and group are texts"),
        ("[[board]]\nid = 'a/b'\nplace = 'x'", "board 1: expected id, name, group, tags"),
        ("[board]\nid = 'a/b'", "expected nothing but"),
        ("[[door]]\nid = 'a/b'", "expected nothing but"),
        ("board = [1]", "board 1: expected id"),
        ("x", "Expected '='"),
    ],
)
def test_a_mistake_is_one_line_that_says_where(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    with pytest.raises(IotctlError) as caught:
        register.read(path)
    assert str(caught.value).startswith(f"{path}: ") and why in str(caught.value), caught.value
