"""Throughput along the number of workers: the law, its intervals, and the command."""

from __future__ import annotations

import json

import numpy as np
import pytest

from goldens import swarmbench
from swarmbench.analysis.usl import Usl, fit, law_of
from swarmbench.experiments.scale import Point, Scaling
from swarmbench.report.scale import scaling_text


@pytest.mark.parametrize(
    "law", [Usl(1e6, 0.0, 0.0), Usl(5e3, 0.08, 0.0), Usl(200.0, 0.03, 0.0005), Usl(9.0, 0.0, 0.01)]
)
def test_the_law_behind_exact_points_is_found(law: Usl) -> None:
    found = law_of({workers: law.at(workers) for workers in (1, 2, 4, 8, 16)})

    assert found.rate == pytest.approx(law.rate)
    assert found.contention == pytest.approx(law.contention, abs=1e-9)
    assert found.coherence == pytest.approx(law.coherence, abs=1e-9)


def test_throughput_falls_beyond_the_peak_of_the_law() -> None:
    law = Usl(100.0, 0.05, 0.002)

    assert law.peak is not None
    assert law.at(law.peak) > law.at(law.peak - 2)
    assert law.at(law.peak) > law.at(law.peak + 2)
    assert Usl(100.0, 0.05, 0.0).peak is None


def test_two_points_give_contention_alone_and_never_a_negative_one() -> None:
    assert law_of({1: 100.0, 2: 160.0}).contention == pytest.approx(0.25)
    better_than_linear = law_of({1: 100.0, 2: 230.0})
    assert (better_than_linear.contention, better_than_linear.coherence) == (0.0, 0.0)


def test_a_law_needs_two_points_with_positive_rates() -> None:
    for points in ({1: 100.0}, {1: 100.0, 2: 0.0}):
        with pytest.raises(ValueError, match="two points"):
            law_of(points)


def test_the_intervals_cover_the_truth_in_most_experiments() -> None:
    law, covered, trials = Usl(1000.0, 0.1, 0.004), 0, 40
    for seed in range(trials):
        draws = np.random.default_rng(seed)
        rounds = {n: (law.at(n) * draws.normal(1.0, 0.02, 12)).tolist() for n in (1, 2, 4, 8, 16)}
        low, high = fit(rounds, seed).contention
        covered += low <= law.contention <= high
    # 95 % intervals from twelve rounds: somewhat short, as bootstrap percentiles are.
    assert covered >= 0.8 * trials


def test_the_command_measures_every_point_in_every_round() -> None:
    words = ("scale", "--axis", "threads=2,1", "--components", "null", "--duration", "0.1s")
    ended = swarmbench(*words, "--rounds", "2", "--json", "--allow-concurrent")

    assert ended.status == 0, ended.stderr
    (found,) = json.loads(ended.stdout)["components"]
    assert found["component"] == "null"
    assert [point["threads"] for point in found["points"]] == [1, 2]
    assert all(len(point["rates_s"]) == 2 for point in found["points"])
    assert all(min(point["rates_s"]) > 0 for point in found["points"])
    for point in found["points"]:
        assert 0.0 < point["warm_up_s"] < 1.0
        assert point["converged"] == (not point["doubts"])
    assert found["fit"]["law"]["rate"] > 0


def test_a_point_that_did_not_converge_is_marked_with_the_reason() -> None:
    points = (
        Point(1, (100.0, 110.0), 1000, converged=True, warm_up_s=0.1),
        Point(2, (150.0, 190.0), None, converged=False, warm_up_s=0.8, doubts=("cold", "short")),
    )
    lines = scaling_text([Scaling("consensus", points, None)]).splitlines()

    assert [line.endswith("*") for line in lines[2:4]] == [False, True]
    assert lines[4] == "  * 2 did not converge: cold, and 1 more"
    assert not any(line.startswith("  *") for line in lines[5:])


@pytest.mark.parametrize("axis", ["threads", "threads=0", "threads=1,x", "gpus=1", "threads=2000"])
def test_an_axis_that_is_none_is_refused_in_one_line(axis: str) -> None:
    ended = swarmbench("scale", "--axis", axis)

    assert ended.status == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"error: --axis: `{axis}` is ")
    assert ended.stderr.count("\n") == 1
