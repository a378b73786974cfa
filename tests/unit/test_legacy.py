"""The `latest` line, and what an archive without a list may contain."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.ota.errors import OtaError
from modules.ota.legacy import latest, requests_http
from tests.unit.test_tarfile import archive as tar_archive
from tests.unit.test_tarfile import patched, tarfile

SHA = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        (f"1.4.0;f.tar.gz;120;43210;{SHA};\n", ("1.4.0", "f.tar.gz", 120, 43210, SHA)),
        (f"1.4.0;f.tar.gz;120;43210;{SHA.upper()}", ("1.4.0", "f.tar.gz", 120, 43210, SHA)),
        ("1.4.0;f.tar.gz;120;43210;", ("1.4.0", "f.tar.gz", 120, 43210, None)),
        (f"1.4.0;f.tar.gz;120;{SHA};", ("1.4.0", "f.tar.gz", 120, None, SHA)),
        ("1.4.0;f.tar.gz;120;", ("1.4.0", "f.tar.gz", 120, None, None)),
        ("1.4.0;f.tar.gz;", ("1.4.0", "f.tar.gz", None, None, None)),
        (" 1.4.0;f.tar.gz\r\n", ("1.4.0", "f.tar.gz", None, None, None)),
        ("1.4.0;f.tar.gz;;;", ("1.4.0", "f.tar.gz", None, None, None)),
    ],
)
def test_reads_what_servers_give(line: str, parsed: tuple[Any, ...]) -> None:
    assert requests_http.parse_latest(line) == parsed


@pytest.mark.parametrize(
    "line",
    [
        "",
        ";",
        "1.4.0",
        "1.4.0;",
        ";f.tar.gz;",
        "<!DOCTYPE html><html>;</html>",
        "1.4.0;../f.tar.gz;",
        "1.4.0;a/f.tar.gz;",
        "1.4.0;/f.tar.gz;",
        "1.4.0;http://host/f;",
        "1.4.0;.hidden;",
        "1.4.0;f?x=1;",
        "1.4.0;f\r\nX: y;",
        "1.4.0;f.tar.gz;\n1.5.0;g.tar.gz;",
        "new;f.tar.gz;",
        "1.4.0;f.tar.gz;-1;",
        "1.4.0;f.tar.gz;1e3;",
        "1.4.0;f.tar.gz;120;4321000000;",
        "1.4.0;f.tar.gz;120;43210;beef;",
        f"1.4.0;f.tar.gz;120;43210;{SHA}0;",
        f"1.4.0;f.tar.gz;120;43210;{SHA};more;",
        f"1.4.0;{'f' * 65};",
        f"{'1.' * 40}0;f;",
    ],
)
def test_refuses_every_other_line(line: str) -> None:
    with pytest.raises(OtaError) as caught:
        requests_http.parse_latest(line)
    assert caught.value.reason == "bad_channel"


@given(st.text("0123456789.;abf\n-/ ", max_size=120))
def test_a_line_is_refused_or_what_it_says_is_safe(line: str) -> None:
    try:
        version, file, size_kb, size, sha256 = requests_http.parse_latest(line)
    except OtaError:
        return
    assert "/" not in file
    assert file[0] != "."
    assert (size_kb or 0) >= 0
    assert (size or 0) >= 0
    assert sha256 is None or len(sha256) == 64
    assert version in line


def paths_of(data: bytes) -> list[str]:
    opened = latest._Archive.__new__(latest._Archive)  # without the file and its gzip
    opened._tar = tarfile.TarFile(fileobj=io.BytesIO(data))
    return [path for path, _member in opened.members()]


def folder(name: str) -> tuple[Any, bytes]:
    import tarfile as standard

    info = standard.TarInfo(name)
    info.type = standard.DIRTYPE
    return info, b""


def test_folders_are_skipped_and_names_are_brought_to_one_form() -> None:
    data = tar_archive(
        [folder("./"), folder("."), folder("lib"), folder("./modules/"), ("./modules/a.py", b"1"), ("main.py", b"2")]
    )
    assert paths_of(data) == ["modules/a.py", "main.py"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../boot.py", "bad_path"),
        ("/boot.py", "bad_path"),
        ("./../boot.py", "bad_path"),
        ("././boot.py", "bad_path"),
        ("a/../boot.py", "bad_path"),
        ("a//b.py", "bad_path"),
        ("a/./b.py", "bad_path"),
        ("boot.py.", "bad_path"),
        ("boot.py ", "bad_path"),
        ("a\\b.py", "bad_path"),
        ("PREFS~1.JSO", "bad_path"),
        ("\xe4.py", "bad_path"),
        ("b/" + "a" * 99, "bad_path"),
        ("prefs.json", "protected_path"),
        ("./Prefs.JSON", "protected_path"),
        ("prefs.json.1", "protected_path"),
        (".ota/state.0", "protected_path"),
        ("./.OTA/journal", "protected_path"),
        ("crash.log", "protected_path"),
        ("os.py", "protected_path"),
        ("lib/json.mpy", "protected_path"),
        ("machine/__init__.py", "protected_path"),
        ("boot.mpy", "protected_path"),
    ],
)
def test_refuses_names_that_no_release_may_have(name: str, reason: str) -> None:
    for member in ((name, b"x"), folder(name)):
        with pytest.raises(OtaError) as caught:
            paths_of(tar_archive([member]))
        assert caught.value.reason == reason


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"6", b"7", b"x", b"g", b"L", b"K", b"S"])
def test_refuses_links_devices_and_extensions(kind: bytes) -> None:
    with pytest.raises(OtaError) as caught:
        paths_of(patched(156, kind, tar_archive([("file", b"")])))
    assert caught.value.reason == "bad_member"


def test_refuses_a_file_that_no_board_can_hold() -> None:
    with pytest.raises(OtaError) as caught:
        paths_of(patched(124, b"00077777777\0", tar_archive([("file", b"")])))
    assert caught.value.reason == "too_large"


def test_a_damaged_archive_is_a_bad_bundle() -> None:
    with pytest.raises(OtaError) as caught:
        paths_of(tar_archive([("file", b"x" * 600)])[:1000])
    assert caught.value.reason == "bad_bundle"
