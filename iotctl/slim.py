"""A library's file without the definitions that a module does not use: on a board every name of a loaded file costs heap.

What is left out becomes empty lines, so a traceback from the board points at the library's own line numbers.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from iotctl.errors import IotctlError

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assign
_INDENT = b"    "


def leave_out(source: bytes, names: Iterable[str], path: str) -> bytes:
    """The source without the functions, classes and assignments `names`, such as ``urlencode`` or ``Request.form``.

    Where a library tries to import something, ``try:inspect`` leaves out the attempt, which would fail on a board, and
    ``except:sys`` what to do instead, which no board needs. ``import:re`` leaves out an import.

    IotctlError when one of them is not there: the library has changed, and the list must be looked at again.
    """
    body = ast.parse(source).body
    found = {name: (lines, range(0)) for name, lines in _definitions(body, "")} | dict(_imports(body))
    lines = source.splitlines(keepends=True)
    for name in names:
        if name not in found:
            raise IotctlError(f"{path} has no {name} that could be left out")
        gone, moved = found[name]
        for number in gone:
            lines[number - 1] = b"\n"
        for number in moved:
            lines[number - 1] = lines[number - 1].removeprefix(_INDENT)
    return b"".join(lines)


def _imports(body: list[ast.stmt]) -> Iterator[tuple[str, tuple[Iterable[int], range]]]:
    """What can be left out of a file's imports: the name for it, its lines, and the lines that are indented less then."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield "import:" + _module(node), (_lines(node), range(0))
        elif isinstance(node, ast.Try) and isinstance(node.body[0], ast.Import | ast.ImportFrom):
            handler, name = node.handlers[0], _module(node.body[0])
            attempt = range(node.body[0].lineno, handler.lineno)
            instead = range(handler.lineno + 1, (node.end_lineno or 0) + 1)
            yield "try:" + name, ([node.lineno, *attempt, handler.lineno], instead)
            yield "except:" + name, ([node.lineno, handler.lineno, *instead], attempt)


def _module(node: ast.Import | ast.ImportFrom) -> str:
    return node.names[0].name if isinstance(node, ast.Import) else node.module or "."


def _lines(node: ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or 0) + 1)


def _definitions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, list[int]]]:
    """Each definition's dotted name, and its lines; a property's getter and setter are one."""
    lines: dict[str, list[int]] = {}
    for node in body:
        if isinstance(node, _Definition) and node.end_lineno:
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            lines.setdefault(prefix + _name(node), []).extend(range(first, node.end_lineno + 1))
        if isinstance(node, ast.ClassDef):
            yield from _definitions(node.body, prefix + node.name + ".")
    yield from lines.items()


def _name(node: _Definition) -> str:
    return ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else node.name
