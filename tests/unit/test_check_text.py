"""`make lint` refuses conflict markers."""

from __future__ import annotations

import pytest

from tools.check_text import ROOT, markers, tracked

OURS, THEIRS, BASE = b"<" * 7, b">" * 7, b"|" * 7
CONFLICT = b"one\n%s HEAD\ntwo\n%s 1234\nthree\n%s\nfour\n%s work\nfive\n" % (OURS, BASE, b"=" * 7, THEIRS)


def test_every_marker_of_a_conflict_is_found() -> None:
    assert markers(CONFLICT) == [2, 4, 6, 8]
    assert markers(CONFLICT.replace(b"\n", b"\r\n")[:20]) == [2]


@pytest.mark.parametrize("text", [b"Heading\n=======\n", b"a <<<<<<< b\n", b"<" * 8 + b"\n", b"x = 1 >> 7\n", b"\0\xff" * 99])
def test_what_only_looks_like_one_is_not(text: bytes) -> None:
    assert markers(text) == []


def test_it_looks_at_the_files_that_git_knows() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in tracked(ROOT)}
    assert not (ROOT / ".git").exists() or {"Makefile", "docs/architecture.md"} <= names
