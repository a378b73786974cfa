"""What makes the unix port look like a microcontroller's: the name in `sys`, the chip's registers, and its console on USB.

Only for ports that are not the unix port (see sim/ports.py).
"""

import os
import sys

import ffi
import machine

_BASES = (("RP2040", 0x40058000), ("RP2350", 0x400D8000))  # of their watchdog's registers
_REASON, _SCRATCH4 = 0x08, 0x1C
_FED = 0x6AB73121  # what watchdog_enable() leaves in SCRATCH4, and watchdog_reboot() takes away
_board = os.getenv("SIMULATOR_PORT_BOARD")
_restart = os.getenv("SIMULATOR_RESTART")
_libc = ffi.open(None)
_dup2 = _libc.func("i", "dup2", "ii")
_console = _libc.func("i", "dup", "i")(1)
_nowhere = open("/dev/null", "wb")
del _libc, ffi


class _Instead:
    """Another object with some attributes of its own."""

    def __init__(self, real, **own):
        self._real = real
        for name in own:
            setattr(self, name, own[name])

    def __getattr__(self, name):
        return getattr(self._real, name)


class _Registers:
    """Those of rp2 that tell a hang from a restart by the program. Any other address ends the program, as a bus fault does."""

    def __getitem__(self, address):
        for chip, base in _BASES:
            if chip in _board and address - base == _REASON:
                return {"watchdog": 1, "hard": 2, "deepsleep": 2}.get(_restart, 0)
            if chip in _board and address - base == _SCRATCH4:
                return _FED if _restart == "watchdog" or machine.WDT.started else 0
        print("hard fault at 0x%x" % address)
        return machine.stay_at_repl()


def install():
    about = _Instead(sys.implementation, _machine=_board)
    sys.modules["sys"] = _Instead(sys, platform=os.getenv("SIMULATOR_PORT_PLATFORM"), implementation=about)
    machine.mem32 = _Registers()


def usb(up):
    """What is printed reaches the console only while its USB is up."""
    _dup2(_console if up else _nowhere.fileno(), 1)
