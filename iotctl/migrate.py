"""Boards of public-micropython-iot-platform, moved to this one over the air, by their own updater: docs/migration.md.

That updater unpacks over the running tree: with an archive of plain files that is half old and half new for as long as it takes.
This one brings nothing that the old tree has, but boot.py, which is its last file: until then the old platform is untouched.
What it brings lies below /.ota, as if this platform's own updater had staged it:

    .ota/stage/e0 ...         the new tree, its list, and an empty file for the preferences
    .ota/stage/plan           which of them goes where, and which old files go (written by plan(), read by device/migrate.py)
    .ota/stage/boot           the old boot.py, for a board that goes back
    ota_boot.py               the recovery loader
    .ota/loader_0.py          device/migrate.py, for one boot
    boot.py                   from here on it is an update like any other: applied, on trial, confirmed or taken back
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from iotctl import archive, bundle, files, publish, tree
from iotctl.errors import IotctlError
from iotctl.profile import Profile
from modules.ota.bundle.lists import cell

DEVICE = Path(__file__).parent / "device" / "migrate.py"
_LOADER = ("boot.py", "ota_boot.py")  # are no part of the journal
_LEFT = ("prefs.json.1", "net.settings", "mqtt.settings", "migrate.log")  # of older versions, and of an attempt that went back
_SPARE = 24  # entries of the journal for old files that no list has
_LEAST = 10_000  # bytes: that updater takes nothing shorter


@dataclass(frozen=True)
class Old:
    """What runs on the boards now: an archive that they were given, or a copy of their files."""

    files: list[str]
    version: str
    profile: dict[str, object]
    boot: bytes = b""

    @property
    def name(self) -> str:
        return str(self.profile.get("shortName", ""))

    @property
    def temporary(self) -> str:
        """Where the download lies."""
        ota = self.profile.get("ota")
        return str(ota.get("tmp_filename", "")) if isinstance(ota, dict) else ""


def read_old(path: Path) -> Old:
    """Read a firmware.tar.gz of that platform, or a folder with a board's files. IotctlError where it is neither."""
    try:
        found = dict(_from_folder(path) if path.is_dir() else _from_archive(path))
    except (tarfile.TarError, OSError) as error:
        raise IotctlError(f"{path} is no archive of the boards' files: {error}") from None
    try:
        profile = json.loads(found["profile.json"])
        version = found["version"].decode().strip()
    except (KeyError, ValueError):
        raise IotctlError(f"{path} has no version or no profile.json: give the archive that the boards run") from None
    if not isinstance(profile, dict) or not isinstance(profile.get("shortName"), str):
        raise IotctlError(f"{path}: its profile.json has no shortName")
    if profile["shortName"] in ("", ".", "..") or set(profile["shortName"]) & set("/\\"):
        raise IotctlError(f"{path}: the shortName {profile['shortName']!r} is no name of a folder")
    return Old(sorted(found), version, profile, found.get("boot.py", b""))


def _from_archive(path: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path, "r:gz") as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            if member.isfile():
                opened = tar.extractfile(member) if name in ("version", "profile.json", "boot.py") else None
                yield name, opened.read() if opened else b""


def _from_folder(path: Path) -> Iterator[tuple[str, bytes]]:
    for file in sorted(path.rglob("*")):
        if file.is_file():
            yield file.relative_to(path).as_posix(), file.read_bytes() if file.parent == path else b""


def warnings(given: Profile, version: str, old: list[Old]) -> list[str]:
    """What an owner should know before boards are told."""
    found = []
    for each in old:
        if not version > each.version:
            found.append(
                f"boards that run {each.version} compare versions as text and would never take {version}: "
                "choose one that comes behind it letter by letter, such as 9.0.0"
            )
        if each.name != given.name:
            found.append(f"the boards are {each.name} now, and will be {given.name}: {each.name}/ has to stay where it is")
    return [
        *found,
        "their updater needs some 45 KB of free heap to unpack, beside a platform that takes about 144 KB, "
        "and room on the flash for the archive, the old tree and the new one",
    ]


def members(made: bundle.Bundle, given: Profile, old: list[Old], ask: bool = True) -> list[tuple[str, bytes]]:
    """The archive, in the order in which it is unpacked: a name that ends in ``/`` is a folder.

    :param ask: the trial asks the server, so a board that has lost its network goes back.
    """
    staged = [(path, data) for path, data in made.files.items() if path not in _LOADER]
    staged += [(bundle.LIST, made.listing), ("prefs.json", b"{}")]
    stage = [(cell("stage", n).lstrip("/"), data) for n, (_path, data) in enumerate(staged)]
    folders = list(dict.fromkeys(path[: path.rindex("/") + 1] for path, _data in stage))
    return [
        *((name, b"") for name in (".ota/", *folders)),
        *stage,
        (".ota/stage/boot", old[-1].boot),
        (".ota/stage/plan", plan(made, given, [path for path, _data in staged], old, ask)),
        ("ota_boot.py", made.files["ota_boot.py"]),
        ("boot.keep", b""),
        (".ota/loader_0.py", DEVICE.read_bytes()),
        ("boot.py", made.files["boot.py"]),
    ]


def plan(made: bundle.Bundle, given: Profile, staged: list[str], old: list[Old], ask: bool) -> bytes:
    """What the journal will say, but for what only the board knows: which of these files it has."""
    gone = _removals(made, staged, old)
    before = {path for each in old for path in each.files}
    ota = given.value["ota"]
    header = {
        "format": 1,  # ota_boot.FORMAT
        "new": made.header["version"],
        "sequence": made.header["sequence"],
        "attempts": ota.get("max_boot_attempts", 3) + ota.get("confirm_wakes", 1) - 1,
        "timeout_s": ota.get("confirm_timeout_s", 300),
        "ran": given.modules,
        "checked": ask,
        "hold": True,  # not kept as a previous version: the old platform knows no trial, and would fetch this one again
        "made": len(tree.folders(staged) - tree.folders(before)) + 1,
        "gone": len(tree.folders(before) - tree.folders(staged)) + 1,
        "entries": len(staged) + len(gone) + _SPARE + 1,
    }
    rows = [json.dumps(header), *(f"+{path}" for path in staged), *(f"-{path}" for path in gone)]
    return "\n".join([*rows, ""]).encode()


def _removals(made: bundle.Bundle, staged: list[str], old: list[Old]) -> list[str]:
    """Old files but for /lib, and what would be imported in place of ours: ``m.py`` and a folder ``m/`` beside our ``m.mpy``."""
    new = {path.lower() for path in (*staged, *_LOADER)}
    found = {path for each in old for path in each.files if not path.startswith(("lib/", ".ota/"))}
    theirs = tree.folders(found)
    found |= {f"{each.temporary}{end}" for each in old if each.temporary for end in ("", ".1")}
    stems = {path.removesuffix(".mpy") for path in made.files if path.endswith(".mpy")}
    stems = {stem for stem in stems if stem.rpartition("/")[0] in theirs}
    folders = {stem for stem in stems if not any(path.startswith(stem.lower() + "/") for path in new)}
    inside = {path for path in found if any(path.startswith(folder + "/") for folder in folders)}
    gone = (found - inside) | folders | {f"{stem}.py" for stem in stems} | set(_LEFT)
    return sorted(path for path in gone if path.lower() not in new)


def pack(made: bundle.Bundle, given: Profile, old: list[Old]) -> bytes:
    """The archive's bytes."""
    data = archive.gzip(archive.tar(members(made, given, old)))
    if len(data) < _LEAST:
        raise IotctlError(f"the archive has {len(data)} bytes, and that platform's updater takes none below {_LEAST}")
    return data


def write(data: bytes, header: bundle.Header, old: list[Old], site: Path, channel: str) -> list[Path]:
    """Write the archive, and after it the line that tells the boards: in the folders where they look for it."""
    name = f"{header['version']}-migrate.tar.gz"
    line = publish.latest(header, name, data)
    written = []
    for folder in sorted({spelled for each in old for spelled in (each.name, each.name.lower())}):
        (site / folder).mkdir(parents=True, exist_ok=True)
        for target, content in (name, data), (publish.latest_name(channel), line):
            files.replace(site / folder / target, content)
            written.append(site / folder / target)
    return written

