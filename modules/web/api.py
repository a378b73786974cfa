"""What is done on the page: what panels have declared, a line for the console, the update's buttons and uploads. In memory only
meanwhile, see server.

Each handler gets the module and the http.Request, and returns what becomes JSON, ``(that, status)``, or a status alone; None when
there is nothing to say, or when it has said it by itself. The body of a POST has been read as JSON once when a handler is called.
"""

import ota_boot
from iot_platform.log import SerialLog
from iot_platform.module import kind_of, name_ok
from micropython import const

from .events import declared
from .http import Refused, need

_MAX_VALUE = const(256)
_MAX_LINE = const(120)  # characters typed
_MOST = const(16_777_216)  # bytes of an upload
_SPARE = const(24_576)  # bytes of the disk that stay free
_SLOWEST = const(1024)  # bytes a second
_FIRST_S = const(60)
_FULL = const(28)  # ENOSPC


def action(web, request):
    """What a panel has declared, and nothing else: a button, a value that can be set, a setting."""
    value = request.json()
    given, key, path = value.get("value"), value.get("action"), None
    good = len(given) <= _MAX_VALUE if isinstance(given, str) else given is None or isinstance(given, (bool, int, float))
    if not good:
        raise Refused(400, "bad_value", "value")
    try:
        for panel in declared(web):
            if panel["id"] == value.get("panel"):
                for item in panel.get("settings", ()):
                    if item[0] == key:
                        return _setting(web.platform, item, given)
                if key in [item[0] for item in panel.get("values", ()) if "sensor" not in kind_of(item)]:
                    path = key
                elif key in [item[0] for item in panel.get("actions", ())]:
                    path = panel["id"] + "/" + key
        if not path:
            raise Refused(404, "not_found")
        if not web.platform.order(path, given, "web"):
            raise Refused(503, "busy", "commands", 2)
    except ValueError as error:
        raise Refused(400, "bad_value", str(error))
    return 202


def _setting(platform, item, given):
    given = None if given in ("", None) else platform.once("iot_platform.profile", "become", item, given)
    platform.choose(item[0], given, "web")
    if item[0] == "wifi.address":  # now, while somebody waits for it, is when one on trial is looked for
        platform.request_reset("its address changes")
    return 202


def console(web, request):
    """A line as if it were typed, but for what is only for whoever holds the cable. What it says goes to the log."""
    line, module = request.json().get("line"), web.platform.module("serial_log")
    if not module or not isinstance(line, str) or not 0 < len(line.strip()) <= _MAX_LINE:
        raise Refused(400, "bad_value", "a line of 1 to 120 characters")
    module.execute(line, "web")
    return 202


def log(_web, request):
    """Its level, and its end."""
    if request.path[9:] == "purge":
        SerialLog.purge()
    elif not SerialLog.set_level(request.json().get("level")):
        raise Refused(400, "bad_level")


def restart(web, _request):
    web.platform.request_reset("asked for on the page")
    return 202


# -- updates: each answers at once; what follows is told by the event stream (``ota/...`` on the bus)


def ota(web, request):
    """The update's buttons, its channel, and an upload."""
    module, verb = need(web, "ota"), request.path[9:]
    if verb == "upload":
        return _upload(web, request, module)
    value = request.json()
    force, name = value.get("force", False), value.get("channel")
    if not isinstance(force, bool):
        raise Refused(400, "bad_value", "force")
    if verb == "channel":
        if not name_ok(name):
            raise Refused(400, "bad_value", "a channel's name is made of letters, digits, _ . and -")
        module.set_channel(name)
        return 204
    if verb in ("confirm", "cancel"):
        if not (module.confirm() if verb == "confirm" else module.cancel()):
            raise Refused(409, "not_allowed")
        return 202
    if verb == "check":
        begun = module.request_check()
    elif verb == "update":
        begun = module.request_update(force)
    elif verb == "install" and ota_boot.exists(module.archive):
        begun = module.request_install(force)
    elif verb == "rollback" and (ota_boot.state == "trial" or module.previous):
        begun = module.rollback()
    else:
        raise Refused(409, "no_update")
    if not begun:
        raise Refused(409, "busy")
    return 202


async def _upload(web, request, module):
    """A bundle from the browser: through one buffer into ``ota.archive``, then verified and installed like any other.

    Nothing of it is believed here: the updater reads the file and refuses what it would refuse from a server. An upload and a job
    of the updater exclude each other. One that fails leaves no file.
    """
    size = int(request.fields["content-length"])
    if not 0 < size <= _MOST:
        raise Refused(413, "too_large")
    job = module.begin_upload()
    if not job:
        raise Refused(409, "busy")
    done = False
    try:
        job.discard()
        if size + _SPARE > web.platform.board.disk_free():
            raise Refused(507, "no_space")
        SerialLog.log("web: an upload of %d bytes from" % size, request.address)
        request.limit((_FIRST_S + size // _SLOWEST) * 1000)
        with open(module.archive, "wb") as f:
            f.write(request.data)  # a short one has been read already
            while request.left > 0:
                n = await request.readinto(job.view)
                if not job.view:
                    raise Refused(409, "cancelled")
                f.write(job.view if n == len(job.view) else job.view[:n])
        done = True
    except (EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno == _FULL:
            raise Refused(507, "no_space")
        raise Refused(400, "incomplete", "%d bytes are missing" % request.left)
    finally:
        mine = bool(job.view)  # else it was cancelled, and what lies there may be the next one's
        if mine:
            module.stop()
        if not done and (mine or not module.job):
            job.discard()
    if not module.request_install(request.query == "force=1"):
        raise Refused(409, "busy")
    return 202
