"""MicroPython's `network` for the simulated board: a WLAN whose access point is a small file on the host.

The file (SIMULATOR_WIFI) holds one word: `ok`, `off` (no such network), `wrong_password`, `slow` (two seconds to join). It is
read at most four times a second, so a test can change the weather while the board runs. Sockets are the host's and do not care;
`isconnected()` does, as on a board.
"""

import time

from micropython import const

STA_IF = 0
AP_IF = 1
STAT_IDLE = 1000
STAT_CONNECTING = 1001
STAT_GOT_IP = 1010
STAT_NO_AP_FOUND = 201
STAT_WRONG_PASSWORD = 202
STAT_ASSOC_FAIL = 203
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
        _weather = file.read(32).strip() or "ok"
    return _weather


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
        return cls._all[interface]

    def __init__(self, interface=STA_IF):
        pass

    def active(self, on=None):
        if on is not None:
            self._active = bool(on)
            if not on:
                self._ssid = None
        return self._active

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
        weather = _look()
        age = time.ticks_diff(time.ticks_ms(), self._since)
        if age < (2000 if weather == "slow" else 50):
            return STAT_CONNECTING
        return {"off": STAT_NO_AP_FOUND, "wrong_password": STAT_WRONG_PASSWORD}.get(weather, STAT_GOT_IP)

    def ifconfig(self, value=None):
        if self._ap:
            return ("192.168.4.1", "255.255.255.0", "192.168.4.1", "192.168.4.1")
        if not self.isconnected():
            return ("0.0.0.0", "0.0.0.0", "0.0.0.0", "0.0.0.0")
        return ("127.0.0.1", "255.0.0.0", "127.0.0.1", "127.0.0.1")

    def ipconfig(self, param):
        return {"addr4": self.ifconfig()[:2], "gw4": self.ifconfig()[2]}.get(param)

    def scan(self):
        if _look() == "off":
            return []
        ours = (b"sim-network", b"\x02\x00\x00\x00\x00\x01", 6, -52, 3, False)
        return [ours, (b"neighbour", b"\x02\x00\x00\x00\x00\x02", 11, -80, 3, False)]

    def config(self, *names, **values):
        if values:
            if "ssid" in values or "essid" in values:
                self._ssid = values.get("ssid", values.get("essid"))
            return None
        return {"mac": b"\x02\x00\x00\x00\x00\x09", "ssid": self._ssid, "essid": self._ssid, "channel": 6}.get(names[0])
