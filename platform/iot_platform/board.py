"""The hardware that every board has: memory, disk, unique id, reset cause, watchdog, reset."""

import binascii
import gc
import os
import sys
import time

import machine
import ota_boot


class Board:
    """One object that modules get; tests hand in another one."""

    crashed = ""  # "crash" when the last run ended with an exception
    why = ""  # it started last, in words: the start finds them
    earliest = 0  # seconds since 1970: a time before that is wrong

    def mem_free(self):
        """Free bytes of the heap."""
        return gc.mem_free()

    def disk_free(self):
        """Free bytes of the disk. littlefs' statvfs counts the two blocks of each folder twice, so they are given back."""
        status = os.statvfs("/")
        folders = 0 if _fat() else _folders("")
        return max(status[0] * (status[3] + 2 * folders), 0)

    def unique_id(self):
        """The chip's id: letters and digits only."""
        raw = machine.unique_id()
        if all(48 <= c <= 57 or 97 <= c | 32 <= 122 or c == 45 for c in raw):
            return raw.decode()
        return binascii.hexlify(raw).decode()

    def reset_cause(self):
        """power, deepsleep, watchdog or reset, as the loader found; crash when a traceback was left."""
        return self.crashed or getattr(ota_boot, "restart", "")  # an older loader does not say

    def about(self):
        """What this board is, and why it started last, for people."""
        status, about = os.statvfs("/"), sys.implementation
        return {
            "port": sys.platform,
            "board": getattr(about, "_machine", ""),
            "micropython": ".".join(map(str, about.version[:3])),
            "heap": gc.mem_free() + gc.mem_alloc(),
            "disk": status[0] * status[2],
            "restart": self.why,
        }

    def has_sockets(self):
        """False where the firmware knows no network at all, as on a Pico without W."""
        try:
            __import__("socket")
        except ImportError:
            return False
        return True

    def tcp_address(self, port):
        """Where to listen for `port`; the simulated board, which shares its computer, has a port of its own on loopback only."""
        return getattr(machine, "tcp_address", lambda port: ("0.0.0.0", port))(port)

    def reset(self):
        """Restart, whatever happens; a version on trial is not blamed for it."""
        try:
            if hasattr(ota_boot, "asked"):  # an older loader has no such thing
                ota_boot.asked()
        finally:
            machine.reset()

    def feed(self):
        """Feed the watchdog, as the loader allows it."""
        ota_boot.feed()

    def now(self):
        """Seconds since 1970, or None while nobody has set the clock, or not right: it starts in 2000 or 1970, or 2021 on rp2."""
        if time.localtime()[0] < 2024:
            return None
        now = int(time.time()) + (946_684_800 if time.gmtime(0)[0] == 2000 else 0)
        return now if now >= self.earliest else None


def _fat():
    """True on a file system that takes this name for boot.py's."""
    try:
        os.stat("/BOOT.PY")
    except OSError:
        return False
    return True


def _folders(path):
    """How many folders are below one of the disk's own: what else is mounted has shorter entries."""
    count = 0
    for entry in os.ilistdir(path or "/"):
        if entry[1] & 0x4000 and len(entry) > 3:
            count += 1 + _folders(path + "/" + entry[0])
    return count
