"""What iotctl does to device code before it compiles it: unused definitions left out, private names shared by all files."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from iotctl import ROOT, names, slim, tree
from iotctl.errors import IotctlError
from iotctl.profile import Profile

_LIBRARY = b"""import os

def used():
    return 1

@staticmethod
def unused():
    return 2

class Thing:
    size = 3

    def kept(self):
        pass

    def dropped(self):
        pass
"""


def test_what_is_left_out_becomes_empty_lines_and_the_rest_keeps_its_line_numbers() -> None:
    made = slim.leave_out(_LIBRARY, ["unused", "Thing.dropped", "Thing.size"], "x.py")
    assert made.count(b"\n") == _LIBRARY.count(b"\n")
    assert made.splitlines()[13] == _LIBRARY.splitlines()[13]
    assert b"unused" not in made and b"dropped" not in made and b"size" not in made and b"@" not in made
    compile(made, "x.py", "exec")


def test_a_definition_that_is_not_there_is_an_error() -> None:
    with pytest.raises(IotctlError, match="has no Thing.other"):
        slim.leave_out(_LIBRARY, ["Thing.other"], "x.py")


def test_names_that_a_file_keeps_to_itself_are_shortened() -> None:
    source = "_LIMIT = 3\ndef _check(n):\n    return n < _LIMIT\nclass A:\n    def __init__(self):\n        self._n = _check(1)\n"
    short = names.shorten({"a.py": source})["a.py"]
    space: dict[str, object] = {"const": int}
    exec(short, space)
    assert "_check" not in short and "_LIMIT" not in short and "_n " not in short
    maker: Any = vars(space["A"])["__init__"]
    assert maker.__code__.co_firstlineno == 5
    assert {name for name in space if not name.startswith("__")} == {"const", "_n0", "A", "a"}


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("class A:\n    def _x(self):\n        pass\n", "def f(a):\n    return a._x()\n"),
        ("def _x():\n    pass\n", "from a import _x\n"),
        ("def _x():\n    pass\n", "print(getattr(object, '_x', None))\n"),
        ("class A:\n    _x = 1\n    y = (_x, 2)\n", ""),
        ("def _x():\n    pass\n", "import a\nclass B:\n    def _x(self):\n        a._x()\n"),
        ("def f(value, other=None):\n    return value\n", "from a import f\nf(value=1, other=2)\n"),
        ("def f(value):\n    return value\n", "def g(x):\n    return x.value\n"),
        ("def f(other):\n    from .other import x\n    return x\n", ""),
        ("def f(type):\n    return type\n", ""),
    ],
)
def test_names_that_another_file_sees_stay(a: str, b: str) -> None:
    assert names.shorten({"a.py": a, "b.py": b}) == {"a.py": a, "b.py": b}


def test_files_that_have_nothing_to_do_with_each_other_may_have_the_same_private_names() -> None:
    a = "class A:\n    def __init__(self):\n        self._out = _make()\ndef _make():\n    pass\n"
    b = "class B:\n    def _make(self):\n        self._out = 2\n"
    short = names.shorten({"a.py": a, "b.py": b})
    assert not any(name in text for name in ("_out", "_make") for text in short.values())


def test_parameters_that_are_given_by_position_are_shortened() -> None:
    source = "def f(first, second=1):\n    return lambda third: first + second + third\n"
    short = names.shorten({"a.py": source})["a.py"]
    space: dict[str, Any] = {}
    exec(short, space)
    assert space["f"](1, second=2)(3) == 6
    assert "first" not in short and "third" not in short


def test_two_names_of_one_file_never_become_one() -> None:
    """For every file of the whole tree: as many different names after as before."""
    value = {"shortName": "x", "activeModules": ["serial_log", "wifi", "ota", "web"]}
    paths = tree.sources(Profile(Path("profile.json"), json.dumps(value).encode(), value))
    sources = {path: found.read_text() for path, found in paths.items() if path.endswith(".py")}
    for path, short in names.shorten(sources).items():
        before, after = _words(sources[path]), _words(short)
        assert len(before) == len(after)
        assert len(set(zip(before, after, strict=True))) == len(set(before)) == len(set(after)), path


def _words(source: str) -> list[tuple[bool, str]]:
    """Each name, and whether it is one that is looked up in an object: those are counted by themselves."""
    import io
    import tokenize

    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    members = names.places(ast.parse(source), tokens)
    return [
        (before.string == "." or token.start in members, token.string)
        for before, token in zip([tokens[0], *tokens], tokens, strict=False)
        if token.type == tokenize.NAME and token.string != "const"
    ]


def test_microdot_goes_to_the_board_without_what_nobody_uses() -> None:
    value = {"shortName": "x", "activeModules": ["web"]}
    files = tree.collect(Profile(Path("profile.json"), json.dumps(value).encode(), value), "1.0.0", py=True)
    assert sorted(path for path in files if path.startswith("lib/")) == ["lib/microdot/microdot.py"]
    whole = (ROOT / ".packages" / "microdot" / "microdot.py").read_bytes()
    text = files["lib/microdot/microdot.py"]
    assert b"def start_server" in whole and b"def start_server" not in text and b"class Request" in text


def test_a_class_shares_no_short_name_with_the_base_of_its_base() -> None:
    """However the base is named, imported itself or as an attribute of its module, and whichever file comes first."""
    sources = {
        "lib/umqtt/simple.py": "class C:\n    def _recv(self):\n        pass\n    def wait(self):\n        self._recv()\n",
        "lib/umqtt/robust.py": "from . import simple\nclass C(simple.C):\n    pass\n",
        "modules/mqtt/client.py": "from umqtt import robust\nclass D(robust.C):\n    def _owe(self):\n        return 2\n",
    }
    short = names.shorten(sources)
    found = [re.findall(r"def ([^w]\w*)", short[path]) for path in ("lib/umqtt/simple.py", "modules/mqtt/client.py")]
    assert len(found[0]) == 2 and len(set(found[0] + found[1])) == 3
    assert f"self.{found[0][0]}()" in short["lib/umqtt/simple.py"]


def test_what_a_library_defines_and_nobody_else_has_a_word_for_is_its_own() -> None:
    library = """LIMIT = 3
class Info:
    def __init__(self):
        self.align = self.size = LIMIT
    def readinto(self, b):
        pass
"""
    user = "import x\nprint(x.Info().size, getattr(x, 'readinto'))\n"
    short = names.shorten({"lib/x.py": library, "modules/m/x.py": library.replace("size", "length"), "a.py": user})
    assert "LIMIT" in short["lib/x.py"], "the other file has that word, too"
    short = names.shorten({"lib/x.py": library, "a.py": user})
    assert not re.search("LIMIT|align", short["lib/x.py"])
    assert all(word in short["lib/x.py"] for word in ("Info", "size", "readinto"))


def test_what_stands_behind_a_dot_is_counted_by_itself() -> None:
    short = names.shorten({"a.py": "def _f():\n    a = 1\nclass A:\n    def _g(self):\n        self._g(_f())\n"})["a.py"]
    assert short == "def b():\n    a = 1\nclass A:\n    def b(self):\n        self.b(b())\n"


def test_numbers_that_never_change_have_no_name_on_a_board() -> None:
    source = "_LIMIT = 3 * 1024\n_ROUNDS = 0\n\n\ndef count(n):\n    global _ROUNDS\n    _ROUNDS += n < _LIMIT\n"
    short = names.shorten({"a.py": source})["a.py"]
    assert "= const(3 * 1024)\n" in short and short.count("const(") == 1


def test_of_two_attempts_to_import_only_the_boards_stays() -> None:
    library = b"import re\ntry:\n    import fast as json\nexcept ImportError:\n    import json\n\n"
    library += b"try:\n    from sys import x\nexcept ImportError:\n    def x():\n        pass\n"
    made = slim.leave_out(library, ["import:re", "try:fast", "except:sys"], "x.py")
    assert made.split(b"\n") == [b"", b"", b"", b"", b"import json", b"", b"", b"from sys import x", b"", b"", b"", b""]


def test_names_of_a_mpy_are_what_a_board_will_intern(tmp_path: Path) -> None:
    """All in names.txt, once: what is defined, looked up or imported, and by what it is imported itself."""
    value = {"shortName": "x", "activeModules": ["ota"]}
    files = tree.collect(Profile(Path("profile.json"), json.dumps(value).encode(), value), "1.0.0")
    listed = files[tree.NAMES].decode().splitlines()
    assert len(listed) == len(set(listed))
    assert {"check_for_updates", "modules.ota.module", "modules/ota/module.mpy", "tarfile"} <= set(listed)
    assert "modules/ota/legacy.mpy" not in listed
    assert tree.NAMES not in tree.collect(Profile(Path("profile.json"), json.dumps(value).encode(), value), "1.0.0", py=True)


@pytest.mark.parametrize(
    ("path", "source", "stays"),
    [
        ("modules/m/module.py", "class A:\n    def f(self):\n        self._door = 1\n        print(f'{self._door}')\n", "_door"),
        ("a.py", "def f():\n    return _LATE\n_LATE = 5\n", "= 5"),
        ("a.py", "_N = 5\ndef f(_N):\n    return _N\n", "= 5"),
        ("modules/m/pipe.py", "import io\nclass Pipe(io.IOBase):\n    def ioctl(self, op, arg):\n        pass\n", "def ioctl("),
        ("modules/m/plug.py", "class Plug:\n    def settimeout(self, s):\n        self.s.settimeout(s)\n", ".settimeout(s)"),
        ("a.py", "class A:\n    _a, _b = 0, 0\n    def f(self):\n        self._b += 1\n", "self._b += 1"),
        ("a.py", "class A:\n    _limit: int = 3\n    def f(self):\n        self._limit += 1\n", "self._limit += 1"),
        ("a.py", "class A:\n    if True:\n        def _x(self):\n            self._x()\n", "self._x()"),
        ("a.py", "class A:\n    class _In:\n        pass\n    def f(self):\n        self._In()\n", "self._In()"),
        ("lib/x.py", "class DamagedError(ValueError):\n    pass\n", "DamagedError"),
    ],
)
def test_what_a_board_would_not_find_again_stays(path: str, source: str, stays: str) -> None:
    assert stays in names.shorten({path: source})[path]


def test_a_class_of_the_firmware_may_have_letters_of_its_own() -> None:
    source = "import asyncio\nclass S(asyncio.Stream):\n    def __init__(self):\n        self._mine = 1\n"
    assert "self._0 = 1" in names.shorten({"a.py": source})["a.py"]
