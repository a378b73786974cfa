"""Turns the unix port into a board: mounts the flash image at `/`, then runs boot.py and main.py as the firmware does.

Everything comes from the environment (see sim/board.py). After this file has done its work the host's file system is out of
reach, and sys.path is a board's. All is in functions, whose variables leave nothing behind.
"""

import gc
import os
import sys

import vfs

_env = os.getenv


def _open(path, mode):
    return open(path, mode, 0) if path else None


def _run(path):
    """Run a file of the board if it is there, with the firmware's behaviour: what it raises is printed, and that is all."""
    try:
        os.stat(path)
    except OSError:
        return True
    try:
        with open(path) as f:
            code = compile(f.read(), path, "exec")  # the source is not held while the board runs: a firmware does not either
        f = None
        exec(code, {"__name__": "__main__", "__file__": path})
        return True
    except KeyboardInterrupt as error:
        if not _env("SIMULATOR_REPL"):
            raise
        sys.print_exception(error)
        return False
    except BaseException as error:
        sys.print_exception(error)
        return False


def main():
    low = id(bytearray(1))
    image = _open(_env("SIMULATOR_IMAGE"), "r+b")
    counters = _open(_env("SIMULATOR_COUNTERS"), "r+b")
    log = _open(_env("SIMULATOR_LOG"), "wb")
    blocks = int(_env("SIMULATOR_BLOCKS"))
    sys.path[:] = [_env("SIMULATOR_DEVICE")]
    import flash
    import machine
    import network

    if _env("SIMULATOR_WIFI"):
        network.file = open(_env("SIMULATOR_WIFI"))
    if _env("SIMULATOR_DNS") or _env("SIMULATOR_PORT_SOCKTYPE_STREAM"):
        __import__("resolver").install()
    if _env("SIMULATOR_CLOCK") == "unset":
        sys.modules["time"] = __import__("unset_time")
    meter = __import__("meter") if _env("SIMULATOR_METER") else None
    if meter:
        meter.install()
    tool = __import__(_env("SIMULATOR_TOOL")) if _env("SIMULATOR_TOOL") else None
    dump = __import__("image_tool")._dump if _env("SIMULATOR_DUMP") else None
    port = __import__("chip") if _env("SIMULATOR_PORT_PLATFORM") != "linux" else None
    if _env("SIMULATOR_REPL") == "raw":
        machine.repl = __import__("repl")
    locked, rom = __import__("locked"), __import__("rom")
    posix = vfs.VfsPosix if _env("SIMULATOR_MOUNT") else None
    missing = __import__("missing") if _env("SIMULATOR_PORT_MISSING") else None

    def save_counters():
        """So that the host can read them after any end: see sim/board.py, Counters."""
        if counters:
            n = chip.n
            counters.seek(0)
            for value in (n[2] + n[4], n[0], n[2], n[4], n[3], n[1]):
                counters.write("%10d " % value)
            counters.write("%10d %10d\n" % ((meter.inflated, meter.hashed) if meter else (0, 0)))

    if log or _env("SIMULATOR_CUT"):
        cut = int(_env("SIMULATOR_CUT") or -1)
        chip = __import__("power").Failing(image, blocks, cut, _env("SIMULATOR_CUT_MODE"), save_counters, log)
    elif _env("SIMULATOR_BOARD_TIME"):
        sys.modules["time"] = __import__("board_time")
        chip = sys.modules["time"].Timed(image, blocks)
        sys.modules["time"].attach(machine, chip)
    else:
        chip = flash.Flash(image, blocks)
    machine.before_end.append(save_counters)
    kind = vfs.VfsFat if _env("SIMULATOR_FS") == "fat" else vfs.VfsLfs2
    sizes = {}
    if kind is vfs.VfsLfs2:
        sizes = {"readsize": int(_env("SIMULATOR_PORT_READSIZE")), "progsize": int(_env("SIMULATOR_PORT_PROGSIZE"))}
    if _env("SIMULATOR_FORMAT"):
        kind.mkfs(chip, **sizes)
    vfs.umount("/")
    vfs.mount(kind(chip, **sizes), "/")
    os.chdir("/")
    drivers = "flash power start image_tool unset_time meter missing board_time chip locked resolver rom repl"
    for name in drivers.split():
        sys.modules.pop(name, None)
    sys.path[:] = ["", ".frozen", "/lib"]
    rom.install(low)
    locked.install()
    if missing and not tool:
        missing.install()
    locked = missing = rom = None
    sys.argv[:] = []
    gc.collect()
    if tool:
        tool.run()
        return
    late = port and _env("SIMULATOR_PORT_USB_AFTER_BOOT")
    if port:
        port.install()
    if late:
        port.usb(False)
    booted = _run("boot.py")
    if late:
        port.usb(True)
    if dump:
        sys.stdout.buffer.write(b"\nTREE\n")  # what comes before a dump of the file system in the output: see sim/board.py
        dump()
        dump = None
        gc.collect()
    if posix:  # a folder of the host beside the flash: tests keep their own code off it
        vfs.mount(posix(_env("SIMULATOR_MOUNT")), "/sys")
    runs = booted and not _env("SIMULATOR_ONLY_BOOT")
    while True:
        try:
            if runs:
                runs = False
                _run("main.py")
            save_counters()
            if _env("SIMULATOR_ONLY_BOOT"):
                return
            print("MicroPython at the REPL: boot.py and main.py have ended")
            machine.stay_at_repl()
        except KeyboardInterrupt:  # it may come at any moment once something was said, and ends no board
            if not machine.repl:
                raise


main()
