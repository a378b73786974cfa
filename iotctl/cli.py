"""The command line: each command reads its arguments, calls functions that return data, and prints it.

Results go to stdout, errors as one line to stderr (see errors); a progress bar is drawn only on a terminal.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer
from iot_platform.module import name_ok
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text
from typer.core import TyperGroup

from iotctl import CACHE, INSTALLED, ROOT, archive, bundle, errors, files, keys, profile, project, publish, serve, terminal, tree
from iotctl import register as registers
from iotctl.errors import IotctlError
from modules.ota.release import fields

if TYPE_CHECKING:  # paho is slow to import, and few commands need it
    from iotctl.fleet import Address, Fleet
    from iotctl.rollout import Rollout, Runner


class _Commands(TyperGroup):
    """Every command's errors end here: one line on stderr, and the exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except errors.REPORTED as error:
            line, code = errors.report(error)
            terminal.say(line, err=True)
            raise typer.Exit(code) from None


_SOON_S = 30  # a board answers at once

app = typer.Typer(cls=_Commands, no_args_is_help=True, add_completion=False, rich_markup_mode="rich")
out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True)

ProfileArgument = Annotated[Path, typer.Argument(metavar="PROFILE", help="A profile.json.")]
BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle, such as dist/1.4.0.tar.gz.")]
VersionOption = Annotated[str, typer.Option("--version", help="Such as 1.4.0 or 1.4.0-rc1.")]
KeyOption = Annotated[Path | None, typer.Option("--key", help="Private key (PEM).")]
PassphraseOption = Annotated[
    str | None, typer.Option("--passphrase", envvar="IOTCTL_PASSPHRASE", help="The key's passphrase.", show_envvar=True)
]
SecretsOption = Annotated[bool, typer.Option("--with-secrets", help="Also with passwords in the profile.")]
PyOption = Annotated[bool, typer.Option("--py", help="Sources instead of .mpy.")]
NotesOption = Annotated[str, typer.Option("--notes", help="What people should know about it.")]
SequenceOption = Annotated[
    int | None, typer.Option("--sequence", min=1, max=fields.MAX_COUNTER, help="Higher is newer. Without it: 1004002 for 1.4.2.")
]
ExpiresOption = Annotated[str | None, typer.Option("--expires", help="A date (2030-01-31, UTC), or days from now.")]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]


BrokerOption = Annotated[str, typer.Option("--broker", metavar="HOST[:PORT]", envvar="IOTCTL_BROKER", help="The MQTT broker.")]
UserOption = Annotated[str | None, typer.Option("--user", envvar="IOTCTL_MQTT_USER", help="User name at the broker.")]
BrokerPasswordOption = Annotated[
    str | None, typer.Option("--password", envvar="IOTCTL_MQTT_PASSWORD", help="Its password.", show_envvar=True)
]
TlsOption = Annotated[bool, typer.Option("--tls", help="Speak TLS.")]
CaOption = Annotated[Path | None, typer.Option("--ca", help="TLS, with the authority that must have signed.", exists=True)]
FleetOption = Annotated[
    Path | None, typer.Option("--fleet", metavar="FILE", help="The boards that there should be: fleet.toml.", exists=True)
]
DevicesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="DEVICE...", help="Such as door/24a1, or the id alone.", show_default=False)
]
EveryoneOption = Annotated[bool, typer.Option("--all", help="Every board that is online.")]


def _a_name(text: str | None) -> str | None:
    if text == "":  # of a shell's variable that is not set: that must not mean all boards
        raise typer.BadParameter("a group has a name")
    return text


OfGroupOption = Annotated[
    str | None,
    typer.Option(
        "--group", metavar="NAME", callback=_a_name, help="Every board of a group: as --fleet says, or they themselves."
    ),
]
WifiPasswordOption = Annotated[
    str | None, typer.Option("--wifi-password", envvar="IOTCTL_WIFI_PASSWORD", help="Asked for.", show_envvar=True)
]
DeviceArgument = Annotated[str, typer.Argument(metavar="DEVICE", help="Such as door/24a1, or the id alone.")]
GroupOption = Annotated[str | None, typer.Option("--group", metavar="NAME", help="The group that it is in.")]
TagsOption = Annotated[str | None, typer.Option("--tags", metavar="WORDS", help='Such as "outside dry".')]
TimeoutOption = Annotated[int, typer.Option("--timeout", min=1, help="Seconds to wait for the result.")]


class Chosen(NamedTuple):
    """The boards that a command is for: these, or None for all that are online and, where it is named, say the group."""

    devices: list[str] | None
    group: str = ""


def _chosen(
    devices: DevicesArgument = None,
    everyone: EveryoneOption = False,
    group: OfGroupOption = None,
    fleet: FleetOption = None,
) -> Chosen:
    if [bool(devices), everyone, group is not None].count(True) != 1:
        raise IotctlError("name the boards, or say --all, or --group", 2)
    named = registers.group(_register(fleet), group) if group is not None and fleet else devices or None
    return Chosen(named, group or "")


def _address(
    broker: BrokerOption = "127.0.0.1",
    user: UserOption = None,
    password: BrokerPasswordOption = None,
    tls: TlsOption = False,
    ca: CaOption = None,
) -> Address:
    from iotctl.fleet import Address

    host, _colon, port = broker.partition(":")
    if port and not port.isdigit():
        raise IotctlError(f"--broker {broker}: expected a host, or host:port", 2)
    return Address(host, int(port or 0), user, password, tls, ca)


def _composed(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose `address` and `chosen` are made of options: on the command line these stand in their place."""

    def parameters(of: Callable[..., object]) -> dict[str, Parameter]:
        found = signature(of, locals={"Address": Any}, eval_str=True).parameters  # not imported yet
        return {name: each.replace(kind=Parameter.KEYWORD_ONLY) for name, each in found.items()}

    own = parameters(command)
    makers: dict[str, Callable[..., object]] = {"address": _address, "chosen": _chosen}
    options = {name: parameters(makers[name]) for name in own if name in makers}

    @functools.wraps(command, ("__name__", "__doc__"))
    def composed(**given: Any) -> None:
        made = {name: makers[name](**{each: given.pop(each) for each in its}) for name, its in options.items()}
        command(**made, **given)

    shown = [each for name in own for each in options.get(name, {name: own[name]}).values()]
    composed.__signature__ = Signature(shown)  # type: ignore[attr-defined]
    return composed


def _tell_version(asked: bool) -> None:
    if asked:
        terminal.say(f"iotctl {importlib.metadata.version('iotctl')}" if INSTALLED else f"iotctl of {ROOT}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Which iotctl this is.")
    ] = False,
) -> None:
    """Makes, signs, checks, publishes and serves what boards run.

    From nothing to an update:

      iotctl new greenhouse && cd greenhouse
      iotctl sim
      iotctl build profile.json --version 1.1.0 --key owner.pem --out dist
      iotctl publish dist/1.1.0.tar.gz site --key owner.pem
      iotctl serve site

    Exit codes: 0 done; 1 refused or not valid; 2 wrong usage; 3 a file is missing, or cannot be read or written.
    """


@app.command()
def keygen(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the private key goes; must not exist.")],
    passphrase: PassphraseOption = None,
    pin: Annotated[Path | None, typer.Option("--profile", help="Pin the public key in this profile.")] = None,
    role: Annotated[
        Literal["release", "channel"] | None, typer.Option("--role", help="What it may sign.", show_default="both")
    ] = None,
) -> None:
    """Make a signing key (RSA-3072), and pin its public half in a profile.

    Example: iotctl keygen key.pem --profile profile.json

    Keep the private key off the network: whoever has it can put code on your boards.
    """
    pinned = profile.read(pin) if pin else None
    key = keys.generate()
    value = profile.with_key(pinned, keys.jwk(key), role) if pinned else {}
    keys.write_private(key, file, passphrase)
    if pinned:
        profile.write(pinned, value)
        terminal.say(f"{file} written; its public key is pinned in {pin}")
    else:
        terminal.say_json(keys.jwk(key))


@app.command("new")
def new_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder; its name is that of the boards.")],
    board: Annotated[str, typer.Option("--board", help="sim, pico-w, esp32 or esp32s3.")] = "sim",
) -> None:
    """Make a project of your own, to keep in git: a profile, a signing key, and folders for your modules and files.

    Example: iotctl new greenhouse --board pico-w
    """
    from iotctl import new

    for name in new.project(folder, board):
        terminal.say(folder / name)
    terminal.say(f"next: cd {folder} && iotctl sim")


@app.command("new-module")
def new_module_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as thermometer.")],
    path: Annotated[Path, typer.Option("--profile", help="The profile that gets it.")] = Path("profile.json"),
) -> None:
    """Make a module in your project that works as it stands, with a panel, a setting, a command and a test, and switch it on.

    Example: iotctl new-module thermometer
    """
    from iotctl import new

    made, test = new.module(path, name)
    terminal.say(f"{made}: edit it, then `iotctl sim --fresh`")
    terminal.say(f"{test}: for `iotctl test`")


@app.command("test")
def run_tests(path: ProfileArgument = Path("profile.json")) -> None:
    """Run your project's tests, tests/test_*.py, on this computer: no board is needed.

    Example: iotctl test
    """
    from iotctl import new

    if not (path.parent / "tests").is_dir():
        raise IotctlError(f"there is no folder {path.parent / 'tests'}: `iotctl new-module` makes it", errors.FILE)
    raise typer.Exit(0 if new.tests(path.parent) else errors.REFUSED)


@app.command()
def check(
    path: ProfileArgument = Path("profile.json"),
    board: Annotated[
        str | None, typer.Option("--board", help="And on a pico, pico-w or esp32.", show_default="the profile's")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say everything that is wrong with a profile: the key, the problem, and what is expected.

    Example: iotctl check profile.json --board pico-w

    Exit code 0 when it is good, 1 when it is not.
    """
    given = profile.read(path)
    found, warnings = profile.problems(given), profile.warnings(given)
    board = board or given.board
    if board and not found:
        from iotctl import boards

        found = boards.problems(given, board)
    if as_json:
        value = {"ok": not found, "errors": [dataclasses.asdict(problem) for problem in found], "warnings": warnings}
        terminal.say_json(value)
    elif not found:
        terminal.say(f"{path} is good{f' on {board}' if board else ''}")
        for warning in warnings:
            terminal.say(f"warning: {warning}", err=True)
    else:
        rows = (((problem.key, problem.problem, problem.expected), "") for problem in found)
        out.print(terminal.table(None, ("key", "problem", "expected"), rows))
    raise typer.Exit(errors.REFUSED if found else 0)


@app.command()
def build(
    path: ProfileArgument,
    version: VersionOption,
    to: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where <version>.tar.gz goes.")],
    key: KeyOption = None,
    passphrase: PassphraseOption = None,
    py: PyOption = False,
    notes: NotesOption = "",
    sequence: SequenceOption = None,
    expires: ExpiresOption = None,
    unsigned: Annotated[bool, typer.Option("--unsigned", help="Leave the signature to `iotctl sign`.")] = False,
    with_secrets: SecretsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Build the board's whole file system as one bundle, and its bill of materials. The same input gives the same bytes.

    Example: iotctl build profile.json --version 1.4.0 --key key.pem --notes "Fixes the door." --out dist
    """
    given = _releasable(path, with_secrets)
    private = _signing_key(given, key, passphrase, unsigned)
    made = _make(given, version, py, notes, sequence, expires)
    if private:
        made = bundle.sign(made, private)
    data = bundle.pack(made)
    target = to / f"{version}.tar.gz"
    to.mkdir(parents=True, exist_ok=True)
    files.replace(target, data)
    from iotctl import sbom

    files.replace(to / f"{version}.cdx.json", sbom.make(made, given.places))
    if as_json:
        terminal.say_json({"file": str(target), "size": len(data), "signed": made.signature is not None, **made.header})
    else:
        header = made.header
        state = "signed" if made.signature else "not signed"
        terminal.say(f"{target}: {header['files']} files, {header['size']} bytes, {len(data)} packed, {state}")
        _tell_budget(given, made)
        for left in tree.left_out(given):
            terminal.say(f"left out: {left}")


@app.command("tree")
def tree_command(
    path: ProfileArgument,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An empty folder, or a new one.")],
    version: VersionOption,
    py: PyOption = False,
    notes: NotesOption = "",
    sequence: SequenceOption = None,
    expires: ExpiresOption = None,
) -> None:
    """Write the exact board file system into a folder, ready to be flashed.

    Example: iotctl tree profile.json board --version 1.0.0

    With the arguments of a build, `.ota/release` is that build's list.
    """
    made = _make(profile.read_good(path), version, py, notes, sequence, expires)
    tree.write(made.flashed, folder)
    terminal.say(f"{folder}: {made.header['files']} files, {made.header['size']} bytes")


PortArgument = Annotated[str | None, typer.Argument(metavar="[PORT]", help="Such as /dev/ttyUSB0.", show_default="the only one")]


@app.command("flash")
def flash_command(
    port: PortArgument = None,
    path: Annotated[Path, typer.Option("--profile", help="A profile.json.")] = Path("profile.json"),
    version: VersionOption = "1.0.0",
    name: Annotated[str | None, typer.Option("--name", help="What this one board is called, such as kitchen.")] = None,
    wifi: Annotated[str | None, typer.Option("--wifi", metavar="NAME", help="Its network, instead of secrets.toml's.")] = None,
    wifi_password: WifiPasswordOption = None,
    group: GroupOption = None,
    tags: TagsOption = None,
    recover: Annotated[bool, typer.Option("--recover", help="Also remove what an unfinished update has left.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be written, in which order.")] = False,
    py: PyOption = False,
    notes: NotesOption = "",
    sequence: SequenceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a tree to a board over USB: the first time, or with --recover when nothing else helps. Its console follows.

    Example: iotctl flash /dev/ttyUSB0 --name kitchen --wifi home

    The board needs MicroPython and a free serial port. It says first what it is, and what cannot run the tree is refused. Files
    that the tree does not have stay, preferences among them, which get what secrets.toml beside the profile has. After a broken
    connection nothing starts: do it again, it goes on where it was. With --recover the board's unfinished update is
    forgotten; the highest sequence that it has confirmed is not.
    """
    from iotctl import flash

    given = profile.read_good(path)
    prefs = project.secrets(path.parent)
    project.check_secrets(prefs, project.SECRETS)
    prefs.update(_network(wifi, wifi_password) if wifi else {})
    if name and not project.is_host_name(name):
        raise IotctlError(f"--name {name}: expected 1 to 32 letters a to z, digits and -, such as kitchen", 2)
    if group and not name_ok(group):
        raise IotctlError(f"--group {group}: expected letters, digits, _ . or -", 2)
    prefs.update({key: text for key, text in (("name", name), ("group", group), ("tags", tags)) if text is not None})
    content = _make(given, version, py, notes, sequence, None).flashed
    if dry_run:
        done = flash.plan(content, recover)
    else:
        port = flash.choose(port)
        for warning in profile.warnings(given):
            terminal.say(f"warning: {warning}", err=True)
        with _progress(sum(map(len, content.values())), "writing") as seen:
            done = flash.flash(content, port, recover, prefs, given.board, _beside_a_bar, seen)
    if as_json:
        terminal.say_json(flash.as_json(done, content))
    elif dry_run:
        for file in done.paths:
            terminal.say(file)
    else:
        terminal.say(f"{len(done.paths)} files, {sum(map(len, content.values()))} bytes are there and right; the board restarts")
        if out.is_terminal and port:
            console_command(port)


@app.command("console")
def console_command(port: PortArgument = None) -> None:
    """A board's console on this terminal, until Ctrl-C: what it says, and what you type. Try `help`.

    Example: iotctl console /dev/ttyUSB0
    """
    from iotctl import console, flash

    with suppress(KeyboardInterrupt):
        console.console(flash.choose(port))


@app.command()
def sign(
    path: BundleArgument,
    key: Annotated[Path, typer.Option("--key", help="Private key (PEM).")],
    passphrase: PassphraseOption = None,
) -> None:
    """Sign a bundle where the key is: on a machine without a network, if you like.

    Example: iotctl sign dist/1.4.0.tar.gz --key key.pem
    """
    private = keys.read_private(key, _ask_passphrase(key, passphrase))
    bundle.verify(path)
    files.replace(path, bundle.pack(bundle.sign(bundle.read(path, ("profile.json",)), private)))
    terminal.say(f"{path}: signed")


@app.command()
def verify(
    path: BundleArgument,
    of: Annotated[Path | None, typer.Option("--profile", help="Check it as a board with this profile would.")] = None,
    key: Annotated[Path | None, typer.Option("--key", help="Public or private key (PEM) that must have signed it.")] = None,
    passphrase: PassphraseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a bundle offline, by the board's own rules, and say what is wrong.

    Example: iotctl verify dist/1.4.0.tar.gz --profile profile.json

    The line begins with the reason that a board would report, such as bad_signature.
    """
    if of and key:
        raise IotctlError("give --profile or --key, not both", 2)
    board = profile.read_good(of, here=False) if of else None
    pinned = [keys.read_public_jwk(key, _ask_passphrase(key, passphrase))] if key else board.keys if board else None
    verdict = bundle.verify(path, board.name if board else None, pinned)
    if as_json:
        terminal.say_json(dataclasses.asdict(verdict))
    else:
        terminal.say(f"{path}: {verdict.name} {verdict.version} is whole; signature: {verdict.signature}")


@app.command()
def inspect(path: BundleArgument, as_json: JsonOption = False) -> None:
    """Show what is in a bundle. It is not verified: see `iotctl verify`.

    Example: iotctl inspect dist/1.4.0.tar.gz
    """
    found = bundle.read(path, ())
    if as_json:
        entries = [{**entry._asdict(), "digest": entry.digest.hex()} for entry in found.entries]
        terminal.say_json({"header": found.header, "signed": found.signature is not None, "entries": entries})
        return
    header = {**found.header, "signed": bool(found.signature)}
    out.print(terminal.table(None, ("header", ""), ((row, "") for row in header.items())))
    listed = (({**entry._asdict(), "digest": entry.digest.hex()[:16]}.values(), "") for entry in found.entries)
    out.print(terminal.table(None, archive.Entry._fields, listed))


@app.command("publish")
def publish_command(
    path: BundleArgument,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The web server's folder.")],
    channel: Annotated[str, typer.Option("--channel", help="stable, canary, ...")] = "stable",
    key: KeyOption = None,
    passphrase: PassphraseOption = None,
    rollout: Annotated[int, typer.Option("--rollout", min=0, max=100, help="Percent of the boards.")] = 100,
    groups: Annotated[
        list[str] | None, typer.Option("--group", metavar="NAME=PERCENT", help="Of a group, instead: house=50. May come again.")
    ] = None,
    expires: ExpiresOption = None,
    legacy: Annotated[bool, typer.Option("--legacy", help="Also for devices of public-micropython-iot-platform.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also what is older than the channel, or has expired.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put a bundle where boards find it; the channel file that names it comes after it.

    Example: iotctl publish dist/1.4.0.tar.gz site --key key.pem --rollout 10
    """
    private = _private(key, passphrase)
    expiry = _expiry(expires, int(time.time()))
    options = publish.Options(channel, rollout, expiry, legacy, force, groups=_percentages(groups or []))
    done = publish.publish(path, directory, options, private)
    if as_json:
        terminal.say_json({**dataclasses.asdict(done), "files": [str(file) for file in done.files]})
    else:
        for file in done.files:
            terminal.say(file)


@app.command("migrate")
def migrate_command(
    path: ProfileArgument,
    version: VersionOption,
    to: Annotated[Path, typer.Option("--out", metavar="DIR", help="The web server's folder.")],
    old: Annotated[
        list[Path], typer.Option("--old", exists=True, help="What the boards run: firmware.tar.gz, or a copy of their files.")
    ],
    channel: Annotated[Literal["stable", "canary"], typer.Option("--channel", help="Which boards.")] = "stable",
    key: KeyOption = None,
    passphrase: PassphraseOption = None,
    py: PyOption = False,
    notes: NotesOption = "",
    sequence: SequenceOption = None,
    with_secrets: SecretsOption = False,
) -> None:
    """Move boards of public-micropython-iot-platform to this one, over the air, by their own updater.

    Example: iotctl migrate profile.json --version 9.0.0 --old firmware.tar.gz --key key.pem --channel canary --out site

    Publishes the release, and beside it the archive and the line that those boards ask for. Power may fail at any moment: a
    board is on the old platform or on the new one, and goes back where the new one does not reach the server. Read
    docs/migration.md first.
    """
    from iotctl import migrate

    given, before = _releasable(path, with_secrets), [migrate.read_old(each) for each in old]
    if "ota" not in given.modules:
        raise IotctlError(f"{path}: activeModules does not name ota, so that would be the boards' last update")
    private = _signing_key(given, key, passphrase, False)
    made = _make(given, version, py, notes, sequence, None)
    made = bundle.sign(made, private) if private else made
    data = migrate.pack(made, given, before)
    for warning in migrate.warnings(given, version, before):
        terminal.say(f"warning: {warning}", err=True)
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / f"{version}.tar.gz"
        packed.write_bytes(bundle.pack(made))
        done = publish.publish(packed, to, publish.Options(channel), private)
    for file in [*done.files, *migrate.write(data, made.header, before, to, channel)]:
        terminal.say(file)


@app.command("serve")
def serve_command(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to serve.", exists=True, file_okay=False)],
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8070,
    host: Annotated[str, typer.Option("--host", help="0.0.0.0 for boards on your network.")] = "127.0.0.1",
) -> None:
    """Serve a folder over HTTP, with Range and ETag, a log line a request, until Ctrl-C.

    Example: iotctl serve site --host 0.0.0.0
    """
    with serve.Server(directory, port, host, log=terminal.say) as server:
        terminal.say(f"serving {directory} at {server.url} (Ctrl-C ends)")
        try:
            server.wait()
        except KeyboardInterrupt:
            terminal.say("ended")


@app.command()
def sim(
    path: ProfileArgument = Path("profile.json"),
    image: Annotated[Path, typer.Option("--image", help="The flash image; made when missing.")] = Path(".build/board.img"),
    fs: Annotated[str, typer.Option("--fs", help="lfs or fat.")] = "lfs",
    like: Annotated[
        str | None,
        typer.Option(
            "--like", help="Whose habits it has: pico, pico-w, esp32 or unix.", show_default="the profile's board, or unix"
        ),
    ] = None,
    heap: Annotated[str | None, typer.Option("--heap", help="The board's memory.", show_default="that board's")] = None,
    device_id: Annotated[str, typer.Option("--device-id", help="What the board says it is.")] = "sim-0001",
    version: VersionOption = "1.0.0",
    wifi: Annotated[str, typer.Option("--wifi", help="The weather: ok, off, wrong_password or slow.")] = "ok",
    web_port: Annotated[int, typer.Option("--web-port", help="Where its page is served; 0 for any.")] = 0,
    micropython: Annotated[Path | None, typer.Option("--micropython", help="Another interpreter.", exists=True)] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Make the image anew; what was on it is gone.")] = False,
) -> None:
    """Run a simulated board: real MicroPython on a flash image, its serial console on this terminal.

    Example: iotctl sim profile.json --image board.img

    An image that is there runs on with what it has, be it what an update has brought; whether that is still your project is said.
    """
    from iotctl.sim import run_sim

    if micropython:
        os.environ["MICROPYTHON"] = str(micropython)
    like = like or (profile.read_good(path).board if path.exists() else None) or "unix"
    raise typer.Exit(run_sim(path, image, fs, heap, device_id, version, wifi, web_port, like, fresh))


@app.command()
def dev(
    path: ProfileArgument = Path("profile.json"),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Where the page is served; 0 for any.")] = 8080,
    board: Annotated[str | None, typer.Option("--board", metavar="URL", help="A real board instead of a simulated one.")] = None,
) -> None:
    """Serve the web page from this checkout against a board, and reload it in the browser whenever one of its files changes.

    Example: iotctl dev profile.json

    Without --board it is a simulated one, made anew each time; its console is on this terminal.
    """
    from iotctl.dev import run_dev

    raise typer.Exit(run_dev(path, port, CACHE / "dev.img", board))


@app.command()
@_composed
def watch(
    address: Address,
    fleet: FleetOption = None,
    site: Annotated[
        Path | None, typer.Option("--site", metavar="DIR", help="The web server's folder, for who is behind.", exists=True)
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print what the broker knows, and end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Every board on an MQTT broker, live: version, status, progress, signal, memory, last seen, and how it stands.

    Example: iotctl watch --broker homeassistant.local --user iot --fleet fleet.toml --site site

    With --fleet it also shows who is missing; with --site, who is behind, by how much, and why.
    """
    from iotctl import watch as view
    from iotctl.offers import Site

    known = view.Known(_register(fleet), Site(site))
    if as_json:
        terminal.say_json(view.as_json(view.snapshot(address), known))
    elif once or not out.is_terminal:
        wide = out if out.is_terminal else Console(width=240)  # a pipe has no edge where lines must be cut
        wide.print(view.table(view.snapshot(address), address, known))
    else:
        with suppress(KeyboardInterrupt):
            view.watch(address, out, known)


@app.command()
@_composed
def forget(
    device: DeviceArgument,
    address: Address,
    discovery: Annotated[str, typer.Option("--discovery", help="Home Assistant's prefix.")] = "homeassistant",
) -> None:
    """Clear what the broker keeps of a board that will not come back, so that `watch` and Home Assistant show it no more.

    Example: iotctl forget door/24a1 --broker homeassistant.local
    """
    with _fleet(address) as fleet:
        terminal.say(f"{device}: {fleet.forget(device, discovery)} topics cleared")


@app.command()
@_composed
def update(
    chosen: Chosen,
    address: Address,
    force: Annotated[bool, typer.Option("--force", help="Also a version that failed or was rolled back there.")] = False,
    timeout: TimeoutOption = 900,
    as_json: JsonOption = False,
) -> None:
    """Have boards update themselves, and wait until each has confirmed the new version, or says why not.

    Example: iotctl update door/24a1 gate/7f02 --broker homeassistant.local

    Exit code 0 when all run the current version afterwards, 1 when one does not.
    """
    _ask_boards(address, chosen, "ota/update", "force" if force else "", timeout, as_json)


@app.command("wifi")
@_composed
def wifi_command(
    network: Annotated[str, typer.Argument(metavar="NETWORK", help="Its name.")],
    chosen: Chosen,
    *,
    wifi_password: WifiPasswordOption = None,
    address: Address,
    timeout: TimeoutOption = _SOON_S,
    as_json: JsonOption = False,
) -> None:
    """Have boards go to another wifi network. One that cannot join it goes back to the network that it has.

    Example: iotctl wifi garden --all --broker homeassistant.local

    The profile must allow it: "mqtt": {"commands": ["wifi"]}. The network's password goes through the broker.
    """
    prefs = _network(network, wifi_password)
    asked = {"ssid": prefs["wifi.ssid"], "password": prefs["wifi.password"]}
    _ask_boards(address, chosen, "wifi", json.dumps(asked, ensure_ascii=False), timeout, as_json)


@app.command()
@_composed
def assign(
    *,
    devices: DevicesArgument = None,
    name: Annotated[str | None, typer.Option("--name", help="What one board is called, such as kitchen.")] = None,
    group: GroupOption = None,
    tags: TagsOption = None,
    fleet: FleetOption = None,
    address: Address,
) -> None:
    """Put boards into a group and give them tags, or with --fleet all boards as the register says; "" takes out. Or name one.

    Example: iotctl assign door/24a1 gate/7f02 --group house --tags "outside dry" --broker homeassistant.local

    Boards keep it, and tell it. Their profile's mqtt.commands must name group, tags, name.
    """
    given = [(path, text) for path, text in (("name", name), ("group", group), ("tags", tags)) if text is not None]
    if bool(devices and given) == bool(fleet) or (fleet and (devices or given)):
        raise IotctlError("name the boards, and --name, --group or --tags; or give --fleet alone", 2)
    if name and len(devices or ()) > 1:
        raise IotctlError("--name is for one board: two of the same name would not find their way in the network", 2)
    wanted = [(device, path, text) for device in devices or () for path, text in given]
    for entry in _register(fleet).values():
        wanted += [(entry.id, path, text) for path, text in (("group", entry.group), ("tags", " ".join(entry.tags))) if text]
    bad = 0
    with _fleet(address) as heard:
        for device, path, text in wanted:
            board = heard.get(device) if fleet else heard.find(device)
            if fleet and (board is None or board.values.get(path, "") == text):
                continue
            ((found, reply),) = heard.ask([device], path, text, _SOON_S).items()
            bad += not reply.get("ok")
            why = f"{path} {text or 'none'}" if reply.get("ok") else f"{reply.get('error')}: {reply.get('message', 'no reason')}"
            terminal.say(f"{found}: {why}", err=not reply.get("ok"))
    raise typer.Exit(errors.REFUSED if bad else 0)


@app.command()
@_composed
def rollback(
    device: DeviceArgument,
    address: Address,
    timeout: TimeoutOption = 900,
    as_json: JsonOption = False,
) -> None:
    """Have a board go back to the version that it kept, and wait until it has.

    Example: iotctl rollback door/24a1 --broker homeassistant.local
    """
    _ask_boards(address, Chosen([device]), "ota/rollback", "", timeout, as_json)


SiteOption = Annotated[Path, typer.Option("--site", metavar="DIR", help="The web server's folder.", exists=True, file_okay=False)]


@app.command("dashboard")
@_composed
def dashboard_command(
    site: SiteOption,
    *,
    key: KeyOption = None,
    passphrase: PassphraseOption = None,
    fleet: FleetOption = None,
    address: Address,
    host: Annotated[str, typer.Option("--host", help="An address; 0.0.0.0 for browsers on your network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 8090,
    names: Annotated[list[str] | None, typer.Option("--name", help="Another name that browsers know it by.")] = None,
) -> None:
    """All boards on an MQTT broker in a browser: how they are, updates, rollouts, and bundles that are dropped on it.

    Example: iotctl dashboard --site site --key channel.pem --broker broker.local

    --key signs channel files, for what is published here. The password is made at each start, and printed here.
    """
    from iotctl.dashboard import main as dashboard

    place = dashboard.Place(host, port, tuple(names or ()))
    dashboard.run(address, site.resolve(), _private(key, passphrase), _register(fleet), place, terminal.say)


rollouts = typer.Typer(no_args_is_help=True, help="A release for some boards first, watched, then for all; it halts itself.")
app.add_typer(rollouts, name="rollout")
OnceOption = Annotated[bool, typer.Option("--once", help="Look once, and end: for cron.")]


@rollouts.command("start")
@_composed
def rollout_start(
    path: BundleArgument,
    site: SiteOption,
    *,
    key: KeyOption = None,
    passphrase: PassphraseOption = None,
    address: Address,
    channel: Annotated[str, typer.Option("--channel", help="stable, canary, ...")] = "stable",
    steps: Annotated[str, typer.Option("--steps", help="Percents of the boards.")] = "1,10,50,100",
    soak: Annotated[str, typer.Option("--soak", help="How long each step is watched at least: 90s, 30m, 2h.")] = "30m",
    max_failures: Annotated[float, typer.Option("--max-failures", min=0, max=100, help="Percent of a step's boards.")] = 2.0,
    group: Annotated[
        str | None, typer.Option("--group", metavar="NAME", callback=_a_name, help="The boards of a group, no others.")
    ] = None,
    once: OnceOption = False,
) -> None:
    """Begin a rollout and watch it: it goes on when a step has soaked and its boards have confirmed, and halts itself.

    Example: iotctl rollout start dist/1.4.0.tar.gz --site site --key channel.pem --broker broker.local

    --key signs the channel file; it need not be the one that signed the bundle. Exit code 0 when all boards are reached, or with
    --once; 1 when it has halted. With --group only that group's; then the same release can go to another one, or to all.
    """
    from iotctl import rollout

    course = rollout.Course(channel, rollout.parse_steps(steps), rollout.parse_time(soak), max_failures, group or "")
    with _runner(site, key, passphrase).locked() as runner, _fleet(address) as fleet:
        runner.start(path, fleet.boards(), course)
        _roll(runner, fleet, once)


@rollouts.command("resume")
@_composed
def rollout_resume(
    site: SiteOption,
    *,
    key: KeyOption = None,
    passphrase: PassphraseOption = None,
    address: Address,
    once: OnceOption = False,
) -> None:
    """Go on with a rollout that was paused, or whose computer was switched off.

    Example: iotctl rollout resume --site site --key channel.pem --broker broker.local
    """
    with _runner(site, key, passphrase).locked() as runner, _fleet(address) as fleet:
        runner.change("running")
        _roll(runner, fleet, once)


@rollouts.command("status")
def rollout_status(site: SiteOption, as_json: JsonOption = False) -> None:
    """How it stands, and which boards did not take the release; of one that has halted or was aborted, also which run it.

    Example: iotctl rollout status --site site
    """
    stands = _runner(site, None, None).load()
    if as_json:
        terminal.say_json(dataclasses.asdict(stands))
        return
    terminal.say(_line(stands))
    for name, outcome in sorted(stands.boards.items()):
        if outcome.bad:
            terminal.say(f"  {name}: {outcome.result} {outcome.why}")
        elif outcome.result == "confirmed" and stands.stopped:
            terminal.say(f"  {name}: runs {stands.version}")


@rollouts.command("pause")
def rollout_pause(site: SiteOption) -> None:
    """Take no further step until `resume`; the boards of this one go on.

    Example: iotctl rollout pause --site site
    """
    terminal.say(_line(_runner(site, None, None).change("paused")))


@rollouts.command("abort")
def rollout_abort(site: SiteOption, key: KeyOption = None, passphrase: PassphraseOption = None, why: NotesOption = "") -> None:
    """End it: the channel file leads no further board to the release. Those that have it keep it (see revert).

    Example: iotctl rollout abort --site site --key channel.pem --notes "The door squeaks."
    """
    terminal.say(_line(_runner(site, key, passphrase).change("aborted", why or "by hand")))


@rollouts.command("revert")
def rollout_revert(
    version: VersionOption,
    site: SiteOption,
    to: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where <version>.tar.gz goes.", exists=True, file_okay=False)],
    key: KeyOption = None,
    passphrase: PassphraseOption = None,
    channel_key: Annotated[Path | None, typer.Option("--channel-key", help="If another key signs channel files.")] = None,
) -> None:
    """Publish the files that the channel led to before, under a higher version, for everybody.

    Example: iotctl rollout revert --version 1.4.1 --site site --out dist --key owner.pem
    """
    runner = _runner(site, channel_key or key, passphrase)
    private = _private(key, passphrase)
    with runner.locked():
        terminal.say(runner.revert(version, private, to))


@app.command()
def demo(once: Annotated[bool, typer.Option("--once", help="End when the board has confirmed the update.")] = False) -> None:
    """The whole story: build, sign, flash, serve, boot, publish 1.1.0, and watch the board update itself.

    Example: iotctl demo --once
    """
    from iotctl.demo import run_demo

    raise typer.Exit(run_demo(once))


def _network(name: str, password: str | None) -> dict[str, object]:
    """A wifi network as preferences have it; its password is asked for."""
    if password is None:
        password = str(typer.prompt(f"password of {name}", hide_input=True, default="", show_default=False, err=True))
    found: dict[str, object] = {"wifi.ssid": name, "wifi.password": password}
    project.check_secrets(found, "wifi")
    return found


def _register(path: Path | None) -> registers.Register:
    return registers.read(path) if path else {}


def _runner(site: Path, key: Path | None, passphrase: str | None) -> Runner:
    from iotctl.rollout import Runner

    return Runner(site, _private(key, passphrase))


@contextmanager
def _fleet(address: Address) -> Iterator[Fleet]:
    """A connection to the broker that has heard what it keeps."""
    from iotctl.fleet import Fleet

    with Fleet(address) as fleet:
        fleet.settle()
        yield fleet


def _roll(runner: Runner, fleet: Fleet, once: bool) -> None:
    """Take turns until it is over; each change is told."""
    from iotctl.rollout import Watch

    last, watch = "", Watch()
    while True:
        stands = runner.turn(fleet.boards(), watch.now(fleet.connected))
        if _line(stands) != last:
            last = _line(stands)
            terminal.say(last)
        if once or stands.over:
            raise typer.Exit(errors.REFUSED if stands.stopped else 0)
        time.sleep(1)


def _line(stands: Rollout) -> str:
    counts = ", ".join(f"{n} {word}" for word in ("confirmed", "working", "failed", "vanished") if (n := stands.count(word)))
    of = f" of {stands.group}" if stands.group else ""
    where = f"{stands.version} on {stands.channel}: {stands.state}, {stands.percent}%{of}"
    return f"{where}: {counts or 'nothing yet'} {stands.why}".strip()


def _ask_boards(address: Address, chosen: Chosen, path: str, payload: str, timeout: int, as_json: bool) -> None:
    """Send boards a command, tell what happens, and end with the results as exit code."""
    devices, group = chosen
    with _fleet(address) as fleet:
        there = [board.name for board in fleet.boards() if board.online and group in ("", board.group)]
        if group and devices is None and not there:
            raise IotctlError(f"no board that is online says that it is in the group {group}")
        asked = there if devices is None else devices
        replies = fleet.ask(asked, path, payload, timeout, lambda line: terminal.say(line, err=True))
    if as_json:
        found = [{"device": name, **reply} for name, reply in sorted(replies.items())]
        terminal.say_json(found if devices is None or len(devices) > 1 else found[0])
    for name, reply in sorted(replies.items()) if not as_json else ():
        if reply.get("ok"):
            running = f", running {reply['version']}" if "version" in reply else ""
            terminal.say(f"{name}: {reply.get('state')}{running}")
        else:
            terminal.say(f"iotctl: {name}: {reply.get('error')}: {reply.get('message', 'no reason given')}", err=True)
    raise typer.Exit(0 if all(reply.get("ok") for reply in replies.values()) else errors.REFUSED)


def _releasable(path: Path, with_secrets: bool) -> profile.Profile:
    """A good profile that may go to everybody who gets the release."""
    given = profile.read_good(path)
    if given.secrets and not with_secrets:
        place = f"{project.SECRETS} is the place for wifi's and MQTT's, and the page's own is set there"
        why = f"which everybody can read who gets the release: {place}; or say --with-secrets"
        raise IotctlError(f"{path} has {', '.join(given.secrets)}, {why}")
    return given


def _make(given: profile.Profile, version: str, py: bool, notes: str, sequence: int | None, expires: str | None) -> bundle.Bundle:
    number = bundle.default_sequence(version) if sequence is None else sequence
    epoch = bundle.source_date()
    options = bundle.Options(version, number, notes, epoch, _expiry(expires, epoch or int(time.time())), py)
    with _progress(len(tree.sources(given)), "compiling") as seen:
        collected = tree.collect(given, version, py=py, seen=functools.partial(seen, 1))
    return bundle.make(given, collected, options)


def _tell_budget(given: profile.Profile, made: bundle.Bundle) -> None:
    """What of the disk of the profile's board it takes. Nothing where the profile names none."""
    if given.board:
        from iotctl import boards

        port = boards.find(given.board)
        need = boards.budget(made.flashed, port)
        now, most, disk = (n // 1024 for n in (need.tree * boards.BLOCK, need.all * boards.BLOCK, port.flash))
        left = f"{disk - most} KB left" if most <= disk else f"{most - disk} KB too many"
        terminal.say(f"disk of {port.one}: {now} KB now, {most} KB during an update of every file, of {disk} KB: {left}")
        heap = boards.heap(given, port)
        others = f"; {', '.join(heap.others)} not counted" if heap.others else ""
        terminal.say(f"heap, of {port.heap.upper()}: {heap.at_rest}K at rest, {heap.update_boot}K in an update boot{others}")
        if heap.tls is not None:
            more = f"{heap.tls}K of it more" if heap.tls else "some 20K beside it"
            terminal.say(f"TLS takes {more} while a connection lasts")
        for problem in boards.problems(given, given.board, made.flashed):
            terminal.say(f"warning: {problem.key} {problem.problem}; expected {problem.expected}", err=True)


def _signing_key(given: profile.Profile, key: Path | None, passphrase: str | None, unsigned: bool) -> keys.PrivateKey | None:
    if key is None:
        if given.keys and not unsigned:
            raise IotctlError("the profile pins keys, so its boards need a signature: give --key, or --unsigned to sign later")
        return None
    private = keys.read_private(key, _ask_passphrase(key, passphrase))
    keys.check_pinned(private, given.keys, "release")
    return private


def _private(key: Path | None, passphrase: str | None) -> keys.PrivateKey | None:
    """The private key in a file; None for none."""
    return keys.read_private(key, _ask_passphrase(key, passphrase)) if key else None


def _ask_passphrase(key: Path, given: str | None) -> str | None:
    """The passphrase, asked for at a terminal when the key needs one."""
    if given is None and b"ENCRYPTED" in key.read_bytes() and err.is_terminal:
        return str(typer.prompt(f"passphrase of {key}", hide_input=True, err=True))
    return given


def _percentages(given: list[str]) -> dict[str, int]:
    found = [each.partition("=") for each in given]
    for name, _equals, percent in found:
        if not name_ok(name) or not percent.isdigit() or int(percent) > 100:
            raise IotctlError(f"--group {name}={percent}: expected a group's name and a percentage, such as house=50", 2)
    return {name: int(percent) for name, _equals, percent in found}


def _expiry(text: str | None, now: int) -> int | None:
    if text is None:
        return None
    if text.isdigit():
        return now + int(text) * 86400
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise IotctlError(f"--expires {text}: expected a date like 2030-01-31, or a number of days", 2) from None


def _beside_a_bar(line: str) -> None:
    """A line on stderr where a progress bar is drawn: it stays above it."""
    err.print(Text(terminal.plain(line)), soft_wrap=True)


@contextmanager
def _progress(total: int, what: str) -> Iterator[Callable[[int, str], None]]:
    """A bar for a terminal; the function that it gives is called with how much is done more, and with what."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda more, path: bar.update(task, advance=more, description=path)
