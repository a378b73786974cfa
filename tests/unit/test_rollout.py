"""iotctl rollout: what it decides, and what a kill at any write leaves. Its boards are a few lines that do what boards do."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from iotctl import bundle, publish, rollout
from iotctl.errors import IotctlError
from iotctl.fleet import Board
from iotctl.rollout import Course, Outcome, Rollout, Runner, Watch
from modules.ota.errors import OtaError
from modules.ota.release import policy
from tests.unit.iotctl_fixture import Place, key, make_place, run

COUNT = 40
STEPS = [5, 25, 100]


class Killed(Exception):
    pass


@dataclass
class Site:
    """A site that leads to 1.4.0, and boards that run it. `bad`: those on which 1.5.0 fails its trial."""

    place: Place
    boards: dict[str, Board] = field(default_factory=dict)
    bad: Callable[[str], bool] = lambda _name: False
    now: float = 1000.0
    fuse: int = -1  # writes until the kill

    @property
    def folder(self) -> Path:
        return self.place.root / "site"

    def channel(self) -> dict[str, object]:
        value: dict[str, object] = json.loads((self.folder / "door-1" / "stable.json").read_bytes().split(b"\n")[0])
        return value

    def runner(self) -> Runner:
        return Runner(self.folder, key(0), self.burn)

    def burn(self) -> None:
        self.fuse -= 1
        if self.fuse == 0:
            raise Killed

    def start(self, max_failures: float = 2.0, group: str = "", file: str = "dist/1.5.0.tar.gz") -> None:
        course = Course("stable", STEPS, 60, max_failures, group)
        self.runner().start(self.place.root / file, list(self.boards.values()), course)

    def pass_time(self) -> None:
        """A minute in which every board that the channel leads to the release takes it, or does not."""
        self.now += 61
        offer = self.channel()
        for board in self.boards.values():
            identity = board.name.partition("/")[2]
            if (
                offer["version"] == "1.4.0"
                or not policy.rollout_allows(offer, identity, board.group)
                or board.values["version"] == offer["version"]
            ):
                continue
            if offer["version"] == "1.5.0" and self.bad(board.name):
                board.values.update({"ota/status": "rolled_back", "ota/error": "module_failed", "ota/message": "lamp failed"})
            else:
                board.values.update({"version": str(offer["version"]), "ota/status": "confirmed"})

    def resume(self) -> None:
        """As `iotctl rollout resume` does: it refuses what is over, and that must be over on the server, too."""
        try:
            self.runner().change("running")
        except IotctlError:
            assert self.runner().load().began is not None

    def run(self, until: Callable[[Rollout], bool] = lambda r: r.over) -> Rollout:
        for _minute in range(30):
            stands = self.runner().turn(list(self.boards.values()), self.now)
            if until(stands):
                return stands
            self.pass_time()
        raise AssertionError(stands)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(make_place(tmp_path))
    made.folder.mkdir()
    for version in ("1.4.0", "1.5.0"):
        made.place.built(version)
    publish.publish(tmp_path / "dist" / "1.4.0.tar.gz", made.folder, publish.Options(), key(0))
    for n in range(COUNT):
        values = {"online": "true", "version": "1.4.0", "ota/status": "up_to_date", "ota/error": "", "ota/channel": "stable"}
        made.boards[f"Door-1/b{n}"] = Board(f"Door-1/b{n}", values)
    return made


def test_a_good_release_reaches_everybody_step_by_step(site: Site) -> None:
    site.start()
    seen: list[int] = []

    def over(stands: Rollout) -> bool:
        seen.append(stands.percent)
        return stands.over

    stands = site.run(over)
    assert stands.state == "done" and stands.count("confirmed") == COUNT
    assert sorted(set(seen)) == STEPS and seen == sorted(seen)
    assert site.channel()["rollout"] == {"percent": 100}


def test_a_step_waits_for_its_time_and_for_its_boards(site: Site) -> None:
    site.start()
    site.runner().turn(list(site.boards.values()), site.now)
    assert site.runner().turn(list(site.boards.values()), site.now + 59).step == 0
    stands = site.runner().turn(list(site.boards.values()), site.now + 10_000)
    assert stands.step == 0, "its time has passed, but no board has confirmed"
    site.pass_time()
    assert site.runner().turn(list(site.boards.values()), site.now + 10_000).step == 1


def test_a_bad_release_halts_in_its_first_step_and_leads_nobody_further(site: Site) -> None:
    site.bad = lambda name: True
    site.start()
    stands = site.run()
    assert (stands.state, stands.step) == ("halted", 0)
    assert "did not take it" in stands.why and "module_failed: lamp failed" in stands.why
    assert site.channel()["rollout"] == {"percent": 0} and str(site.channel()["notes"]).startswith("Halted: ")
    told = run("rollout", "status", "--site", site.folder).stdout
    assert "halted, 0%" in told and told.count("failed module_failed") == stands.count("failed")
    assert stands.count("failed") == len(stands.reached())


def test_a_revert_is_the_tree_before_under_a_higher_version(site: Site) -> None:
    site.bad = lambda name: name.endswith("3")
    site.start(max_failures=20)
    site.run(lambda r: r.step == 2)
    runner = site.runner()
    with pytest.raises(IotctlError, match="abort it first"):
        runner.revert("1.5.1", key(0), site.place.root)
    runner.change("aborted", "by hand")
    told = run("rollout", "status", "--site", site.folder).stdout
    runs = [name for name, board in site.boards.items() if board.values["version"] == "1.5.0"]
    assert runs and all(f"  {name}: runs 1.5.0\n" in told for name in runs), told
    for version in ("1.4.9", "1.5.0"):
        with pytest.raises(IotctlError, match="not newer"):
            runner.revert(version, key(0), site.place.root)
    made = bundle.read(runner.revert("1.5.1", key(0), site.place.root))
    assert runner.load().state == "reverted"
    before = bundle.read(site.place.root / "dist" / "1.4.0.tar.gz")
    assert {**made.files, "version": b"1.4.0\n"} == before.files and made.signature
    site.pass_time()
    assert {board.values["version"] for board in site.boards.values()} == {"1.5.1"}


@pytest.mark.parametrize("bad", [False, True])
def test_killed_at_any_write_and_resumed_it_ends_the_same(site: Site, bad: bool) -> None:
    site.bad = lambda name: bad
    image = {path: path.read_bytes() for path in site.folder.rglob("*.json")}
    values = {name: dict(board.values) for name, board in site.boards.items()}

    def again() -> None:
        for path in site.place.root.glob("*.rollout.json"):
            path.unlink()
        for path, data in image.items():
            path.write_bytes(data)
        for name, board in site.boards.items():
            board.values = dict(values[name])
        site.now = 1000.0

    def whole() -> tuple[object, ...]:
        stands = site.run()
        return (
            stands.state,
            stands.step,
            stands.why,
            {name: each.result for name, each in stands.boards.items()},
            site.channel()["rollout"],
        )

    site.fuse = 10_000
    site.start()
    wanted, writes = whole(), 10_000 - site.fuse
    assert writes > (8 if bad else 20)
    for at in range(1, writes + 1):
        again()
        site.fuse = at
        try:
            site.start()
            whole()
        except Killed:
            site.fuse = 0
        if not (site.place.root / "site.rollout.json").exists():
            site.start()  # killed before anything was remembered
        site.resume()
        assert whole() == wanted, at


def test_an_abort_that_is_killed_at_any_write_is_done_by_an_abort_or_by_a_resume(site: Site) -> None:
    for again in ("aborted", "running"):
        for at in range(1, 8):
            for path in site.place.root.glob("*.rollout.json"):
                path.unlink()
            (site.folder / "door-1" / "stable.json").unlink()
            publish.publish(site.place.root / "dist" / "1.4.0.tar.gz", site.folder, publish.Options(), key(0))
            site.start()
            site.run(lambda r: r.began is not None)
            site.fuse = at
            with contextlib.suppress(Killed):
                site.runner().change("aborted", "by hand")
            killed, site.fuse = site.fuse == 0, 0
            assert killed == (at < 7), "a write more, or less, than this test knows"
            stands = site.runner().load()
            if stands.over and stands.began is None:
                site.runner().change(again, "by hand")
                stands = site.runner().turn(list(site.boards.values()), site.now)
                assert (stands.state, site.channel()["rollout"]) == ("aborted", {"percent": 0}), (again, at)
            else:
                assert stands.state == ("aborted" if at > 5 else "running"), (again, at)


def test_what_no_board_could_take_is_refused_before_the_first_step(site: Site) -> None:
    dist, boards, course = site.place.root / "dist", list(site.boards.values()), Course("stable", STEPS, 60)
    older, good, bad = dist / "1.3.0.tar.gz", dist / "1.5.0.tar.gz", dist / "bad.tar.gz"
    site.place.built("1.3.0")
    bad.write_bytes(good.read_bytes()[:-2000] + b"\0" * 2000)
    site.place.build("--unsigned", version="1.5.0", out="unsigned")
    site.place.build("--key", site.place.key, "--notes", "another one", version="1.4.0", out="other")
    newer = [Board(board.name, {**board.values, "version": "1.5.0"}) for board in boards]
    before = site.channel()
    for path, given, signer, error, said in (
        (dist / "1.4.0.tar.gz", boards, 0, IotctlError, "all 40 boards run 1.4.0 or newer"),
        (older, [one("up_to_date", version="1.2.0")], 0, OtaError, "has sequence 1004000, this is 1003000"),
        (
            site.place.root / "other" / "1.4.0.tar.gz",
            [one("up_to_date", version="1.2.0")],
            0,
            IotctlError,
            "another bundle of 1.4.0",
        ),
        (dist / "1.4.0.tar.gz", [one("up_to_date", version="1.2.0")], 0, IotctlError, "leads everybody to 1.4.0 already"),
        (good, newer, 0, IotctlError, "all 40 boards run 1.5.0 or newer"),
        (good, [Board("Gate-1/b1", dict(boards[0].values))], 0, IotctlError, "no board of Door-1"),
        (good, [], 0, IotctlError, "does it keep retained messages"),
        (good, boards, None, IotctlError, "give --key"),
        (good, boards, 1, IotctlError, "channel"),
        (bad, boards, 0, OtaError, "."),
        (site.place.root / "unsigned" / "1.5.0.tar.gz", boards, 0, IotctlError, "not signed"),
    ):
        with pytest.raises(error, match=said):
            Runner(site.folder, None if signer is None else key(signer)).start(path, given, course)
    with pytest.raises(IotctlError, match="in the group cellar; there are: none"):
        site.start(group="cellar")
    assert site.channel() == before and not (site.place.root / "site.rollout.json").exists()
    for text in ("", "0,100", "10,5,100", "10,50"):
        with pytest.raises(IotctlError):
            rollout.parse_steps(text)


def test_what_somebody_else_has_published_is_never_overwritten(site: Site) -> None:
    site.start()
    site.run(lambda r: r.began is not None)
    publish.publish(site.place.built("1.6.0"), site.folder, publish.Options(), key(0))
    with pytest.raises(IotctlError, match="changed by somebody else"):
        site.run(lambda r: r.step == 2)
    assert site.channel()["version"] == "1.6.0"


def test_paused_it_takes_no_step_and_two_at_once_are_refused(site: Site) -> None:
    site.start()
    site.run(lambda r: r.began is not None)
    with site.runner().locked():
        assert run("rollout", "pause", "--site", site.folder).exit_code == 0
        with pytest.raises(IotctlError, match="runs already"), site.runner().locked():
            pass
    for _minute in range(3):
        site.pass_time()
        stands = site.runner().turn(list(site.boards.values()), site.now)
    assert (stands.state, stands.step) == ("paused", 0) and stands.count("confirmed")
    site.runner().change("running")
    assert site.run().state == "done"
    with pytest.raises(IotctlError, match="is over: done"):
        site.runner().change("paused")
    (site.place.root / "site.rollout.json").write_text('{"bundle": 1}')
    assert "is damaged" in run("rollout", "status", "--site", site.folder).stderr


def one(status: str, error: str = "", version: str = "1.4.0", online: str = "true", **more: str) -> Board:
    return Board("Door-1/b1", {"online": online, "version": version, "ota/status": status, "ota/error": error, **more})


@pytest.mark.parametrize(("known", "board", "wanted"), [
    ("", one("up_to_date"), ""),
    ("", one("trial", version="1.5.0"), "working"),
    ("working", one("confirmed", version="1.5.0"), "confirmed"),
    ("", one("up_to_date", version="1.5.0"), "confirmed"),
    ("", one("rolled_back", "watchdog"), ""),  # as it was before the rollout
    ("working", one("rolled_back", "watchdog"), "failed"),
    ("", one("failed", "no_space"), "failed"),
    ("working", one("failed", "connection_lost"), "working"),  # the network's fault: it is tried again
    ("working", one("rebooting", online="false"), "working"),  # it has been there until now
    ("away", one("rebooting", online="false"), "vanished"),
    ("away", one("trial", version="1.5.0"), "working"),
    ("vanished", one("confirmed", version="1.5.0"), "confirmed"),  # late is better than never
    ("failed", one("downloading"), "working"),
    ("failed", one("confirmed", version="1.5.0"), "confirmed"),
    ("confirmed", one("confirmed", version="1.5.0"), "confirmed"),  # told twice
    ("confirmed", one("rolled_back", "by_hand"), "failed"),
    ("", one("confirmed", version="9.9.9"), ""),
    ("", one("[" * 4096, "\0", version="\0"), ""),
    ("", one("up_to_date", online="false"), ""),
    ("confirmed", one("up_to_date", version="1.5.0", online="false"), "confirmed"),
])  # fmt: skip
def test_what_a_board_says_means(known: str, board: Board, wanted: str) -> None:
    stands = Rollout("b", "Door-1", "stable", "1.5.0", 1_005_000, [100], 60, 2)
    stands.before = {board.name: ["rolled_back", "watchdog"]}
    stands.boards = {board.name: Outcome("working", "", "", 1.0) if known == "away" else Outcome(known)}
    rollout.observe(stands, [board], rollout.GONE_S + 2)
    assert stands.boards[board.name].result == wanted
    assert not rollout.observe(stands, [board], rollout.GONE_S + 2), "what is told again is no news"


def test_boards_of_another_kind_or_channel_do_not_count() -> None:
    stands = Rollout("b", "Door-1", "stable", "1.5.0", 1_005_000, [100], 60, 2)
    other = Board("Gate/b1", {"online": "true", "version": "1.5.0"})
    rollout.observe(stands, [other, one("failed", "no_space", **{"ota/channel": "canary"})], 0.0)
    assert stands.boards == {}


def test_a_group_first_and_then_everybody(site: Site) -> None:
    house = {name for n, (name, board) in enumerate(site.boards.items()) if n % 4 == 0 and not board.values.update(group="house")}
    site.start(group="house")
    stands = site.run()
    assert stands.state == "done" and stands.reached() == house
    assert {name for name, board in site.boards.items() if board.values["version"] == "1.5.0"} == house
    assert site.channel()["rollout"] == {"percent": 0, "groups": {"house": 100}}
    site.start()
    assert site.run(lambda r: r.began is not None).percent == 5
    assert site.channel()["rollout"] == {"percent": 5, "groups": {"house": 100}}, "whom it leads already, it leads on"
    assert site.run().count("confirmed") == COUNT and site.channel()["rollout"] == {"percent": 100}
    site.runner().revert("1.5.1", key(0), site.place.root)
    site.pass_time()
    assert {board.values["version"] for board in site.boards.values()} == {"1.5.1"}
    made = bundle.read(site.place.root / "1.5.1.tar.gz")
    assert made.files["version"] == b"1.5.1\n" and made.header["notes"] == "The files of 1.4.0 again."


def test_a_board_that_takes_its_time_and_then_restarts_has_not_vanished(site: Site) -> None:
    """A slow download, and a look at it while it is away for ten seconds."""
    site.start()
    stands = site.run(lambda r: r.began is not None)
    slow = next(board for name, board in site.boards.items() if name in stands.reached())
    slow.values.update({"ota/status": "downloading", "ota/available": "1.5.0"})
    boards = list(site.boards.values())
    site.runner().turn(boards, site.now)
    slow.values.update({"ota/status": "rebooting", "online": "false"})
    assert site.runner().turn(boards, site.now + 3000).boards[slow.name].result == "working"
    assert site.runner().turn(boards, site.now + 10).boards[slow.name].result == "working", "a clock that goes back"
    assert site.runner().turn(boards, site.now + 10 + rollout.GONE_S).state == "running"
    assert site.runner().turn(boards, site.now + 11 + rollout.GONE_S).state == "halted"


def test_a_clock_that_jumps_neither_hurries_a_step_nor_holds_it_for_ever(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    watch, clock = Watch(), {"time": rollout.time.time(), "monotonic": rollout.time.monotonic()}
    for name in clock:
        monkeypatch.setattr(rollout.time, name, lambda name=name: clock[name])
    began = watch.now(True)
    clock["time"] += 1e9
    clock["monotonic"] += 5
    assert watch.now(True) - began == pytest.approx(5), "the computer's clock was set"
    clock["monotonic"] += 3600
    assert watch.now(False) - began == pytest.approx(5), "the broker was away"
    site.start()
    site.run(lambda r: r.began is not None)
    site.pass_time()
    boards = list(site.boards.values())
    assert site.runner().turn(boards, 10.0).step == 0, "years back, between two runs"
    assert site.runner().turn(boards, 69.0).step == 0
    assert site.runner().turn(boards, 70.0).step == 1, "the step is watched once more, not until the old time comes"


def test_boards_that_lie_or_flap_hold_nothing_up_and_halt_nothing(site: Site) -> None:
    """Four of forty: a rollout goes on without one board in ten."""
    names = list(site.boards)[:4]
    lies: list[dict[str, str]] = [
        {"version": "9.9.9"},
        {"version": "", "ota/status": "\0" * 4096, "ota/error": "bad_digest", "group": "x" * 4096},
        {"online": "maybe", "ota/status": "[]"},
        {},
    ]
    site.start(max_failures=3)
    for minute in range(30):
        for name, lie in zip(names, lies, strict=True):
            site.boards[name].values.update(lie)
        site.boards[names[3]].values.update(online="false" if minute % 2 else "true", version="1.5.0" if minute % 3 else "1.4.0")
        stands = site.runner().turn(list(site.boards.values()), site.now)
        if stands.over:
            break
        site.pass_time()
    assert stands.state == "done" and stands.count("confirmed") >= COUNT - 3, stands
    assert stands.count("failed") == stands.count("vanished") == 0


def test_a_revert_that_is_killed_at_any_write_ends_the_same(site: Site) -> None:
    site.bad = lambda name: True
    site.start()
    stands = site.run()
    stands.began = None  # killed before it was noted that the channel file says so
    site.runner().save(stands)
    folders = [site.folder, site.place.root]
    image = {path: path.read_bytes() for folder in folders for path in [*folder.rglob("*.json"), *folder.glob("*.tar.gz")]}
    for at in range(1, 6):
        for path, data in image.items():
            path.write_bytes(data)
        site.fuse = at
        with contextlib.suppress(Killed):
            site.runner().revert("1.5.1", key(0), site.place.root)
        killed, site.fuse = site.fuse == 0, 0
        site.runner().revert("1.5.1", key(0), site.place.root)
        assert (site.channel()["version"], site.channel()["rollout"]) == ("1.5.1", {"percent": 100}), at
        assert site.runner().turn(list(site.boards.values()), site.now).state == "reverted"
        assert site.channel()["version"] == "1.5.1"
        with pytest.raises(IotctlError, match="is over: reverted"):
            site.runner().change("running")
        assert killed == (at < 5), "a write more, or less, than this test knows"
