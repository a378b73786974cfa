"""iotctl rollout: what it decides, and what a kill at any write leaves. Its boards are a few lines that do what boards do."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from iotctl import bundle, publish, rollout
from iotctl.errors import IotctlError
from iotctl.fleet import Board
from iotctl.rollout import Outcome, Rollout, Runner
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

    def start(self, max_failures: float = 2.0) -> None:
        self.runner().start(
            self.place.root / "dist" / "1.5.0.tar.gz", list(self.boards.values()), "stable", STEPS, 60, max_failures
        )

    def pass_time(self) -> None:
        """A minute in which every board that the channel leads to the release takes it, or does not."""
        self.now += 61
        offer = self.channel()
        for board in self.boards.values():
            identity = board.name.partition("/")[2]
            if (
                offer["version"] == "1.4.0"
                or not policy.rollout_allows(offer, identity)
                or board.values["version"] == offer["version"]
            ):
                continue
            if offer["version"] == "1.5.0" and self.bad(board.name):
                board.values.update({"ota/status": "rolled_back", "ota/error": "module_failed", "ota/message": "lamp failed"})
            else:
                board.values.update({"version": str(offer["version"]), "ota/status": "confirmed"})

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
    assert stands.count("failed") == sum(stands.reaches(name) for name in site.boards)


def test_a_revert_is_the_tree_before_under_a_higher_version(site: Site) -> None:
    site.bad = lambda name: name.endswith("3")
    site.start(max_failures=20)
    site.run(lambda r: r.step == 2)
    with pytest.raises(IotctlError, match="not newer"):
        site.runner().revert(site.runner().load(), "1.4.9", key(0), site.place.root)
    runner = site.runner()
    runner.change("aborted", "by hand")
    made = bundle.read(runner.revert(runner.load(), "1.5.1", key(0), site.place.root))
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
        assert whole() == wanted, at


def test_what_no_board_could_take_is_refused_before_the_first_step(site: Site) -> None:
    boards, root = list(site.boards.values()), site.place.root
    before = site.channel()
    for path, given, said in (
        (root / "dist" / "1.4.0.tar.gz", boards, "not older than"),
        (root / "dist" / "1.5.0.tar.gz", [Board("Gate-1/b1", dict(boards[0].values))], "no board of Door-1"),
    ):
        with pytest.raises(IotctlError, match=said):
            site.runner().start(path, given, "stable", STEPS, 60, 2)
    damaged = (root / "dist" / "1.5.0.tar.gz").read_bytes()
    (root / "bad.tar.gz").write_bytes(damaged[:-2000] + b"\0" * 2000)
    with pytest.raises(OtaError):
        site.runner().start(root / "bad.tar.gz", boards, "stable", STEPS, 60, 2)
    assert site.channel() == before and not (root / "site.rollout.json").exists()
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
    ("working", one("rebooting", online="false"), "vanished"),
    ("", one("up_to_date", online="false"), ""),
    ("confirmed", one("up_to_date", version="1.5.0", online="false"), "confirmed"),
])  # fmt: skip
def test_what_a_board_says_means(known: str, board: Board, wanted: str) -> None:
    stands = Rollout("b", "Door-1", "stable", "1.5.0", 1_005_000, [100], 60, 2)
    stands.before = {board.name: ["rolled_back", "watchdog"]}
    stands.boards = {board.name: Outcome(known, "", 0.0)}
    rollout.observe(stands, [board], rollout.GONE_S + 1)
    assert stands.boards[board.name].result == wanted


def test_boards_of_another_kind_or_channel_do_not_count() -> None:
    stands = Rollout("b", "Door-1", "stable", "1.5.0", 1_005_000, [100], 60, 2)
    other = Board("Gate/b1", {"online": "true", "version": "1.5.0"})
    rollout.observe(stands, [other, one("failed", "no_space", **{"ota/channel": "canary"})], 0.0)
    assert stands.boards == {}
