"""What a line of the console does. Imported for it, and forgotten afterwards: people type seldom.

Words that mean nothing here are a command for the modules.
"""

from micropython import const

from .log import SerialLog
from .module import kind_of

_HELP = const(
    "commands: status | values | log | log LEVEL | purge | reset | with the cable: wifi password | web password | "
    "ota check|update|force|install|verify|plan|rollback|confirm|cancel|status|channel NAME"
)


def execute(platform, line, source):
    """Run one command; what it says goes to the log."""
    words = line.split()
    if words[0] == "ota" and len(words) > 1:
        _ota(platform.module("ota"), words[1], words[2:])
    elif words[0] == "log" and len(words) == 2:
        if not SerialLog.set_level(words[1]):
            SerialLog.log(_HELP)
    elif words == ["log"]:
        for remembered in SerialLog.history():
            print(remembered)
    elif words[0] == "purge":
        SerialLog.purge()
    elif words[0] == "status":
        SerialLog.log("running: %s failed: %s" % (", ".join(sorted(platform.modules)), platform.failed or "none"))
        for key, value in sorted(platform.board.about().items()):
            SerialLog.log(key, "=", value)
    elif words[0] == "values":
        for key, value in sorted(platform.bus.items()):
            SerialLog.log(key, "=", value)
    elif words[0] == "help":
        SerialLog.log(_HELP)
    else:
        _command(platform, words[0], " ".join(words[1:]), source)


def _command(platform, path, text, source):
    try:
        if not platform.order(path, text, source):
            SerialLog.warning("too many commands at once")
        elif not _declared(platform.modules, path):
            SerialLog.info(path + ": no module has declared such a command; type help")
    except ValueError as error:
        SerialLog.warning(error)


def _declared(modules, path):
    """False when no module has said that it takes the command: not by its name, nor in its panels if it has some. One may all the
    same, for every module hears every command: whether one has cannot be known.
    """
    name = path.split("/")[0]
    if path in modules or (name in modules and not getattr(modules[name], "panels", ())):
        return True
    for name in modules:
        for panel in getattr(modules[name], "panels", ()):
            keys = [item[0] for item in panel.get("values", ()) if "sensor" not in kind_of(item)]
            if path in keys or path in [panel["id"] + "/" + item[0] for item in panel.get("actions", ())]:
                return True
    return False


def _begun(begun):
    return "started" if begun else "not started: it is off, or busy"


def _ota(ota, verb, words):
    try:
        if ota is None:
            SerialLog.warning("the ota module does not run")
            return
        if verb == "channel":
            if words:
                ota.set_channel(words[0])
            result = ota.channel
        elif verb == "force":
            result = _begun(ota.request_update(True))
        elif verb in ("check", "update", "install", "verify", "plan"):
            result = _begun(getattr(ota, "request_" + verb)())
        elif verb == "rollback":
            result = _begun(ota.rollback())
        elif verb in ("confirm", "cancel", "status"):
            result = getattr(ota, verb)()
        else:
            result = _HELP
        SerialLog.log("ota %s:" % verb, result)
    except Exception as error:  # such as an OtaError, whose class this module does not know: it may not be on this board
        SerialLog.warning("ota %s:" % verb, error)
