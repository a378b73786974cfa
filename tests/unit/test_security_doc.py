"""docs/security.md promises only what a test shows: each one that it names exists, in the file named before it."""

from __future__ import annotations

import re

from iotctl import ROOT

_TEXT = (ROOT / "docs/security.md").read_text()
_PARTS = re.split(r"\n\n|\n(?=- |\d+\. )", _TEXT)  # paragraphs and entries of lists
_NAMED = re.compile(r"`(?:(\w+/test_\w+\.py)|(test_\w+))`")


def test_each_test_that_is_named_exists() -> None:
    missing, count = [], 0
    for part in _PARTS:
        tests: set[str] = set()
        for file, name in _NAMED.findall(part):
            if file:
                path = ROOT / "tests" / file
                tests = set(re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)) if path.exists() else set()
            count += 1
            if not tests or (name and name not in tests):
                missing.append(file or name)
    assert not missing
    assert count > 100, "most of what the page names is not found any more"


def test_each_promise_names_its_test() -> None:
    promises = _TEXT.split("## What is promised")[1].split("\n## ")[0]
    numbered = re.split(r"\n(?=\d+\. )", promises)[1:]
    assert len(numbered) == 7
    assert all(any(name for _file, name in _NAMED.findall(promise)) for promise in numbered)
