"""The hardware that every board has: memory, disk, unique id, reset cause, watchdog, reset."""

import gc
import os
import time

try:
    import machine
except ImportError:  # CPython: tests of what needs no hardware
    machine = None

import ota_boot

_CAUSES = (
    ("PWRON_RESET", "power"),
    ("WDT_RESET", "watchdog"),
    ("DEEPSLEEP_RESET", "deepsleep"),
    ("SOFT_RESET", "soft"),
    ("HARD_RESET", "hard"),
)


class Board:
    """One object that modules get; tests hand in another one."""

    def mem_free(self):
        """Free bytes of the heap."""
        return gc.mem_free()

    def mem_total(self):
        """Bytes of the heap, free or not."""
        return gc.mem_free() + gc.mem_alloc()

    def disk_free(self):
        """Free bytes of the disk."""
        status = os.statvfs("/")
        return max(status[0] * status[3], 0)  # littlefs counts what two files share twice

    def disk_total(self):
        status = os.statvfs("/")
        return status[0] * status[2]

    def unique_id(self):
        """The chip's id: letters and digits only."""
        raw = machine.unique_id()
        if all(chr(byte).isalpha() or chr(byte).isdigit() or byte == 45 for byte in raw):
            return raw.decode()
        return "".join("%02x" % byte for byte in raw)

    def reset_cause(self):
        """power, watchdog, deepsleep, soft, hard, or unknown."""
        cause = machine.reset_cause()
        for constant, name in _CAUSES:
            if getattr(machine, constant, -1) == cause:
                return name
        return "unknown"

    def tcp_port(self, port):
        """The port to listen on for `port`: the simulated board, which shares its computer's ports, has another one."""
        return getattr(machine, "TCP_PORTS", {}).get(port, port)

    def reset(self):
        machine.reset()

    def feed(self):
        """Feed the watchdog, as the loader allows it."""
        ota_boot.feed()

    def time_known(self):
        """True once the clock has been set: it starts in 2000 or 1970, or 2021 on rp2."""
        return time.localtime()[0] >= 2024

    def now(self):
        """Seconds since 1970, or None while the board does not know the time."""
        if not self.time_known():
            return None
        return int(time.time()) + (946_684_800 if time.gmtime(0)[0] == 2000 else 0)
