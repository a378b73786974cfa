"""What boards, bundles and requests say reaches a terminal as text: no escape sequence, no markup, and nothing that crashes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import unicodedata
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from iotctl import ROOT, bundle, errors, fleet, terminal, watch
from iotctl.errors import IotctlError
from iotctl.fleet import Address, Board
from iotctl.serve import Server
from tests.support import forge
from tests.unit.iotctl_fixture import run

HOSTILE = "\x1b]0;pwned\x07\x1b[2J [bold red]red[/bold red] [/x] [link=http://x]\ud800\u202e\x9b31m\r\n\x00end\\"


def harmless(text: str) -> None:
    """Nothing but what has a picture, and ends of lines."""
    assert not [c for c in text if unicodedata.category(c)[0] == "C" and c != "\n"], ascii(text)
    text.encode()


@pytest.mark.parametrize("words", [("check", "profile.json"), ("check", "profile.json", "--json"), ("--version",), ("--help",)])
def test_who_has_read_enough_ends_a_command_without_a_word(words: tuple[str, ...]) -> None:
    """`iotctl ... | head`."""
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run([sys.executable, "-m", "iotctl", *words], cwd=ROOT, stdout=writes, stderr=subprocess.PIPE)
    os.close(writes)
    assert done.returncode == 1 and done.stderr == b""


def test_the_version_is_that_of_the_package_or_of_this_checkout() -> None:
    assert run("--version").stdout == f"iotctl of {ROOT}\n"


def test_only_a_download_is_told_in_percent() -> None:
    for status, said in (("downloading", "downloading 40%"), ("trial", "trial"), ("failed", "failed")):
        assert fleet._doing(Board("door/1", {"online": "true", "ota/status": status}, percent=47)) == said


@given(st.text(st.characters()))
def test_whatever_is_said_is_shown_and_nothing_else_is_done(text: str) -> None:
    shown = terminal.plain(text)
    harmless(shown)
    assert "\n" not in shown and (shown == text or not text.isprintable())


def test_the_table_of_boards_shows_what_a_stranger_says(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"online": "true", "version": HOSTILE, "ota/status": HOSTILE, "ota/error": HOSTILE, "ota/available": "[/x]"}
    console = Console(file=StringIO(), width=400, force_terminal=True, color_system=None)
    console.print(watch.table([Board(f"door/{HOSTILE}", values)], Address("[::1]"), watch.Known()))
    said = console.file.getvalue()  # type: ignore[attr-defined]
    harmless(said.replace("\x1b[1m", "").replace("\x1b[3m", "").replace("\x1b[0m", ""))  # the table's own bold
    assert "[bold red]red[/bold red]" in said and "[/x]" in said and r"\x1b]0;pwned" in said and "[::1]" in said


def test_what_an_update_tells_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say(f"door/1: {HOSTILE}")
    terminal.say(HOSTILE, err=True)
    said = capsys.readouterr()
    for text in said:
        harmless(text)
        assert text.count("\n") == 1 and "[/x]" in text


def test_an_error_with_a_boards_words_is_one_harmless_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise IotctlError(HOSTILE)

    monkeypatch.setattr("iotctl.watch.snapshot", fail)
    result = run("watch", "--once")
    harmless(result.stderr)
    assert result.exit_code == errors.REFUSED and len(result.stderr.splitlines()) == 1


def test_a_bundles_words_are_shown_by_inspect_and_verify(tmp_path: Path) -> None:
    path = tmp_path / "1.1.0.tar.gz"
    path.write_bytes(forge.Forgery({"version": b"1.1.0\n"}, {"notes": HOSTILE}).pack())
    shown = run("inspect", path)
    assert shown.exit_code == 0, shown.output
    harmless(shown.output)
    assert "[bold red]red[/bold red]" in shown.output
    told = run("inspect", path, "--json")
    harmless(told.output)
    assert json.loads(told.output)["header"]["notes"] == HOSTILE
    for spoilt in ({"name": HOSTILE}, {"version": HOSTILE}, {"format": HOSTILE}, {"delete": [HOSTILE]}):
        path.write_bytes(forge.Forgery({"version": b"1.1.0\n"}, spoilt).pack())
        for command in ("verify", "inspect"):
            result = run(command, path)
            harmless(result.output)
            assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1, result.output


def test_a_request_is_one_harmless_line_of_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Server(tmp_path, log=terminal.say) as server:
        for request in (b"GET /\x1b[2J[/x]\x9b HTTP/1.0\r\nRange: \x1b]0;x\x07\xff\r\n\r\n", b"\x1b[31mGET /a HTTP/1.0\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as sock:
                sock.sendall(request)
                while sock.recv(4096):
                    pass
    lines = capsys.readouterr().out
    harmless(lines)
    assert r"\x1b[2J[/x]" in lines and len(lines.splitlines()) >= 2


def test_only_one_place_writes_to_the_terminal() -> None:
    """So that nothing gets past it."""
    writers = {path.name for path in (ROOT / "iotctl").glob("*.py") if "typer.echo" in path.read_text()}
    assert writers == {"terminal.py"}


def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    """48 MB in 0.1 MB: each is read piece by piece, and only what a command needs of it is kept."""
    path = tmp_path / "bomb.tar.gz"
    files = {f"f{n:02}.bin": bytes(8 * 1024 * 1024) for n in range(6)}
    path.write_bytes(forge.Forgery({**files, "version": b"1.1.0\n"}).pack())
    with forge.flat(8 * 1024 * 1024):
        bundle.verify(path)
        assert len(bundle.read(path, ()).entries) == 7
    with forge.flat(8 * 1024 * 1024):
        assert run("inspect", path).exit_code == 0
