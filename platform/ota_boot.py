"""The recovery loader: finishes or undoes an update before any file of a release is imported.

Only this file touches the live tree. It follows the name of one file below ``/.ota``, which holds the journal:

    journal -> trial.0 -> trial.1 ... -> confirmed          put in place, tried, kept
                                     `-> undo -> undone     or taken back

Every step is one rename, mkdir or rmdir and tests only its own source, so any can be cut and repeated. Imports are built into the
firmware, and happen while sys.path is empty (boot.py). What lies below ``/.ota``: docs/formats.md.
"""

import sys  # the one module that no file can stand in for

FORMAT = 1
ROOT = ""  # a test on another system puts a folder here
TRIAL = __name__.startswith("loader_")  # this very loader is on trial: see boot.py

tries = 0  # boots that boot.py gives a new loader
wdt = None  # boot.py starts it for a loader on trial
ready = False  # True once run() has ended: only then may anything below /.ota be cleared up
state = ""  # "", "trial", "confirmed" or "undone": what run() left; "journal" once an update is committed
attempt = 0  # which boot of the trial this is, from 1
failures = 0  # boots outside a trial that ended badly, one after the other
header = {}  # the journal's, while there is one
restart = "power"  # why the board started: or "deepsleep", "watchdog" (it hung), "reset" (by its program)
said = []  # the first lines printed: a console on USB may start only after boot.py

_name = ""  # of the state file
_timer = None  # that feeds: see hold()
_deadline = None  # ticks_ms at which a trial stops being fed
_new = False  # a loader is on trial
_FINAL = {"journal": 0, "undo": 1000, "confirmed": 1001, "undone": 1002}


def run():
    """Bring the tree to exactly one version; count the boot if that is on trial."""
    global ready, restart
    _imports()
    restart = _reset_cause()
    _find_state()
    if _new and not TRIAL:
        _drop_new()
    if _name == "journal":
        _apply()
    if _name.startswith("trial."):
        _try_out()
    if _name == "undo":
        _undo()
    if not _name and restart == "watchdog" and not _new:  # else the new loader's fault
        note_failure("watchdog")
    _publish_state()
    _guard()
    ready = True


def forget():
    """The platform runs: what only a boot needs gives its memory back."""
    for name in (
        "run _imports _find_state _apply _undo _move _try_out _give_up _prune _prune_all _is_folder _rename _reset_cause _bitten"
        " _filled _drop_new _guard forget"
    ).split():
        del globals()[name]


def feed():
    """Feed the watchdog, unless the trial's time is up: then the board restarts, which is counted."""
    if wdt and (_deadline is None or time.ticks_diff(_deadline, time.ticks_ms()) > 0):
        wdt.feed()


def hold():
    """Have a timer feed the watchdog where no loop does: at the REPL."""
    global _timer
    if wdt and not _timer:
        try:
            _timer = machine.Timer(-1 if sys.platform == "rp2" else 0)
            _timer.init(period=500, callback=lambda _timer: feed())
        except (AttributeError, OSError, ValueError) as error:
            _say("no timer:", error)


def let_go():
    """The loop feeds: from here on a hang is one."""
    global _timer
    if _timer:
        _timer.deinit()
        _timer = None
    feed()


def start_watchdog(ms):
    """Start the watchdog, where there is one (rp2: at most 8388 ms); it cannot be stopped again."""
    global wdt
    let_go()  # an older main.py does not
    if not wdt:
        try:
            wdt = machine.WDT(timeout=ms)
        except (AttributeError, OSError, ValueError) as error:
            _say("no watchdog:", error)


def commit():
    """The one step that decides: the next boot runs the new version."""
    global state
    os.rename(ota("journal.new"), ota("journal"))
    state = "journal"


def confirm():
    """End the trial: the new version stays."""
    global _deadline
    if _name.startswith("trial."):
        _become("confirmed")
        _deadline = None
        _publish_state()


def asked():
    """A restart that was asked for is to come: no failed boot of a trial."""
    if _name.startswith("trial."):
        n = int(_name[6:])
        if n < 900 and n % 100 < 50:
            _become("trial.%d" % (n + 50))


def undo(reason, text=""):
    """The next boot goes back to the old version. Outside a trial, nothing."""
    if _name.startswith("trial."):
        _note_reason(reason, text)
        _become("undo")


def finish(keep=""):
    """Forget a confirmed or undone journal, once what it left is dealt with.

    :param keep: a name below ``/.ota`` that it gets instead, to describe the kept version. True when it got there: one that FAT
        shows under two names is not kept, its blocks may not be its own.
    """
    global _name, header
    if _name not in ("confirmed", "undone"):
        return False
    _remove(ota("reason"))
    twins = [name for name in os.listdir(ROOT + "/.ota") if name != _name and _rank(name) >= 0]
    for name in twins:  # a cut leaves the true state
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
    """``(reason, text)`` of the undo."""
    try:
        with open(ota("reason")) as f:
            word, _, text = f.read(400).partition("\n")
    except (OSError, ValueError):  # ValueError: torn, no longer text
        word = text = ""
    return (word or "power", text)


def note_failure(text):
    """Count a bad boot; enough of them lead to safe mode."""
    global failures
    _say("failed boot:", text)
    try:
        if failures:
            os.rename(ota("fails.%d" % failures), ota("fails.%d" % (failures + 1)))
        else:
            make_parents(ota("fails.1"))
            open(ota("fails.1"), "w").close()
    except OSError as error:  # a full disk must not end the boot
        _say("not counted:", error)
    failures += 1


def note_success():
    """The count of bad boots starts again."""
    global failures
    if failures:
        _remove(ota("fails.%d" % failures))
        failures = 0


def entries(name):
    """``(n, put, had, path)`` of each entry of the journal in ``/.ota/<name>``."""
    with open(ota(name)) as f:
        f.readline()
        for line in f:
            if line[:4] == "end ":
                return
            n, kind, path = line.rstrip("\n").split(" ", 2)
            yield int(n), kind[0] == "+", kind[1] == "1", path


def cell(folder, n):
    """The path of entry `n` below a folder of ``/.ota``: few a folder, for littlefs reads them whole."""
    few = 10 if folder == "stage" else 25
    return "%s/.ota/%s%s/e%d" % (ROOT, folder, "/%d" % (n // few) if n >= few else "", n % few)


def live(path):
    """Where `path` of the tree is."""
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
    """Make the missing folders above `path`."""
    at = path.rfind("/")
    if at > len(ROOT) and not exists(path[:at]):
        make_parents(path[:at])
        os.mkdir(path[:at])


def read_header(name):
    """The header of the journal ``/.ota/<name>``; None unless it is whole and of a known format."""
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


def _guard():
    """From here on a hang ends in a restart. A timer feeds until main.py runs, which mpremote's soft reset leaves out; not in a
    trial, where main.py may be what is broken.
    """
    if state != "trial":
        try:
            with open(live("profile.json")) as f:
                s = json.load(f)["watchdog_s"]
        except Exception:  # none, or damaged
            s = 8
        s = s if type(s) is int and 0 <= s < 8 else 8
        if s:
            start_watchdog(s * 1000)
        hold()


def _drop_new():
    """It does not carry this boot: it has failed, as may those that it carried."""
    _say("the new loader has failed")
    try:
        for name in os.listdir(ROOT + "/.ota"):
            if name.startswith("loader_"):
                os.remove(ota(name))
        note_success()
    except OSError as error:  # boot.py counts all the same
        _say("not removed:", error)


def _apply():
    if not header:  # not known here: nothing of it has been done, the old version stays
        _note_reason("bad_journal", "the loader does not know this journal")
        _become("undone")
        return
    _say("applying", header.get("new"))
    _give_up("a")
    try:
        _move("backup", False)
        _prune_all(False)
        _move(header.get("stage", "stage"), True)
    except OSError as error:
        _note_reason("no_space" if error.errno == 28 else "flash_error", str(error))
        _become("undo")
    else:
        _become("trial.0")


def _undo():
    _say("undoing", header.get("new"), "because of", reason()[0])
    _give_up("u")
    try:
        _move(header.get("stage", "stage"), False)
        _prune_all(True)
        _move("backup", True)
    except (IndexError, ValueError) as error:
        _say("damaged:", error)
    _become("undone")


def _move(folder, out):
    """Old files (backup) or new ones (stage) to their slots, or out of them to their places."""
    filled = _filled(folder)
    for n, put, had, path in entries(_name):
        if (had if folder == "backup" else put) and filled(n) == out:
            if out:
                _rename(cell(folder, n), live(path))
            else:
                _rename(live(path), cell(folder, n))


def _try_out():
    """Count this boot in the state's name, before anything of the new version runs."""
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
    start_watchdog(8000)


def _note_reason(word, text):
    """Leave a word for the old version; a full disk must not keep the board from going back."""
    try:
        with open(ota("reason"), "w") as f:
            f.write("%s\n%s" % (word, text[:300]))
    except OSError as error:
        _say("cannot note the reason", word, error)


def _find_state():
    """The state that came furthest, should FAT have kept both names of a cut rename."""
    global _name, header, failures, _new
    _name, header, failures, best, _new = "", {}, 0, -1, False
    try:
        names = os.listdir(ROOT + "/.ota")
    except OSError:
        return
    for name in names:
        failures = max(failures, _number(name, "fails."))
        _new = _new or name.startswith("loader_")
        if _rank(name) > best and not _is_folder(ota(name)):
            _name, best = name, _rank(name)
    if _name:
        header = read_header(_name) or {}


def _rank(name):
    """How far a state has come; -1 for what is no state."""
    n = _number(name, "trial.")
    return _FINAL.get(name, n if n < 0 else min(n + 1, 999))


def _number(name, prefix):
    """The number behind `prefix`; -1 where there is none."""
    digits = name[6:]
    return int(digits) if name.startswith(prefix) and digits.isdigit() and len(digits) < 9 else -1


def _become(name):
    global _name
    os.rename(ota(_name), ota(name))
    _name = name


def _publish_state():
    global state
    state = "trial" if _name.startswith("trial.") else _name


def _give_up(kind):
    """Remove the folders that kept blocks free: then renames cannot run out of space."""
    try:
        names = os.listdir(ota("reserve"))
    except OSError:
        return
    for name in names:
        if name[0] == kind:
            os.rmdir(ota("reserve/" + name))


def _filled(folder):
    """Tells whether slot `n` was filled when its part of the folder was first looked at: littlefs reads all for one name."""
    part, names = "", ()

    def filled(n):
        nonlocal part, names
        path, _, name = cell(folder, n).rpartition("/")
        if path != part:
            part, names = path, os.listdir(path) if exists(path) else ()
        return name in names

    return filled


def _prune_all(undoing):
    """Remove the folders that are empty now above files that go for good; one that is replaced keeps its."""
    before = None
    for _n, put, had, path in entries(_name):
        folder = path[: path.rfind("/") + 1]
        if not (had if undoing else put) and folder != before:
            _prune(path)
            before = folder


def _prune(path):
    """Remove the empty folders above `path`."""
    while "/" in path:
        path = path[: path.rindex("/")]
        if _is_folder(live(path)):  # after a cut the file that belongs there may be back
            if any(getattr(os, "ilistdir", os.listdir)(live(path))):
                return
            os.rmdir(live(path))


def _is_folder(path):
    return exists(path) and bool(os.stat(path)[0] & 0x4000)


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


def _reset_cause():
    """A brownout reads as PWRON on esp32 and rp2."""
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
    """False when no hang ended the last life: on rp2 reset() and deepsleep() read as WDT_RESET.

    Bit 0 of REASON: the timer ran out. SCRATCH4: what the SDK leaves there when a program starts a watchdog to be fed.
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
    """Built-in modules only; here, for sys.path is empty when run() is called."""
    global binascii, hashlib, json, machine, os, time
    if "os" not in globals():
        import binascii
        import hashlib
        import json
        import os
        import time

        # what is loaded is the port's own, such as the simulator's: nothing of a release has been imported
        machine = sys.modules.get("machine") or __import__("machine")
