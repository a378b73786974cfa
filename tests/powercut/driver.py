# mypy: ignore-errors
"""What the board's /main.py imports under torture: the real OTA module on the real loader, without the runtime, for speed.

One life: start the module, run its jobs to their end, then do what the scenario says (TORTURE_ACTION): install the archive
that lies there, update over HTTP, fetch and install one life later, go back by hand, or save a preference. It ends with a
reset; STABLE says that there is nothing left to do. Whether it is an update boot the runtime's own code says.
"""

import gc
import os

import machine
import ota_boot
from iot_platform import board, startup
from iot_platform.slots import Slots
from ota_boot import exists

from modules.ota import Module, phases

ACTION = os.getenv("TORTURE_ACTION") or ""
NETWORK = os.getenv("TORTURE_NETWORK") or ""  # "wifi off" or "server away"
_FOLDERS = 40
_LITTLE = 20_000  # bytes of memory: a job that fetches does not even begin
NOWHERE = "http://127.0.0.1:1/"


class Bus(dict):
    def publish(self, key, value):
        self[key] = value


class Board(board.Board):
    short = False  # of memory

    def mem_free(self):
        return _LITTLE if self.short else gc.mem_free()

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
        self.update_boot = startup._count_update_boot()
        self.board.short = bool(os.getenv("TORTURE_SHORT")) and not self.update_boot
        self.restart = ""

    def module(self, name):
        return self.modules.get(name)

    def log(self, *parts):
        print(*parts)

    def request_reset(self, why):
        print("RESET", why)
        self.restart = why

    def setting(self, _key, otherwise=None):
        return otherwise

    def free_in_update_boot(self):
        return gc.mem_free()


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
                ota_boot.feed()  # a busy computer is no hang
    except OSError:
        fill_the_rest()


def fill_the_rest():
    """What the file could not go on with is free again: a block, or none."""
    n = 0
    try:
        while True:
            with open("/ballast/file%d" % n, "wb") as f:
                f.write(bytes(300))
            n += 1
    except OSError:
        print("the disk is full")


def run(ota):
    while ota.job:
        ota.tick()
    if ota.platform.restart:
        if ota_boot.state == "journal":
            fill_disk("staged")
        machine.reset()


def save_preferences(ota):
    """Once when something is asked for, and once in each trial: a user changes a setting at any time."""
    prefs = ota.platform.prefs
    prefs.set("count", prefs.get("count") + 1)
    prefs.save()


def impatient():
    """The trial settles at once, and where there is no network it gives up soon: it is not what is tested here."""
    from modules.ota.install import cleanup, trial

    cleanup._GOOD_MS = 1
    trial._SETTLE_MS = trial._RETRY_MS = 1
    if NETWORK:  # elsewhere a busy computer must not look like a version that fails
        trial._MARGIN_MS = ota_boot.header.get("timeout_s", 60) * 1000 - 100


def broken():
    """Test-only: the journal is committed before the stage is complete. Torture must find out."""
    from modules.ota.bundle import lists
    from modules.ota.install import journal, prepare

    plan = prepare.plan

    def early(ota, header, digest):
        wanted, total = yield from plan(ota, header, digest)
        made = journal.Journal({"old": "0", "new": "1", "attempts": 3, "timeout_s": 9, "ran": [], "checked": False})
        for n, (path, _size, _digest, _at) in lists.entries():
            if wanted[n // 8] >> n % 8 & 1:
                made.entry(n, "+", exists("/" + path), path)
        made.end()
        made.f.close()
        yield from journal._commit()
        return wanted, total

    prepare.plan = early


def act(ota):
    if ACTION:
        fill_disk("asked")
    if ACTION == "prefs" or (ACTION and os.getenv("TORTURE_PREFS")):
        if os.getenv("TORTURE_FILL"):
            ota.platform.prefs.set("note", "x" * 300)  # more than littlefs keeps beside a name
            save_preferences(ota)
            save_preferences(ota)  # both slots have a block
            fill_disk("saved")
        save_preferences(ota)
    if ACTION == "install" and exists("/new_firmware.tar.gz"):
        ota.request_install()
    elif ACTION == "update":
        ota.request_update()
    elif ACTION == "ready":
        fetch_or_install(ota)
    elif ACTION == "rollback" and ota.local_version() == "1.1.0" and ota.state != "rolled_back":
        ota.rollback()
    run(ota)


def fetch_or_install(ota):
    """What check_for_updates() and install_new_firmware() do, each in a life of its own."""
    if ota.store.get("ready"):
        ota._request("stage")
        return
    ota._request("fetch")
    run(ota)
    if ota.state == "ready":
        machine.reset()


def import_all():
    """The modules of a mixed tree cannot import each other."""
    if exists("/app/m0.py"):
        for n in range(9):
            __import__("app.m%d" % n)


def main():
    """Called by /main.py once this file is imported: an import in progress would take stack from all that follows."""
    import_all()
    if ota_boot.state == "trial":
        fill_disk("trial")
        if exists("/bad.txt"):
            ota_boot.undo("exception", "the release is bad")
            machine.reset()
        if int(ota_boot._name[6:]) < int(os.getenv("TORTURE_RESTARTS") or 0):
            Board().reset()
    impatient()
    ota = Module(Platform())
    if ota_boot.state == "trial" and os.getenv("TORTURE_PREFS"):
        save_preferences(ota)
    phases.forget = lambda *_anyway: gc.collect()  # parts stay: the patches above live in them
    if os.getenv("TORTURE_BROKEN"):
        broken()
    ota.start()
    if NETWORK == "server away":
        ota.cfg["url"] = NOWHERE
    if ota.platform.update_boot:
        fill_disk("noted")
    run(ota)
    if ota_boot.state == "" and not ota.platform.update_boot:
        act(ota)
    print("STABLE", ota.state, ota.error and ota.error.reason)
    machine.reset()
