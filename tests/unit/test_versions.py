"""Versions are numbers: the order that boards update in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.ota.release.fields import compare_versions, is_version


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.9", "1.10"),
        ("1.9.9", "1.10.0"),
        ("0.9", "1"),
        ("1.2", "1.2.1"),
        ("1.10.0-rc1", "1.10.0"),
        ("1.10.0-rc2", "1.10.0-rc10"),
        ("1.9.9", "1.10.0-rc1"),
        ("unknown!", "0.0.1"),
        ("", "0.0.1"),
        ("latest", "0.0.1"),
    ],
)
def test_orders_versions_as_numbers(older: str, newer: str) -> None:
    assert compare_versions(older, newer) == -1
    assert compare_versions(newer, older) == 1


@pytest.mark.parametrize(("a", "b"), [("1.2", "1.2.0"), ("1", "1.0.0"), (" 1.2\n", "1.2")])
def test_takes_trailing_zeros_and_white_space_for_nothing(a: str, b: str) -> None:
    assert compare_versions(a, b) == 0


@pytest.mark.parametrize("text", ["", "1..2", ".1", "1.", "v1", "1.2-", "1.2 ", "1/2", "1" * 33, "-1", "1.2-é", 12, None])
def test_refuses_what_is_no_version(text: object) -> None:
    assert not is_version(text)


@given(st.lists(st.integers(0, 10**9 - 1), min_size=1, max_size=3), st.lists(st.integers(0, 10**9 - 1), min_size=1, max_size=3))
def test_agrees_with_the_order_of_number_lists(a: list[int], b: list[int]) -> None:
    width = max(len(a), len(b))
    left, right = (x + [0] * (width - len(x)) for x in (a, b))
    expected = (left > right) - (left < right)
    assert compare_versions(".".join(map(str, a)), ".".join(map(str, b))) == expected
