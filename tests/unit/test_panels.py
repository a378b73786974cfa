"""What modules declare: what is good stays, what is wrong is named, and a command arrives as its value's kind has it."""

from __future__ import annotations

import math
import time
from types import SimpleNamespace
from typing import Any

import pytest
from iot_platform.module import Bus
from iot_platform.profile import become, fit, panels, unique

VALUES: tuple[Any, ...] = (
    ("lamp/on", "Light", "", "switch"), ("lamp/level", "Level", "%", "number", 0, 100),
    ("lamp/style", "Style", "", "select", "a", "b"), ("lamp/text", "Text", "", "text", "[a-z]+$"), ("lamp/hot", "Hot", "°C"),
)  # fmt: skip


def module(declared: Any) -> SimpleNamespace:
    return SimpleNamespace(panels=declared)


def test_one_panel_or_several_come_into_one_form() -> None:
    fan = module(({"id": "a", "title": "A"}, {"id": "b"}))
    modules = {"lamp": module({"values": VALUES}), "fan": fan, "mute": SimpleNamespace()}
    assert panels(modules) == []
    assert modules["lamp"].panels == [{"id": "lamp", "title": "lamp", "values": VALUES}]
    assert [(panel["id"], panel["title"]) for panel in modules["fan"].panels] == [("a", "A"), ("b", "fan")]
    assert not hasattr(modules["mute"], "panels")


@pytest.mark.parametrize(("item", "problem"), [
    ("x", "must be (key, label, ...)"), (("x", "X"), "must be (key, label, ...)"), ((1, "X", ""), "is no key"),
    (("a b", "X", ""), "is no key"), (("", "X", ""), "is no key"), (("é", "X", ""), "is no key"), (("x", "", ""), "has no label"),
    (("x", None, ""), "has no label"), (("x", "X", 5), "has a unit that is none: 5"),
    (("x", "X", "furlongs a night"), "has a unit that is none"),
    (("x", "X", "", "lever"), "has a kind or range"), (("x", "X", "", "number"), "has a kind or range"),
    (("x", "X", "", "number", 2, 1), "has a kind or range"), (("x", "X", "", "number", 0, math.nan), "has a kind or range"),
    (("x", "X", "", "number", 0, math.inf), "has a kind or range"), (("x", "X", "", "number", "0", "1"), "has a kind or range"),
    (("x", "X", "", "select"), "has a kind or range"), (("x", "X", "", "select", ""), "has a kind or range"),
    (("lamp/on", "X", ""), "occurs twice"), (("on", "X", ""), "occurs twice"),
])  # fmt: skip
def test_a_wrong_line_is_named_and_the_rest_stays(item: Any, problem: str) -> None:
    modules = {"lamp": module({"values": (*VALUES, item), "actions": (("off", "Off"),)})}
    ((name, _key, text),) = panels(modules)
    assert name == "lamp" and text.startswith(problem)
    assert tuple(modules["lamp"].panels[0]["values"]) == VALUES and modules["lamp"].panels[0]["actions"] == (("off", "Off"),)


@pytest.mark.parametrize("declared", [7, "panel", [7], {"x"}])
def test_what_is_no_panel_at_all_is_named(declared: Any) -> None:
    modules = {"lamp": module(declared)}
    assert panels(modules) == [("lamp", "panels", "must be a dict, or a tuple of them")]
    assert modules["lamp"].panels == []


@pytest.mark.parametrize("wrong", [{"id": 5}, {"id": None}, {"id": "odd#1"}, {"id": "a+b"}, {"id": "a/b"}, {"title": 5}])
def test_a_panel_whose_id_or_title_is_none_is_named_and_empty(wrong: dict[str, Any]) -> None:
    lamp = module(({"values": VALUES, "actions": (("off", "Off"),), **wrong}, {"id": "other", "actions": (("on", "On"),)}))
    ((name, key, problem),) = panels({"lamp": lamp})
    assert (name, problem) == ("lamp", "or the title is none") and key == f"id {wrong.get('id', 'lamp')}"
    assert lamp.panels[0] == {"id": "lamp", "title": "lamp", "values": (), "actions": (), "settings": ()}
    assert lamp.panels[1]["id"] == "other" and lamp.panels[1]["actions"] == (("on", "On"),)


def test_modules_that_are_looked_at_one_by_one_know_of_each_others_names() -> None:
    seen: set[str] = set()
    modules = {"lamp": module({"id": "light", "values": VALUES}), "fan": module({"id": "light", "values": VALUES[:1]})}
    assert panels({"lamp": modules["lamp"]}, seen) == []
    assert panels({"fan": modules["fan"]}, seen) == [("fan", "lamp/on", "occurs twice")]


@pytest.mark.parametrize(("path", "given", "said"), [
    ("lamp/on", "off", 'lamp/on cannot be "off": true or false'), ("lamp/on", "", 'lamp/on cannot be "": true or false'),
    ("lamp/on", None, "lamp/on cannot be null: true or false"), ("lamp/level", "101", 'lamp/level cannot be "101": 0 to 100'),
    ("lamp/level", 101, "lamp/level cannot be 101: 0 to 100"), ("lamp/level", "much", 'lamp/level cannot be "much": 0 to 100'),
    ("lamp/style", "c", 'lamp/style cannot be "c": a or b'), ("lamp/text", "A", 'lamp/text cannot be "A"'),
])  # fmt: skip
def test_what_a_value_cannot_be_is_said_with_what_it_can_be(path: str, given: Any, said: str) -> None:
    modules = {"lamp": module({"values": VALUES})}
    panels(modules)
    with pytest.raises(ValueError, match=f"^{said}$"):
        fit(modules, path, given)


@pytest.mark.parametrize(("path", "given", "wanted"), [
    ("lamp/on", "true", True), ("lamp/on", "false", False), ("lamp/on", True, True), ("lamp/on", "ON", None),
    ("lamp/on", 1, None),
    ("lamp/level", "50", 50), ("lamp/level", "2.5", 2.5), ("lamp/level", 0, 0), ("lamp/level", "101", None),
    ("lamp/level", "nan", None), ("lamp/level", "", None), ("lamp/level", None, None), ("lamp/style", "a", "a"),
    ("lamp/style", "c", None), ("lamp/text", "abc", "abc"), ("lamp/text", "ABC", None), ("lamp/text", "a" * 65, None),
    ("lamp/hot", "as it is", "as it is"), ("lamp/toggle", "as it is", "as it is"), ("fan/on", None, None),
])  # fmt: skip
def test_a_command_carries_what_its_value_can_be(path: str, given: Any, wanted: Any) -> None:
    modules = {"lamp": module({"values": VALUES})}
    panels(modules)
    if wanted is None and path != "fan/on":
        with pytest.raises(ValueError, match=f"^{path} cannot be "):
            fit(modules, path, given)
    else:
        found = fit(modules, path, given)
        assert found == wanted and type(found) is type(wanted)


def test_names_elsewhere() -> None:
    assert [unique({"id": "lamp"}, key) for key in ("lamp/on", "on", "a.b/c")] == ["lamp_on", "lamp_on", "lamp_a_b_c"]
    assert become(("x", "X", "", "number", 0, 10, 0.5), "2.50") == 2.5


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_nothing_and_told_once(
    value: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(time, "ticks_ms", lambda: 0, raising=False)
    monkeypatch.setattr(time, "ticks_diff", lambda later, earlier: later - earlier, raising=False)
    bus = Bus()
    for given in (1.5, value, value, 2.5, value):
        bus.publish("lamp/hot", given, "lamp")
    assert bus.get("lamp/hot") is None and bus.take_changes() == {"lamp/hot": None}
    assert capsys.readouterr().out.count("lamp lamp/hot is no number") == 2
