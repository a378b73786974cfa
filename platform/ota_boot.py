"""The recovery loader: finishes or undoes an update before any file of a release is imported.

Only this file touches the live tree. It follows the name of one file, ``/.ota/`` + STATE, which holds the journal:

    journal -> trial.0 -> trial.1 ... -> confirmed          put in place, tried, kept
                                     `-> undo -> undone     or taken back

A trial's number counts boots: 1 for each, but 100 for one after a restart that was asked for or after a loss of power, which no
release is to blame for (nine of them, then they count like any other). 50 more: a restart has been asked for and is to come.

    /.ota/stage/<n//32>/<n%32>     new content of entry n      (the journal's header may name another folder)
    /.ota/backup/<n//32>/<n%32>    what entry n replaced or deleted
    /.ota/reserve/a* and u*        empty folders: blocks kept free for the apply and for the undo
    /.ota/reason                   why an undo was asked for
    /.ota/fails.<n>                boots outside a trial that ended badly, one after the other

A journal is a JSON header line, lines ``<n> <+ or -><1 if an old file existed, else 0> <path>``, and ``end <sha256>`` of all
before it. Every step is one rename, mkdir or rmdir and tests only its own source, so any of them can be cut and
repeated. Its imports are built into the firmware, and happen while sys.path is empty (see boot.py).
"""

import sys  # the one module that no file can stand in for

FORMAT = 1
ROOT = ""  # a test on another system puts a folder here
WATCHDOG_MS = 8000  # rp2 allows no more than 8388

ready = False  # True once run() has come to its end: only then may anything below /.ota be cleared up
state = ""  # "", "trial", "confirmed" or "undone": what run() left behind; "journal" once an update is committed
attempt = 0  # which boot of the trial this is, from 1
failures = 0  # boots that ended badly, one after the other, outside a trial
header = {}  # the journal's header while there is a journal
restart = "power"  # why the board started: "power", "deepsleep", "watchdog" (it hung) or "reset" (by its program)
said = []  # the first lines that were printed: a console on USB may start only after boot.py

_name = ""  # the state file's name
_wdt = None
_deadline = None  # ticks_ms at which a trial stops being fed
_FINAL = {"journal": 0, "undo": 1000, "confirmed": 1001, "undone": 1002}


def run():
    """Bring the tree to exactly one version, then count the boot if that version is on trial."""
    global ready, restart
    _imports()
    restart = _reset_cause()
    _find_state()
    if _name == "journal":
        _apply()
    if _name.startswith("trial."):
        _try_out()
    if _name == "undo":
        _undo()
    if not _name and restart == "watchdog":
        note_failure("watchdog")
    _publish_state()
    ready = True


def forget():
    """Called once the platform runs: the code that only a boot needs gives its memory back."""
    global run, _imports, _find_state, _apply, _known_journal, _put_in_place, _undo, _try_out, _give_up, _prune, _is_folder
    global _any_entry, _rename, _stage, _reset_cause, _bitten, _filled, _prune_all
    del run, _imports, _find_state, _apply, _known_journal, _put_in_place, _undo, _try_out, _give_up, _prune, _is_folder
    del _any_entry, _rename, _stage, _reset_cause, _bitten, _filled, _prune_all


def feed():
    """Feed the watchdog, unless the trial's time is up: then the board restarts, and the loader counts that boot."""
    if _wdt is not None and (_deadline is None or time.ticks_diff(_deadline, time.ticks_ms()) > 0):
        _wdt.feed()


def start_watchdog(ms):
    """Start the hardware watchdog where there is one; it cannot be stopped again."""
    global _wdt
    if _wdt is None:
        try:
            _wdt = machine.WDT(timeout=ms)
        except (AttributeError, OSError, ValueError) as error:
            _say("no watchdog:", error)


def commit():
    """The one step that decides: from here on the next boot runs the new version."""
    global state
    os.rename(ota("journal.new"), ota("journal"))
    state = "journal"


def confirm():
    """End the trial: the new version stays."""
    global _deadline
    _become("confirmed")
    _deadline = None
    _publish_state()


def asked():
    """The platform is about to restart, as it was asked to: a boot of a trial that ends so is no failed one."""
    if _name.startswith("trial."):
        n = int(_name[6:])
        if n < 900 and n % 100 < 50:
            _become("trial.%d" % (n + 50))


def undo(reason, text=""):
    """Ask for the old version: the next boot goes back to it. Outside a trial, nothing."""
    if _name.startswith("trial."):
        _note_reason(reason, text)
        _become("undo")


def finish(keep=""):
    """Forget a confirmed or undone journal, once all that it left behind has been dealt with.

    :param keep: a name below ``/.ota`` that the journal gets instead, to describe the kept version; that rename ends the
        state. True when it got there: a journal that FAT shows under two names is not kept, its blocks may not be its own.
    """
    global _name, header
    if _name not in ("confirmed", "undone"):
        return False
    _remove(ota("reason"))
    twins = [name for name in os.listdir(ROOT + "/.ota") if name != _name and _rank(name) >= 0]
    for name in twins:  # the earlier names first: what is left, should power fail between, is the true state
        os.remove(ota(name))
    kept = bool(keep) and not twins
    if kept:
        os.rename(ota(_name), ota(keep))
    else:
        os.remove(ota(_name))
    _name, header = "", {}
    _publish_state()
    return kept


def reason():
    """``(reason, text)`` of the undo, ("power", "") when no boot of the trial left a word."""
    try:
        with open(ota("reason")) as f:
            word, _, text = f.read(400).partition("\n")
    except (OSError, ValueError):  # ValueError: torn, no longer text
        word = text = ""
    return (word or "power", text)


def note_failure(text):
    """Count a boot that ended badly; enough of them start the board in safe mode."""
    global failures
    _say("failed boot:", text)
    if failures:
        os.rename(ota("fails.%d" % failures), ota("fails.%d" % (failures + 1)))
    else:
        make_parents(ota("fails.1"))
        open(ota("fails.1"), "w").close()
    failures += 1


def note_success():
    """This boot runs: the count of bad ones starts again. Writes only when there were any."""
    global failures
    if failures:
        _remove(ota("fails.%d" % failures))
        failures = 0


def entries(name):
    """``(n, put, had, path)`` of each entry of the journal in ``/.ota/<name>``."""
    with open(ota(name)) as f:
        f.readline()
        for line in f:
            n, kind, path = line.rstrip("\n").split(" ", 2) if line[:4] != "end " else ("", "", "")
            if not n:
                return
            yield int(n), kind[0] == "+", kind[1] == "1", path


def slot(folder, n):
    """The path of entry `n` below a folder of ``/.ota``: few files a folder, for reading littlefs folders costs."""
    return "%s/.ota/%s/%d/%d" % (ROOT, folder, n // 32, n % 32)


def live(path):
    """Where the file `path` of the tree is."""
    return ROOT + "/" + path


def ota(name):
    """Where `name` of the update's own files is."""
    return ROOT + "/.ota/" + name


def exists(path):
    """True when there is a file or folder `path`."""
    try:
        os.stat(path)
    except OSError as error:
        if error.errno in (2, 20):  # ENOENT; ENOTDIR: a folder of the path is a file now
            return False
        raise
    return True


def make_parents(path):
    """Make the folders above `path` that are missing."""
    at = path.rfind("/")
    if at > len(ROOT) and not exists(path[:at]):
        make_parents(path[:at])
        os.mkdir(path[:at])


def read_header(name):
    """The header of the journal in ``/.ota/<name>``, or None unless it is whole and of a format known here."""
    digest = hashlib.sha256()
    try:
        with open(ota(name)) as f:
            first = f.readline()
            line = first
            while line and line[:4] != "end ":
                digest.update(line.encode())
                line = f.readline()
        whole = line[4:].strip() == binascii.hexlify(digest.digest()).decode()
        found = json.loads(first) if whole else {}
    except (OSError, ValueError):
        return None
    return found if found.get("format") == FORMAT else None


def _apply():
    if not _known_journal():
        return
    _say("applying", header.get("new"))
    _give_up("a")
    try:
        _put_in_place()
    except OSError as error:
        _note_reason("no_space" if error.errno == 28 else "flash_error", str(error))
        _become("undo")
    else:
        _become("trial.0")


def _known_journal():
    """A journal that this loader does not know is dropped: nothing of it has been done yet, the old version stays."""
    if header:
        return True
    _note_reason("bad_journal", "the loader does not know this journal")
    _become("undone")
    return False


def _put_in_place():
    saved = _filled("backup")
    for n, _put, had, path in entries(_name):
        if had and not saved(n):
            _rename(live(path), slot("backup", n))
    _prune_all(1)
    stage = _stage()
    staged = _filled(stage)
    for n, put, _had, path in entries(_name):
        if put and staged(n):
            _rename(slot(stage, n), live(path))


def _undo():
    _say("undoing", header.get("new"), "because of", reason()[0])
    _give_up("u")
    stage = _stage()
    staged = _filled(stage)
    for n, put, _had, path in entries(_name):
        if put and not staged(n):
            _rename(live(path), slot(stage, n))
    _prune_all(0)
    saved = _filled("backup")
    for n, _put, had, path in entries(_name):
        if had and saved(n):
            _rename(slot("backup", n), live(path))
    _become("undone")


def _try_out():
    """Count this boot in the state's name before anything of the new version runs."""
    global attempt, _deadline
    n = int(_name[6:])
    attempt = n % 50
    if n % 100 >= 50:
        n += 50
    elif attempt and n < 900 and restart in ("power", "deepsleep"):
        n += 100
    else:
        if attempt and restart in ("watchdog", "reset"):
            _note_reason(restart, "the board restarted by itself during the trial")
        n, attempt = n + 1, attempt + 1
    if attempt > header.get("attempts", 3):
        _say(attempt - 1, "boots without a confirmation")
        _give_up("u")
        _become("undo")
        return
    _become("trial.%d" % n)
    note_success()  # what the old version did is not held against the new one
    _say("trial of", header.get("new"), "boot", attempt)
    _deadline = time.ticks_add(time.ticks_ms(), header.get("timeout_s", 300) * 1000)
    start_watchdog(WATCHDOG_MS)


def _note_reason(word, text):
    """Leave a word for the old version. A full disk must not keep the board from going back: then it goes without."""
    try:
        with open(ota("reason"), "w") as f:
            f.write("%s\n%s" % (word, text[:300]))
    except OSError as error:
        _say("cannot note the reason", word, error)


def _find_state():
    """The state that came furthest, should FAT have kept both names of a rename that was cut."""
    global _name, header, failures
    _name, header, failures, best = "", {}, 0, -1
    try:
        names = os.listdir(ROOT + "/.ota")
    except OSError:
        return
    for name in names:
        if name.startswith("fails."):
            failures = max(failures, int(name[6:]))
        if _rank(name) > best:
            _name, best = name, _rank(name)
    if _name:
        header = read_header(_name) or {}


def _rank(name):
    """How far a state has come; -1 for what is no state."""
    return int(name[6:]) + 1 if name.startswith("trial.") else _FINAL.get(name, -1)


def _become(name):
    global _name
    os.rename(ota(_name), ota(name))
    _name = name


def _publish_state():
    global state
    state = "trial" if _name.startswith("trial.") else _name


def _give_up(kind):
    """Remove the folders that kept blocks free, first of all: with them gone, the renames cannot run out of space."""
    base = ROOT + "/.ota/reserve"
    try:
        names = os.listdir(base)
    except OSError:
        return
    for name in names:
        if name[0] == kind:
            os.rmdir(base + "/" + name)


def _filled(folder):
    """What tells whether slot `n` of a folder below ``/.ota`` was filled when its part of the folder was first looked at.

    Asked in the order of the entries it reads each part once: littlefs reads whole folders to find one name.
    """
    part, names = -1, ()

    def filled(n):
        nonlocal part, names
        if n // 32 != part:
            part = n // 32
            path = slot(folder, n)
            path = path[: path.rindex("/")]
            names = os.listdir(path) if exists(path) else ()
        return str(n % 32) in names

    return filled


def _prune_all(which):
    """Remove the folders that have become empty above the files that were put (0), or that were there before (1)."""
    before = None
    for _n, put, had, path in entries(_name):
        folder = path[: path.rfind("/") + 1]
        if (had if which else put) and folder != before:
            _prune(path)
            before = folder


def _prune(path):
    """Remove the folders above `path` that have become empty."""
    while "/" in path:
        path = path[: path.rindex("/")]
        if _is_folder(live(path)):  # after a cut the file that is to stand there may have come back already
            if _any_entry(live(path)):
                return
            os.rmdir(live(path))


def _is_folder(path):
    return exists(path) and bool(os.stat(path)[0] & 0x4000)


def _any_entry(folder):
    for _entry in getattr(os, "ilistdir", os.listdir)(folder):
        return True
    return False


def _rename(source, target):
    """The source is there; what may be missing is the target's folder."""
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != 2:  # ENOENT
            raise
        make_parents(target)
        os.rename(source, target)


def _remove(path):
    if exists(path):
        os.remove(path)


def _stage():
    return header.get("stage", "stage")


def _reset_cause():
    """A brownout is no word of its own: it reads as PWRON on esp32 and rp2."""
    try:
        cause = machine.reset_cause()
    except AttributeError:
        return "power"
    if cause == getattr(machine, "PWRON_RESET", -1):
        return "power"
    if cause == getattr(machine, "DEEPSLEEP_RESET", -1):
        return "deepsleep"
    return "watchdog" if cause == getattr(machine, "WDT_RESET", -1) and _bitten() else "reset"


def _bitten():
    """False when it was no hang that ended the last life.

    On rp2 reset() and deepsleep() are done by the watchdog and read as WDT_RESET. Its registers tell: REASON has bit 0 when its
    timer ran out, and SCRATCH4 what the SDK leaves there when a program starts a watchdog to be fed.
    """
    if sys.platform != "rp2":
        return True
    for chip, base in (("RP2040", 0x4005_8000), ("RP2350", 0x400D_8000)):
        if chip in sys.implementation._machine:
            return bool(machine.mem32[base + 8] & 1) and machine.mem32[base + 0x1C] == 0x6AB7_3121
    return False  # another chip's addresses are not known


def _say(*parts):
    text = " ".join([str(part) for part in parts])
    print("ota_boot:", text)
    if len(said) < 8:
        said.append(text[:200])


def _imports():
    """Built-in modules only; here, and not at the top, because sys.path is empty by the time run() is called."""
    global binascii, hashlib, json, machine, os, time
    if "os" not in globals():
        import binascii
        import hashlib
        import json
        import os
        import time

        # Nothing of a release has been imported yet: what is loaded is the port's own, such as the simulator's.
        machine = sys.modules.get("machine") or __import__("machine")
