"""iotctl watch, update and rollback, as programs, against a real broker and a board."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

from iotctl import ROOT
from tests.mqtt.conftest import BASE, LAMP_FILES
from tests.mqtt.test_commands import start
from tests.support.broker import Broker, Observer
from tests.support.world import PATIENCE_S, World, patched


def iotctl(*words: str, port: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "iotctl", *words, "--broker", f"127.0.0.1:{port}"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=180)


def test_watch_update_and_rollback(world: World, seen: Observer, broker: Broker) -> None:
    world.ota["keep_previous"] = True
    start(world, seen)
    seen.wait(f"{BASE}/status/version", "1.0.0")
    seen.wait(f"{BASE}/status/freeram")
    seen.publish("other/gadget/status/POWER", "on", retain=True)

    found = json.loads(iotctl("watch", "--json", port=broker.port).stdout)
    assert len(found) == 1 and found[0]["freeram"] > 10_000
    wanted = {"device": BASE, "version": "1.0.0", "online": True, "signal": -52, "status": "up_to_date"}
    assert {key: found[0][key] for key in wanted} == wanted
    text = iotctl("watch", "--once", port=broker.port).stdout
    assert BASE in text and "up_to_date" in text and "gadget" not in text

    sorted_in = iotctl("assign", "sim-0001", "--name", "kitchen", "--group", "house", "--tags", "dry", port=broker.port)
    assert sorted_in.stdout == f"{BASE}: name kitchen\n{BASE}: group house\n{BASE}: tags dry\n", sorted_in.stderr
    (world.folder / "fleet.toml").write_text(
        f'[[board]]\nid = "{BASE}"\ngroup = "house"\ntags = ["dry", "high"]\n[[board]]\nid = "a/b"'
    )
    told = iotctl("assign", "--fleet", str(world.folder / "fleet.toml"), port=broker.port).stdout
    assert told == f"{BASE}: tags dry high\n", "what is so already is not said again"
    assert (
        iotctl("assign", BASE, "--group", "../x", port=broker.port).stderr
        == f"{BASE}: bad_value: a name or a group is letters and digits, tags are words\n"
    )
    found = json.loads(iotctl("watch", "--json", port=broker.port).stdout)
    assert (found[0]["label"], found[0]["group"], found[0]["tags"]) == ("kitchen", "house", ["dry", "high"])

    new = world.release("1.1.0", LAMP_FILES)
    world.offer(new)
    assert "in the group cellar" in iotctl("update", "--group", "cellar", port=broker.port).stderr
    for words in (("update",), ("rollout", "start", __file__, "--site", str(Path(__file__).parent))):
        unset = iotctl(*words, "--group", "", port=broker.port)  # a shell's variable that is not set: not all boards
        assert unset.returncode == 2 and "a group has a name" in unset.stderr
    done = iotctl("update", "--group", "house", port=broker.port)
    assert (done.returncode, done.stdout) == (0, f"{BASE}: confirmed, running 1.1.0\n"), done.stderr
    assert "trial" in done.stderr or "rebooting" in done.stderr or "not online" in done.stderr
    again = iotctl("update", BASE, "--json", port=broker.port)
    assert json.loads(again.stdout)["state"] == "up_to_date"

    back = iotctl("rollback", BASE, port=broker.port)
    assert (back.returncode, back.stdout) == (0, f"{BASE}: confirmed, running 1.0.0\n"), back.stderr
    held = iotctl("update", BASE, port=broker.port)
    assert held.returncode == 1 and "not_offered: the channel has 1.1.0, and not for this board now" in held.stderr
    world.offer(world.release("1.2.0", LAMP_FILES), rollout=0)
    outside = iotctl("update", BASE, port=broker.port)
    assert outside.returncode == 1, outside.stdout
    assert outside.stderr.splitlines()[-1] == f"iotctl: {BASE}: not_offered: the channel has 1.2.0, and not for this board now"

    refused = iotctl("rollback", BASE, port=broker.port)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1] == f"iotctl: {BASE}: no_update: no previous version is kept on this board"

    world.board.stop()
    seen.wait(f"{BASE}/status/online", "false", seen.now() - 1)
    away = iotctl("update", BASE, port=broker.port)
    assert (away.returncode, away.stderr) == (1, f"iotctl: {BASE}: offline: it is not online\n")

    assert "topics cleared" in iotctl("forget", BASE, port=broker.port).stdout
    assert json.loads(iotctl("watch", "--json", port=broker.port).stdout) == []
    with Observer(broker) as late:
        late.publish("the/last/word")  # what is retained comes before it
        late.wait("the/last/word")
        assert [message.topic for message in late.messages if message.retained] == ["other/gadget/status/POWER"]


def test_a_board_that_cannot_join_another_network_comes_back_and_one_that_can_goes(
    world: World, seen: Observer, broker: Broker
) -> None:
    """It has its network from the profile. When it is back, its preferences name none, so a release may still name another."""
    world.sections["mqtt"]["commands"] = ["wifi"]
    changes = {"_FIRST_PAUSE_MS = const(1_000)": "_FIRST_PAUSE_MS = const(20)", "_CHECK_MS = const(500)": "_CHECK_MS = const(60)"}
    soon = patched("modules/wifi/__init__.py", *changes.items())
    world.board.wifi = "ok sim-network garden"
    world.flash(world.release("1.0.0", soon), {"prefs.json": b'{"name": "kitchen"}'})
    world.board.start()
    seen.wait(f"{BASE}/status/version", "1.0.0")
    seen.wait(f"{BASE}/status/name", "kitchen")

    def move(name: str, password: str) -> str:
        done = iotctl("wifi", name, BASE, "--wifi-password", password, port=broker.port)
        return done.stdout + done.stderr

    assert "wifi.password is wrong" in move("cellar", "short")
    since, told = world.now(), seen.now()
    assert move("cellar", "not a secret") == f"{BASE}: joining\n"
    world.board.expect("wifi: could not join cellar", PATIENCE_S, since)
    world.board.expect("wifi: connected to sim-network", PATIENCE_S, since)
    assert world.lines_since(since).count("could not join cellar") == 4
    seen.wait(f"{BASE}/status/online", "true", told)
    world.board.stop()
    slots = [data.splitlines() for path, data in world.board.read().files.items() if path.startswith("prefs.json")]
    prefs = json.loads(max(slots, key=lambda lines: int(lines[1].split()[0]))[0])
    assert set(prefs) == {"name", "wifi.ap_password"} and "not a secret" not in world.lines_since(0)
    told = seen.now()
    world.board.start()
    seen.wait(f"{BASE}/status/online", "true", told)
    told = seen.now()
    assert move("garden", "") == f"{BASE}: joining\n"
    world.board.expect("wifi: connected to garden", PATIENCE_S, since)
    seen.wait(f"{BASE}/status/online", "true", told)


def test_several_boards_are_updated_at_once(broker: Broker, seen: Observer, tmp_path: Path) -> None:
    """Two that speak as boards do, one of which fails; a third is away."""
    for name, online in (("gate/1", "true"), ("gate/2", "true"), ("gate/3", "false")):
        seen.publish(f"{name}/status/online", online, retain=True)
        seen.publish(f"{name}/status/version", "1.0.0", retain=True)

    def answer(name: str, reply: dict[str, object], since: int) -> None:
        seen.wait(f"{name}/command/ota/update", since=since)
        seen.publish(f"{name}/reply/ota/update", json.dumps({"ok": True, "state": "started"}))
        seen.publish(f"{name}/reply/ota/update", json.dumps(reply))

    good = {"ok": True, "state": "confirmed", "version": "1.1.0"}
    bad = {"ok": False, "error": "no_space", "message": "it is full"}
    (tmp_path / "fleet.toml").write_text(
        "".join(f'[[board]]\nid = "gate/{n}"\nname = "North {n}"\ngroup = "north"\n' for n in (1, 2, 3, 4))
    )
    fleet = ("--fleet", str(tmp_path / "fleet.toml"))
    stands = {each["device"]: each["state"] for each in json.loads(iotctl("watch", "--json", *fleet, port=broker.port).stdout)}
    assert stands == {"gate/1": "ok", "gate/2": "ok", "gate/3": "offline", "gate/4": "missing"}
    seen.publish("gate/1/update", json.dumps({"in_progress": True, "update_percentage": 75}), retain=True)
    seen.publish("gate/2/status/ota/waiting", "window 02:00-04:30", retain=True)
    text = iotctl("watch", "--once", *fleet, port=broker.port).stdout
    assert "waiting: window 02:00-04:30" in text
    assert text.count("75%") == 1, "of the whole update"
    assert "3 boards" in text and "1 missing" in text and "North 4" in text and "missing: never heard at this broker" in text
    seen.publish("gate/4/status/online", "false", retain=True)
    seen.publish("gate/4/status/version", "1.0.0", retain=True)
    for words in (("--all",), ("gate/1", "gate/2", "gate/3"), ("--group", "north", *fleet)):
        since = seen.now()
        answers = [threading.Thread(target=answer, args=(*each, since)) for each in (("gate/1", good), ("gate/2", bad))]
        for each in answers:
            each.start()
        done = iotctl("update", *words, port=broker.port)
        for each in answers:
            each.join()
        assert (done.returncode, done.stdout) == (1, "gate/1: confirmed, running 1.1.0\n")
        assert "iotctl: gate/2: no_space: it is full\n" in done.stderr
        assert ("gate/3: offline" in done.stderr) == (len(words) > 1)
    assert iotctl("update", port=broker.port).returncode == 2


def test_a_board_or_broker_that_is_not_there_is_one_line(broker: Broker) -> None:
    unknown = iotctl("update", "door/1", port=broker.port)
    assert unknown.returncode == 1
    assert unknown.stderr == f"iotctl: no board door/1 at 127.0.0.1:{broker.port}; there are: none\n"
    broker.stop()
    nobody = iotctl("watch", "--once", port=broker.port)
    assert nobody.returncode == 1
    assert nobody.stderr.startswith(f"iotctl: no connection to the broker 127.0.0.1:{broker.port}: ")
