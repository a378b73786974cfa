"""The dashboard's decisions: rows, search, filters, pages, advice, orders; and how it drives a rollout."""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import threading
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from iotctl import ROOT
from iotctl.dashboard import advice, live, view
from iotctl.dashboard.rollouts import Driver, Plan
from iotctl.errors import IotctlError
from iotctl.fleet import Board
from iotctl.register import Entry
from modules.ota.errors import OtaError
from tests.support import loops
from tests.unit.iotctl_fixture import key
from tests.unit.test_rollout import Site, site

__all__ = ["site"]  # a fixture

NOW = 1_800_000_000.0
OFFER = {"version": "1.5.0", "sequence": 1005000, "rollout": {"percent": 100}, "releases": ["1.4.0", "1.4.1", "1.5.0", "1.6.0"]}


def board(name: str = "door/1", *, seen: float | None = NOW, **values: str) -> Board:
    """`values` with _ for /."""
    given = {
        "online": "true",
        "version": "1.5.0",
        "ota/status": "up_to_date",
        **{k.replace("_", "/"): v for k, v in values.items()},
    }
    return Board(name, given, datetime.fromtimestamp(seen, UTC) if seen else None)


@pytest.mark.parametrize(
    ("values", "state", "note"),
    [
        ({}, "ok", "up_to_date"),
        ({"version": "1.4.0"}, "behind", "2 releases behind: has not taken it yet"),
        ({"version": "1.4.0", "ota_waiting": "window 02:00-04:30"}, "waiting", "window 02:00-04:30"),
        ({"ota_status": "downloading", "ota_progress": "40"}, "updating", "downloading"),
        ({"ota_status": "rebooting", "online": "false"}, "updating", "restarts"),
        ({"ota_status": "rebooting", "restart_waiting/for": "x"}, "updating", "rebooting"),
        ({"online": "false", "ota_error": "timeout"}, "offline", ""),
        ({"online": "false", "version": "1.4.2"}, "offline", "1 release behind"),
        ({"ota_status": "failed", "ota_error": "no_space", "ota_message": "full"}, "trouble", "no_space: full"),
        ({"ota_status": "failed", "ota_error": "no_update"}, "ok", "failed"),
        ({"ota_problem": '{"problem": true, "reason": "watchdog", "message": "hung"}'}, "trouble", "watchdog: hung"),
        ({"ota_problem": '{"problem": false}'}, "ok", "up_to_date"),
        ({"ota_problem": "[" * 100_000}, "ok", "up_to_date"),
        ({"module_lamp": "off: start: ValueError()"}, "trouble", "module/lamp: off: start: ValueError()"),
        ({"ota_damaged": "2"}, "trouble", "damaged: 2 files are not what the release brought"),
    ],
)
def test_a_board_is_in_one_state_and_says_why(values: dict[str, str], state: str, note: str) -> None:
    row = view.make_row(board("door/1", seen=NOW, **values), OFFER, None, NOW)
    assert (row.state, row.note) == (state, note)


def test_a_board_may_say_something_while_its_row_is_made() -> None:
    """What it says comes on another thread."""
    talker, ended = board(), threading.Event()

    def talk() -> None:
        while not ended.is_set():
            for n in range(100):
                talker.values[f"module/{n}"] = "on"
            for n in range(100):
                del talker.values[f"module/{n}"]

    thread, interval = threading.Thread(target=talk), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        rows = {view.make_row(talker, OFFER, None, NOW).state for _ in range(1000)}
    finally:
        sys.setswitchinterval(interval)
        ended.set()
        thread.join()
    assert rows == {"ok"}


def test_a_board_that_does_not_come_back_from_its_update_is_offline() -> None:
    gone = board(seen=NOW - view.AWAY_S - 1, online="false", ota_status="rebooting")
    assert view.make_row(gone, OFFER, None, NOW).state == "offline"
    assert view.make_row(board(seen=None, online="false", ota_status="trial"), OFFER, None, NOW).state == "offline"


def test_a_board_that_comes_and_goes_is_in_trouble_whether_it_is_there_or_not() -> None:
    for online in ("true", "false"):
        row = view.make_row(board(online=online), OFFER, None, NOW, gone=6)
        assert (row.state, row.note) == ("trouble", "flapping: it came and went 6 times in ten minutes")
        assert view.make_row(board(online=online), OFFER, None, NOW, gone=3).state != "trouble", "an update is as many"


def test_behind_is_who_the_channel_leads_to_something_newer() -> None:
    led = {**OFFER, "rollout": {"percent": 50}}
    behind = [n for n in range(200) if view.make_row(board(f"door/{n}", version="1.4.0"), led, None, NOW).behind]
    assert 60 < len(behind) < 140, "half of them are in the rollout"
    for version, wanted in (("1.5.0", ""), ("1.10.0", ""), ("1.5.0-rc1", "1.5.0"), ("unknown!", "1.5.0")):
        assert view.make_row(board(version=version), OFFER, None, NOW).behind == wanted
    assert view.make_row(board(version="1.4.0"), None, None, NOW).behind == ""


def test_who_is_in_the_register_has_its_name_and_is_missing_until_it_speaks() -> None:
    entry = Entry("door/1", "Front door", "house", ("outside",))
    index = view.Index()
    index.put(view.missing(entry))
    index.put(view.make_row(board("door/2"), OFFER, None, NOW))
    page = index.page(view.Query())
    assert page["counts"]["missing"] == 1 and page["counts"]["online"] == 1 and page["versions"] == [("1.5.0", 1)]
    assert [row.name for row in index.find(view.Query(show="missing", text="front OUTSIDE"))] == ["door/1"]
    index.put(view.make_row(board("door/1"), OFFER, None, NOW, entry))
    page = index.page(view.Query(group="house"))
    assert page["groups"] == ["house"] and page["counts"]["all"] == 1 and page["counts"]["missing"] == 0
    assert page["rows"][0]["label"] == "Front door"
    index.put(view.make_row(board("door/2", group="barn", tags="wet,  high"), OFFER, None, NOW))
    index.put(view.make_row(board("door/1", group="barn", tags="high"), OFFER, None, NOW, Entry("door/1", "Front door")))
    assert [row.name for row in index.find(view.Query(group="barn", text="high"))] == ["door/1", "door/2"], (
        "what boards say of themselves"
    )
    assert index.rows["door/2"].value["tags"] == ("wet", "high")


@cache
def ten_thousand() -> view.Index:
    index, rnd = view.Index(), random.Random(1)
    for n in range(10_000):
        version = rnd.choice(["1.5.0", "1.4.0", "1.10.0", f"9.{n}.0"])
        index.put(view.make_row(board(f"door/{n:05}", version=version, online="true" if n % 4 else "false"), OFFER, None, NOW))
    return index


def test_a_page_of_ten_thousand_boards_is_bounded_and_the_pages_are_all_of_them() -> None:
    index = ten_thousand()
    pages = {n: index.page(view.Query(page=n)) for n in (0, 1, 77, 199)}
    for n, page in pages.items():
        assert [row["name"] for row in page["rows"]] == sorted(index.rows)[50 * n : 50 * n + 50]
    assert max(len(json.dumps(page)) for page in pages.values()) < 25_000
    first = pages[0]
    assert (first["total"], first["found"], first["pages"]) == (10_000, 10_000, 200)
    assert first["counts"]["offline"] == 2500 and first["counts"]["online"] == 7500
    assert len(first["versions"]) == 8 and sum(number for _version, number in first["versions"]) == 10_000
    names = [version for version, _number in first["versions"] if version in ("1.4.0", "1.5.0", "1.10.0")]
    assert names == ["1.10.0", "1.5.0", "1.4.0"], "the newest first"
    assert index.page(view.Query(page=10**5))["page"] == 199, "the last one there is"


def test_search_filter_and_order_agree_with_what_is_updated() -> None:
    index = ten_thousand()
    query = view.Query.of({"text": "DOOR/0 offline", "version": "1.4.0", "order": "version", "page": "0"})
    found = index.find(query)
    assert found and all(row.name.startswith("door/0") and not row.online and row.version == "1.4.0" for row in found)
    assert index.page(query)["found"] == len(found)
    assert [row.version for row in index.find(view.Query(order="version"))][0] == "1.4.0"
    for wrong in ({"show": "x"}, {"order": "x"}, {"page": "-1"}, {"page": "1e9"}, {"text": "x" * 201}):
        with pytest.raises(IotctlError):
            view.Query.of(wrong)


def test_there_is_advice_for_every_reason_of_the_guide() -> None:
    text = (ROOT / "docs" / "trouble.md").read_text()
    update, trial = text.split("| reason | what happened")[1:]
    for trials, table in ((False, update), (True, trial)):
        rows = re.findall(r"^\| (`.*?) \|", table, re.M)
        reasons = {reason for row in rows for reason in re.findall(r"`(\w+)`", row)}
        assert len(reasons) > 8
        for reason in reasons:
            assert advice.advice(reason, trials), reason
    assert OtaError("no_space", "").kind == "storage" and advice.advice("nobody_knows") == ""


def test_an_order_ends_with_the_boards_word_or_with_time() -> None:
    order = live.Order("update", NOW, "asked")
    order.look(NOW + 29)
    live.take(order, '{"ok": true, "state": "started"}')
    assert order.state == "started"
    order.look(NOW + 800)
    assert order.state == "started"
    live.take(order, '{"ok": false, "error": "no_space", "message": "it is full"}')
    assert (order.state, order.text) == ("failed", "no_space: it is full")
    for text in ("", "[]", '{"ok": 1}', "[" * 100_000, "null"):
        live.take(order, text)
        assert order.state == "failed"
    late = live.Order("update", NOW, "asked")
    late.look(NOW + 31)
    assert (late.state, late.text) == ("failed", "no answer within 30 s")


def test_a_rollout_is_driven_paused_resumed_and_aborted(site: Site) -> None:
    driver = Driver(site.folder, key(0), lambda: list(site.boards.values()))
    assert driver.shown() is None
    found = driver.keep((site.place.root / "dist" / "1.5.0.tar.gz").read_bytes())
    assert (found["version"], found["boards"], found["newer"]) == ("1.5.0", 40, 40)
    plan = Plan("rollout", "stable", "5,100", "0s", 2.0)

    def stands() -> dict[str, object]:
        shown = driver.shown()
        assert shown is not None
        return {name: shown[name] for name in ("state", "step", "percent", "driven")}

    async def story() -> None:
        driver.publish(found["id"], plan)
        with pytest.raises(IotctlError, match="on its way"):
            driver.publish(found["id"], Plan("all", "stable", "", "", 2.0))
        await driver.turn()
        assert stands() == {"state": "running", "step": 0, "percent": 5, "driven": True}
        driver.change("pause")
        site.pass_time()
        await driver.turn()
        assert stands() == {"state": "paused", "step": 0, "percent": 5, "driven": True}
        driver.change("resume")
        await driver.turn()
        await driver.turn()
        assert stands() == {"state": "running", "step": 1, "percent": 100, "driven": True}
        driver.change("abort")
        await driver.turn()
        assert stands() == {"state": "aborted", "step": 1, "percent": 0, "driven": False}
        assert site.channel()["rollout"] == {"percent": 0}

    loops.run(story())
    with pytest.raises(IotctlError, match="is over"):
        driver.change("resume")


def test_a_turn_that_comes_while_a_rollout_begins_waits_for_it(site: Site) -> None:
    """With ten thousand boards a beginning takes seconds, and there is no rollout yet."""
    asked: list[threading.Thread] = []

    def boards() -> list[Board]:
        asked.append(threading.Thread(target=lambda: asyncio.run(driver.turn())))
        if len(asked) == 2:  # first by keep(), then by the beginning
            asked[1].start()
            asked[1].join(0.3)
        return list(site.boards.values())

    driver = Driver(site.folder, key(0), boards)
    found = driver.keep((site.place.root / "dist" / "1.5.0.tar.gz").read_bytes())
    driver.publish(found["id"], Plan("rollout", "stable", "100", "0s", 2.0))
    asked[1].join(30)
    shown = driver.shown()
    assert shown and shown["driven"] and not shown["problem"] and shown["began"]


def test_what_stops_a_rollout_is_shown_and_another_process_may_drive(site: Site) -> None:
    driver = Driver(site.folder, key(0), lambda: list(site.boards.values()))
    site.start()
    with site.runner().locked():
        driver.change("resume")
        shown = driver.shown()
        assert shown and not shown["driven"] and shown["state"] == "running"
    driver.change("resume")
    loops.run(driver.turn())
    (site.folder / "door-1" / "stable.json").write_text("{}")
    loops.run(driver.turn())
    shown = driver.shown()
    assert shown and not shown["driven"] and "changed by somebody else" in shown["problem"]


def test_a_bundle_that_no_board_would_take_is_not_kept(site: Site, tmp_path: Path) -> None:
    good = (site.place.root / "dist" / "1.5.0.tar.gz").read_bytes()
    driver = Driver(site.folder, key(0), list)
    with pytest.raises(OtaError):
        driver.keep(good[:-300] + b"x" * 300)
    with pytest.raises(IotctlError, match="start the dashboard with --key"):
        Driver(site.folder, None, list).keep(good)
    assert list((site.place.root / "site.dropped").iterdir()) == []
