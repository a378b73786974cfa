"""Which paths an update may name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.ota.errors import OtaError
from modules.ota.release import paths

PARTS = st.text("abcXYZ019_.-", min_size=1, max_size=12).filter(lambda part: part[-1] != ".")


@given(st.lists(PARTS, min_size=1, max_size=6).map("/".join))
def test_accepts_what_the_rules_allow(path: str) -> None:
    paths.check(path)


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "/main.py", "a/", "a//b", ".", "..", "../boot.py", "a/../b", "a/./b", "./a", "a.", "a./b", "a b", "a\\b",
        "a\x00b", "a:b", "PREFS~1.JSO", "é.py", "a\n", " a", "a ", "x" * 101, None, 7, ["a"],
    ],
)  # fmt: skip
def test_refuses_everything_else(path: object) -> None:
    with pytest.raises(OtaError) as caught:
        paths.check(path)
    assert caught.value.reason == "bad_path"


@pytest.mark.parametrize(
    "path", ["prefs.json", "PREFS.JSON", "prefs.json.1", "Prefs.json/x", ".ota/state.0", ".OTA/journal", ".ota", "crash.log"]
)
def test_protects_what_belongs_to_the_board(path: str) -> None:
    assert paths.protected(path)
    with pytest.raises(OtaError) as caught:
        paths.check_member(path)
    assert caught.value.reason == "protected_path"


@pytest.mark.parametrize(
    "path",
    ["os.py", "os.mpy", "os/__init__.py", "lib/os.py", "lib/machine.mpy", "OS.py", "json", "BOOT.py", "boot.mpy",
     "boot/x.py", "boot.txt", "bootstrap.css", "ota_boot.mpy", "ota_boot_old.py",
     "lib/boot.py", "lib/ota_boot.py", "asyncio/__init__.mpy", "requests.py"],
)  # fmt: skip
def test_refuses_names_that_would_be_imported_instead_of_the_firmwares(path: str) -> None:
    with pytest.raises(OtaError) as caught:
        paths.check_member(path)
    assert caught.value.reason == "protected_path"


@pytest.mark.parametrize(
    "path", ["boot.py", "ota_boot.py", "main.py", "modules/os.py", "lib/requests.mpy", "www/json", "prefs.py"]
)
def test_allows_the_loader_and_names_in_other_places(path: str) -> None:
    paths.check_member(path)


@pytest.mark.parametrize(
    ("previous", "path"), [("a", "a"), ("a", "A"), ("b", "a"), ("a", "a/b"), ("A", "a/b"), ("a.py", "a/b"), ("a/c", "a/B")]
)
def test_refuses_duplicates_twins_and_names_that_are_file_and_folder(previous: str, path: str) -> None:
    with pytest.raises(OtaError) as caught:
        paths.check_order(previous, path)
    assert caught.value.reason == "bad_member"


@given(st.lists(st.lists(PARTS, min_size=1, max_size=3).map("/".join), max_size=12))
def test_one_pass_in_order_finds_every_clash(names: list[str]) -> None:
    """Whatever the names: in sorted order the pass complains exactly when two of them cannot be files side by side."""
    names = sorted(names, key=paths.key)
    clash = any(
        i != j and (b.lower() == a.lower() or b.lower().startswith(a.lower() + "/"))
        for i, a in enumerate(names)
        for j, b in enumerate(names)
    )
    previous = None
    complained = False
    for name in names:
        try:
            paths.check_order(previous, name)
        except OtaError:
            complained = True
        previous = name
    assert complained == clash


@pytest.mark.parametrize(
    ("path", "names", "expected"),
    [
        ("data/log.txt", ["data"], True),
        ("data/log.txt", ["/data/"], True),
        ("Data/log.txt", ["data"], True),
        ("database.txt", ["data"], False),
        ("main.py", ["main.py"], True),
        ("main.py", [], False),
    ],
)
def test_excludes_files_and_whole_folders(path: str, names: list[str], expected: bool) -> None:
    assert paths.excluded(path, names) is expected
