"""Fetch the libraries that boards import from the package index pip is configured for, into .packages/.

Run with the Python of .venv. The archives are pinned by sha256, and only their Python files are unpacked. They
are source archives made for MicroPython's own tools: `pip download` would try to build them here and fail, so pip is
only asked to find and fetch them.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / ".packages"
LIBRARIES = "libraries.json"  # what is here, for bills of materials; the last thing that is written


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    archive: str
    sha256: str
    folder: str  # inside the archive; its *.py are taken
    target: str  # below .packages/
    license: str  # SPDX
    needs: tuple[str, ...]  # files that must be there, or the archive is not what this script was written for


PACKAGES = (
    Package(
        "micropython-umqtt.simple",
        "1.3.4",
        "micropython-umqtt.simple-1.3.4.tar.gz",
        "b6a2520239e3992c63a7de9370ee9b3d9d27819a90359c521f1c0f7ccab8d12f",
        "micropython-umqtt.simple-1.3.4/umqtt",
        "umqtt",
        "MIT",
        ("simple.py",),
    ),
    Package(
        "micropython-umqtt.robust",
        "1.0",
        "micropython-umqtt.robust-1.0.tar.gz",
        "22a1b8c8e1128281efb13b3020927d07e33c5b747869da2cd77d37983a9ea002",
        "micropython-umqtt.robust-1.0/umqtt",
        "umqtt",
        "MIT",
        ("robust.py",),
    ),
)


class Failed(Exception):
    """A package could not be had; the message says why, in one line."""


def fetch(packages: tuple[Package, ...]) -> dict[str, bytes]:
    """The archives by file name, from the index and with the proxy, certificates and netrc that pip is set up with."""
    from pip._internal.commands.download import DownloadCommand

    archives: dict[str, bytes] = {}

    class Fetch(DownloadCommand):
        def run(self, options, args):  # type: ignore[no-untyped-def]
            session = self.get_default_session(options)
            finder = self._build_package_finder(options=options, session=session)
            for package in packages:
                links = [c.link for c in finder.find_all_candidates(package.name) if c.link.filename == package.archive]
                if not links:
                    raise Failed(f"the package index has no {package.archive}")
                # The index may name several addresses (a local folder before the network): the hash decides
                for link in links:
                    if link.is_file:
                        content = Path(link.file_path).read_bytes()
                    else:
                        response = session.get(link.url_without_fragment, headers={"Accept-Encoding": "identity"})
                        response.raise_for_status()
                        content = response.content
                    if hashlib.sha256(content).hexdigest() == package.sha256:
                        archives[package.archive] = content
                        break
                else:
                    raise Failed(f"{package.archive} has another sha256 than the one pinned in {Path(__file__).name}")
            return 0

    # A folder that is configured as an index but is not there is a warning of pip's, not of ours: --quiet
    command = Fetch("download", "find and fetch")
    failure: list[Failed] = []
    run = command.run

    def guarded(options, args):  # type: ignore[no-untyped-def]
        try:
            return run(options, args)
        except Failed as error:
            failure.append(error)
            return 1

    command.run = guarded  # type: ignore[method-assign]
    code = command.main(["-q", "-q", "--no-deps", *(f"{package.name}=={package.version}" for package in packages)])
    if failure:
        raise failure[0]
    if code or len(archives) != len(packages):
        raise Failed("pip could not reach the package index; run `.venv/bin/pip download micropython-umqtt.robust` to see why")
    return archives


def members(content: bytes) -> dict[str, bytes]:
    """Every plain file in a source archive."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
        found = {}
        for member in tar.getmembers():
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None:
                found[member.name] = file.read()
        return found


def unpack(package: Package, content: bytes, root: Path) -> None:
    folder = root / package.target
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in members(content).items():
        parent, _, file = name.rpartition("/")
        if parent == package.folder and file.endswith(".py"):
            (folder / file).write_bytes(data)
    for file in package.needs:
        if not (folder / file).is_file():
            raise Failed(f"{package.archive} has no {package.folder}/{file}")


def libraries() -> str:
    """What is in .packages: each library's name, version and licence, the archive that it is from, and its files."""
    rows = [
        {
            "name": package.name,
            "version": package.version,
            "license": package.license,
            "sha256": package.sha256,
            "files": [f"{package.target}/{file}" for file in package.needs],
        }
        for package in PACKAGES
    ]
    return json.dumps(rows, indent=1) + "\n"


def present() -> bool:
    try:
        if (TARGET / LIBRARIES).read_text() != libraries():
            return False
    except OSError:
        return False
    return all((TARGET / package.target / file).is_file() for package in PACKAGES for file in package.needs)


def main() -> int:
    if not present():
        try:
            archives = fetch(PACKAGES)
            with tempfile.TemporaryDirectory(prefix=".packages-", dir=ROOT) as name:
                root = Path(name) / "root"
                for package in PACKAGES:
                    unpack(package, archives[package.archive], root)
                (root / LIBRARIES).write_text(libraries())
                shutil.rmtree(TARGET, ignore_errors=True)
                root.rename(TARGET)
        except Failed as error:
            print(f"device packages: {error}", file=sys.stderr)
            return 1
    print("device packages: " + ", ".join(f"{p.name.removeprefix('micropython-')} {p.version}" for p in PACKAGES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
