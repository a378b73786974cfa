"""The board's file system, as a dict of path to content, from a checkout and a profile.

    boot.py ota_boot.py main.py     sources: what starts and recovers must not depend on a .mpy version
    iot_platform/ modules/ lib/     compiled, active modules only; a module's assets as they are
    iot_platform/names.txt          the names in what is compiled, see platform/iot_platform/names.py
    modules/<name>/www/             what browsers get: gzipped, referred to by digest (see webfiles)
    profile.json version            the profile as it is given; the version and a line feed

A module that needs packages names them, one a line, in its `requires.txt`; they come from `.packages/` or `lib/`. A line may
also name a single file, `package/file.py`, and lines `- name name` after it leave definitions of that file out (see slim).

A file with a private key in it is refused: everything here is on every board, and in bundles that anybody may download.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from iotctl import ROOT, keys, mpy, names, slim, webfiles
from iotctl.errors import IotctlError
from iotctl.profile import Profile
from modules.ota import versions

Files = dict[str, bytes]
STARTERS = ("boot.py", "ota_boot.py", "main.py")
NAMES = "iot_platform/names.txt"
REQUIRES = "requires.txt"
# What most boards never import: names that only these have would only take up room. They are interned when they are needed.
_SELDOM = (
    "lib/requests/__init__.mpy", "modules/ota/bounded.mpy", "modules/ota/care.mpy", "modules/ota/delete.mpy",
    "modules/ota/direct.mpy", "modules/ota/draft.mpy", "modules/ota/latest.mpy", "modules/ota/legacy.mpy",
    "modules/ota/packages.mpy", "modules/ota/stream.mpy", "modules/ota/through_requests.mpy", "modules/ota/ways.mpy",
    "modules/web/settings.mpy", "modules/web/upload.mpy",
)  # fmt: skip
_SKIPPED = ("__pycache__", "tests")


def collect(
    profile: Profile, version: str, *, py: bool = False, source: Path = ROOT, seen: Callable[[str], None] | None = None
) -> Files:
    """All files of a release, ``.ota/release`` not among them. IotctlError for a private key among them.

    :param py: sources instead of .mpy.
    :param source: the checkout whose platform/, modules/ and lib/ are taken.
    :param seen: called with each path, for a progress bar.
    """
    if not versions.valid(version):
        raise IotctlError(f"{version} is no version: expected one like 1.4.0 or 1.4.0-rc1")
    files: Files = {}
    code: dict[str, str] = {}
    unused = _requires(profile, source)
    for path, found in sorted(sources(profile, source).items()):
        if seen:
            seen(path)
        data = _public(found, found.read_bytes())
        without = unused.get(path.removeprefix("lib/"))
        if without:
            data = slim.leave_out(data, sorted(without), path)
        if _is_web(path):
            files[path + ".gz"] = webfiles.packed(found)
        elif path.endswith(".py") and not py and path not in STARTERS:
            code[path] = data.decode()
        else:
            files[path] = data
    for path, text in names.shorten(code).items():
        files[path[:-3] + ".mpy"] = mpy.compile_source(text.encode(), path)
    if not py:
        files[NAMES] = _names(files)
    files["profile.json"] = _public(profile.path, profile.raw)
    files["version"] = version.encode() + b"\n"
    return files


def sources(profile: Profile, source: Path = ROOT) -> dict[str, Path]:
    """Which file of the checkout becomes which path on the board (before anything is compiled)."""
    found = {name: source / "platform" / name for name in STARTERS}
    found.update(_below(source / "platform" / "iot_platform", "iot_platform"))
    for name in profile.modules:
        found.update(_below(source / "modules" / name, f"modules/{name}"))
    for package in _requires(profile, source):
        found.update(_package(package, source))
    return found


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


def _names(files: Files) -> bytes:
    """The names of what is compiled and the names by which it is imported, one a line, each once."""
    compiled = [path for path in sorted(files) if path.endswith(".mpy") and path not in _SELDOM]
    found = (name for path in compiled for name in (_module(path), *mpy.names(files[path])))
    return b"".join(dict.fromkeys(name + b"\n" for name in found if b"\n" not in name and name.isascii()))


def _module(path: str) -> bytes:
    return path.removeprefix("lib/").removesuffix(".mpy").removesuffix("/__init__").replace("/", ".").encode()


def _below(folder: Path, board: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise IotctlError(f"there is no folder {folder}")
    return {f"{board}/{path.relative_to(folder).as_posix()}": path for path in _walk(folder)}


def _is_web(path: str) -> bool:
    parts = path.split("/")
    return parts[0] == "modules" and parts[2:3] == [webfiles.FOLDER]


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name in _SKIPPED or path.name.startswith(".") or path.name == REQUIRES:
            continue
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path


def _requires(profile: Profile, source: Path) -> dict[str, set[str]]:
    """What goes to /lib: OTA's tar reader, and what the active modules name; for each, the definitions that none of them uses."""
    needed: dict[str, set[str]] = {"tarfile": set()} if "ota" in profile.modules else {}
    for module in profile.modules:
        requires = source / "modules" / module / REQUIRES
        own: dict[str, set[str]] = {}
        unused: set[str] = set()
        for line in requires.read_text().splitlines() if requires.is_file() else []:
            words = line.partition("#")[0].split()
            if words[:1] == ["-"]:
                unused.update(words[1:])
            elif words:
                unused = own.setdefault(words[0], set())
        for name, without in own.items():
            needed[name] = needed[name] & without if name in needed else without
    return needed


def _package(name: str, source: Path) -> dict[str, Path]:
    for place in (source / ".packages", source / "lib", ROOT / ".packages", ROOT / "lib"):
        if (place / name).is_dir():
            return _below(place / name, f"lib/{name}")
        if (place / name).is_file():
            return {f"lib/{name}": place / name}
        if (place / f"{name}.py").is_file():
            return {f"lib/{name}.py": place / f"{name}.py"}
    raise IotctlError(f"the package {name} is neither in .packages/ nor in lib/: run `make setup`")
