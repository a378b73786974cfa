"""What happens once, at the start: the profile's section, the sessions of before the restart, what other modules declare."""

import asyncio

from modules.serial_log import SerialLog

from .config import check
from .sessions import table, take_over

_EARLY = asyncio.StreamReader, asyncio.Event  # asyncio imports them now, and not between other things when a browser comes


def set_up(web):
    section = web.platform.profile.get("web")
    errors = check(section)
    if errors:
        SerialLog.warning("web: profile.json: %s %s; expected: %s; the section is not used" % errors[0])
    web.cfg = section if section and not errors else {}
    web.logins = table()
    take_over(web)
    for name, module in web.platform.modules.items():
        _declared(web, name, module)
    if "password" not in web.cfg and not web.platform.prefs.get("web.password"):
        web.make_password()


def _declared(web, name, module):
    """A module's mistake is its own affair."""
    try:
        if module is not web:
            given = getattr(module, "panels", ())
            for panel in (given,) if isinstance(given, dict) else given:
                web.panel(panel.get("id", name), panel["title"], panel.get("values", ()), panel.get("actions", ()))
        module.routes(web)
    except Exception as error:
        SerialLog.exception(error, "web: module", name, "failed in routes")
