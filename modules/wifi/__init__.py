"""Wifi: joins the user's network, joins it again after every loss, and opens an access point when there is none to join.

The access point has a password: the profile's, or one that is made at the first start, kept in the preferences and shown at the
serial console, not in the log. Only a profile that says ``"ap_password": ""`` opens it to all.

Once there it asks the profile's time server (``ntp``): at once where nobody has set the clock, and then once a day. And it tells
iot_platform.sockets of the network's name server, so that looking up a name waits for nobody.

Preferences `wifi.ssid` and `wifi.password` come before the profile's ``wifi`` section. When join() changes them while the board
is connected, those before them stay as `wifi.old` until the new network has been joined: each has its turn of four attempts.
`name` is what the board is called there.

`wifi.address` fixes its address: that, the mask, the gateway and the name server, four words as ifconfig() has them; the page
restarts the board for it. A wrong one would take the board off the network for good. So a new one, or one on a network where it
is new, is on trial: it leaves the preferences before it is taken, so whatever happens then, the next start has what held there
before, or what the network gives. It comes back into them, and stays (`wifi.held.<network>`), once somebody was reached from
there or has opened the page. Five minutes of the network without that, and the board restarts. One that has held before, and
reaches nobody for a day, may be wrong by now: the access point opens beside it.

Nothing here waits: tick() looks at the interface and moves a small state machine, and pauses between attempts grow from one
second to a minute.
"""

import os
import random
import time

import network
from iot_platform import sockets
from iot_platform.module import Module as Base
from iot_platform.module import borrow
from micropython import const

_CONNECT_MS = const(15_000)
_FIRST_PAUSE_MS = const(1_000)
_LAST_PAUSE_MS = const(60_000)
_AP_AFTER = const(4)  # failed attempts before the access point opens beside the station
_CHECK_MS = const(500)
_DISK_MS = const(600_000)
_CLOCK_MS = const(86_400_000)  # from one look at the time to the next
_CLOCK_RETRY_MS = const(15_000)
_REFUSED = const((-1, -2, -3, 201, 202, 203))  # cannot be joined, not there, wrong password: on rp2, and on esp32
_TRIAL_MS = const(300_000)  # of a new fixed address
_DIGITS = const("0123456789abcdefABCDEF")
_STATION = const(0)  # of every port; their names have changed
_ACCESS_POINT = const(1)
_WPA2 = const(0x0040_0004)  # what the driver of the Pico W calls WPA2 with AES: it has no name for it


class Module(Base):
    name = "wifi"

    def __init__(self, platform):
        super().__init__(platform)
        self.state = "off"  # off, connecting, connected, waiting
        # The interfaces; asking for the time, a generator; and the fixed address, until it has shown that it is right,
        self._station = self.access_point = self._clock = self.fixed = None
        self._patience = self._clock_pause = 0  # ms that it has for that; and ms
        # ticks_ms of the last change of state, and of the next looks at the interface, the disk and the clock
        self._since = self.look_at = self._disk_at = self._clock_at = time.ticks_ms()

    def start(self):
        """Join the network. To be called again when ``wifi.*`` in the preferences has changed."""
        platform = self.platform
        self._failures = 0
        kind, number = platform.profile.get("shortName", "board"), platform.board.unique_id()
        # Another name counts after a restart: the network knows the board by this one until then
        self.host = platform.prefs.text("name") or kind + "-" + number[-4:]
        network.hostname(self.host[:32])  # comes first: some ports read it when the interface is made
        self._station = network.WLAN(_STATION)
        sockets.name_server = self._name_server
        if platform.board.now():  # kept over a restart
            self._clock_at = time.ticks_add(self._since, _CLOCK_MS)
        self._enter("off")
        if self._ap_password() is None:
            made = "".join([chr(97 + byte % 26) for byte in os.urandom(12)])
            platform.prefs.set("wifi.ap_password", made)
            platform.prefs.save()
            self._show_password()
        if self._known()[0]:
            self._connect()
        else:
            platform.log("wifi: no network is configured")
            self._open_access_point()

    def tick(self):
        now = time.ticks_ms()
        job, self._clock = self._clock, None
        if job:
            try:
                next(job)
                self._clock = job
            except StopIteration as stop:
                self._clock_pause = stop.value
                self._clock_at = time.ticks_add(now, stop.value)
        if self.state == "off" or time.ticks_diff(now, self.look_at) < 0:
            return
        self.look_at = time.ticks_add(now, _CHECK_MS)
        connected = self._station.isconnected()
        elapsed = time.ticks_diff(now, self._since)
        if self.state == "waiting":
            if elapsed > self._pause:
                self._connect()
        elif self.state == "connecting":
            if connected:
                self._connected()
            elif elapsed > _CONNECT_MS or self._station.status() in _REFUSED:
                self._failed()
        elif self.fixed and (sockets.heard or elapsed > self._patience):
            self._judge()
        elif not connected:
            self.platform.log("wifi: lost", self._known()[0])
            self._patience -= elapsed
            self._wait()
        elif time.ticks_diff(now, self._clock_at) >= 0:  # at once where nobody has set the clock, and then once a day
            self._clock_at = time.ticks_add(now, _CLOCK_RETRY_MS)  # unless it says otherwise
            self._clock = borrow("clock", "keep", self.platform, self._clock_pause)

    def telemetry(self):
        """ssid, ip, rssi (dBm), freeram (bytes); now and then freedisk (bytes)."""
        board, now = self.platform.board, time.ticks_ms()
        values = {"ssid": "", "ip": "", "rssi": 0, "freeram": board.mem_free()}
        if self.state == "connected":
            values["ssid"] = self._known()[0]
            values["ip"] = self._station.ifconfig()[0]
            try:
                values["rssi"] = self._station.status("rssi")
            except (OSError, ValueError):  # not on every port
                pass
        if time.ticks_diff(now, self._disk_at) >= 0:  # counting reads the whole of littlefs' metadata: not every second
            self._disk_at = time.ticks_add(now, _DISK_MS)
            values["freedisk"] = board.disk_free()
        return values

    def on_command(self, command):
        """``wifi password`` at the serial console shows the access point's."""
        if command.path == "wifi" and command.source == "console" and command.payload == "password":
            self._show_password()

    def stop(self):
        if self._station:
            self._station.disconnect()

    # -- for the web page

    def scan(self):
        """Every access point in reach, as the interface tells it. Takes seconds on a board."""
        self._station.active(True)
        return self._station.scan()

    def join(self, ssid, password):
        """Another network from now on, if it can be joined; in a second, so that who asked for it gets an answer.

        ValueError for what cannot be a network's name, or its password: that has 64 digits when it is the key itself.
        """
        if not isinstance(ssid, str) or not 0 < len(ssid.encode()) <= 32:
            raise ValueError("name: 1 to 32 bytes")
        if not isinstance(password, str) or 0 < len(password) < 8 or len(password) > 63 + (not password.strip(_DIGITS)):
            raise ValueError("8 to 63 characters")
        self._change(self.state == "connected", ssid, password)
        self._failures = 0
        self._pause = _FIRST_PAUSE_MS
        self._since = time.ticks_ms()
        self.state = "waiting"

    def addresses(self):
        """All that this board may be called in a URL, in lower case: its name, without a domain, and its addresses."""
        found = [self.host.lower()]
        for interface in self._station, self.access_point:
            if interface and interface.active():
                found.append(interface.ifconfig()[0])
        return found

    def status(self):
        ap = self.access_point
        return {"state": self.state, "ssid": self._known()[0], "access_point": bool(ap and ap.active())}

    # -- the state machine

    def _enter(self, state):
        self.state = state
        self._since = time.ticks_ms()
        self.platform.bus.publish_all({"wifi/state": state, "wifi/connected": state == "connected"})

    def _connect(self):
        """Join the network; with the fixed address, if there is one: from now on that is to show that it is right."""
        prefs, known = self.platform.prefs, self._known()
        self._enter("connecting")
        self._station.active(True)
        if self._station.isconnected():  # to the network that is left
            self._station.disconnect()
        address = self.fixed or prefs.text("wifi.address")
        try:
            if address:
                held = prefs.text("wifi.held.%s" % known[0])
                prefs.set("wifi.address", held)
                prefs.save()
                if not self.fixed:
                    self.fixed = address
                    self._patience = _CLOCK_MS if address == held else _TRIAL_MS
                self._station.ifconfig(tuple(address.split()))
        except Exception as error:  # each port has its own for what cannot be one
            self.platform.log("wifi:", error)
            self._patience = 0
        try:
            self._station.connect(*known)
        except OSError as error:
            self.platform.log("wifi:", error)
            self._failed()

    def _judge(self):
        """Somebody was heard from the fixed address, or its time is over."""
        prefs, address = self.platform.prefs, self.fixed
        self.fixed = None
        if sockets.heard:
            prefs.set("wifi.address", address)
            prefs.set("wifi.held.%s" % self._known()[0], address)
            prefs.save()
        elif address != prefs.text("wifi.address"):
            self.platform.request_reset("nobody was reached from " + address)  # ifconfig("dhcp") waits on rp2
        else:
            self._open_access_point()

    def _connected(self):
        platform = self.platform
        self._failures = 0
        sockets.heard = False
        self._enter("connected")
        platform.log("wifi: connected to %s as %s" % (self._known()[0], self._station.ifconfig()[0]))
        if self.access_point:
            self.access_point.active(False)
        platform.bus.publish_all(self.telemetry())
        ota = platform.module("ota")
        if ota:
            ota.check_when_due()
        platform.prefs.set("wifi.old", None)
        platform.prefs.save()  # comes last: a full disk must keep nothing from its turn

    def _failed(self):
        self._failures += 1
        self._station.disconnect()
        self._wait()
        self.platform.log("wifi: could not join %s, next try in %d ms" % (self._known()[0], self._pause))
        if self._failures == _AP_AFTER:
            self._open_access_point()
        old = self.platform.prefs.get("wifi.old")
        if self._failures % _AP_AFTER == 0 and isinstance(old, list) and len(old) == 2:
            self._change(True, *old)

    def _wait(self):
        """A growing pause with some jitter, so that a whole site does not come back in the same second."""
        pause = min(_FIRST_PAUSE_MS << min(self._failures, 6), _LAST_PAUSE_MS)
        self._pause = pause + random.getrandbits(10) * pause // 4096
        self._enter("waiting")

    def _open_access_point(self):
        """Name and password come before it is active: the Pico W's driver takes no notice of them any more then."""
        self.access_point = ap = network.WLAN(_ACCESS_POINT)
        password = self._ap_password()
        try:
            ap.active(False)
            if password:
                if not 8 <= len(password) <= 63:
                    raise ValueError("its password must have 8 to 63 characters")
                ap.config(ssid=self.host, key=password, security=getattr(network, "AUTH_WPA2_PSK", _WPA2))
            else:
                ap.config(ssid=self.host, security=0)  # said, because the Pico W would have its own password
            ap.active(True)
            kind = "with a password" if ap.config("security") else "open to all"
            self.platform.log("wifi: access point %s, %s, at %s" % (ap.config("ssid"), kind, ap.ifconfig()[0]))
        except (OSError, TypeError, ValueError) as error:  # the second: a password that is a number
            self.platform.log("wifi: no access point:", error)

    def _show_password(self):
        print("wifi: the password of this board's access point is", self._ap_password() or "none")

    # -- what is configured

    def _ap_password(self):
        """Its access point's; "" where the profile wants it open, None where there is none yet."""
        given = self._section().get("ap_password")
        return self.platform.prefs.text("wifi.ap_password") if given is None else given

    def _section(self):
        section = self.platform.profile.get("wifi")
        return section if isinstance(section, dict) else {}

    def _known(self):
        """Name and password of the network to join; the name is None when there is none."""
        prefs = self.platform.prefs
        ssid = prefs.text("wifi.ssid")
        if ssid:
            return ssid, prefs.text("wifi.password")
        section = self._section()
        return section.get("ssid"), section.get("password")

    def _change(self, keep, ssid, password):
        prefs = self.platform.prefs
        if keep:
            prefs.set("wifi.old", [prefs.get("wifi.ssid"), prefs.get("wifi.password")])
        prefs.set("wifi.ssid", ssid)
        prefs.set("wifi.password", password)
        prefs.save()

    def _name_server(self):
        """Its address as text; "" while there is no network."""
        return self._station.ifconfig()[3] if self._station.isconnected() else ""
