"""MicroPython's `network` for the simulated board: a WLAN whose access point is a small file on the host.

The file (SIMULATOR_WIFI) holds a word: `ok`, `off` (no such network), `wrong_password`, `slow` (two seconds to join). Behind it
may stand the names of all networks that there are; without them any can be joined. It is read at most four times a second, so a
test can change the weather while the board runs. Sockets are the host's and do not care; `isconnected()` does, as on a board.

What an access point of the board's own is really like is said on the console, as a phone would see it: a port may not do what it
was told (sim/ports.py). The Pico W's takes name, password and security into account only when it becomes active.
"""

import os
import time

from micropython import const

STA_IF = 0
AP_IF = 1
_late = os.getenv("SIMULATOR_PORT_AP_NAME_BEFORE_ACTIVE")  # the Pico W's driver
_password = os.getenv("SIMULATOR_PORT_AP_PASSWORD")
_modes = [int(mode) for mode in os.getenv("SIMULATOR_PORT_AP_SECURITY").split()]
if _late:
    STAT_IDLE, STAT_CONNECTING, STAT_GOT_IP, STAT_NO_AP_FOUND, STAT_WRONG_PASSWORD = 0, 1, 3, -2, -3
else:
    STAT_IDLE, STAT_CONNECTING, STAT_GOT_IP, STAT_NO_AP_FOUND, STAT_WRONG_PASSWORD = 1000, 1001, 1010, 201, 202
    AUTH_WPA2_PSK = 3
_POLL_MS = const(250)
_hostname = "sim-board"
_weather = "ok"
_read_at = None
file = None  # the open control file; it keeps working when the host's file system is no longer mounted


def hostname(name=None):
    global _hostname
    if name is not None:
        _hostname = name
    return _hostname


def country(_code=None):
    return "XX"


def _look():
    global _weather, _read_at
    now = time.ticks_ms()
    if file and (_read_at is None or time.ticks_diff(now, _read_at) >= _POLL_MS):
        _read_at = now
        file.seek(0)
        _weather = file.read(64).strip() or "ok"
    return _weather


def _is_address(text):
    parts = text.split(".")
    return len(parts) == 4 and all(part.isdigit() and int(part) < 256 for part in parts)


class WLAN:
    IF_STA = STA_IF
    IF_AP = AP_IF

    _all = {}

    def __new__(cls, interface=STA_IF):
        if interface not in cls._all:
            self = cls._all[interface] = object.__new__(cls)
            self._ap = interface == AP_IF
            self._active = False
            self._ssid = self._password = None
            self._since = 0
            self._fixed = None
            if self._ap:
                self._ssid, self._password, self._security = "board-default", _password, _modes[-1] if _password else 0
        return cls._all[interface]

    def __init__(self, interface=STA_IF):
        pass

    def active(self, on=None):
        if on is not None:
            self._active = bool(on)
            if self._ap:
                self._tell()
            elif not on:
                self._ssid = None
        return self._active

    def _tell(self):
        if self._active:
            key = "open" if not self._security else "key " + self._password if self._security in _modes else "nobody can join"
            print("(on the air: %s, %s)" % (self._ssid, key))

    def connect(self, ssid=None, key=None, **options):
        if not self._active:
            raise OSError(1, "the interface is not active")
        self._ssid, self._password, self._since = ssid, key, time.ticks_ms()

    def disconnect(self):
        self._ssid = None

    def isconnected(self):
        if self._ap:
            return False
        return self.status() == STAT_GOT_IP

    def status(self, param=None):
        if param == "rssi":
            return -52
        if param == "stations":
            return []
        if not self._active or self._ssid is None:
            return STAT_IDLE
        weather, *there = _look().split()
        if there and self._ssid not in there:
            weather = "off"
        age = time.ticks_diff(time.ticks_ms(), self._since)
        if age < (2000 if weather == "slow" else 50):
            return STAT_CONNECTING
        return {"off": STAT_NO_AP_FOUND, "wrong_password": STAT_WRONG_PASSWORD}.get(weather, STAT_GOT_IP)

    def ifconfig(self, value=None):
        if self._ap:
            return ("192.168.4.1", "255.255.255.0", "192.168.4.1", "192.168.4.1")
        if value is not None:
            if len(value) != 4 or not all(_is_address(part) for part in value):
                raise ValueError("invalid arguments")
            self._fixed = value
            if value[3] == "0.0.0.0" and os.getenv("SIMULATOR_PORT_IFCONFIG_NEEDS_DNS"):  # by then it has taken the rest
                raise OSError("TCP/IP Invalid Parameters")
        if not self.isconnected():
            return ("0.0.0.0", "0.0.0.0", "0.0.0.0", "0.0.0.0")
        return self._fixed or ("127.0.0.1", "255.0.0.0", "127.0.0.1", "127.0.0.1" if os.getenv("SIMULATOR_DNS") else "0.0.0.0")

    def ipconfig(self, param):
        return {"addr4": self.ifconfig()[:2], "gw4": self.ifconfig()[2]}.get(param)

    def scan(self):
        if _look().split()[0] == "off":
            return []
        ours = (b"sim-network", b"\x02\x00\x00\x00\x00\x01", 6, -52, 3, False)
        latin = (b"caf\xe9", b"\x02\x00\x00\x00\x00\x03", 1, -70, 3, False)
        return [ours, latin, (b"neighbour", b"\x02\x00\x00\x00\x00\x02", 11, -80, 3, False)]

    def config(self, *names, **values):
        if not values:
            known = {"ssid": self._ssid, "essid": self._ssid, "mac": b"\x02\x00\x00\x00\x00\x09", "channel": 6}
            if self._ap:
                known["security"] = self._security
            if names[0] not in known:
                raise ValueError("unknown config param")
            return known[names[0]]
        if self._ap:
            if not _late and values.get("security", 0) not in _modes:
                raise OSError(0x102, "Wifi Unknown Error 0x0102")
            self._ssid = values.get("ssid", self._ssid)
            self._password = values.get("key", self._password)
            self._security = values.get("security", self._security)
            if not _late:
                self._tell()
        return None
