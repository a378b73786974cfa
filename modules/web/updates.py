"""The update's buttons. Each answers at once; what follows is told by the event stream (``ota/...`` on the bus)."""

from .app import body
from .refused import Refused


def ota_of(server):
    """The ota module, when it can work; Refused otherwise."""
    ota = server.web.platform.module("ota")
    if ota is None or not ota.cfg:
        raise Refused(409, "not_configured", "updates are switched off: see the log")
    return ota


def started(done):
    if not done:
        raise Refused(409, "busy", "another job of the updater is running")
    return {"started": True}, 202


async def check(server, request):
    body(request)
    return started(ota_of(server).request_check())


async def update(server, request):
    force = _force(request)
    return started(ota_of(server).request_update(force))


async def install(server, request):
    force, ota = _force(request), ota_of(server)
    if not ota.has_archive():
        raise Refused(409, "no_update", "no update has been downloaded")
    return started(ota.request_install(force))


async def rollback(server, request):
    body(request)
    ota = ota_of(server)
    if not ota.can_roll_back():
        raise Refused(409, "no_update", "no previous version is kept")
    return started(ota.rollback())


async def confirm(server, request):
    body(request)
    if not ota_of(server).confirm():
        raise Refused(409, "not_allowed", "no new version is on trial")
    return {"started": True}, 202


async def cancel(server, request):
    body(request)
    if not ota_of(server).cancel():
        raise Refused(409, "not_allowed", "there is nothing that could be stopped now")
    return {"started": True}, 202


async def channel(server, request):
    from iot_platform.words import name_ok

    name = body(request).get("channel")
    if not name_ok(name):
        raise Refused(400, "bad_value", "a channel's name is made of letters, digits, _ . and -")
    ota_of(server).set_channel(name)
    return 204


def _force(request):
    force = body(request).get("force", False)
    if not isinstance(force, bool):
        raise Refused(400, "bad_value", "force must be true or false")
    return force


HANDLERS = {
    "POST /api/ota/check": check,
    "POST /api/ota/update": update,
    "POST /api/ota/install": install,
    "POST /api/ota/rollback": rollback,
    "POST /api/ota/confirm": confirm,
    "POST /api/ota/cancel": cancel,
    "POST /api/ota/channel": channel,
}
