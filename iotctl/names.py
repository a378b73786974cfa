"""Private names of device code, made few: a board keeps every name of every file that it has ever imported, for ever.

MicroPython interns names in tables that are never freed and double in size when they are full: with some 1,260 names in them
the next one costs 9 KB of heap in one piece. Names that a file keeps to itself, such as ``_check_header``, need not differ from
those of another file: each file's become ``_0``, ``_1``, ... Lines stay, so tracebacks name the same file and line as before.

Renamed are, in a file, its own private top-level names, its classes' private attributes and methods, and the parameters that can
only be given by position; nothing that stands in a string, or that another file looks up. A class that inherits from another
file's class keeps its attributes, and so does that file.
"""

from __future__ import annotations

import ast
import builtins
import io
import tokenize
from collections import Counter
from collections.abc import Iterator, Mapping

_SHORT = 2  # letters: nothing is gained with these
_EVERYWHERE = frozenset(("self", "cls", *dir(builtins)))


def shorten(sources: Mapping[str, str]) -> dict[str, str]:
    """The same sources by path, each with its own private names shortened."""
    trees = {path: _parsed(source) for path, source in sources.items()}
    taken = {name for tree in trees.values() for name in _strings_and_imports(tree)}
    attributes = {path: dict.fromkeys(_attributes(tree)) for path, tree in trees.items()}
    taken |= {name for names in attributes.values() for name in names if not _is_private(name)} | _shared(trees)
    kin = _kin(trees)
    shortened = {}
    for path, source in sources.items():
        own = [*_defined(trees[path]), *filter(_is_private, attributes[path]), *_parameters(trees[path])]
        keeps = taken.union(attributes[path]) if path in kin else taken
        names = [name for name in dict.fromkeys(own) if name not in keeps]
        shortened[path] = _renamed(source, {name: f"_{number}" for number, name in enumerate(names)})
    return shortened


def _parsed(source: str) -> ast.Module:
    """Empty for what is no Python: the compiler will say so, with the line."""
    try:
        return ast.parse(source)
    except SyntaxError:
        return ast.Module([], [])


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _defined(tree: ast.Module) -> list[str]:
    """The private names that a file defines at its top level, in their order."""
    names: dict[str, None] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names[node.name] = None
        elif isinstance(node, ast.Assign) and not _is_const(node.value):  # a const() has no name on a board
            names.update((target.id, None) for target in node.targets if isinstance(target, ast.Name))
    return [name for name in names if _is_private(name)]


def _is_const(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "const"


def _attributes(tree: ast.Module) -> Iterator[str]:
    """Every name that is, or may be, looked up in an object: attributes, methods, keywords, parameters that can be left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg
        elif isinstance(node, ast.arguments):
            yield from _optional(node)
        elif isinstance(node, ast.ClassDef):
            yield from _members(node)


def _members(node: ast.ClassDef) -> Iterator[str]:
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
            yield inner.name
        elif isinstance(inner, ast.Assign) and not _is_const(inner.value):
            yield from (target.id for target in inner.targets if isinstance(target, ast.Name))


def _optional(arguments: ast.arguments) -> list[str]:
    """The parameters that a caller is likely to name: those with a default."""
    positional = [*arguments.posonlyargs, *arguments.args]
    return [arg.arg for arg in [*positional[len(positional) - len(arguments.defaults) :], *arguments.kwonlyargs]]


def _parameters(tree: ast.Module) -> list[str]:
    """The parameters without a default, unless they are very short or mean something else in this file, too."""
    others = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    others.update(target.id for node in tree.body if isinstance(node, ast.Assign) for target in _names(node.targets))
    found = [arg.arg for node in ast.walk(tree) if isinstance(node, ast.arguments) for arg in [*node.posonlyargs, *node.args]]
    return [name for name in found if len(name) > _SHORT and name not in others and name not in _EVERYWHERE]


def _names(nodes: list[ast.expr]) -> Iterator[ast.Name]:
    return (name for node in nodes for name in ast.walk(node) if isinstance(name, ast.Name))


def _shared(trees: Mapping[str, ast.Module]) -> set[str]:
    """Private names that a file looks up in what is not its own: it defines no such name, or another file does as well."""
    owned = {path: {*_defined(tree), *_kept_in_self(tree)} for path, tree in trees.items()}
    owners = Counter(name for names in owned.values() for name in names)
    shared = set()
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and _is_private(node.attr):
                others = owners[node.attr] - (node.attr in owned[path])
                if node.attr not in owned[path] or (others and not _is_self(node.value)):
                    shared.add(node.attr)
    return shared


def _kept_in_self(tree: ast.Module) -> Iterator[str]:
    """The names of a file's own classes: methods, attributes, and what is assigned to ``self``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from _members(node)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _is_self(node.value):
            yield node.attr


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def _strings_and_imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((node.module or "") if isinstance(node, ast.ImportFrom) else "").split(".")
            for alias in node.names:
                yield from (*alias.name.split("."), alias.asname or alias.name)
        elif isinstance(node, ast.JoinedStr):  # its parts are tokens since Python 3.12 only
            yield from (part.id for part in ast.walk(node) if isinstance(part, ast.Name))


def _kin(trees: Mapping[str, ast.Module]) -> set[str]:
    """The files with a class that inherits from another file's class, and those others, if they have private attributes."""
    families: list[set[str]] = []
    lenders: set[str] = set()
    for path, tree in trees.items():
        homes = dict(_imported(tree, path))
        found = {other for base in _bases(tree) for other in trees if _is_home(other, base, homes)}
        lenders |= found
        if found:
            family = found | {path}
            for known in [known for known in families if known & family]:  # a base of a base is kin, too
                families.remove(known)
                family |= known
            families.append(family)
    private = {path for path in lenders if any(_is_private(name) for name in _attributes(trees[path]))}
    return {path for family in families if family & private for path in family}


def _bases(tree: ast.Module) -> list[ast.expr]:
    return [base for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for base in node.bases]


def _is_home(path: str, base: ast.expr, homes: Mapping[str, str]) -> bool:
    """True when the class `base` is defined in the file `path`: imported itself, or an attribute of an imported module."""
    if isinstance(base, ast.Name):
        home = homes.get(base.id, "").rpartition("/")[0]
    elif isinstance(base, ast.Attribute) and isinstance(base.value, ast.Name):
        home = homes.get(base.value.id, "")
    else:
        return False
    return bool(home) and (path == home + ".py" or path.endswith("/" + home + ".py"))


def _imported(tree: ast.Module, path: str) -> Iterator[tuple[str, str]]:
    """Each name that a file imports from another one, and where that would be if it were a module: its path without ``.py``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            folder = path.rpartition("/")[0] if node.level else ""
            home = "/".join(part for part in (folder, (node.module or "").replace(".", "/")) if part)
            for alias in node.names:
                yield alias.asname or alias.name, f"{home}/{alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name, alias.name.replace(".", "/")


def _renamed(source: str, names: Mapping[str, str]) -> str:
    lines = source.splitlines(keepends=True)
    for token in reversed(list(tokenize.generate_tokens(io.StringIO(source).readline))):
        if token.type == tokenize.NAME and token.string in names:
            row, begin, end = token.start[0] - 1, token.start[1], token.end[1]
            lines[row] = lines[row][:begin] + names[token.string] + lines[row][end:]
    return "".join(lines)
