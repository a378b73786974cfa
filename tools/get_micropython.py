"""Unpack MicroPython's unix port into .micropython/, out of the distribution's own packages and without root.

apt does the fetching and checks the signatures, with a state of its own: nothing on this machine is installed or
changed. The 32-bit build is tried first, as a board's integers and heap blocks have that size; then this machine's
own architecture; then a `micropython` that is already on PATH. `--others`: further versions for the tests, into .build/.
"""

from __future__ import annotations

import glob
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / ".micropython"
OTHERS = ROOT / ".build" / "micropython"
OLDEST = (1, 23)  # the first with the modules tls and vfs, which the simulated board imports
KEYRINGS = Path("/usr/share/keyrings")
DEBIAN_SUITES = ("trixie", "forky", "sid")
TESTED = DEBIAN_SUITES[:2]  # sid is forky, as a rule
OLD = ("1.23.0", "1.24.1")  # that no suite has: the WebAssembly port's, which npm brings
WEB = "@micropython/micropython-webassembly-pyscript"
# After the machine's own: 24.04 has 1.22, which is too old. The loader and libc come along, so newer ones run as well.
UBUNTU_SUITES = ("resolute", "questing", "plucky", "devel")
NATIVE = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}

WRAPPER = """#!/bin/sh
# MicroPython with the libraries beside it, wherever this folder is. Written by tools/get_micropython.py
self=$0
case $self in */*) ;; *) self=$(command -v -- "$self") ;; esac
while [ -h "$self" ]; do
    link=$(readlink "$self")
    case $link in /*) self=$link ;; *) self=${self%%/*}/$link ;; esac
done
here=${self%%/*}
exec "$here/%(loader)s" --library-path "%(libraries)s" "$here/%(program)s" "$@"
"""

PROBE = (
    "import sys\n"
    "v = sys.implementation.version\n"
    "print(sys.implementation.name, v[0], v[1], v[2], 64 if sys.maxsize > 0x7fffffff else 32)\n"
    "import json, hashlib, socket, tls, deflate, vfs, asyncio\n"
)


class Failed(Exception):
    """This way of getting the interpreter did not work; the message says why, in one line."""


def probe(program: Path | str) -> str:
    """What the interpreter says of itself, or Failed: too old, built without a module, or no interpreter at all."""
    try:
        result = subprocess.run([str(program), "-c", PROBE], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{program} does not run: {error}") from None
    words = result.stdout.split()
    if result.returncode or len(words) != 5 or words[0] != "micropython":
        raise Failed(f"{program}: {last_line(result.stderr) or last_line(result.stdout) or 'it ended without a word'}")
    version = tuple(int(word) for word in words[1:4])
    text = ".".join(words[1:4])
    if version < OLDEST:
        raise Failed(f"{program} is MicroPython {text}, older than {'.'.join(map(str, OLDEST))}")
    return f"MicroPython {text}, {words[4]} bits"


def last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def why(text: str) -> str:
    """The line of apt's output that says what went wrong."""
    errors = [line.strip() for line in text.splitlines() if line.startswith("E:")]
    return errors[0] if errors else last_line(text)


def mirrors() -> list[tuple[str, str, str]]:
    """(address, suite, origin) of the distribution's mirrors in this machine's apt, without those for updates only."""
    lines = run(["apt-get", "indextargets", "--format", "$(REPO_URI)|$(RELEASE)|$(CODENAME)|$(ORIGIN)"]).splitlines()
    if not lines:  # a fresh container has no lists yet: what it would fetch has the addresses, and they have to tell the origin
        uris = run(["apt-get", "update", "--print-uris"])
        lines = [f"{address}|{suite}||" for address, suite in re.findall(r"'(\S+?/)dists/([^/\s]+)/InRelease'", uris)]
    found: list[tuple[str, str, str]] = []
    for line in lines:
        address, suite, codename, origin = line.split("|")
        if "security" in address or re.search("-(security|updates|backports|proposed)", suite):
            continue
        origin = origin.lower() or next((name for name in ("ubuntu", "debian") if name in address), "")
        if origin in ("debian", "ubuntu"):
            found.append((address, codename or suite, origin))
    return list(dict.fromkeys(found))


def run(command: list[str], cwd: Path | None = None) -> str:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    result = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=600)
    if result.returncode:
        raise Failed(f"{command[0]}: {why(result.stderr) or f'exit code {result.returncode}'}")
    return result.stdout


class Apt:
    """apt with lists, cache and status of its own, for one architecture of one suite."""

    def __init__(self, folder: Path, mirror: str, suite: str, components: str, architecture: str, keyring: Path):
        for name in ("lists/partial", "cache/archives/partial", "debs"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        signed = f" signed-by={keyring}" if keyring.exists() else ""
        (folder / "sources.list").write_text(f"deb [arch={architecture}{signed}] {mirror} {suite} {components}\n")
        self.folder = folder
        self.options = [
            f"Dir::Etc::sourcelist={folder}/sources.list",
            "Dir::Etc::sourceparts=/dev/null",
            "Dir::Etc::preferences=/dev/null",
            "Dir::Etc::preferencesparts=/dev/null",
            f"Dir::State={folder}",
            f"Dir::State::lists={folder}/lists",
            f"Dir::State::status={folder}/status",
            f"Dir::Cache={folder}/cache",
            f"APT::Architecture={architecture}",
            f"APT::Architectures::={architecture}",
            "Acquire::Languages=none",
            "Acquire::Retries=2",
            "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false",
            # Hooks of this machine (image clean-up, command-not-found) are not ours to run
            "APT::Update::Post-Invoke::=true",
            "APT::Update::Error-Mode=any",
        ]
        if os.getuid() == 0:
            self.options.append("APT::Sandbox::User=root")

    def __call__(self, program: str, *arguments: str) -> str:
        options = [word for option in self.options for word in ("-o", option)]
        return run([program, *options, *arguments], cwd=self.folder / "debs")

    def unpack(self, root: Path) -> None:
        """Fetch micropython and all it depends on, and unpack them below `root`."""
        self("apt-get", "-q", "update")
        out = self(
            "apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks",
            "--no-replaces", "--no-enhances", "--no-pre-depends", "micropython",
        )  # fmt: skip
        names = [line.strip() for line in out.splitlines() if re.match(r"[a-z0-9]", line)]
        if "micropython" not in names:
            raise Failed("the suite has no package micropython")
        self("apt-get", "-q", "download", *sorted(set(names)))
        for package in sorted((self.folder / "debs").glob("*.deb")):
            run(["dpkg", "-x", str(package), str(root)])


def write_wrapper(root: Path) -> None:
    """The shell script that starts the unpacked interpreter with the unpacked loader and libraries."""
    programs = [root / "usr" / "bin" / "micropython"]
    loaders = [
        path
        for pattern in ("usr/lib/*/ld-linux*.so*", "lib/*/ld-linux*.so*", "usr/lib*/ld-linux*.so*", "lib*/ld-linux*.so*")
        for path in sorted(glob.glob(str(root / pattern)))
        if os.path.isfile(path)
    ]
    found = glob.glob(str(root / "**" / "*.so*"), recursive=True)
    folders = {Path(path).parent for path in found if os.path.isfile(path) and "gconv" not in path}
    if not programs[0].exists() or not loaders:
        raise Failed("the packages hold no interpreter or no loader")
    libraries = ":".join("$here/" + str(folder.relative_to(root)) for folder in sorted(folders))
    values = {
        "loader": os.path.relpath(loaders[0], root),
        "libraries": libraries,
        "program": programs[0].relative_to(root),
    }
    wrapper = root / "micropython"
    wrapper.write_text(WRAPPER % values)
    wrapper.chmod(0o755)


def sources() -> list[tuple[str, str, str, str, Path]]:
    """(mirror, suite, components, architecture, keyring) of what to try, the best first."""
    native = NATIVE.get(platform.machine().lower())
    if not (native and shutil.which("apt-get") and shutil.which("dpkg")):
        return []
    debian = KEYRINGS / "debian-archive-keyring.gpg"
    ubuntu = KEYRINGS / "ubuntu-archive-keyring.gpg"
    found: list[tuple[str, str, str, str, Path]] = []
    for mirror, own, origin in mirrors():
        if origin == "ubuntu":
            found += [(mirror, name, "main universe", native, ubuntu) for name in (own, *UBUNTU_SUITES)]
        else:
            if native == "amd64":
                found += [(mirror, name, "main", "i386", debian) for name in DEBIAN_SUITES]
            found += [(mirror, name, "main", native, debian) for name in DEBIAN_SUITES]
    # The 32-bit ones first, whichever mirror they are on
    return sorted(dict.fromkeys(found), key=lambda source: source[3] != "i386")


def get(reasons: list[str], target: Path = TARGET, suites: tuple[str, ...] = ()) -> str | None:
    """Unpack the first that works into `target`; of `suites` only, if there are any. What it says, or None."""
    for source in sources():
        mirror, suite, _, architecture, _ = source
        if suites and suite not in suites:
            continue
        label = f"{suite} {architecture}"
        with tempfile.TemporaryDirectory(prefix=".micropython-", dir=ROOT) as name:
            folder = Path(name)
            root = folder / "root"
            try:
                Apt(folder / "apt", *source).unpack(root)
                write_wrapper(root)
                said = probe(root / "micropython")
            except (Failed, subprocess.TimeoutExpired) as error:
                reasons.append(f"{label}: {error}")
                print(f"micropython: not from {label}", flush=True)
                continue
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(parents=True, exist_ok=True)
            root.rename(target)
        return f"{said} ({label}, in {target.relative_to(ROOT)}/)"
    return None


def get_others() -> int:
    """Each version that the tests try beside the usual one. One that cannot be had is left out, and its test says so."""
    for suite in TESTED:
        try:
            said: str | None = probe(OTHERS / suite / "micropython")
        except Failed:
            reasons: list[str] = []
            try:
                said = get(reasons, OTHERS / suite, (suite,))
            except Failed as error:
                reasons.append(str(error))
                said = None
        print(f"micropython of {suite}: {said or '; '.join(reasons) or 'there is none for this machine'}")
    for version in OLD:
        try:
            get_old(version)
            print(f"micropython {version}: for node, in {(OTHERS / version).relative_to(ROOT)}/")
        except (Failed, subprocess.TimeoutExpired) as error:
            print(f"micropython {version}: {error}")
    return 0


def get_old(version: str) -> None:
    """Unpack a version of the WebAssembly port, which node runs. Failed where there is no npm."""
    target = OTHERS / version
    if target.exists():
        return
    if not (shutil.which("npm") and shutil.which("node")):
        raise Failed("not without node and npm")
    with tempfile.TemporaryDirectory(prefix=".micropython-", dir=ROOT) as name:
        run(["npm", "pack", "--silent", f"{WEB}@{version}"], cwd=Path(name))
        run(["tar", "-xzf", *(path.name for path in Path(name).glob("*.tgz"))], cwd=Path(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        (Path(name) / "package").rename(target)


def on_path(reasons: list[str]) -> str | None:
    program = shutil.which("micropython")
    if not program:
        reasons.append("PATH has no micropython")
        return None
    try:
        said = probe(program)
    except Failed as error:
        reasons.append(str(error))
        return None
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir()
    wrapper = TARGET / "micropython"
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(program)} "$@"\n')
    wrapper.chmod(0o755)
    return f"{said} ({program})"


def main() -> int:
    if "--others" in sys.argv[1:]:
        return get_others()
    try:
        print(f"micropython: {probe(TARGET / 'micropython')}")
        return 0
    except Failed:
        pass
    reasons: list[str] = []
    said = None
    try:
        said = get(reasons)
    except Failed as error:
        reasons.append(str(error))
    said = said or on_path(reasons)
    if said:
        print(f"micropython: {said}")
        return 0
    for reason in reasons:
        print(f"  {reason}", file=sys.stderr)
    hint = "brew install micropython" if sys.platform == "darwin" else "apt-get install micropython"
    wanted = ".".join(map(str, OLDEST))
    print(f"micropython: none found; install MicroPython {wanted} or later ({hint}) and run make again", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
