"""Little's law on figures that keep it and on figures that do not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from simulated import SimulatedDriver, mm1
from swarmbench.analysis import littles
from swarmbench.measured import Held
from swarmbench.scenarios.max_throughput import constant


def held(seconds: float = 10.0) -> Held:
    driver = SimulatedDriver(mm1(4.0, 200.0), {"a": 200.0}, 1)
    return driver.hold("search", constant(2.0), seconds)


def test_a_consistent_stretch_has_no_violation() -> None:
    stretch = held()

    assert littles.violations("search", stretch.components, stretch.duration_s) == []
    # The simulated lateness of 100 ns is no part of the occupancy that it stamps.
    assert littles.error(stretch.components["a"], 10.0) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_an_occupancy_ten_percent_off_is_named(factor: float) -> None:
    figures = held().components["a"]
    wrong = replace(figures, occupancy_mean=figures.occupancy_mean * factor)

    found = littles.violations("search", {"a": wrong}, 10.0)

    assert [(v.phase, v.component) for v in found] == [("search", "a")]
    assert "a in search" in str(found[0])


def test_too_few_operations_cannot_be_told() -> None:
    figures = held(0.1).components["a"]

    assert littles.error(figures, 0.1) is None
    assert littles.violations("search", {"a": figures}, 0.1) == []
