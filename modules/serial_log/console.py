"""The serial console's commands. Imported when one is typed, and forgotten afterwards."""

from iot_platform.log import DEBUG, ERROR, INFO, WARNING, SerialLog

_LEVELS = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR}
_HELP = (
    "commands: status | values | log LEVEL | purge | reset | "
    "ota check|update|force|install|verify|plan|rollback|confirm|cancel|status|channel NAME"
)


def execute(platform, line):
    """Run one line; what it says goes to the log. Words that mean nothing here are a command for the bus."""
    words = line.split()
    if words[0] == "ota" and len(words) > 1:
        _ota(platform.module("ota"), words[1], words[2:])
    elif words[0] == "log" and len(words) == 2 and words[1] in _LEVELS:
        SerialLog.level = _LEVELS[words[1]]
    elif words[0] == "purge":
        SerialLog.purge()
    elif words[0] == "reset":
        platform.request_reset("asked for at the console")
    elif words[0] == "status":
        SerialLog.log("running:", ", ".join(platform.modules), "failed:", platform.failed or "none")
    elif words[0] == "values":
        for key, value in sorted(platform.bus.items()):
            SerialLog.log(key, "=", value)
    elif words[0] == "help" or not platform.bus.command(words[0], " ".join(words[1:]), "console"):
        SerialLog.log(_HELP)


def _ota(ota, verb, words):
    if ota is None:
        SerialLog.warning("the ota module does not run")
        return
    actions = {
        "check": ota.request_check,
        "update": ota.request_update,
        "force": lambda: ota.request_update(True),
        "install": ota.request_install,
        "verify": ota.request_verify,
        "plan": ota.request_plan,
        "rollback": ota.rollback,
        "confirm": ota.confirm,
        "cancel": ota.cancel,
        "status": ota.status,
        "channel": lambda: ota.set_channel(words[0] if words else "") or ota.channel,
    }
    if verb not in actions:
        SerialLog.log(_HELP)
        return
    try:
        SerialLog.log("ota %s:" % verb, actions[verb]())
    except Exception as error:  # such as an OtaError, whose class this module does not know: it may not be on this board
        SerialLog.warning("ota %s:" % verb, error)
