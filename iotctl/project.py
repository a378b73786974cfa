"""A project: the folder of a profile, with what its owner adds to what comes with iotctl.

    profile.json            what the boards are
    modules/<name>/         modules of its own; one that iotctl has too is taken from here
    lib/  files/            what goes to /lib, and to the board's root
    platform/               only a checkout of the platform has it
"""

from __future__ import annotations

from pathlib import Path

from iotctl import ROOT


def roots(folder: Path) -> list[Path]:
    """Where things are looked for: in the project, then in what comes with iotctl."""
    return [ROOT] if folder.resolve() == ROOT else [folder, ROOT]


def platform(places: list[Path]) -> Path:
    """The loader and the runtime."""
    return next(place / "platform" for place in places if (place / "platform").is_dir())


def module(places: list[Path], name: str) -> Path:
    """The folder of a module: the first that is there, or where the project would have it."""
    found = [place / "modules" / name for place in places if (place / "modules" / name).is_dir()]
    return found[0] if found else places[0] / "modules" / name


def own(places: list[Path]) -> list[tuple[Path, str]]:
    """Folders of the project that are on its boards as a whole, and where. (A checkout's lib/ is for those who ask.)"""
    return [] if (places[0] / "platform").is_dir() else [(places[0] / "lib", "lib/"), (places[0] / "files", "")]
