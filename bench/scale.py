"""The arithmetic of docs/scale.md: what a fleet asks of a static server and of brokers, from the figures of a measurement."""

from __future__ import annotations

import math

from bench.measure import Results

BOARDS = 1_000_000
_DAY = 86_400
_INTERVALS = (("an hour", 3600), ("six hours", 6 * 3600), ("a day", _DAY))


def rows(results: Results) -> list[tuple[str, ...]]:
    """Polling for some intervals; then what one release costs, where every file changes and where one line does."""
    poll = results["poll"]["wire_in"] + results["poll"]["wire_out"]
    out = [_poll_row(name, interval, poll) for name, interval in _INTERVALS]
    for way, what in (("full", "every file changes"), ("small", "one line changes")):
        if way in results:
            out += _release_rows(what, results[way])
    return out


_FLEET = {
    "boards": "boards: real MicroPython, each its own flash",
    "confirmed": "of which took the good release, although the rollout was killed, the broker restarted and power failed for all",
    "halted_at_step": "step at which the bad release's rollout halted itself",
    "bad_release_failed_on": "boards on which it had failed by then",
    "bad_release_boards_left": "boards that still ran it after the revert",
    "story_s": "seconds for all of that",
    "clients": "light MQTT clients on one mosquitto",
    "messages_per_s": "messages a second, in ordinary times",
    "page_p95_ms": "a page of the dashboard, ms (95 of 100)",
    "browser_page_p95_ms": "the same in Chromium, from its address to fifty rows, ms",
    "rollout_s": "seconds for a rollout to all of them in four steps",
    "rollout_page_p95_ms": "a page meanwhile, ms",
    "dashboard_cpu_percent": "the dashboard, percent of a core, in ordinary times",
    "dashboard_mb": "the dashboard's memory at its most, MB",
    "broker_cpu_percent": "mosquitto, percent of a core, in ordinary times",
    "broker_mb": "mosquitto's memory, MB",
}


def fleet(figures: Results) -> list[tuple[str, ...]]:
    """What bench/fleet.py has measured."""
    return [(words, f"{figures[key]:,}") for key, words in _FLEET.items() if figures.get(key) is not None]


def brokers(figures: Results) -> list[tuple[str, ...]]:
    """What a million boards take, if each takes what one of the measured clients does. A broker is loaded to half a core."""
    share = BOARDS / figures["clients"]
    cores = share * figures["broker_cpu_percent"] / 100
    memory = share * figures["broker_mb"] / 1000
    return [
        ("messages a second, in ordinary times", f"{share * figures['messages_per_s']:,.0f}"),
        ("cores for the brokers, half idle each", f"{math.ceil(2 * cores):,}"),
        ("their memory, all together", f"{memory:,.1f} GB"),
        ("the dashboard's memory, if one had to hold them all", f"{share * figures['dashboard_mb'] / 1000:,.1f} GB"),
        ("cores for it, in ordinary times", f"{math.ceil(share * figures['dashboard_cpu_percent'] / 100):,}"),
    ]


def _poll_row(name: str, interval: int, size: int) -> tuple[str, ...]:
    checks = BOARDS * _DAY / interval
    a_second = BOARDS / interval
    total, volume = f"{checks / 1e6:,.0f} million a day", f"{checks * size / 1e9:,.1f} GB a day"
    return f"polling, every board once in {name}", total, f"{a_second:,.0f}", volume, _rate(a_second * size)


def _release_rows(changes: str, figures: Results) -> list[tuple[str, ...]]:
    """The download and the trial's check, spread over a day's interval, for all boards and for a tenth of them."""
    size = figures["wire_in"] + figures["wire_out"] + figures["trial_in"]
    requests = figures["requests"] + 1  # the trial's
    out: list[tuple[str, ...]] = []
    for share in (100, 10):
        boards = BOARDS * share // 100
        a_second = boards * requests / _DAY
        what = f"a release in which {changes}, to {share} % of the boards, over a day"
        total = f"{boards * requests / 1e6:,.1f} million"
        out.append((what, total, f"{a_second:,.0f}", f"{boards * size / 1e9:,.1f} GB", _rate(boards * size / _DAY)))
    return out


def _rate(bytes_per_s: float) -> str:
    return f"{bytes_per_s * 8 / 1e6:,.2f} Mbit/s"
