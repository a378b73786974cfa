"""Private names of device code, made few: a board keeps every name of every file that it has ever imported, for ever.

MicroPython interns names in tables that are never freed and double in size when they are full: with some 1,260 names in them
the next one costs 9 KB of heap in one piece. Names that a file keeps to itself, such as ``_check_header``, need not differ from
those of another file: each file's become ``a``, ``b``, ..., ``_0``, ``_1``, ... Lines stay, so tracebacks name the same file and
line as before.

Renamed are, in a file, its own private top-level names, its classes' private attributes and methods, and the parameters that can
only be given by position; in a library or a part of a module also what nobody else has a word for. Nothing is that stands in a
string, or that another file looks up. What stands behind a dot is counted by itself, by files whose classes inherit from each
other together.
"""

from __future__ import annotations

import ast
import builtins
import io
import re
import tokenize
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from string import ascii_lowercase

_FACES = ("__init__.py", "module.py")  # of a module: what other modules may call
_SHORT = 2  # letters: nothing is gained with these
# What MicroPython itself calls by its name, in streams, block devices, file systems and generators
_PROTOCOLS = "read readinto readline readlines write close ioctl readblocks writeblocks mount umount ilistdir statvfs send throw"
# What `requests` calls of sockets: the frozen one is in no file of ours, and gets ours (modules/ota/bounded.py)
_SOCKETS = "SOCK_STREAM getaddrinfo socket connect settimeout setblocking"
_EVERYWHERE = frozenset(("self", "cls", *_PROTOCOLS.split(), *_SOCKETS.split(), *dir(builtins)))


def shorten(sources: Mapping[str, str]) -> dict[str, str]:
    """The same sources by path, each with its own private names shortened."""
    trees = {path: _parsed(source) for path, source in sources.items()}
    own = {path: _at_home(path, trees) for path in trees}
    attributes = {path: dict.fromkeys(_attributes(tree)) for path, tree in trees.items()}
    families = _families(trees, attributes, own)
    taken = {name for tree in trees.values() for name in (*_strings_and_imports(tree), *_by_keyword(tree))}
    taken |= _shared([[trees[path] for path in family] for family in families])
    taken |= {name for path, names in attributes.items() for name in names if not _is_private(name) and name not in own[path]}
    tokens = {path: set(re.findall(r"\w+", source)) for path, source in sources.items()}
    shortened = {}
    for family in families:
        inner = [name for path in family for name in attributes[path] if _is_private(name) or name in own[path]]
        unclear = taken.union(*((*_read_in_class(trees[path]), *_odd_members(trees[path])) for path in family))
        seen = set().union(*(tokens[path] for path in family), *attributes.values())
        letters = not any(_has_foreign_base(path, trees) for path in family)
        looked_up = _shorter((name for name in inner if name not in unclear), seen, letters)
        for path in family:
            fixed = {name: at for name, at in _numbers(trees[path], own[path]).items() if name not in taken}
            outer = [*_defined(trees[path], own[path]), *_parameters(trees[path])]
            plain = _shorter((name for name in outer if name not in taken and name not in fixed), tokens[path])
            plain |= {name: f"_n{number}" for number, name in enumerate(fixed)}
            shortened[path] = _renamed(_fixed(sources[path], fixed), trees[path], plain, looked_up)
    return shortened


def _shorter(names: Iterable[str], seen: Container[str], letters: bool = True) -> dict[str, str]:
    """A new name for each: a letter that is not `seen` in the source, for many of them have a name anyway; then numbers."""
    every = (*(ascii_lowercase if letters else ()), *(f"_{number}" for number in range(1000)))
    new = (name for name in every if name not in seen)
    return {name: next(new) for name in dict.fromkeys(names)}


def _numbers(tree: ast.Module, own: frozenset[str]) -> dict[str, ast.expr]:
    """The private top-level names that are given a number once and for all, before anybody reads them, and that expression."""
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    given = Counter(node.id for node in uses if isinstance(node.ctx, ast.Store))
    given.update(node.arg for node in ast.walk(tree) if isinstance(node, ast.arg))
    first = {node.id: node.lineno for node in sorted(uses, key=lambda node: -node.lineno) if not isinstance(node.ctx, ast.Store)}
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(target := node.targets[0], ast.Name):
            known = _is_private(target.id) or target.id in own
            if known and given[target.id] == 1 and first.get(target.id, 1 << 30) > node.lineno and _is_number(node.value):
                found[target.id] = node.value
    return found


def _is_number(node: ast.expr) -> bool:
    """True for whole numbers, and what is computed from nothing else."""
    if isinstance(node, ast.BinOp):
        return _is_number(node.left) and _is_number(node.right) and not isinstance(node.op, ast.Div | ast.Pow)
    if isinstance(node, ast.UnaryOp):
        return _is_number(node.operand) and not isinstance(node.op, ast.Not)
    return isinstance(node, ast.Constant) and type(node.value) is int


def _fixed(source: str, numbers: Mapping[str, ast.expr]) -> str:
    """The source with const() around these: the compiler then knows them, and a board no such name at all."""
    lines = source.encode().splitlines(keepends=True)
    for name, node in numbers.items():
        assert node.end_lineno == node.lineno, f"{name} is a number on several lines"
        line, end = lines[node.lineno - 1], node.end_col_offset or 0
        lines[node.lineno - 1] = line[: node.col_offset] + b"const(" + line[node.col_offset : end] + b")" + line[end:]
    return b"".join(lines).decode()


def _parsed(source: str) -> ast.Module:
    """Empty for what is no Python: the compiler will say so, with the line."""
    try:
        return ast.parse(source)
    except SyntaxError:
        return ast.Module([], [])


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _defined(tree: ast.Module, own: frozenset[str]) -> list[str]:
    """The private names that a file defines at its top level, in their order."""
    return [name for name in _top(tree) if _is_private(name) or name in own]


def _top(tree: ast.Module) -> dict[str, None]:
    names: dict[str, None] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names[node.name] = None
        elif isinstance(node, ast.Assign) and not _is_const(node.value):  # a const() has no name on a board
            names.update((target.id, None) for target in node.targets if isinstance(target, ast.Name))
    return names


def _at_home(path: str, trees: Mapping[str, ast.Module]) -> frozenset[str]:
    """What a library or a part of a module defines and nobody else has a word for: as private as if it began with a line."""
    if not path.startswith("lib/") and not (path.startswith("modules/") and path.rpartition("/")[2] not in _FACES):
        return frozenset()
    elsewhere = {word for other, tree in trees.items() if other != path for word in _words(tree)}
    mine = {*_top(trees[path]), *_kept_in_self(trees[path])} - _errors(trees[path])  # those are read in logs
    strings = set(_strings_and_imports(trees[path]))
    return frozenset(name for name in mine - elsewhere - strings - _EVERYWHERE if not name.startswith("__"))


def _errors(tree: ast.Module) -> set[str]:
    """The classes of exceptions."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            bases = [getattr(builtins, base.id, None) for base in node.bases if isinstance(base, ast.Name)]
            if any(isinstance(base, type) and issubclass(base, BaseException) for base in bases):
                found.add(node.name)
    return found


def _words(tree: ast.Module) -> Iterator[str]:
    """Every name in a file, and every string."""
    yield from _strings_and_imports(tree)
    for node in ast.walk(tree):
        for field in ("id", "attr", "arg", "name"):
            if isinstance(word := getattr(node, field, None), str):
                yield word


def _is_const(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "const"


def _attributes(tree: ast.Module) -> Iterator[str]:
    """Every name that is looked up in an object, or is there to be: attributes and methods."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.ClassDef):
            yield from _members(node)


def _members(node: ast.ClassDef) -> Iterator[str]:
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
            yield inner.name
        elif isinstance(inner, ast.Assign) and not _is_const(inner.value):
            yield from (target.id for target in inner.targets if isinstance(target, ast.Name))


def _by_keyword(tree: ast.Module) -> Iterator[str]:
    """The parameters that somebody names, or may name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg:
            yield node.arg
        elif isinstance(node, ast.arguments):
            yield from _optional(node)


def _read_in_class(tree: ast.Module) -> set[str]:
    """A class's names that are also read without an object, as only the class's own body can: they stay."""
    members = {name for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for name in _members(node)}
    return members & {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def _odd_members(tree: ast.Module) -> set[str]:
    """What a class defines in some other way than by a plain ``name = value`` or ``def`` in its body: such names stay."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            found |= set(_defined_below(node.body)) - set(_members(node))
    return found


def _defined_below(body: Iterable[ast.AST]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        else:
            yield from _defined_below(ast.iter_child_nodes(node))


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


def _shared(families: list[list[ast.Module]]) -> set[str]:
    """Private names that are looked up in what is not one's own: the family defines no such name, or another one does as well."""
    owned = [{name for tree in family for name in (*_top(tree), *_kept_in_self(tree))} for family in families]
    owners = Counter(name for names in owned for name in names)
    shared = set()
    for names, family in zip(owned, families, strict=True):
        for node in (node for tree in family for node in ast.walk(tree)):
            if isinstance(node, ast.Attribute) and _is_private(node.attr):
                others = owners[node.attr] - (node.attr in names)
                if node.attr not in names or (others and not _is_self(node.value)):
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
            for part in ast.walk(node):
                yield from (word for field in ("id", "attr", "arg") if isinstance(word := getattr(part, field, None), str))


def _families(
    trees: Mapping[str, ast.Module], attributes: Mapping[str, Iterable[str]], own: Mapping[str, frozenset[str]]
) -> list[list[str]]:
    """All files: those with a class that inherits from another file's class, together with those others; the rest, each alone."""
    families = [{path} for path in trees]
    for path, tree in trees.items():
        homes = dict(_imported(tree, path))
        for other in {other for base in _bases(tree) for other in trees if _is_home(other, base, homes)}:
            if any(_is_private(name) or name in own[other] for name in attributes[other]) or _lends(other, trees):
                joined = [known for known in families if path in known or other in known]
                families = [known for known in families if known not in joined] + [set().union(*joined)]
    return [sorted(family) for family in families]


def _lends(path: str, trees: Mapping[str, ast.Module]) -> bool:
    """True for a file whose own classes inherit from another file's: a base of a base is kin, too."""
    homes = dict(_imported(trees[path], path))
    return any(_is_home(other, base, homes) for base in _bases(trees[path]) for other in trees)


def _has_foreign_base(path: str, trees: Mapping[str, ast.Module]) -> bool:
    """True for a file with a class that inherits from one of the firmware: who knows what names that has."""
    homes = dict(_imported(trees[path], path))
    here = {node.name for node in ast.walk(trees[path]) if isinstance(node, ast.ClassDef)}
    return any(
        not (isinstance(base, ast.Name) and (base.id in here or hasattr(builtins, base.id)))
        and not any(_is_home(other, base, homes) for other in trees)
        for base in _bases(trees[path])
    )


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


def _renamed(source: str, tree: ast.Module, plain: Mapping[str, str], looked_up: Mapping[str, str]) -> str:
    """The source with its names renamed: `looked_up` those behind a dot or defined in a class, `plain` all others."""
    lines = source.splitlines(keepends=True)
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    members = places(tree, tokens)
    for before, token in reversed(list(zip([None, *tokens], tokens, strict=False))):
        behind_dot = before is not None and before.string == "."
        names = looked_up if behind_dot or token.start in members else plain
        if token.type == tokenize.NAME and token.string in names:
            row, begin, end = token.start[0] - 1, token.start[1], token.end[1]
            lines[row] = lines[row][:begin] + names[token.string] + lines[row][end:]
    return "".join(lines)


def places(tree: ast.Module, tokens: list[tokenize.TokenInfo]) -> set[tuple[int, int]]:
    """Where a class defines a name: row and column."""
    found: set[tuple[int, int]] = set()
    heads: set[tuple[int, int]] = set()
    for node in ast.walk(tree):
        for inner in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                heads.add((inner.lineno, inner.col_offset))
            elif isinstance(inner, ast.Assign):
                found.update((target.lineno, target.col_offset) for target in inner.targets)
    for at, token in enumerate(tokens):
        if token.start in heads and token.string in ("def", "async"):
            found.add(tokens[at + 1 + (token.string == "async")].start)
    return found
