# mypy: ignore-errors
"""The one boot in which a board of public-micropython-iot-platform becomes one of this platform's: see docs/migration.md.

It lies there as a recovery loader on trial, /.ota/loader_0.py: boot.py runs it before the proven one, under a watchdog, three
times at most. It moves nothing of the tree. From /.ota/stage/plan and what it finds it writes the journal of an update, makes
their preferences ours as one file of it, and commits that. Then it is not `ready`, so in the same boot the proven loader removes
it and applies the journal: with a trial, and with a way back to the old platform.

A release that went back already, or has no room, is given up: the old platform is told that it has this version, or it would
fetch it for ever. It gets its own boot.py back, and nothing of ours stays. The line in /migrate.log says why.
"""

import binascii
import hashlib
import json
import os

tries = 0  # as boot.py sets them
wdt = None
ready = False  # for ever: the proven loader goes on

_UNSET = ("", "NOT-CONFIGURED", "mqtt.example.com")  # theirs, where nothing was set
_MINE = ("wifi", "ota", "mqtt", "homeassistant", "web")  # sections that are not taken as they are
_MQTT = (  # ours, and what theirs has been called
    ("host", ("server", "mqtt_server")),
    ("port", ("port", "mqtt_port")),
    ("user", ("username", "mqtt_user", "user")),
    ("password", ("password", "mqtt_password")),
)
_MAX_PREFS = 8 * 1024


def feed():
    if wdt:
        wdt.feed()


def run():
    names = os.listdir("/.ota")
    if "undo" in names:
        _come_again()
        return
    if any(name in ("journal", "confirmed") or name[:6] == "trial." for name in names):
        return  # power failed just after the commit
    if "plan" not in os.listdir("/.ota/stage"):
        _go_back()  # power failed while it gave up
    with open("/.ota/stage/plan") as plan:
        header = json.loads(plan.readline())
        try:
            if "undone" in names:
                _forget_undone(header["new"])
            _make_room(header)
            _write_journal(plan, header)
            os.rename("/.ota/journal.new", "/.ota/journal")
            return
        except Exception as error:  # whatever it is: the old platform has to run on
            why = str(error) or repr(error)
    print("migrate: stays with the old platform:", why)
    _give_up(header["new"], why)


def _forget_undone(new):
    """The tree is the old one, whole. A newer version may try again."""
    with open("/.ota/undone") as f:
        failed = json.loads(f.readline()).get("new")
    if failed == new:
        raise ValueError("%s was here and went back: %s" % (new, _reason()))
    for name in ("state.0", "state.1", "reason", "undone"):
        _remove("/.ota/" + name)


def _come_again():
    """Power failed just when the way back had brought this program back: it is to be brought once more, for the proven loader
    would take it for one that has failed.
    """
    with open("/.ota/undo") as journal:
        for line in journal:
            if line.endswith(" .ota/loader_0.py\n"):
                os.rename(__file__, _slot("backup", int(line.split(" ")[0]), 25))


def _reason():
    try:
        with open("/.ota/reason") as f:
            return f.read(400).replace("\n", ": ")
    except (OSError, ValueError):
        return "the power failed too often"


def _make_room(header):
    """The folders of the backups, and empty ones in place of those that the loader will have to make: see ota_boot._give_up."""
    for kind, count in ("a", header["made"]), ("u", header["gone"]):
        for n in range(count):
            _folder("/.ota/reserve/%s%d" % (kind, n))
    _folder("/.ota/backup")
    for n in range(25, header["entries"], 25):
        _folder("/.ota/backup/%d" % (n // 25))
    feed()


def _write_journal(plan, header):
    """What stands in the plan as ``+path`` is staged, in this order; ``-path``, a file or all that is in a folder, goes."""
    n, digest, most = 0, hashlib.sha256(), header["entries"]
    with open("/.ota/journal.new", "w") as out:

        def line(text):
            out.write(text + "\n")
            digest.update(text.encode() + b"\n")

        def entry(sign, had, path):
            nonlocal n
            if n == most:
                raise ValueError("more than %d files would have to be moved" % most)
            line("%d %s%d %s" % (n, sign, had, path))
            n += 1
            feed()

        line(json.dumps(dict(header, old=_version())))
        for row in plan:
            path = row[1:].rstrip("\n")
            if row[0] == "+":
                if path == "prefs.json":
                    _write_preferences(_slot("stage", n, 10))
                entry("+", _is_file("/" + path), path)
            else:
                for found in _walk(path):
                    entry("-", 1, found)
        _copy(__file__, _slot("backup", n, 25))  # going back brings this program back, and it ends the way
        entry("-", 1, ".ota/loader_0.py")
        out.write("end %s\n" % binascii.hexlify(digest.digest()).decode())


def _slot(folder, n, few):
    """As ota_boot's."""
    return "/.ota/%s%s/e%d" % (folder, "/%d" % (n // few) if n >= few else "", n % few)


def _copy(source, target):
    with open(source, "rb") as f, open(target, "wb") as out:
        data = f.read(512)
        while data:
            out.write(data)
            data = f.read(512)


def _walk(path):
    """The file `path`, or the files below it."""
    try:
        names = os.listdir("/" + path) if os.stat("/" + path)[0] & 0x4000 else None
    except OSError:
        return
    if names is None:
        yield path
    for name in names or ():
        yield from _walk(path + "/" + name)


# -- the preferences


def _write_preferences(path):
    text = json.dumps(preferences())
    if len(text) > _MAX_PREFS:
        raise ValueError("the preferences are longer than %d bytes" % _MAX_PREFS)
    with open(path, "w") as f:
        f.write(text)


def preferences():
    """Ours, as ``{"wifi.ssid": ...}``, of theirs: an object in an object, before that a line in a file for each module."""
    theirs = _read_json("/prefs.json")
    ours = {}
    for section, values in theirs.items():
        for key, value in values.items() if isinstance(values, dict) and section not in _MINE else ():
            _take(ours, "%s.%s" % (section, key), value)
    wifi = theirs.get("wifi")
    if not isinstance(wifi, dict):
        row = _read_row("/net.settings")
        wifi = {"ssid": row[0], "password": row[1]} if len(row) == 6 else {}
    if _text(wifi.get("ssid")):
        _take(ours, "wifi.ssid", wifi["ssid"])
        _take(ours, "wifi.password", wifi.get("password"))
    channel = theirs.get("ota")
    if isinstance(channel, dict) and channel.get("release") in ("stable", "canary"):
        ours["ota.channel"] = channel["release"]
    row = _read_row("/mqtt.settings") + [""] * 6
    old = {"enabled": row[0], "server": row[1], "username": row[4], "password": row[5]}
    for mqtt in theirs.get("mqtt"), old, theirs.get("homeassistant"):
        if isinstance(mqtt, dict) and mqtt.get("enabled", mqtt.get("enable", "Y")) == "Y" and _host(mqtt):
            for key, names in _MQTT:
                for name in names:
                    value = mqtt.get(name)
                    if key == "port":
                        value = int(value) if str(value).isdigit() and 0 < int(value) < 65536 else None
                    if "mqtt." + key not in ours:
                        _take(ours, "mqtt." + key, value)
            if "mqtt.user" not in ours:
                ours.pop("mqtt.password", None)
            break
    return ours


def _host(values):
    return _text(values.get("server")) or _text(values.get("mqtt_server"))


def _take(ours, key, value):
    if isinstance(value, (str, int, float)) and value not in _UNSET:
        ours[key] = value


def _text(value):
    return isinstance(value, str) and value not in _UNSET


def _read_json(path):
    try:
        with open(path) as f:
            found = json.load(f)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _read_row(path):
    try:
        with open(path) as f:
            return f.read(512).split(",")
    except (OSError, ValueError):
        return []


# -- the way back


def _give_up(new, why):
    """The old platform takes itself for up to date. First come the blocks that this may need."""
    for name in "journal.new", "backup", "reserve":
        _remove("/.ota/" + name)
    with open("/migrate.log", "w") as f:
        f.write(why + "\n")
    with open("/version", "w") as f:
        f.write(new)
    _remove("/.ota/stage/plan")
    _go_back()


def _go_back():
    """In the end nothing of ours is left, no watchdog either: the old platform may need the timer that feeds it."""
    import machine

    for folder, kept in ("/.ota/stage/", "boot"), ("/.ota/", "stage"):
        for name in os.listdir(folder):
            if name != kept and name[:7] != "loader_":
                _remove(folder + name)
    os.rename("/.ota/stage/boot", "/boot.py")
    for path in "/prefs.json.1", "/ota_boot.py", "/boot.keep", "/.ota":
        _remove(path)
    machine.reset()


def _version():
    try:
        with open("/version") as f:
            return f.read(64).strip()
    except (OSError, ValueError):
        return "unknown!"


def _folder(path):
    at = path.rfind("/")
    if at > 0:
        _folder(path[:at])
        try:
            os.mkdir(path)
        except OSError as error:
            if error.errno != 17:  # EEXIST
                raise ValueError("the disk is full")


def _is_file(path):
    try:
        return not os.stat(path)[0] & 0x4000
    except OSError:
        return False


def _remove(path):
    """A file, or a folder with all that is in it."""
    try:
        if _is_file(path):
            os.remove(path)
            feed()
            return
        for name in os.listdir(path):
            _remove(path + "/" + name)
        os.rmdir(path)
    except OSError as error:
        if error.errno != 2:  # ENOENT
            raise
