"""Turns the unix port into a board: mounts the flash image at `/`, then runs boot.py and main.py as the firmware does.

Everything comes from the environment (see sim/board.py). After this file has done its work the host's file system is out of
reach, and sys.path is a board's.
"""

import gc
import os
import sys

import ffi
import vfs
from micropython import const

_BLOCK = const(4096)
_DUMP = b"\nTREE\n"  # what comes before a dump of the file system in the output: see sim/board.py
_AT_REPL = const(4)  # exit code: boot.py or main.py ended, and no watchdog will ever bite
_env = os.getenv


def _open(path, mode):
    return open(path, mode, 0) if path else None


try:  # when the thread that has started this process ends, whatever ends it, so does the board (Linux: PR_SET_PDEATHSIG)
    ffi.open(None).func("i", "prctl", "iLLLL")(1, 9, 0, 0, 0)
except OSError:
    pass
image = _open(_env("SIM_IMAGE"), "r+b")
counters = _open(_env("SIM_COUNTERS"), "r+b")
log = _open(_env("SIM_LOG"), "wb")
sys.path[:] = [_env("SIM_DEVICE")]
import flash  # noqa: E402
import machine  # noqa: E402
import network  # noqa: E402

if _env("SIM_WIFI"):
    network.attach(open(_env("SIM_WIFI")))
if _env("SIM_CLOCK") == "unset":
    sys.modules["time"] = __import__("unset_time")
meter = __import__("meter") if _env("SIM_METER") else None
if meter:
    meter.install()
_tool = __import__(_env("SIM_TOOL")) if _env("SIM_TOOL") else None
_dump = __import__("image_tool")._dump if _env("SIM_DUMP") else None


def save_counters():
    """So that the host can read them after any end: see sim/board.py, Counters."""
    if counters:
        counters.seek(0)
        for value in (chip.operations(), chip.reads, chip.programs, chip.erases, chip.programmed, chip.read):
            counters.write("%10d " % value)
        counters.write("%10d %10d\n" % ((meter.inflated, meter.hashed) if meter else (0, 0)))


_cut = int(_env("SIM_CUT") or -1), _env("SIM_CUT_MODE") or ""
chip = flash.Flash(image, int(_env("SIM_BLOCKS")), *_cut, save_counters, log)
machine._before_exit.append(save_counters)


def _mount():
    kind = vfs.VfsFat if _env("SIM_FS") == "fat" else vfs.VfsLfs2
    if _env("SIM_FORMAT"):
        kind.mkfs(chip)
    vfs.umount("/")
    vfs.mount(kind(chip), "/")
    os.chdir("/")


def _compiled(name):
    with open(name) as f:
        return compile(f.read(), name, "exec")  # the source is not held while the board runs: a firmware does not either


def _run(name):
    """Run a file of the board if it is there, with the firmware's behaviour: what it raises is printed, and that is all."""
    try:
        os.stat(name)
    except OSError:
        return True
    try:
        exec(_compiled(name), {"__name__": "__main__", "__file__": name})
        return True
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        sys.print_exception(error)
        return False


_mount()
for _name in ("flash", "start", "image_tool", "unset_time", "meter"):
    sys.modules.pop(_name, None)
sys.path[:] = ["", ".frozen", "/lib"]
sys.argv[:] = []
gc.collect()
if _tool:
    _tool.run()
else:
    booted = _run("boot.py")
    if _env("SIM_DUMP"):
        sys.stdout.buffer.write(_DUMP)
        _dump()
        del _dump
        gc.collect()
    if _env("SIM_MOUNT"):  # a folder of the host beside the flash: tests keep their own code off it
        vfs.mount(vfs.VfsPosix(_env("SIM_MOUNT")), "/sys")
    if booted and not _env("SIM_ONLY_BOOT"):
        _run("main.py")
    save_counters()
    if not _env("SIM_ONLY_BOOT"):
        print("MicroPython at the REPL: boot.py and main.py have ended")
        machine._wait_for_watchdog()
        flash._exit(_AT_REPL)
