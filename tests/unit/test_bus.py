"""The bus passes on what changed, once, and bounds what waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from iot_platform.module import Bus

VALUES = st.none() | st.booleans() | st.integers(-2, 2) | st.text(max_size=2)


@given(st.lists(st.tuples(st.sampled_from("abc"), VALUES)))
def test_a_reader_of_changes_knows_the_same_values(published: list) -> None:
    bus, seen = Bus(), {}
    for n, (key, value) in enumerate(published):
        bus.publish(key, value)
        if n % 3 == 0:
            seen.update(bus.take_changes())
    seen.update(bus.take_changes())
    assert seen == dict(bus.items())
    assert bus.take_changes() == {}


def test_the_same_value_is_no_change_but_another_type_is() -> None:
    bus = Bus()
    bus.publish("on", True)
    bus.take_changes()
    bus.publish("on", True)
    assert bus.take_changes() == {}
    bus.publish("on", 1)
    assert bus.take_changes() == {"on": 1}


def test_commands_are_bounded() -> None:
    bus = Bus()
    taken = [bus.command("door/open", n, "test") for n in range(20)]
    assert taken == [True] * 16 + [False] * 4
    assert [command.payload for command in bus.take_commands()] == list(range(16))
    assert bus.take_commands() == []


@pytest.mark.parametrize("key", [5, None, b"on", ("on", 1)])
def test_a_key_is_text_or_nothing_is_published(key: object) -> None:
    bus = Bus()
    with pytest.raises(TypeError, match="a key of the bus is text"):
        bus.publish(key, 1)
    assert not bus.items() and bus.take_changes() == {}
