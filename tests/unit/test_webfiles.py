"""What browsers get: gzipped once, the same bytes each time, every neighbour named by its digest."""

from __future__ import annotations

import gzip
import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iotctl import ROOT, tree, webfiles
from iotctl.profile import Profile
from modules.web.http import pieces

PAGE = ROOT / "modules" / "web" / "www"
NAMES = ("index.html", "app.js", "style.css")


@pytest.fixture(scope="module")
def board() -> tree.Files:
    value = {"shortName": "board", "activeModules": ["web"]}
    return tree.collect(Profile(Path("profile.json"), json.dumps(value).encode(), value), "1.0.0", py=True)


def test_the_board_holds_gzipped_files_only(board: tree.Files) -> None:
    found = {path for path in board if path.startswith("modules/web/") and not path.endswith(".py")}
    assert found == {f"modules/web/{name}.gz" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_file_unpacks_to_what_it_was(board: tree.Files, name: str) -> None:
    unpacked = gzip.decompress(board[f"modules/web/{name}.gz"])
    assert re.sub(rb"\?[0-9a-f]{12}\"", b'"', unpacked) == (PAGE / name).read_bytes()


def test_the_page_names_each_neighbour_by_its_digest() -> None:
    page = webfiles.content(PAGE / "index.html").decode()
    for name in NAMES[1:]:
        assert f'"{name}?{webfiles.digest((PAGE / name).read_bytes())}"' in page
        assert f'"{name}"' not in page


def test_another_content_has_another_address(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text('<script src="a.js"></script><a href="#x">x</a><a href="b.js">b</a>')
    (tmp_path / "a.js").write_text("1")
    before = webfiles.content(tmp_path / "page.html")
    (tmp_path / "a.js").write_text("2")
    after = webfiles.content(tmp_path / "page.html")
    assert before != after
    assert b'href="#x"' in after and b'href="b.js"' in after  # no neighbours


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    first = [webfiles.packed(PAGE / name) for name in NAMES]
    copies = []
    for name in NAMES:
        (tmp_path / name).write_bytes((PAGE / name).read_bytes())
        copies.append(tmp_path / name)
    assert [webfiles.packed(path) for path in copies] == first
    assert all(data[4:8] == b"\0\0\0\0" and data[9] == 255 and data[3] == 0 for data in first)  # no time, system or name


def test_nothing_in_the_page_is_inline_or_from_elsewhere() -> None:
    page = (PAGE / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=", page) == []
    for name in NAMES:
        text = (PAGE / name).read_text().replace("http://www.w3.org/2000/svg", "")
        assert "//" not in re.sub(r"^\s*//.*$|\s// .*$", "", text, flags=re.M).replace("</", ""), name


def test_the_code_never_writes_html() -> None:
    code = (PAGE / "app.js").read_text()
    for word in "innerHTML outerHTML insertAdjacentHTML document.write eval( Function( DOMParser Fragment(".split():
        assert word not in code


_LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_VALUES = st.recursive(_LEAVES, lambda v: st.lists(v) | st.dictionaries(st.text(), v), max_leaves=20)


@given(_VALUES)
def test_an_answer_in_pieces_is_the_same_json(value: object) -> None:
    assert json.loads("".join(pieces(value))) == value


def test_an_iterator_in_an_answer_is_a_list_of_which_only_one_item_is_there_at_a_time() -> None:
    numbers = iter(range(3))
    answer = pieces({"a": numbers, "b": map(str, ())})
    assert (next(answer), next(answer), next(answer)) == ('{"a":', "[", "0")
    assert next(numbers) == 1
    assert "".join(answer) == ',2],"b":[]}'


@pytest.mark.parametrize(("value", "said"), [
    (math.nan, None), ([math.inf, -math.inf, 1.5], [None, None, 1.5]), ({"a": {"b": math.nan}}, {"a": {"b": None}}),
    ({5: 1, None: 2}, {"5": 1, "None": 2}), ({1}, "{1}"), (b"\xff", "b'\\xff'"), (1j, "1j"), (..., "Ellipsis"),
    ((True, None, 1 << 70), [True, None, 1 << 70]),
])  # fmt: skip
def test_what_json_has_no_word_for_is_nothing_or_its_text(value: object, said: object) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    assert json.loads("".join(pieces(value)), parse_constant=refuse) == said
