"""A board of public-micropython-iot-platform: its layout, its preferences, and an updater written anew after its behaviour.

That unpacks a tar.gz over the running tree, file by file, deletes it and restarts; of one download it makes one attempt.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from typing import Any

from iotctl import ROOT
from iotctl.tree import Files, folders

NAME = "S2mini-Lamp"
ARCHIVE = "new_firmware.tar.gz"

_MAIN = b"""
import machine
import sys

try:
    import json
    import time
    from serial_log import SerialLog

    with open("profile.json") as f:
        names = json.loads(f.read())["activeModules"]
    from modules.wifi.wifi import WifiHandler
    wifi = WifiHandler()
    wifi.preStart()
    parts = [wifi]
    for name in names:
        if name not in ("basic", "ota", "wifi"):
            module = __import__("modules.%s.%s_control" % (name, name), None, None, ("Control",))
            parts.append(module.Control())
    for part in parts:
        part.start()
    with open("version") as f:
        SerialLog.log("origin: running", f.read().strip())
    while True:
        for part in parts:
            part.tick()
        time.sleep(0.1)
except Exception as error:
    sys.print_exception(error)
    machine.reset()
"""
_LOG = b"""
class SerialLog:
    @staticmethod
    def log(message="", message2=""):
        print(message, message2)
"""
_BASIC = b"""
import json
import os


class BasicModule:
    def start(self):
        with open("profile.json") as f:
            self.basicSettings = json.loads(f.read())
        if "prefs.json" not in os.listdir():
            with open("prefs.json", "w") as f:
                f.write("{}")
        with open("prefs.json") as f:
            self.prefs = json.loads(f.read())

    def tick(self):
        pass

    def getPref(self, node, setting, default):
        return self.prefs.get(node, {}).get(setting, default)
"""
_CONTROL = b"""
from modules.basic.basic_module import BasicModule
from modules.web.server import Server


class Control(BasicModule):
    server = Server()
"""
_SERVER = b"""
from serial_log import SerialLog


class Server:
    log = SerialLog.log
"""
_WIFI = b"""
import machine
import network
import time

import modules.ota.ota as ota
from modules.basic.basic_module import BasicModule
from serial_log import SerialLog


class WifiHandler(BasicModule):
    def preStart(self):
        self.start()
        station = network.WLAN(network.STA_IF)
        station.active(True)
        station.connect(self.getPref("wifi", "ssid", ""), self.getPref("wifi", "password", ""))
        for _n in range(100):
            if station.isconnected():
                break
            time.sleep(0.1)
        else:
            SerialLog.log("No Wifi available, skipping OTA")
            return
        SerialLog.log("Wifi Connected!")
        try:
            if ota.check_for_updates():
                ota.install_new_firmware()
                machine.reset()
        except Exception as error:
            SerialLog.log("OTA failed:", repr(error))
"""
_OTA = b"""
import gc
import json
import os

from serial_log import SerialLog

config = {}
profile = {}
channel = "stable"


def load():
    global channel
    with open("profile.json") as f:
        profile.update(json.loads(f.read()))
    config.update(profile["ota"])
    try:
        with open("prefs.json") as f:
            channel = json.loads(f.read()).get("ota", {}).get("release", "stable")
    except OSError:
        pass


def exists(path):
    try:
        os.stat(path)
    except OSError:
        return False
    return True


def waiting():
    name = config["tmp_filename"]
    if not exists(name):
        return False
    if exists(name + ".1"):
        SerialLog.log("Previous attempt failed. Deleting it")
        os.remove(name)
        os.remove(name + ".1")
        return False
    if os.stat(name)[6] < 10000:
        os.remove(name)
        return False
    with open(name + ".1", "w") as f:
        f.write("Attempt")
    return True


def check_for_updates():
    load()
    if waiting():
        return True
    import requests

    base = config["url"].rstrip("/") + "/" + profile["shortName"]
    response = requests.get(base + ("/canary" if channel == "canary" else "/latest"))
    text, status = response.text, response.status_code
    response.close()
    if status != 200:
        SerialLog.log("bad response", status)
        return False
    version, name, kb, size, digest = text.strip().rstrip(";").split(";")
    with open("version") as f:
        if not version > f.read().strip():
            SerialLog.log("Up to date!")
            return False
    stat = os.statvfs("/")
    if stat[0] * stat[3] < int(size):
        SerialLog.log("Not enough free space")
        return False
    response = requests.get(base + "/" + name)
    with open(config["tmp_filename"], "wb") as f:
        while True:
            chunk = response.raw.read(512)
            if not chunk:
                break
            f.write(chunk)
    response.close()
    if os.stat(config["tmp_filename"])[6] != int(size):
        SerialLog.log("wrong size, deleting it")
        os.remove(config["tmp_filename"])
        return False
    return True


def install_new_firmware():
    gc.collect()
    import deflate
    import tarfile

    SerialLog.log("installing")
    with open(config["tmp_filename"], "rb") as packed:
        for member in tarfile.TarFile(fileobj=deflate.DeflateIO(packed, deflate.GZIP)):
            name = member.name
            if name in config["excluded_files"]:
                continue
            if name.endswith("/") or member.isdir():
                try:
                    os.mkdir(name.rstrip("/"))
                except OSError as error:
                    if error.errno != 17:
                        raise
                continue
            source = member.subf
            with open(name, "wb") as f:
                while True:
                    chunk = source.read(512)
                    if not chunk:
                        break
                    f.write(chunk)
    os.remove(config["tmp_filename"])
    load()
    for name in config["delete"]:
        delete(name)


def delete(path):
    if not path or not os.stat(path):
        return
    try:
        for name in os.listdir(path):
            delete(path + "/" + name)
    except OSError:
        os.remove(path)
        return
    os.rmdir(path)
"""
_MODULES = ("basic", "ota", "wifi", "web", "mqtt", "homeassistant", "ntp")
PREFS: dict[str, Any] = {
    "wifi": {"ssid": "sim-network", "password": "simulated", "type": "DHCP", "ip": "", "netmask": "", "gateway": ""},
    "ota": {"release": "stable"},
    "ledStrip": {"brightness": 220, "primary": "00ff00"},
}


def tree(url: str, version: str = "1.9.0", pages: int = 20_000) -> Files:
    """Everything that lies on such a board, but for the preferences and /lib; `pages` bytes of HTML."""
    profile = {
        "name": "Lamp",
        "shortName": NAME,
        "activeModules": [*_MODULES],
        "ota": {"url": url, "tmp_filename": ARCHIVE, "excluded_files": [], "delete": []},
    }
    files = {
        "boot.py": b"# This file is executed on every boot\n",
        "main.py": _MAIN,
        "serial_log.py": _LOG,
        "lastedit.dat": b"1700000000\n",
        "board_system/cpu_hardware.py": b"class CpuHardware:\n    pass\n",
        "modules/basic/basic_module.py": _BASIC,
        "modules/ota/ota.py": _OTA,
        "modules/wifi/wifi.py": _WIFI,
        "modules/web/server.py": _SERVER,
        "profile.json": json.dumps(profile).encode(),
        "version": version.encode() + b"\n",
    }
    for name in _MODULES:
        files[f"modules/{name}/index.html"] = b"<p>page</p>\n" * (pages // 12 // len(_MODULES))
        if name not in ("basic", "ota", "wifi"):
            files[f"modules/{name}/{name}_control.py"] = _CONTROL
    return files


def library() -> Files:
    """What its boards fetch to unpack with."""
    return {"lib/tarfile.py": (ROOT / "lib" / "tarfile.py").read_bytes()}


def archive(files: Files) -> bytes:
    """Its firmware.tar.gz."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(folders(files)):
            folder = tarfile.TarInfo(name)
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)
        for path, data in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(out.getvalue(), mtime=0)
