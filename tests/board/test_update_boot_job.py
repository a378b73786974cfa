"""A job that does not fit beside the modules: noted, done in an update boot, and told, whatever goes wrong on the way."""

from __future__ import annotations

import re
from http import HTTPStatus
from pathlib import Path

import pytest

from iotctl import bundle, keys
from sim import flashlog
from sim.board import Cut
from tests.support.world import (
    NEVER,
    PATIENCE_S,
    Changes,
    Handler,
    Release,
    Slowly,
    World,
    assert_told,
    assert_tree,
    owner,
    patched,
    state_of,
)

MODULES = ("serial_log", "wifi", "ota", "hog")
WITH_MQTT = ("serial_log", "wifi", "ota", "mqtt")  # which starts in an update boot too
TOO_LITTLE = 40_000  # bytes of heap: enough for a check and a trial, too little for an update
STILL_LESS = 28_000
ONLY = r"update boot {} of 3: only serial_log, wifi, ota start"
RESTARTS = "restarting for the update's sake: {} goes on with only the modules that it needs"
_HOG = '''from iot_platform.module import Module as Base
import gc

class Module(Base):
    """Takes all memory but so many bytes; `work` keeps it busy."""

    name = "hog"
    doing = None

    def start(self):
        self.kept = []
        gc.collect()
        while gc.mem_free() > {free}:
            self.kept.append(bytearray(500))
        self.platform.log("hog: {text}")

    def on_command(self, command):
        if command.path == "work":
            self.doing = command.payload or None
        elif command.path == "blocking":
            self.platform.log("result", self.platform.module("ota").force_update())

    def busy(self):
        return self.doing
'''


def hog(text: str = "is here", free: int = TOO_LITTLE) -> Changes:
    return {"modules/hog/__init__.py": _HOG.format(free=free, text=text).encode()}


def release(world: World, version: str, changes: Changes | None = None) -> Release:
    files: Changes = {**hog(f"of {version}"), "www/a.txt": version.encode() * 2_000, **(changes or {})}
    return world.release(version, files, modules=MODULES)


def two(world: World, changes: Changes | None = None) -> tuple[Release, Release]:
    """A board that runs 1.0.0 beside a hog, and has nothing to do; 1.1.0 is offered."""
    old, new = release(world, "1.0.0", changes), release(world, "1.1.0", changes)
    world.settled(old, new)
    return old, new


def when(world: World, text: str, *happens: object) -> None:
    """Do this once, as soon as a line with `text` comes."""
    left = list(happens)

    def on_line(line: str) -> None:
        if text in line and left:
            action = left.pop(0)
            assert callable(action)
            action()

    world.board.on_line = on_line


def nothing_is_noted(world: World) -> None:
    world.until(lambda found: not [path for path in found.files if path.startswith(".ota/job")])
    world.until(lambda found: state_of(found).get("result") is None)


@pytest.mark.parametrize("command", ["ota update", "ota force", "ota check", "blocking"])
def test_a_job_that_does_not_fit_is_done_in_an_update_boot(world: World, command: str) -> None:
    _old, new = two(world)
    since = world.type(command)
    world.wait_confirmed(new, since)
    job = command.removeprefix("ota ").replace("force", "update").replace("blocking", "update")
    story = world.lines_since(since)
    steps = (
        "ota: short of memory: ",
        RESTARTS.format(job),
        "restarting: an update boot",
        ONLY.format(1),
        "staged www/a.txt",
        r"committed: installing 1\.1\.0",
        r"loader: trial of 1\.1\.0 boot 1",
        r"hog: of 1\.1\.0",
        r"running: .*hog.* free memory",
        r"confirmed: version 1\.1\.0 stays",
    )
    assert_told(story, steps)
    assert not re.search("failed|Traceback", story)
    assert story.count("update boot 1 of 3") == 1
    nothing_is_noted(world)
    world.assert_runs(new)


def test_a_check_that_nobody_asked_for_gets_one_as_well(world: World) -> None:
    old, new = release(world, "1.0.0"), release(world, "1.1.0")
    world.flash(old)
    world.offer(new)
    since = world.now()
    world.board.start()
    world.wait_confirmed(new, since)
    world.board.expect(RESTARTS.format("check"), 1, since)
    world.board.expect(ONLY.format(1), 1, since)
    world.assert_runs(new)


def test_an_archive_that_was_brought_by_hand_is_installed_in_an_update_boot_without_a_network(world: World) -> None:
    _old, new = two(world, hog(free=STILL_LESS))
    world.board.stop()
    world.board.write({"new_firmware.tar.gz": new.archive})
    world.channel_file().unlink()
    world.boot("next check in|failed")
    world.board.wifi = "off"
    since = world.type("ota install")
    world.board.expect(ONLY.format(1), PATIENCE_S, since)
    world.board.expect("committed: installing 1.1.0", PATIENCE_S, since)
    assert world.requested("1.1.0.tar.gz") == []
    world.board.wifi = "ok"
    world.offer(new)  # which the trial asks for
    world.wait_confirmed(new, since)
    world.assert_runs(new)


def test_what_ran_before_the_update_boot_must_run_after_it(world: World) -> None:
    """The hog did not run when the update was committed; without it the new version goes back all the same."""
    old = release(world, "1.0.0")
    bad = release(world, "1.1.0", {"modules/hog/__init__.py": b"raise ValueError('bad hog')\n"})
    world.flash(old)
    world.offer(bad)
    since = world.now()
    world.board.start()
    world.board.expect(ONLY.format(1), PATIENCE_S, since)
    assert "bad hog" in world.wait_rolled_back(bad, "module_failed", since)
    nothing_is_noted(world)
    assert_tree(world.stop(), old.tree)


def test_a_busy_module_delays_the_restart_and_a_power_cut_meanwhile_loses_nothing(world: World) -> None:
    _old, new = two(world)
    world.type("work the door is moving")
    since = world.type("ota update")
    world.board.expect(RESTARTS.format("update"), PATIENCE_S, since)
    world.board.expect(r"restart/waiting_for = hog: the door is moving", PATIENCE_S, world.type("values"))
    world.board.expect(r"ota/status = rebooting", PATIENCE_S, since)
    assert "update boot 1" not in world.lines_since(since)
    world.board.power_cycle()
    world.wait_confirmed(new, since)
    world.board.expect(ONLY.format(1), 1, since)
    world.assert_runs(new)


def test_a_busy_module_lets_the_restart_go_when_it_is_done(world: World) -> None:
    _old, new = two(world)
    world.type("work the door is moving")
    since = world.type("ota update")
    world.board.expect(RESTARTS.format("update"), PATIENCE_S, since)
    world.type("work")
    world.wait_confirmed(new, since)
    world.assert_runs(new)


# -- what goes wrong in the update boot


def comes_back(world: World, reason: str, since: int, job: str = "update") -> None:
    """The job fails in the update boot, with a reason that is still told after the restart, where everything runs again."""
    world.board.expect(rf"ota: {job} failed: .* \({reason}\)$", PATIENCE_S, since)
    over = world.board.expect("restarting: the update boot is over", PATIENCE_S, since).string
    since = world.board.lines.index(over, since)
    world.board.expect(r"running: .*(hog|mqtt)", PATIENCE_S, since)
    world.board.expect("ota: next check in about", PATIENCE_S, since)
    status = world.board.expect("'state': .*", PATIENCE_S, world.type("ota status")).string
    assert "'state': 'failed'" in status and f"'error': '{reason}'" in status, status
    world.board.expect(rf"ota/error = {reason}$", PATIENCE_S, world.type("values"))
    nothing_is_noted(world)


def away(request: Handler) -> bool:
    request.reply(HTTPStatus.SERVICE_UNAVAILABLE, {}, b"")
    return True


def test_without_a_server_everything_comes_back_and_the_reason_is_told(world: World) -> None:
    old, new = two(world)
    when(world, "restarting: an update boot", lambda: setattr(world.server, "trick", away))
    since = world.type("ota update")
    comes_back(world, "http_status", since)
    assert_tree(world.peek(), old.tree)
    world.server.trick = None
    world.update_to(new)
    world.assert_runs(new)


def test_without_a_network_everything_comes_back_within_a_bound(world: World) -> None:
    patience = patched("modules/ota/state.py", ("_NETWORK_MS = 90_000", "_NETWORK_MS = 4_000"))
    old, new = two(world, patience)
    when(world, "restarting: an update boot", lambda: setattr(world.board, "wifi", "off"))
    when_over = "restarting: the update boot is over"
    since = world.type("ota update")
    world.board.expect(when_over, PATIENCE_S, since)
    world.board.wifi = "ok"
    comes_back(world, "no_network", since)
    assert_tree(world.peek(), old.tree)
    world.update_to(new)
    world.assert_runs(new)


def test_a_cancelled_job_brings_everything_back(world: World) -> None:
    old, _new = two(world)
    when(world, "restarting: an update boot", lambda: setattr(world.board, "wifi", "off"))
    since = world.type("ota update")
    world.board.expect(r"update boot 1 of 3", PATIENCE_S, since)
    world.board.expect(r"wifi: could not join", PATIENCE_S, since)
    since = world.type("ota cancel")
    world.board.expect("ota: cancelled", PATIENCE_S, since)
    world.board.wifi = "ok"
    world.board.expect("running: .*hog", PATIENCE_S, since)
    world.board.expect("ota: next check in", PATIENCE_S, since)
    assert "update boot" not in world.lines_since(since).split("restarting: the update boot is over")[1]
    nothing_is_noted(world)
    assert_tree(world.stop(), old.tree)


def test_what_is_refused_in_an_update_boot_is_told_and_not_fetched_again(world: World) -> None:
    old, made = release(world, "1.0.0"), release(world, "1.1.0").bundle
    listing = made.listing.replace(b'"mpy":6', b'"mpy":5')
    spoiled = bundle.pack(bundle.Bundle(listing, keys.sign(owner(), listing), made.files, made.packed))
    world.flash(old)
    world.offer(old)
    world.boot()
    world.offer_raw(made.header, spoiled)
    since = world.type("ota update")
    comes_back(world, "wrong_mpy", since)
    assert_tree(world.peek(), old.tree)
    asked = len(world.requested("1.1.0.tar.gz"))
    assert "was refused before" in world.refused("wrong_mpy")
    assert len(world.requested("1.1.0.tar.gz")) == asked
    assert_tree(world.stop(), old.tree)


def test_what_does_not_fit_beside_mqtt_is_done_without_it_in_the_second_update_boot(world: World) -> None:
    world.sections["mqtt"] = {"host": "127.0.0.1"}
    code = hog(free=STILL_LESS)["modules/hog/__init__.py"]
    greedy: Changes = {"modules/mqtt/__init__.mpy": None, "modules/mqtt/__init__.py": code}
    old, new = world.release("1.0.0", greedy, modules=WITH_MQTT), world.release("1.1.0", modules=WITH_MQTT)
    world.flash(old)
    world.offer(new)
    since = world.now()
    world.board.start()
    world.board.expect(r"update boot 1 of 3: only .*mqtt start", PATIENCE_S, since)
    world.board.expect(ONLY.format(2), PATIENCE_S, since)
    world.wait_confirmed(new, since)
    nothing_is_noted(world)
    world.assert_runs(new)


def test_mqtt_takes_no_memory_in_an_update_boot_where_no_broker_is_named(world: World) -> None:
    old, new = (world.release(version, hog(), modules=(*WITH_MQTT, "hog")) for version in ("1.0.0", "1.1.0"))
    world.settled(old, new)
    since = world.type("ota update")
    world.board.expect(ONLY.format(1), PATIENCE_S, since)
    world.wait_confirmed(new, since)


def test_what_does_not_even_fit_into_an_update_boot_is_given_up_after_three(world: World) -> None:
    """Something that starts in every boot takes the memory."""
    loop = "while gc.mem_free() > 49_500:\n            self.kept.append(bytearray(500))"
    takes = f"import gc\n        self.kept = []\n        {loop}"
    greedy = patched("modules/wifi/__init__.py", ("def start(self):", f"def start(self):\n        {takes}"))
    greedy = {**hog(free=42_500), "modules/wifi.mpy": greedy["modules/wifi/__init__.mpy"]}
    old, new = (world.release(version, greedy, modules=MODULES) for version in ("1.0.0", "1.1.0"))
    world.flash(old)
    world.offer(new)
    since = world.now()
    world.board.start()
    for boot in (1, 2, 3):
        world.board.expect(ONLY.format(boot), PATIENCE_S, since)
    comes_back(world, "no_memory", since, "check")
    assert len(re.findall(r"update boot \d of", world.lines_since(since))) == 3
    at = world.now()
    assert "failed here before (no_memory)" in world.refused("failed_before")
    assert "update boot" not in world.lines_since(at)
    assert_tree(world.stop(), old.tree)


def test_the_window_is_waited_for_after_the_update_boot(world: World) -> None:
    """What was found and staged there is ready in the ordinary boot as well."""
    world.ota["window"] = NEVER
    two(world)
    since = world.type("ota check")
    over = world.board.expect("restarting: the update boot is over", PATIENCE_S, since).string
    since = world.board.lines.index(over, since)
    world.board.expect("running: .*hog", PATIENCE_S, since)
    world.board.expect("version 1.1.0 waits: window", PATIENCE_S, since)
    status = world.board.expect("'state': .*", PATIENCE_S, world.type("ota status")).string
    assert "'state': 'ready'" in status and f"'waiting': 'window {NEVER}'" in status, status
    nothing_is_noted(world)


def test_with_an_ota_that_is_off_update_boots_are_over_at_once(world: World) -> None:
    """Its profile is wrong, so nothing is done in them and nothing fails: the other modules are soon back."""
    off = world.release("1.0.0", {**hog(), "profile.json": world.profile(MODULES, url="no URL").raw}, modules=MODULES)
    world.flash(off, {".ota/job.0": b'["update", false]'})
    world.board.start()
    for boot in (1, 2, 3):
        world.board.expect(ONLY.format(boot), PATIENCE_S)
    world.board.expect("running: .*hog", PATIENCE_S)
    assert world.board.console().count("restarting: the update boot has come to no end") == 3


# -- power cuts


def test_the_power_fails_in_the_update_boot_and_the_next_one_goes_on(world: World) -> None:
    _old, new = two(world)
    world.server.trick = Slowly(3)  # the plug is pulled before everything is there
    when(world, "ota: staging", world.board.power_cycle)
    since = world.type("ota update")
    world.wait_confirmed(new, since)
    story = world.lines_since(since)
    assert story.index("update boot 1 of 3") < story.index("update boot 2 of 3")
    assert "failed" not in story
    nothing_is_noted(world)
    world.assert_runs(new)


def test_the_power_fails_in_every_update_boot_and_the_job_is_given_up(world: World) -> None:
    old, new = two(world)
    world.server.trick = Slowly(3)  # the plug is pulled before everything is there
    when(world, "ota: staging", *[world.board.power_cycle] * 3)
    since = world.type("ota update")
    world.board.expect(r"ota: update failed: it was not done in 3 update boots \(no_memory\)", PATIENCE_S, since)
    found = world.board.expect(r"ota: next try in about (\d+) s", PATIENCE_S, since)
    assert 30 <= int(found[1]) <= 34
    world.server.trick = None
    nothing_is_noted(world)
    assert_tree(world.peek().without(".ota/stage", ".ota/list"), old.tree)
    restarted = next(n for n, line in enumerate(world.lines_since(since).splitlines()) if "hog: of" in line)
    world.board.expect("wifi: connected", PATIENCE_S, since + restarted)  # before that a check would find no network
    world.update_to(new)
    world.assert_runs(new)


def test_a_note_whose_boot_cannot_be_counted_is_told_and_ends_the_job(world: World) -> None:
    """A job that somebody waits for must not vanish, nor bring one restart after another."""
    renames = 'os.rename(ota_boot.ota("job.'
    old, _new = two(world, patched("iot_platform/startup.py", (renames, f"raise OSError(5)\n        {renames}")))
    since = world.type("ota update")
    world.board.expect("the update boot cannot be counted, so this is none", PATIENCE_S, since)
    world.board.expect(r"ota: update failed: its update boot could not be counted \(flash_error\)", PATIENCE_S, since)
    status = world.board.expect("'state': .*", PATIENCE_S, world.type("ota status")).string
    assert "'state': 'failed'" in status and "'error': 'flash_error'" in status, status
    nothing_is_noted(world)
    assert world.lines_since(since).count("restarting: an update boot") == 1
    assert_tree(world.peek(), old.tree)


@pytest.fixture
def noted(world: World) -> tuple[World, Release, Release, Path]:
    """A board that has noted a job and not yet restarted; its flash at that moment."""
    old, new = two(world)
    world.type("work the door is moving")
    world.board.expect(RESTARTS.format("update"), PATIENCE_S, world.type("ota update"))
    world.board.stop()
    image = world.folder / "noted.img"
    world.board.snapshot(image)
    return world, old, new, image


@pytest.mark.parametrize("like", ["esp32"])  # the loader says there what it does
def test_a_power_cut_at_the_end_of_the_update_boot_leaves_the_job_or_its_result(
    noted: tuple[World, Release, Release, Path],
) -> None:
    """Before the commit the note is still there; after it the new version is: the job is neither lost nor done twice."""
    world, old, new, image = noted
    log = world.folder / "life.log"
    whole = world.board.boot_once(cause="hard", log=log)
    assert whole.cause == "hard" and "committed" in whole.output
    operations = flashlog.read(log)
    kept = committed = 0
    for at in range(len(operations) - 12, len(operations)):
        world.board.image.write_bytes(flashlog.cut(image.read_bytes(), operations, Cut(at, "before")))
        found = world.board.read()
        notes = [path for path in found.files if path.startswith(".ota/job.")]
        after = world.board.boot_once(only_boot=True, dump=True)
        assert after.tree
        if "applying 1.1.0" in after.output:
            assert_tree(after.tree.without(".ota"), new.tree)
            committed += 1
        else:
            assert_tree(after.tree.without(".ota"), old.tree)
            assert notes == [".ota/job.1"]
            kept += 1
    assert kept and committed
    world.board.restore(image)
    since = world.now()
    world.board.start()
    world.wait_confirmed(new, since)
    world.assert_runs(new)
