"""What is wrong with a board, from what it says, and what its owner can do: docs/trouble.md's tables, for those with a fleet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

_AGAIN = "Correct it, and publish a newer release."
_UPDATE = {
    "no_network dns connect tls": "It tries again, later and later. If it is many boards, look at the server.",
    "timeout connection_lost": "Nothing to do: the download goes on later.",
    "http_status redirect": "Look whether the channel file is on the server, at ota.url of the profile.",
    "bad_response too_large": "A login page or a proxy may stand between the board and the server.",
    "bad_channel": "Publish the release again.",
    "no_signature bad_signature": "Sign the release with the key that this board pins.",
    "bad_key": "Build with a profile that pins the signer's key.",
    "wrong_name": "The release is for another kind of board: look at shortName and ota.url.",
    "old_sequence": "Build with a higher version or sequence than the one that was confirmed on this board.",
    "far_sequence": "Build with a sequence nearer to the one that was confirmed on this board.",
    "version_mismatch": "Publish the release again: its bundle is not the one that was announced.",
    "expired": "Publish with a later expiry, and look at the board's clock.",
    "wrong_mpy": "Build with --py, or update the board's MicroPython.",
    "bad_bundle bad_member bad_digest": "What arrived is damaged, and is fetched again. If it stays: iotctl verify.",
    "bad_path protected_path": "The release holds a file that no release may have: rename it.",
    "no_space": "Make room on the board, or build a smaller release; then update by force.",
    "flash_error": "Update by force. If it stays, the flash is worn out.",
    "no_memory": "Nothing to do: it is tried again. Fewer modules help.",
    "failed_before": "Publish a newer release, or update by force.",
    "no_update": "Nothing to do: there was nothing to install, or nothing to go back to.",
    "busy": "Wait for the job that runs on it.",
    "not_configured": "Updates are switched off on this board: its console says why.",
    "not_allowed": "The board's profile does not allow it: see mqtt.commands.",
    "no_deflate no_package": "Flash a complete build of MicroPython.",
    "internal": "Please report this, with the lines of the board's console.",
}
_TRIAL = {
    "exception": f"The new version's runtime failed: its traceback is in /crash.log.1. {_AGAIN}",
    "module_failed": f"A module that ran before fails in the new version. {_AGAIN}",
    "watchdog reset": f"The new version hung, or restarted by itself. {_AGAIN}",
    "timeout": f"Not everything that ran before ran in time. {_AGAIN}",
    "no_room": f"The new version could not have been updated any more: too little memory or disk. {_AGAIN}",
    "no_network": "The new version did not reach the server. It is tried again a few times, later and later.",
    "power": "Every boot of the trial ended with the power. It is tried again a few times.",
    "no_space flash_error bad_journal": "It could not be put in place. Make room on the board, then update by force.",
    "by_hand": "Somebody asked for it. Update by force to go forward again.",
}
_FLAPS = 6
_TABLES = {
    trial: {word: text for words, text in table.items() for word in words.split()}
    for trial, table in ((True, _TRIAL), (False, _UPDATE))
}


@dataclass(frozen=True)
class Trouble:
    """`reason`: a word; `text`: the board's own sentence; `advice`: what to do."""

    reason: str
    text: str
    advice: str

    def as_json(self) -> dict[str, str]:
        return asdict(self)


def advice(reason: str, trial: bool = False) -> str:
    """What to do; "" for a reason that nobody knows."""
    found = _TABLES[trial].get(reason) or _TABLES[not trial].get(reason)
    return found or ""


def troubles(values: Mapping[str, str], gone: int = 0) -> list[Trouble]:
    """Everything that is wrong with a board, the worst first.

    :param gone: how often it has left the broker in the last ten minutes; an update is two or three times.
    """
    found = []
    if gone >= _FLAPS:
        text = f"it came and went {gone} times in ten minutes"
        found.append(Trouble("flapping", text, "Look at its wifi and its power, and whether another board has the same id."))
    if values.get("safe_mode") == "true":
        text = "only the modules that an update needs have started, after three bad boots"
        found.append(Trouble("safe_mode", text, "Publish a newer release; the board takes it in safe mode."))
    status, problem = values.get("ota/status", ""), _problem(values.get("ota/problem", ""))
    reason, text = values.get("ota/error", ""), values.get("ota/message", "")
    if problem:  # the first reason; a later check may have another one
        reason, text = str(problem.get("reason", "")), str(problem.get("message", ""))
    if reason and reason != "no_update" and (problem or status in ("failed", "rolled_back")):
        found.append(Trouble(reason, text, advice(reason, status == "rolled_back")))
    for key, value in values.items():
        if key.startswith("module/") and value.startswith("off"):
            found.append(Trouble(key, value, f"This module is switched off, the others run. {_AGAIN}"))
    if values.get("ota/damaged", "0") not in ("0", ""):
        text = f"{values['ota/damaged']} files are not what the release brought"
        found.append(Trouble("damaged", text, "Update by force: what is damaged is fetched again."))
    return found


def _problem(text: str) -> dict[str, object] | None:
    try:
        value = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value.get("problem") is True else None
