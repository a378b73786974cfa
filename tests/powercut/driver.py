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
from iot_platform.prefs import Prefs

from modules.ota import Module, job

ACTION = os.getenv("TORTURE_ACTION") or ""
OFFLINE = bool(os.getenv("TORTURE_OFFLINE"))


class Bus(dict):
    def publish(self, key, value):
        self[key] = value


class Board:
    def mem_free(self):
        return gc.mem_free()

    def feed(self):
        ota_boot.feed()

    def reset_cause(self):
        return "power"

    def time_known(self):
        return False

    def unique_id(self):
        return "torture"


class Platform:
    def __init__(self):
        self.bus, self.board, self.prefs = Bus(), Board(), Prefs()
        self.bus["wifi/connected"] = not OFFLINE
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
    """A user's log that takes all that is left, at the worst moment."""
    if os.getenv("TORTURE_FILL") != when or exists("/ballast"):
        return
    try:
        with open("/ballast", "wb") as f:
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


def impatient():
    """The trial settles at once: it is not what is tested here."""
    from modules.ota import trial

    trial._SETTLE_MS = trial._RETRY_MS = 1


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
    if ACTION == "install" and exists("/new_firmware.tar.gz"):
        ota.request_install()
    elif ACTION == "update":
        ota.request_update()
    elif ACTION == "rollback" and ota.local_version() == "1.1.0" and not exists("/rolled"):
        ota.rollback()
    elif ACTION == "prefs":
        ota.platform.prefs.set("count", 2)
        ota.platform.prefs.save()
    run(ota)


if ota_boot.state == "trial":
    fill_disk("trial")
    if exists("/bad.txt"):
        ota_boot.undo("exception", "the release is bad")
        machine.reset()
impatient()
ota = Module(Platform())
ota.forget = gc.collect  # parts stay: the patches above live in them
job.Job.forget = lambda _job: gc.collect()
if os.getenv("TORTURE_BROKEN"):
    broken()
if os.getenv("TORTURE_STREAMED"):
    crowded()
ota.start()
run(ota)
if ota_boot.state == "":
    act(ota)
print("STABLE", ota.state, ota.error and ota.error.reason)
machine.reset()
