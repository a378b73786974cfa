"""Refuses what a merge has left unresolved in a tracked file: `python tools/check_text.py`, a part of `make lint`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_OPENS = re.compile(rb"^(<{7}|>{7}|\|{7})( |$)", re.M)  # seven = alone underline a heading in some formats
_BETWEEN = re.compile(rb"^={7}$", re.M)


def markers(data: bytes) -> list[int]:
    """The numbers of the lines that are conflict markers."""
    found = list(_OPENS.finditer(data))
    if found:
        found += _BETWEEN.finditer(data)
    return sorted(data.count(b"\n", 0, marker.start()) + 1 for marker in found)


def tracked(root: Path) -> Iterable[Path]:
    """The files that git knows; where there is no repository, such as in an unpacked archive, none."""
    listed = subprocess.run(["git", "-C", str(root), "ls-files", "-z"], capture_output=True)
    return [root / name for name in listed.stdout.decode().split("\0") if name and (root / name).is_file()]


def main() -> int:
    bad = [f"{path.relative_to(ROOT)}:{n}: a conflict marker" for path in tracked(ROOT) for n in markers(path.read_bytes())]
    print("\n".join(bad) or "no conflict markers")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
