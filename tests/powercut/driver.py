# mypy: ignore-errors
"""What the board's /main.py imports under torture: the real OTA module on the real loader, without the runtime, for speed.

One life: start the module, run its jobs to their end, then do what the scenario says (TORTURE_ACTION): install the archive
that lies there, update over HTTP, go back by hand, or save a preference. It ends with a reset; STABLE says that there is
nothing left to do.
"""

import gc
import os

import machine
import ota_boot
from iot_platform.slots import Slots

from modules.ota import Module, job

ACTION = os.getenv("TORTURE_ACTION") or ""
NETWORK = os.getenv("TORTURE_NETWORK") or ""  # "wifi off" or "server away"
_FOLDERS = 40
NOWHERE = "http://127.0.0.1:1/"


class Bus(dict):
    def publish(self, key, value):
        self[key] = value


class Board:
    def mem_free(self):
        return gc.mem_free()

    def feed(self):
        ota_boot.feed()

    def time_known(self):
        return False

    def now(self):
        return None

    def reset_cause(self):
        return "power"

    def unique_id(self):
        return "torture"


class Platform:
    def __init__(self):
        self.bus, self.board, self.prefs = Bus(), Board(), Slots(("/prefs.json", "/prefs.json.1"))
        self.bus["wifi/connected"] = NETWORK != "wifi off"
        self.modules, self.failed, self.profile, self.safe_mode = {"ota": 1}, {}, {"activeModules": ["ota"]}, False

    def module(self, name):
        return self.modules.get(name)

    def log(self, *parts):
        print(*parts)

    def request_reset(self, why):
        print("RESET", why)


def exists(path):
    try:
        os.stat(path)
    except OSError:
        return False
    return True


def fill_disk(when):
    """A user's files that take all that is left, at the worst moment. Folders first: they take it in few operations."""
    if os.getenv("TORTURE_FILL") != when:
        return
    try:
        for n in range(_FOLDERS):
            path = "/ballast%s" % ("/%d" % n if n else "")
            if not exists(path):
                os.mkdir(path)
        with open("/ballast/file", "ab") as f:
            while True:
                f.write(bytes(1024))
    except OSError:
        print("the disk is full")


def run(ota):
    while ota._job:
        ota._job.step()
    if ota.state == "rebooting":
        fill_disk("staged")
        machine.reset()


def save_preferences():
    """Once when something is asked for, and once in each trial: a user changes a setting at any time."""
    prefs = ota.platform.prefs
    prefs.set("count", prefs.get("count") + 1)
    prefs.save()


def impatient():
    """The trial settles at once, and gives up soon: it is not what is tested here."""
    from modules.ota import trial

    trial._SETTLE_MS = trial._RETRY_MS = 1
    trial._MARGIN_MS = ota_boot.header.get("timeout_s", 10) * 1000 - 100


def broken():
    """Test-only: the journal is committed before the stage is complete. Torture must find out."""
    from modules.ota import journal, kept, stage

    begin = stage.Stage.begin

    def early(self, header, digest, signature):
        yield from begin(self, header, digest, signature)
        made = journal.Journal({"old": "0", "new": "1", "attempts": 3, "timeout_s": 9, "ran": [], "checked": False})
        for n, entry in kept.entries():
            if self.wants(n):
                made._entry(n, "+", exists("/" + entry["path"]), entry["path"])
        made.close()
        yield from journal.seal()

    stage.Stage.begin = early


def crowded():
    """Test-only: as if there were never room for an archive."""
    from modules.ota import fetch
    from modules.ota.errors import OtaError

    def no_room(ota, offer, held):
        raise OtaError("no_space", "no room for the archive")

    fetch.check_space = no_room


def act(ota):
    if ACTION == "prefs" or (ACTION and os.getenv("TORTURE_PREFS")):
        save_preferences()
    if ACTION == "install" and exists("/new_firmware.tar.gz"):
        ota.request_install()
    elif ACTION == "update":
        ota.request_update()
    elif ACTION == "rollback" and ota.local_version() == "1.1.0" and ota.state != "rolled_back":
        ota.rollback()
    run(ota)


def import_all():
    """The modules of a mixed tree cannot import each other."""
    if exists("/app/m0.py"):
        for n in range(9):
            __import__("app.m%d" % n)


import_all()
if ota_boot.state == "trial":
    fill_disk("trial")
    if exists("/bad.txt"):
        ota_boot.undo("exception", "the release is bad")
        machine.reset()
impatient()
ota = Module(Platform())
if ota_boot.state == "trial" and os.getenv("TORTURE_PREFS"):
    save_preferences()
ota.forget = gc.collect  # parts stay: the patches above live in them
job.Job.forget = lambda _job: gc.collect()
if os.getenv("TORTURE_STREAMED"):
    crowded()
if os.getenv("TORTURE_BROKEN"):
    broken()
ota.start()
if NETWORK == "server away":
    ota.cfg["url"] = NOWHERE
run(ota)
if ota_boot.state == "":
    act(ota)
print("STABLE", ota.state, ota.error and ota.error.reason)
machine.reset()
