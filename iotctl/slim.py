"""A library's file without the definitions that a module does not use: on a board every name of a loaded file costs heap.

What is left out becomes empty lines, so a traceback from the board points at the library's own line numbers.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from iotctl.errors import IotctlError

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assign


def leave_out(source: bytes, names: Iterable[str], path: str) -> bytes:
    """The source without the functions, classes and assignments `names`, such as ``urlencode`` or ``Request.form``.

    IotctlError when one of them is not there: the library has changed, and the list must be looked at again.
    """
    found = dict(_definitions(ast.parse(source).body, ""))
    lines = source.splitlines(keepends=True)
    for name in names:
        if name not in found:
            raise IotctlError(f"{path} has no {name} that could be left out")
        for number in found[name]:
            lines[number - 1] = b"\n"
    return b"".join(lines)


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
