"""A new recovery loader: on trial once its release is confirmed, and proven by a whole good boot that it carried.

    /.ota/loader          as it was staged, until the release is confirmed
    /.ota/loader_0.py     on trial: boot.py counts the boots that it gets in its name, and tries it before the proven one
    /ota_boot.py          the proven one; /ota_boot_old.py is the one before it

No unproven loader ever takes a proven one's place or name. One that has failed, the proven one removes (ota_boot._drop_new).
"""

import os
import time

import ota_boot

from . import files

_GOOD_MS = 30_000  # as the runtime's: a boot that has run for so long was a good one
_ASKED = "asked commit confirm entries feed finish hold let_go note_failure note_success reason slot undo"  # the rest was used


def begin(ota):
    """The release is confirmed: from the next boot on its loader is on trial. False where there is no new one."""
    new = ota_boot.ota("loader")
    if files.file_size(new) is None:
        return False
    if not getattr(ota_boot, "tries", 0):
        ota.warn("this board's boot.py cannot try a new loader: the proven one stays")
        return False
    os.rename(new, ota_boot.ota("loader_0.py"))
    return True


def watch(ota, fresh):
    """Restart for a trial that is to begin, or see the one of this boot to its end. Generator.

    Nothing is installed meanwhile: neither may an unproven loader apply it, nor is its trial the time for another one. Boots that
    keep failing may be the new loader's fault: it has few of them (boot.py counts), and nothing is taken back because of them.
    """
    if not fresh:
        ota.log("the new recovery loader is on trial")
        began = time.ticks_ms()
        while time.ticks_diff(time.ticks_ms(), began) < _GOOD_MS:
            yield True
        if not ota.platform.safe_mode and _is_whole():
            _promote(ota)
            return
    ota.module.enter("rebooting")
    ota.platform.request_reset("trying the new recovery loader")


def _is_whole():
    """True when it has all that an update asks of it, and one name: FAT can show both of a cut rename, on the same blocks."""
    names = [name for name in os.listdir(ota_boot.ota("")) if name.startswith("loader_")]
    return len(names) == 1 and all(callable(getattr(ota_boot, name, None)) for name in _ASKED.split())


def _promote(ota):
    """Each step leaves a proven loader where boot.py looks for one; FAT deletes what a rename replaces, so it goes first."""
    running, old = ota_boot.live("ota_boot.py"), ota_boot.live("ota_boot_old.py")
    if ota_boot.exists(running):
        if ota_boot.exists(old):
            os.remove(old)
        os.rename(running, old)
    os.rename(ota_boot.ota(ota_boot.__name__ + ".py"), running)
    ota.log("the recovery loader was replaced")
