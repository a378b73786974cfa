"""The board's file system, as a dict of path to content, from a profile and the project that it lies in.

    boot.py ota_boot.py main.py     sources: what starts and recovers must not depend on a .mpy version
    iot_platform/ modules/ lib/     compiled, active modules only; a module's assets as they are
    ....py                          sources with native code where the profile names no board: the board compiles it for its chip
    modules/<name>.mpy              a module that is a single file; a folder would take two more blocks of flash
    modules/<name>/index.html.gz    what browsers get, from the module's folder www: gzipped, referred to by digest (see webfiles)
    profile.json version            the profile as it is given; the version and a line feed
    system                          root certificates, where the profile says `"ca": "system"` (see authorities)
A module that needs packages names them, one a line, in its `requires.txt`; they come from `.packages/` or `lib/`. A line may
also name a single file, `package/file.py`.

A file with a private key in it is refused: everything here is on every board, and in bundles that anybody may download.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from iotctl import ROOT, authorities, keys, libraries, lint, mpy, project, webfiles
from iotctl.errors import IotctlError
from iotctl.profile import Profile
from modules.ota.release.fields import is_version

Files = dict[str, bytes]
STARTERS = ("boot.py", "ota_boot.py", "main.py")
REQUIRES = "requires.txt"
_LEGACY = "modules/ota/legacy/"
_OURS = ("iot_platform/", *(f"modules/{name}/" for name in ("serial_log", "wifi", "ota", "web", "mqtt")))
_SKIPPED = ("__pycache__", "tests")


def collect(
    profile: Profile,
    version: str,
    *,
    py: bool = False,
    chip: str | None = None,
    seen: Callable[[str], None] | None = None,
) -> Files:
    """All files of a release, ``.ota/release`` not among them. IotctlError for a private key among them.

    :param py: sources instead of .mpy.
    :param chip: for which native code is, as mpy-cross calls it; "" leaves its files sources. Without it: of the profile's board.
    :param seen: called with each path, for a progress bar.
    """
    if not is_version(version):
        raise IotctlError(f"{version} is no version: expected one like 1.4.0 or 1.4.0-rc1")
    chip = profile.chip if chip is None else chip
    files: Files = {}
    code: dict[str, bytes] = {}
    ours = project.platform(profile.places).parent
    without_lines = set()
    for path, found in sorted(sources(profile).items()):
        data = _public(found, found.read_bytes())
        if path.endswith(".py"):
            lint.source(found, data)
        if _is_web(path):
            files[_served(path)] = webfiles.packed(found)
        elif path.endswith(".py") and not py and path not in STARTERS and (chip or not mpy.is_native(data)):
            code[path] = data
            if found.is_relative_to(ours) and path.replace(".py", "/").startswith(_OURS):
                without_lines.add(path)
        else:
            files[path] = data
        if seen and path not in code:
            seen(path)
    _no_twins(files, code)
    for path, compiled in mpy.compile_all(code, seen, without_lines, chip).items():
        files[path.removesuffix(".py") + ".mpy"] = compiled
    servers = authorities.needed(profile.value)
    if servers:
        files[authorities.NAME] = authorities.roots(servers)
    files["profile.json"] = _public(profile.path, profile.raw)
    files["version"] = version.encode() + b"\n"
    return files


def _no_twins(files: Files, code: Files) -> None:
    """IotctlError for two files that would be one on a board, or on a file system that does not tell A from a."""
    seen: dict[str, str] = {}
    for path in sorted([*files, *code]):
        lower = path.lower()
        made = lower.removesuffix(".py") + ".mpy" if path in code else lower
        if made in seen:
            raise IotctlError(f"{path} and {seen[made]} are the same file on a board: rename one")
        seen[made] = path


def sources(profile: Profile) -> dict[str, Path]:
    """Which file becomes which path on the board (before anything is compiled)."""
    places = profile.places
    platform = project.platform(places)
    found = {name: platform / name for name in STARTERS}
    found.update(_below(platform / "iot_platform", "iot_platform/"))
    for name in profile.modules:
        found.update(_module(project.module(places, name), name))
    if profile.keys:  # such a board never speaks the `latest` protocol
        found = {path: place for path, place in found.items() if not path.startswith(_LEGACY)}
    for package in _requires(profile):
        found.update(_package(package, places))
    found.update(libraries.collect(profile.path.parent))
    for folder, board in project.own(places):
        found.update(_below(folder, board) if folder.is_dir() else {})
    return found


def left_out(profile: Profile) -> list[Path]:
    """Files and folders of the project that a release would have, were it not for their names."""
    places = profile.places
    modules = [project.module(places, name) for name in profile.modules]
    folders = [folder for folder, _board in project.own(places)] + [folder for folder in modules if folder.parent.parent != ROOT]
    return [path for folder in folders if folder.is_dir() for path in _skipped(folder)]


def folders(paths: Iterable[str]) -> set[str]:
    """All that these paths lie in, but for the root."""
    return {path[:at] for path in paths for at, char in enumerate(path) if char == "/"}


def write(files: Files, folder: Path) -> None:
    """Write a tree into a folder that is empty or not there yet: it is then exactly this tree."""
    if folder.exists() and any(folder.iterdir()):
        raise IotctlError(f"{folder} is not empty: choose another folder")
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def _public(path: Path, data: bytes) -> bytes:
    if keys.holds_private(data):
        raise IotctlError(f"{path} holds a private key, which every board would get: move it out of the release")
    return data


def _below(folder: Path, board: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise IotctlError(f"there is no folder {folder}")
    return {board + path.relative_to(folder).as_posix(): path for path in _walk(folder)}


def _module(folder: Path, name: str) -> dict[str, Path]:
    """A module's files; one that is a single file lies as such beside the folders: a folder takes two blocks of flash."""
    found = _below(folder, f"modules/{name}/")
    only = f"modules/{name}/__init__.py"
    return {f"modules/{name}.py": found[only]} if list(found) == [only] else found


def _is_web(path: str) -> bool:
    parts = path.split("/")
    return parts[0] == "modules" and parts[2:3] == [webfiles.FOLDER]


def _served(path: str) -> str:
    """Where it lies on the board: beside the module's code, for a folder of its own would take two more blocks of flash."""
    module, _, name = path.partition(f"/{webfiles.FOLDER}/")
    return f"{module}/{name}.gz"


def _skips(path: Path) -> bool:
    return path.name in _SKIPPED or path.name.startswith(".") or path.name == REQUIRES


def _skipped(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if _skips(path):
            if path.name not in ("__pycache__", REQUIRES):
                yield path
        elif path.is_dir():
            yield from _skipped(path)


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if _skips(path):
            continue
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path


def _requires(profile: Profile) -> list[str]:
    """What goes to /lib: the tar reader of the `latest` protocol, and what the active modules name."""
    needed = {"tarfile"} if "ota" in profile.modules and not profile.keys else set()
    for name in profile.modules:
        requires = project.module(profile.places, name) / REQUIRES
        lines = requires.read_text().splitlines() if requires.is_file() else []
        needed.update(package for line in lines if (package := line.partition("#")[0].strip()))
    return sorted(needed)


def _package(name: str, places: list[Path]) -> dict[str, Path]:
    for place in (root / folder for root in places for folder in (".packages", "lib")):
        if (place / name).is_dir():
            return _below(place / name, f"lib/{name}/")
        if (place / name).is_file():
            return {f"lib/{name}": place / name}
        if (place / f"{name}.py").is_file():
            return {f"lib/{name}.py": place / f"{name}.py"}
    raise IotctlError(f"the package {name} is neither in .packages/ nor in lib/: put it into lib/, or run `make setup`")
