"""An evenly spread sample of `make torture`, and that it can fail."""

from __future__ import annotations

import pytest

from tests.powercut import runner
from tests.powercut.__main__ import summary
from tests.powercut.scenario import SCENARIOS

_SAMPLE = 30


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_cut_ends_in_one_version(scenario: runner.Scenario) -> None:
    sample = 2 if scenario.name.startswith("300") else _SAMPLE  # seconds each: `make torture` has more of them
    outcomes, seconds = runner.run(scenario, "lfs", sample=sample, doubles=0, workers=1)
    print(summary(scenario.name, "lfs", outcomes, seconds))
    bad = [o for o in outcomes if o.verdict not in ("old", "new") or o.lost]
    assert not bad, f'{bad[0].verdict}: make torture ARGS="--replay \'{bad[0].case.replay()}\'"\n{bad[0].detail}'
    assert len(outcomes) >= min(sample, 10)


def test_a_broken_installer_is_found_out() -> None:
    """The journal's rename before the stage is complete: torture must say so, or it proves nothing."""
    outcomes, _seconds = runner.run(runner.by_name("nine files"), "lfs", sample=60, doubles=0, workers=1, broken=True)
    assert any(outcome.verdict in ("mixed", "unbootable") for outcome in outcomes)
