"""The one seam at which code of this package comes and goes; every other file imports at its top.

A board with 128 KiB has no memory for all code of an update at once (docs/architecture.md, "Memory"). What stays between two
jobs, and while a job runs, is named here. On a board with more, all of it stays until the job is over: importing takes time.
"""

import gc
import sys

from iot_platform.module import forget as _forget
from micropython import const

_STAYS = const(("module", "errors", "phases"))
_PLENTY = const(44 * 1024)  # bytes of free heap, not less than an update asks for before it fills the stage (updates._OBTAIN)

# What a generator yields before what takes long, which then begins a round of the loop (job.advance). But an update boot sets
# it to None, where memory is shorter than time: between two rounds others take some of what was collected.
alone = 3
in_job = ()  # while a job runs: what it and its phase need
place = []  # memory that nothing else takes before the decompressor does: see job.keep_place
buffers = []  # an unpacker's two, and a connection's, likewise


def call(name, function, *args):
    """The result of a plain function of the file `name`."""
    try:
        return getattr(part(name), function)(*args)
    finally:
        if not in_job:
            forget()
        elif short():
            gc.collect()
            if short():  # by garbage alone nothing has to go
                forget()


def part(name):
    """The file `name` of this package, such as ``install.trial``."""
    if not has(name) and short():
        gc.collect()
    return bring(name)


def has(name):
    return "modules.ota." + name in sys.modules


def bring(name):
    """part() where garbage has been collected: to do that takes a board half as long as importing does."""
    return sys.modules.get("modules.ota." + name) or __import__("modules.ota." + name, None, None, ("x",))


def short():
    """True where memory is short, or so much of it garbage. To see that takes a Pico W 8 ms: half a collection."""
    return gc.mem_free() < _PLENTY


def tidy(untidy=False):
    """Collect garbage if memory is `untidy`, or short; returns that. Generator: to collect is a step, and so is what follows."""
    untidy = untidy or short()
    if untidy:
        yield alone
        gc.collect()
    yield alone
    return untidy


def forget():
    """Give back the memory of what is not needed at the moment."""
    _forget("modules.ota", in_job or _STAYS)
