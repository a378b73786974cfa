"""The reference tree has the size and the shape that the bench's page says, and is the same every time."""

from __future__ import annotations

import ast
import hashlib

from bench import reference
from bench.lab import usual_archive

OWN = 3000
TREE = reference.tree(OWN)


def test_it_has_42_files_and_228_kilobytes() -> None:
    assert len(TREE) + 3 == reference.FILES == 42
    assert abs(sum(map(len, TREE.values())) + OWN - 228_000) < 100


def test_it_is_code_that_compiles_and_packs_like_code() -> None:
    sources = {path: data for path, data in TREE.items() if path.endswith(".py")}
    for path, data in sources.items():
        ast.parse(data, path)
    assert len(sources) > len(TREE) / 2
    packed = len(usual_archive(TREE))
    assert 3.3 < sum(map(len, TREE.values())) / packed < 4.2  # the peers' tree: 228 KB in 62 KB


def test_the_files_are_of_different_sizes_and_contents() -> None:
    sizes = sorted(len(data) for data in TREE.values())
    assert sizes[0] < 4000 and sizes[-1] > 8000
    assert len({hashlib.sha256(data).digest() for data in TREE.values()}) == len(TREE)


def test_the_update_changes_one_line_of_a_file_of_4600_bytes() -> None:
    new = reference.updated(TREE)
    assert [path for path in TREE if TREE[path] != new[path]] == [reference.CHANGED]
    old_lines, new_lines = TREE[reference.CHANGED].splitlines(), new[reference.CHANGED].splitlines()
    assert sum(a != b for a, b in zip(old_lines, new_lines, strict=True)) == 1
    assert len(new[reference.CHANGED]) == 4600


def test_it_is_always_the_same() -> None:
    assert reference.tree(OWN) == TREE
    joined = b"".join(TREE[path] for path in sorted(TREE))
    assert hashlib.sha256(joined).hexdigest()[:16] == "16393a56f227a811"


def test_larger_trees_have_the_files_and_bytes_that_were_asked_for() -> None:
    tree = reference.scaled(100, 500_000)
    assert len(tree) == 100 and sum(map(len, tree.values())) == 500_000


def test_rewritten_every_file_is_another_of_the_same_size() -> None:
    new = reference.rewritten(TREE)
    assert [len(new[path]) for path in TREE] == [len(data) for data in TREE.values()]
    assert not [path for path in TREE if new[path] == TREE[path]]
    for path in (path for path in new if path.endswith(".py")):
        ast.parse(new[path], path)


def test_a_generated_module_compiles_and_grows_with_its_methods() -> None:
    sources = [reference.module("ballast", methods) for methods in (4, 40)]
    assert [ast.parse(source).body[-1].name for source in sources] == ["Module", "Module"]  # type: ignore[attr-defined]
    assert len(sources[1]) > 5 * len(sources[0])
