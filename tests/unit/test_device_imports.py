"""The board imports late and inside functions: what is imported must be there, also where no other test comes by."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from iotctl import ROOT

_FOLDERS = {"modules": ROOT / "modules", "iot_platform": ROOT / "platform" / "iot_platform"}
_SOURCES = sorted(path for folder in _FOLDERS.values() for path in folder.rglob("*.py"))


@pytest.mark.parametrize("source", _SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_device_code_imports_is_there(source: Path) -> None:
    for module, name in _imports(source):
        found = _file(module)
        if found:
            assert name in _names(found) or _file(f"{module}.{name}"), f"{module} has no {name}"


def _imports(source: Path, late: bool = True) -> Iterator[tuple[str, str]]:
    """The full name of the module, and the name that is taken from it; without `late` only where the file itself is imported."""
    package = ".".join(source.relative_to(next(f.parent for f in _FOLDERS.values() if f in source.parents)).parent.parts)
    for node in ast.walk(_tree(source)) if late else _at_import(_tree(source)):
        if isinstance(node, ast.ImportFrom):
            module = f"{package}.{node.module or ''}".rstrip(".") if node.level else str(node.module)
            yield from ((module, alias.name) for alias in node.names)


def _at_import(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _at_import(child)


def _file(module: str) -> Path | None:
    first, *rest = module.split(".")
    if first not in _FOLDERS:
        return None
    path = _FOLDERS[first].joinpath(*rest)
    return next((found for found in (path.with_suffix(".py"), path / "__init__.py") if found.exists()), None)


@cache
def _names(path: Path) -> set[str]:
    """What a module defines at its top level, or hands out by a `__getattr__` of its own."""
    found: set[str] = set()
    for node in _tree(path).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
            if node.name == "__getattr__":
                found |= {str(leaf.value) for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)}
            continue
        for leaf in ast.walk(node):  # also below a `try` or an `if`
            if isinstance(leaf, ast.Import | ast.ImportFrom):
                found |= {alias.asname or alias.name.split(".")[0] for alias in leaf.names}
            elif isinstance(leaf, ast.Name) and isinstance(leaf.ctx, ast.Store):
                found.add(leaf.id)
    return found


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def test_the_platform_imports_no_module() -> None:
    platform = [path for path in _SOURCES if _FOLDERS["iot_platform"] in path.parents]
    assert platform
    assert not [(path.name, module) for path in platform for module, _name in _imports(path) if module.split(".")[0] == "modules"]


def test_a_module_imports_nothing_of_another_but_its_class() -> None:
    for source in _SOURCES:
        if _FOLDERS["modules"] in source.parents:
            own = f"modules.{source.relative_to(_FOLDERS['modules']).parts[0]}"
            for module, name in _imports(source):
                other = module.startswith("modules.") and module != own and not module.startswith(own + ".")
                assert not other or name == "Module", f"{source.relative_to(ROOT)} imports {name} of {module}"


def test_no_imports_go_round_in_a_circle() -> None:
    needs = {source: {_found(*names) for names in _imports(source, late=False)} - {None} for source in _SOURCES}
    done: set[Path] = set()
    while ready := {source for source in needs if source not in done and needs[source] - {source} <= done}:
        done |= ready
    assert not [str(source.relative_to(ROOT)) for source in needs if source not in done]


def test_what_a_phase_begins_with_is_imported_a_step_each_the_deepest_first() -> None:
    ota = _FOLDERS["modules"] / "ota"
    assigned = [node for node in _tree(ota / "job.py").body if isinstance(node, ast.Assign)]
    first = next(ast.literal_eval(node.value) for node in assigned if getattr(node.targets[0], "id", "") == "_FIRST")
    there = {ota / f"{name}.py" for name in ("module", "errors", "phases", "job", "updates")}
    for name, words in first.items():
        done = set(there)
        for part in [*words.split(), name]:
            path = ota / f"{part.replace('.', '/')}.py"
            needs = {_found(*names) for names in _imports(path, late=False)}
            missing = {found for found in needs if found and ota in found.parents} - done
            assert not {found for found in missing if found.name != "__init__.py"}, f"{part} needs more, for {name}"
            done.add(path)


def _found(module: str, name: str) -> Path | None:
    """The file that ``from module import name`` imports: a submodule of that name, or else the module."""
    return _file(f"{module}.{name}") or _file(module)


def test_an_update_and_the_state_agree_on_how_many_update_boots_there_are() -> None:
    """Each has the number: an update that imported the state for it would take memory."""
    tries = [line.split() for name in ("updates", "state") for line in (ROOT / f"modules/ota/{name}.py").read_text().splitlines()]
    found = [
        words[2].removeprefix("const(").removesuffix(")") for words in tries if words[:2] in (["_TRIES", "="], ["TRIES", "="])
    ]
    assert len(found) == 2 and found[0] == found[1]


def test_the_buffers_that_a_job_keeps_are_as_large_as_their_users_have_them() -> None:
    """Each has the number, as above; an unpacker and a connection also work without a job, with buffers of their own."""
    kept = [("job", "_BUFFER"), ("bundle/inflate", "_ROOM"), ("transport/connection", "LINE")]
    texts = [(name, (ROOT / f"modules/ota/{file}.py").read_text()) for file, name in kept]
    found = [re.search(rf"^{name} = (?:const\()?(\d+)", text, re.M) for name, text in texts]
    assert {match and match[1] for match in found} == {"1024"}
