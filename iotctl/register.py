"""fleet.toml: the boards that there should be, their names, groups and tags. It is the owner's; boards know of it what
`iotctl assign` tells them.

[[board]]
id = "door/24a1"        # shortName/id, as `iotctl watch` shows it
name = "Front door"     # the rest is optional
group = "house"
tags = ["outside", "battery"]
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iotctl import files
from iotctl.errors import IotctlError

_KEYS = ("id", "name", "group", "tags")


@dataclass(frozen=True)
class Entry:
    """A board that there should be."""

    id: str
    name: str = ""
    group: str = ""
    tags: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What a search looks at."""
        return " ".join((self.name, self.group, *self.tags))


Register = dict[str, Entry]  # by id


def read(path: Path) -> Register:
    """IotctlError for a file that is not such a register, with the line's number in it where TOML knows one."""
    value = files.read_toml(path)
    given = value.get("board", [])
    if set(value) - {"board"} or not isinstance(given, list):
        raise IotctlError(f"{path}: expected nothing but [[board]] tables")
    found: Register = {}
    for number, each in enumerate(given, 1):
        problem = _problem(each)
        if not problem and each["id"] in found:
            problem = f"{each['id']} stands twice"
        if problem:
            raise IotctlError(f"{path}: board {number}: {problem}")
        found[each["id"]] = Entry(each["id"], each.get("name", ""), each.get("group", ""), tuple(each.get("tags", ())))
    return found


def group(register: Register, name: str) -> list[str]:
    """The ids of a group; IotctlError when nobody is in it."""
    found = [entry.id for entry in register.values() if entry.group == name]
    if not found:
        groups = ", ".join(sorted({entry.group for entry in register.values() if entry.group})) or "none"
        raise IotctlError(f"no board is in the group {name}; there are: {groups}")
    return found


def _problem(each: Any) -> str | None:
    if not isinstance(each, dict) or set(each) - set(_KEYS):
        return f"expected {', '.join(_KEYS)}"
    texts = [each.get(key, "") for key in ("id", "name", "group")]
    tags = each.get("tags", [])
    if (
        not all(isinstance(text, str) for text in texts)
        or not isinstance(tags, list)
        or not all(isinstance(t, str) for t in tags)
    ):
        return "id, name and group are texts, tags is a list of texts"
    parts = each.get("id", "").split("/")
    if len(parts) != 2 or not all(parts) or set(each["id"]) & set("+#"):
        return 'id is shortName/id, such as "door/24a1"'
    return None
