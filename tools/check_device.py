"""Refuses device code that the oldest MicroPython of the README cannot run: `python tools/check_device.py`, part of `make lint`.

The tests run on what Debian has, which is newer. So every builtin, every module, every attribute of a module and every method
of the built-in types that device code uses must stand in a table here, and calls with more arguments than old versions take
are found. A name that is in no table is refused: look up since when MicroPython has it, then add it. What stands in a ``try``
that ends in ``except ImportError`` is free.

Sources: real interpreters, asked for every name: 1.23.0-preview.224, 1.23.0 and 1.24.1 (WebAssembly port, which has no socket,
ssl, network, machine, and no streams in asyncio) and 1.25.0 (unix port). What is used of those modules has been there for
longer than 1.22 as far as we know; nobody has asked a 1.22. tests/unit/test_check_device.py asks the interpreter that is here.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("platform", "modules", "lib", "iotctl/device")
OLDEST = (1, 22)
MODULES = {  # what 1.22 has of each, as far as it is used here
    "asyncio": "CancelledError Event StreamReader create_task run sleep_ms",
    "binascii": "a2b_base64 b2a_base64 hexlify unhexlify",
    "deflate": "DeflateIO GZIP RAW",
    "errno": "EAGAIN ECONNRESET EINPROGRESS EINVAL EISDIR ENOBUFS ENOENT ENOTCONN ETIMEDOUT",
    "gc": "collect mem_alloc mem_free threshold",
    "hashlib": "sha256",
    "io": "BytesIO IOBase StringIO",
    "json": "dump dumps load loads",
    "machine": "RTC Timer WDT mem32 reset reset_cause unique_id",
    "micropython": "const",
    "network": "WLAN hostname",
    "os": "ilistdir listdir mkdir remove rename rmdir stat statvfs urandom",
    "random": "getrandbits",
    "re": "match",
    "requests": "get",
    "select": "POLLERR POLLHUP POLLIN POLLOUT poll",
    "socket": "SOCK_DGRAM SOCK_STREAM SOL_SOCKET SO_REUSEADDR getaddrinfo socket",
    "ssl": "CERT_NONE CERT_REQUIRED PROTOCOL_TLS_CLIENT SSLContext",
    "struct": "pack pack_into unpack_from",
    "sys": "implementation modules path platform print_exception stdin stdout",
    "time": "gmtime localtime mktime sleep sleep_ms ticks_add ticks_diff ticks_ms ticks_us time",
}
OURS = ("iot_platform", "modules", "ota_boot", "tarfile", "umqtt")  # from the tree itself
BUILTINS = """
    AttributeError BaseException EOFError Exception ImportError IndexError KeyError KeyboardInterrupt MemoryError
    NotImplementedError OSError OverflowError RuntimeError StopIteration TypeError UnicodeError ValueError ZeroDivisionError
    __import__ abs all any bin bool bytearray bytes callable chr classmethod delattr dict enumerate filter float getattr globals
    hasattr hash hex id int isinstance issubclass iter len list map max memoryview min next object open ord pow print property
    range repr reversed round set setattr sorted staticmethod str sum super tuple type zip __name__ __file__
""".split()
METHODS = """
    add append clear copy count decode discard encode endswith extend find format from_bytes get index insert isalpha isdigit
    isspace items join keys lower lstrip partition pop popitem remove replace reverse rfind rindex rpartition rsplit rstrip
    setdefault sort split splitlines startswith strip to_bytes update upper values
""".split()
ARGUMENTS = {"next": 1, "iter": 1, "round": 2, "sum": 2, "zip": None}  # at most, by position; None: any number
LATER = {  # since when there is what old versions have not, and where that is said
    "next() with 2 arguments": "since 1.25: github.com/micropython/micropython/pull/16902",
    "iter() with 2 arguments": "not so far: github.com/micropython/micropython/issues/5384",
    "requests.socket": "not in 1.23: micropython-lib's requests imported usocket then",
    "tls": "since 1.23: ssl, which has the same names, before",
    "vfs": "since 1.23: its names were in os before",
}
# Methods of CPython's built-in types: an attribute of such a name may be one of theirs, whatever it is asked of
_TYPES = (str, bytes, bytearray, list, dict, set, tuple, int, float, memoryview)
_THEIRS = {name for kind in _TYPES for name in dir(kind) if not name.startswith("__")}
_KEYWORDS = {"sorted": ("key", "reverse"), "min": ("key", "default"), "max": ("key", "default"), "print": ("end", "sep", "file")}


def uses(tree: ast.Module, own: set[str]) -> Iterator[tuple[int, str]]:
    """``(line, what)`` of everything that the tables do not have.

    :param own: names of functions and attributes that device code defines: they may be called like a method of a built-in type.
    """
    aliases = [alias for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names = {alias.asname or alias.name: alias.name for alias in aliases}
    bound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.Try) and any(_names(handler.type) == "ImportError" for handler in node.handlers)
        for inner in ast.walk(node)
    }
    bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)} | set(names) | own
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue  # where it is missing, there is something else
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if not _has_module(alias.name))
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            if not _has_module(node.module):
                yield node.lineno, node.module
            elif node.module in MODULES:
                there = MODULES[node.module].split()
                yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names if alias.name not in there)
        elif isinstance(node, ast.Attribute):
            module = names.get(node.value.id, node.value.id) if isinstance(node.value, ast.Name) else ""
            if module in MODULES:
                if node.attr not in MODULES[module].split() and not node.attr.startswith("__"):
                    yield node.lineno, f"{module}.{node.attr}"
            elif node.attr in _THEIRS and node.attr not in METHODS and node.attr not in own:
                yield node.lineno, f"the method {node.attr}()"
        elif isinstance(node, ast.Name) and hasattr(builtins, node.id) and node.id not in bound and node.id not in BUILTINS:
            yield node.lineno, node.id
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield from ((node.lineno, what) for what in _arguments(node, node.func.id))


def _names(node: ast.expr | None) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _has_module(name: str) -> bool:
    return name.split(".")[0] in OURS or name in MODULES


def _arguments(call: ast.Call, name: str) -> Iterator[str]:
    """What a call of a builtin passes that MicroPython's does not take."""
    most = ARGUMENTS.get(name)
    if most is not None and len(call.args) > most:
        yield f"{name}() with {len(call.args)} arguments"
    if name in ARGUMENTS or name in _KEYWORDS:
        yield from (f"{name}({k.arg}=)" for k in call.keywords if k.arg and k.arg not in _KEYWORDS.get(name, ()))


def check(sources: dict[str, str]) -> list[str]:
    """One line for each use of what the oldest version has not, in files by their names."""
    trees = {name: ast.parse(text) for name, text in sources.items()}
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    own |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    unknown = "in no table of tools/check_device.py: since when has MicroPython got it?"
    return [
        f"{name}:{line}: {what}: {LATER.get(what, unknown)}"
        for name, tree in trees.items()
        for line, what in sorted(set(uses(tree, own)))
    ]


def main() -> int:
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    bad = check({str(path.relative_to(ROOT)): path.read_text() for path in paths})
    print("\n".join(bad) or f"{len(paths)} device files use nothing that MicroPython {OLDEST[0]}.{OLDEST[1]} has not")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
