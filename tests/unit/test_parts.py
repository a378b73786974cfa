"""Code that is forgotten: which parts of a package go, and that they can come again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from iot_platform.module import forget

_PARTS = ("module", "phases", "transport.http", "transport.urls", "install.stage")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for part in _PARTS:
        path = tmp_path / "forgettable" / (part.replace(".", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "forgettable"


def _load(package: str) -> set[str]:
    for part in _PARTS:
        __import__(f"{package}.{part}")
    return _loaded(package)


def _loaded(package: str) -> set[str]:
    return {name[len(package) + 1 :] for name in sys.modules if name.startswith(package + ".")}


def test_all_parts_go_but_those_that_stay_and_their_folders(package: str) -> None:
    everything = _load(package)
    assert everything == {*_PARTS, "transport", "install"}
    before = sys.modules[f"{package}.phases"]
    forget(package, ("module", "transport.http"))
    assert _loaded(package) == {"module", "transport", "transport.http"}
    root = sys.modules[package]
    assert hasattr(root.transport, "http") and not hasattr(root.transport, "urls") and not hasattr(root, "phases")
    assert _load(package) == everything and sys.modules[f"{package}.phases"] is not before
    forget(package, ())
    assert _loaded(package) == set()


def test_other_packages_are_left_alone(package: str) -> None:
    _load(package)
    others = set(sys.modules) - {f"{package}.{part}" for part in _loaded(package)}
    forget(package, ("modul", "transports.http"))
    assert _loaded(package) == set() and set(sys.modules) == others
