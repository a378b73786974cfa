"""The host tool: makes, signs, checks, publishes and serves what boards run. See `python -m iotctl --help`."""

import sys
from pathlib import Path
from types import ModuleType

import platformdirs

_HERE = Path(__file__).resolve().parent
INSTALLED = not (_HERE.parent / "platform").is_dir()
ROOT = _HERE / "board" if INSTALLED else _HERE.parent  # what boards run, and the simulator: in the wheel, or of this checkout
CACHE = platformdirs.user_cache_path("iotctl") if INSTALLED else ROOT / ".build"

if INSTALLED:
    sys.path.append(str(ROOT))  # modules, sim

# The board's loader and runtime are imported by their board names, as on a board; platform/ itself is no package.
if str(ROOT / "platform") not in sys.path:
    sys.path.append(str(ROOT / "platform"))

# What device code imports of MicroPython itself: a name in const() takes no memory on a board, and is a number here.
if "micropython" not in sys.modules:
    sys.modules["micropython"] = ModuleType("micropython")
    sys.modules["micropython"].const = lambda value: value  # type: ignore[attr-defined]
if "deflate" not in sys.modules:
    from iotctl import deflate

    sys.modules["deflate"] = deflate
