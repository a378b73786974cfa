"""The reference tree: 42 files, 228 KB, in the shape of a hobby platform's sources: drivers, settings, pages, a stylesheet.

Always the same bytes. Nothing in it is random text: it is code that compiles, with names from a vocabulary, and packs as
such code does (a tar.gz of some 62 KB). The update changes one line of a file of 4.6 KB, and `version`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from iotctl.tree import Files

FILES = 42
BYTES = 228_000
CHANGED = "modules/door/door.py"  # the file of 4.6 KB that the update changes
_CHANGED_BYTES = 4_600
_LINE, _SECONDS = "_OPEN_FOR_S = %d\n", 45
_OWN = ("profile.json", "version", "modules/ticker/__init__.py")  # come from elsewhere, and count
_THINGS = (
    "door lamp relay fan pump valve heater blind sensor motor buzzer strip button keypad display clock meter tank gate window"
).split()
_NOUNS = (
    "state level speed target limit offset delay period timeout counter channel brightness colour humidity pressure distance "
    "voltage current power energy temperature position angle threshold history average maximum minimum error warning retry "
    "queue buffer frame packet payload topic message setting value reading sample index pin port address register mask gain"
).split()
_VERBS = (
    "read write update check toggle start stop open close reset apply load save send receive parse format publish measure "
    "calibrate filter clamp smooth schedule cancel enable disable notify report collect store restore compare convert"
).split()
_ADJECTIVES = (
    "first last next old new raw wanted allowed pending stable recent slow fast lower upper inner outer local remote default "
    "current previous manual automatic ready idle"
).split()
_CONSONANTS, _VOWELS = "bcdfghjklmnprstvwxz", "aeiou"
_RARE = 0.7  # how often a word is one of the rare ones, which no other place may use


def tree(own_bytes: int) -> Files:
    """The files without those that a lab brings itself (profile.json, version, the ticker), which have `own_bytes` in all."""
    rng = random.Random(20_250_107)
    paths = _paths()
    weights = {path: rng.uniform(0.4, 1.6) for path in paths}
    scale = (BYTES - own_bytes - _CHANGED_BYTES) / sum(weights.values())
    files = {CHANGED: _source(rng, "door", _CHANGED_BYTES, _LINE % _SECONDS)}
    for path in paths:
        files[path] = _content(rng, path, int(weights[path] * scale))
    return files


def updated(files: Files, seconds: int = 60) -> Files:
    """The same tree with one other line; another number, another line."""
    return {**files, CHANGED: files[CHANGED].replace((_LINE % _SECONDS).encode(), (_LINE % seconds).encode(), 1)}


def rewritten(files: Files) -> Files:
    """The same paths and sizes, and in each file other content of its kind; what a lab brings itself gets a line more."""
    out = {}
    for path, data in files.items():
        if path in _OWN:
            out[path] = data + b"\n" if path.endswith(".py") else data
        else:
            out[path] = _content(random.Random(path), path, len(data))
    return out


def scaled(count: int, size: int, seed: int = 0) -> Files:
    """`count` files of the same kind with `size` bytes in all, in folders of 25; another `seed`, other contents."""
    rng = random.Random(f"{count} {size} {seed}")
    return {f"assets/{n // 25}/part{n}.py": _source(rng, f"part{n}", size // count) for n in range(count)}


def module(name: str, methods: int) -> bytes:
    """A module of a board with so many methods of some length; only its telemetry is ever called."""
    rng = random.Random(name)
    out = f'"""{name.capitalize()}."""\n\nimport time\n\nfrom iot_platform.module import Module as Base\n\n\n'
    out += f'class Module(Base):\n    name = "{name}"\n    count = 0\n\n'
    out += f'    def telemetry(self):\n        self.count += 1\n        return {{"{name}/count": self.count}}\n\n'
    pairs = [(verb, noun) for verb in _VERBS for noun in _NOUNS]
    for verb, noun in rng.sample(pairs, methods):
        out += f"    def {verb}_{noun}(self, value):\n"
        for n in range(6):
            a, b, number = rng.choice(_NOUNS), rng.choice(_NOUNS), rng.randint(1, 4000)
            out += f"        if self.{a} is None or self.{b} > {number}:\n            self.{b} = value * {number} // {n + 2}\n"
        out += f'        self.platform.log("{name}: {verb} {noun}", self.{noun}, time.ticks_ms())\n        return self.{noun}\n\n'
    return out.encode()


def _paths() -> list[str]:
    """Everything but the changed file and what the lab brings."""
    things = [thing for thing in _THINGS if thing != "door"]
    paths = [f"modules/{thing}/{thing}.py" for thing in things]
    paths += ["www/index.html", "www/settings.html", "www/wifi.html", "www/style.css", "www/app.js"]
    paths += [f"modules/{thing}/{thing}_settings.py" for thing in things[:8]]
    paths += [f"www/{thing}.html" for thing in things]
    return paths[: FILES - len(_OWN) - 1]


def _content(rng: random.Random, path: str, size: int) -> bytes:
    name = path.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    if path.endswith(".py"):
        return _source(rng, name, size)
    if path.endswith(".css"):
        return _fill(iter(lambda: _rule(rng), ""), size, ("/* ", " */"))
    if path.endswith(".js"):
        return _fill(iter(lambda: _script(rng), ""), size, ("// ", ""))
    head = f"<!doctype html>\n<html>\n<head>\n<title>{name}</title>\n<link rel=stylesheet href=/style.css>\n</head>\n<body>\n"
    return _fill(_chain(head, lambda: _form(rng, name)), size, ("<!-- ", " -->"))


def _source(rng: random.Random, name: str, size: int, constant: str = "") -> bytes:
    """A module of exactly `size` bytes that compiles."""
    title = name.replace("_", " ").capitalize()
    head = f'"""{title}: {_words(rng, 6)}.\n\n{_words(rng, 14).capitalize()}.\n"""\n\nimport gc\nimport time\n\n'
    head += "from modules.basic.basic_module import BasicModule\nfrom serial_log import SerialLog\n\n" + constant
    for _n in range(rng.randint(2, 5)):
        head += f"_{rng.choice(_ADJECTIVES)}_{rng.choice(_NOUNS)}".upper() + f" = {rng.choice((5, 10, 30, 60, 100, 250, 1000))}\n"
    head += f'\n\nclass {title.replace(" ", "")}(BasicModule):\n    name = "{name}"\n\n'
    return _fill(_chain(head, lambda: _method(rng, name)), size, ("# ", ""))


def _chain(head: str, more: Callable[[], str]) -> Iterator[str]:
    yield head
    while True:
        yield more()


def _fill(blocks: Iterator[str], size: int, comment: tuple[str, str]) -> bytes:
    """Whole blocks up to exactly `size` bytes; what is left over is one long comment."""
    out = ""
    for block in blocks:
        if len(out) + len(block) > size:
            break
        out += block
    left = size - len(out) - sum(map(len, comment)) - 1
    out += comment[0] + "-" * left + comment[1] + "\n" if left >= 0 else " " * (size - len(out) - 1) + "\n" * (size > len(out))
    return out.encode()


def _method(rng: random.Random, name: str) -> str:
    """One method: a few statements of the kinds that drivers are made of."""
    verb, noun = rng.choice(_VERBS), rng.choice(_NOUNS)
    argument = rng.choice(("value", "now", "settings", "command", "message", rng.choice(_NOUNS)))
    out = f"    def {verb}_{noun}(self, {argument}):\n"
    if rng.random() < 0.5:
        out += f'        """{verb.capitalize()} the {noun}: {_words(rng, rng.randint(6, 14))}."""\n'
    for _n in range(rng.randint(2, 7)):
        out += _statement(rng, name, argument)
    return out + f"        return {_name(rng)}\n\n"


def _statement(rng: random.Random, name: str, argument: str) -> str:
    a, b, number = _name(rng), _name(rng), rng.randint(0, 4000)
    kind = rng.randrange(9)
    if kind == 0:
        return f"        if {a} is None or {b} > {number}:\n            return None\n"
    if kind == 1:
        return f'        SerialLog.log("{name}: {_words(rng, rng.randint(3, 9))}", {a})\n'
    if kind == 2:
        return f"        {a} = {argument} * {number} // {rng.choice((10, 100, 255, 1024))} + {b}\n"
    if kind == 3:
        return f"        for i in range(len({a})):\n            {b} += {a}[i] & 0x{number:02x}\n"
    if kind == 4:
        call = f"self.{rng.choice(_VERBS)}_{rng.choice(_NOUNS)}({argument})"
        return f"        try:\n            {a} = {call}\n        except OSError as error:\n            self.error = error\n"
    if kind == 5:
        return f'        self.telemetry["{name}/{rng.choice(_NOUNS)}"] = {a}\n'
    if kind == 6:
        return f"        # {_words(rng, rng.randint(6, 14))}\n        {a} = time.ticks_diff(time.ticks_ms(), {b})\n"
    if kind == 7:
        codes = ", ".join(f"0x{rng.randrange(256):02x}" for _n in range(rng.randint(8, 20)))
        return f"        self.bus.write(({codes}))\n"
    return f"        if {argument} == {number}:\n            {a} = {b}\n        else:\n            gc.collect()\n"


def _rule(rng: random.Random) -> str:
    names = " ".join(f".{rng.choice(_THINGS)}-{rng.choice(_NOUNS)}" for _n in range(rng.randint(1, 2)))
    colour = f"#{rng.randrange(4096):03x}"
    return f"{names} {{\n  margin: {rng.randint(0, 24)}px;\n  padding: {rng.randint(0, 16)}px;\n  color: {colour};\n}}\n\n"


def _script(rng: random.Random) -> str:
    verb, noun, thing = rng.choice(_VERBS), rng.choice(_NOUNS), rng.choice(_THINGS)
    get = f"  const {noun} = document.getElementById('{thing}_{noun}');\n"
    send = f"  fetch('/api/{thing}/{verb}').then(reply => reply.json()).then(value => {noun}.textContent = value.{noun});\n"
    return f"// {_words(rng, rng.randint(4, 9))}\nfunction {verb}_{thing}_{noun}() {{\n{get}{send}}}\n\n"


def _form(rng: random.Random, name: str) -> str:
    noun = f"{rng.choice(_ADJECTIVES)}_{rng.choice(_NOUNS)}"
    label = f"<label for={noun}>{noun.replace('_', ' ').capitalize()}</label>\n"
    field = f'<input id={noun} name={name}_{noun} type=number min=0 max={rng.randint(1, 999)} value="%{noun}%">\n'
    return f"<p class=row>\n{label}{field}<small>{_words(rng, rng.randint(6, 16)).capitalize()}.</small>\n</p>\n"


def _name(rng: random.Random) -> str:
    own = "self." if rng.random() < 0.6 else ""
    if rng.random() < _RARE:
        return f"{own}{_rare(rng)}_{rng.choice(_NOUNS)}"
    return f"{own}{rng.choice(_ADJECTIVES)}_{rng.choice(_NOUNS)}" if rng.random() < 0.6 else f"{own}{rng.choice(_NOUNS)}"


def _words(rng: random.Random, n: int) -> str:
    """Some words that could stand in a comment."""
    kinds = (_VERBS, ("the", "a", "every", "its"), _ADJECTIVES, _NOUNS)
    return " ".join(_rare(rng) if rng.random() < _RARE else rng.choice(kinds[i % 4]) for i in range(n))


def _rare(rng: random.Random) -> str:
    """A word of its own, as names of parts, makers and protocols are."""
    return "".join(rng.choice(_CONSONANTS) + rng.choice(_VOWELS) for _n in range(rng.randint(2, 4)))
