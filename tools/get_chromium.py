"""Find a Chromium for the browser tests, or install one: the distribution's where it has one, else Playwright's.

Debian's is a plain package. Ubuntu's is a snap, which runs in no container, so there it is the build that Playwright fetches.
As root everything is installed at once; without root one line says what to do.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
HINT = "or any Chromium or Chrome on PATH, and run make again"
_PLAYWRIGHT = [sys.executable, "-m", "playwright"]


class Failed(Exception):
    """There is no browser and none could be installed; the message says what to do, in one line."""


@cache
def find() -> str | None:
    """The path of a Chromium that starts, or None."""
    for program in candidates():
        if version(program):
            return program
    return None


def candidates() -> list[str]:
    """Browsers on PATH, then those that Playwright has fetched, the newest first."""
    found = [path for path in map(shutil.which, NAMES) if path]
    root = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache" / "ms-playwright")
    fetched = [str(path) for path in root.glob("chromium-*/chrome-linux*/chrome")]
    return found + sorted(fetched, key=lambda path: (len(path), path), reverse=True)


def version(program: str) -> str:
    """What the browser says of itself; empty when it does not start (Ubuntu's name for it only asks for the snap)."""
    try:
        result = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    words = result.stdout.strip()
    return words if result.returncode == 0 and words.startswith(("Chromium", "Google Chrome")) else ""


def install() -> None:
    """Install a browser in this machine's own way."""
    root = os.getuid() == 0
    if shutil.which("apt-get") and distribution() == "debian":
        if not root:
            raise Failed(f"none found; run `sudo apt-get install chromium`, {HINT}")
        print("chromium: installing Debian's package", flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        packages = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium", "fonts-dejavu-core"]
        for command in (["apt-get", "update", "-qq"], packages):
            result = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL)
        if result.returncode:
            raise Failed("apt-get could not install chromium (see above)")
        return
    print("chromium: fetching Playwright's build", flush=True)
    if root and shutil.which("apt-get"):
        subprocess.run([*_PLAYWRIGHT, "install-deps", "chromium"], stdout=subprocess.DEVNULL)
    if subprocess.run([*_PLAYWRIGHT, "install", "chromium"], stdout=subprocess.DEVNULL).returncode:
        raise Failed(f"Playwright could not fetch one (see above); install one with your system's packages, {HINT}")


def distribution() -> str:
    """ID of /etc/os-release, such as debian or ubuntu."""
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition("=")[2].strip('"') for line in lines if line.startswith("ID=")), "")


def main() -> int:
    try:
        if not find():
            install()
            find.cache_clear()
        program = find()
        if not program:
            raise Failed("it does not start; run `sudo .venv/bin/python -m playwright install-deps chromium`, " + HINT)
    except Failed as error:
        print(f"chromium: {error}", file=sys.stderr)
        return 1
    print(f"chromium: {version(program).split(' built', 1)[0]} ({program})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
