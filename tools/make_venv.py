"""Make .venv with what requirements.lock pins; quick when that is already there. Run with any Python 3.11 or later."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
STAMP = VENV / ".installed"
PYTHON = VENV / "bin" / "python"
OLDEST = (3, 11)


def fail(text: str) -> NoReturn:
    print("python: " + text, file=sys.stderr)
    sys.exit(1)


def version_of(python: Path) -> str | None:
    """The version of the Python at this path, or None: a venv whose Python was removed or moved does not start."""
    command = [str(python), "-c", "import sys, pip; print(sys.version.split()[0], sys.prefix)"]
    try:
        result = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    words = result.stdout.strip().split(" ", 1)
    if result.returncode or len(words) != 2 or Path(words[1]).resolve() != VENV.resolve():
        return None
    return words[0]


def install_ensurepip() -> None:
    """Debian keeps half of the venv module in a package of its own; as root it can be had at once."""
    package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
    if not shutil.which("apt-get"):
        fail("this Python has no ensurepip, so it cannot make a venv; install a complete Python 3.11 or later")
    if os.getuid() != 0:
        fail(f"this Python cannot make a venv; run `sudo apt-get install {package}` and run make again")
    print(f"python: installing {package}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package]
    for command in (["apt-get", "update", "-qq"], install):
        result = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL)
    if result.returncode:
        fail(f"apt-get could not install {package}")


def main() -> None:
    if sys.version_info < OLDEST:
        fail(f"3.11 or later is needed, this is {sys.version.split()[0]}; name one with `make PYTHON=python3.11`")
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    version = version_of(PYTHON)
    if not version:
        check = [sys.executable, "-c", "import ensurepip, venv"]
        if subprocess.run(check, capture_output=True).returncode:
            install_ensurepip()
        if subprocess.run([sys.executable, "-m", "venv", "--clear", str(VENV)]).returncode:
            fail("the venv could not be made (see above)")
        version = version_of(PYTHON)
        if not version:
            fail("the new .venv has no pip")
    if not STAMP.exists() or STAMP.read_text() != wanted:
        print("python: installing what requirements.lock pins", flush=True)
        # --no-deps: the lock is complete, and pip 23 takes an extra (coverage[toml]) for something that is not pinned
        options = ["--disable-pip-version-check", "-qq", "--require-hashes", "--no-deps", "-r", str(LOCK)]
        command = [str(PYTHON), "-m", "pip", "install", *options]
        if subprocess.run(command).returncode:
            fail("pip could not install requirements.lock (see above)")
        STAMP.write_text(wanted)
    count = sum(1 for line in LOCK.read_text().splitlines() if "==" in line and not line.startswith((" ", "#")))
    print(f"python: {version} in .venv, {count} packages pinned")


main()
