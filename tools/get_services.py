"""Programs that tests and bench need besides Python. Where one is missing it is installed by apt, as root; else a line says how.

    python3 tools/get_services.py PROGRAM ...

Installed quietly and never started as a service of this machine: the tests start their own, on ports of their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

# program: Debian's (and Ubuntu's) package
SERVICES = {
    "mosquitto": "mosquitto",
    "qemu-i386": "qemu-user",  # for the bench: see bench/counting.py
    "cc": "gcc libc6-dev",
}
_PLACES = ("/usr/sbin", "/sbin")  # not on everybody's PATH
# Packages start their service once they are installed; this is dpkg's own way to say no
_NO_START = "/usr/sbin/policy-rc.d"


def find(program: str) -> str | None:
    """Where a program is."""
    path = os.pathsep.join((os.environ.get("PATH", ""), *_PLACES))
    return shutil.which(program, path=path)


def install(packages: list[str]) -> str:
    """Install packages; "" or what went wrong."""
    names = " ".join(packages)
    if not shutil.which("apt-get"):
        return f"install {names} with this system's package manager, then run make again"
    if os.getuid() != 0:
        return f"run `sudo apt-get install {names}`, then run make again"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    options = ["-y", "-qq", "--no-install-recommends"]
    ours = _forbid_starting()
    try:
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", *options, *packages]):
            done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    finally:
        if ours:
            os.remove(_NO_START)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return "" if done.returncode == 0 else f"apt-get could not install {names}: {lines[-1] if lines else 'no reason given'}"


def _forbid_starting() -> bool:
    """True when this made the file that forbids it (exit code 101), and so has to remove it."""
    try:
        with open(_NO_START, "x") as f:
            f.write("#!/bin/sh\nexit 101\n")
    except OSError:  # there is one already
        return False
    os.chmod(_NO_START, 0o755)
    return True


def main() -> int:
    wanted = {name: SERVICES[name] for name in sys.argv[1:]}
    missing = [name for name in wanted if not find(name)]
    if missing:
        print(f"services: installing {', '.join(missing)}", flush=True)
        problem = install([package for name in missing for package in wanted[name].split()])
        missing = [name for name in missing if not find(name)]
        if missing:
            print(f"services: {', '.join(missing)} is missing: {problem or 'the package does not bring it'}", file=sys.stderr)
            return 1
    print("services: " + ", ".join(wanted))
    return 0


if __name__ == "__main__":
    sys.exit(main())
