"""The benchmark runner on cases whose figures are known."""

from __future__ import annotations

import json
import random

import pytest

import paired
from paired import Case, PeerMissing


def case(ours: float = 6.0, peer: float = 2.0, **fields: object) -> Case:
    settings = {"benchmark": "tally", "case": "small", "unit": "votes/s", "goal": 2.0} | fields
    return Case(peer_name="numpy", ours=lambda: ours, peer=lambda: peer, **settings)


def measured(one: Case) -> dict[str, object]:
    return paired.measure(one, 5, random.Random(1))


def test_the_ratio_says_how_many_times_better_ours_is() -> None:
    assert measured(case())["ratio"] == 3.0
    assert measured(case(better="lower"))["ratio"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(("goal", "met"), [(2.0, True), (3.5, False), (None, None)])
def test_a_goal_is_met_from_its_ratio_on(goal: float | None, met: bool | None) -> None:
    assert measured(case(goal=goal))["met"] is met


def test_a_wrong_answer_never_meets_a_goal() -> None:
    result = measured(case(check=lambda: False))
    assert (result["met"], result["same_answer"]) == (False, False)
    assert "WRONG ANSWER" in paired.row(result)


def test_a_missing_peer_gives_a_line_with_its_reason() -> None:
    def absent() -> float:
        raise PeerMissing("install hyperscan")

    result = measured(Case("match", "1k", "MB/s", 4.0, "Hyperscan", lambda: 5.0, absent))
    assert (result["ours"], result["peer"], result["ratio"], result["met"]) == (
        5.0,
        None,
        None,
        None,
    )
    assert result["reason"] == "PeerMissing: install hyperscan"
    assert "install hyperscan" in paired.row(result)


def test_both_sides_run_once_before_anything_counts_and_then_alternate() -> None:
    calls: list[str] = []

    def side(name: str) -> float:
        calls.append(name)
        return 1.0 if len(calls) > 2 else 1000.0

    one = Case("a", "b", "ops/s", 1.0, "peer", lambda: side("ours"), lambda: side("peer"))
    result = measured(one)
    assert (result["ours"], result["peer"]) == (1.0, 1.0)
    assert calls[:2] == ["ours", "peer"]
    assert all(set(calls[at : at + 2]) == {"ours", "peer"} for at in range(0, 12, 2))


def test_the_spread_is_the_interquartile_range_over_the_median() -> None:
    assert paired.spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(1.0)
    assert paired.spread([2.0] * 6) == 0.0
    assert paired.spread([1.0, 2.0]) is None


def run_main(monkeypatch: pytest.MonkeyPatch, cases: list[Case], *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["benchmark", "--rounds", "2", *arguments])
    return paired.main(lambda large: cases, "test")


def test_json_is_one_object_for_each_selected_case(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [case(), case(case="large")]
    assert run_main(monkeypatch, cases, "--json", "--only", "tally/lar") == 0
    (result,) = map(json.loads, capsys.readouterr().out.splitlines())
    wanted = "benchmark case unit ours ours_spread peer_name peer peer_spread ratio goal met"
    assert set(wanted.split()) <= result.keys()
    assert result["case"] == "large"


def test_a_wrong_answer_or_an_empty_selection_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [case(check=lambda: False), case(case="other")]
    assert run_main(monkeypatch, cases) == 1
    assert "tally/small" in capsys.readouterr().err
    assert run_main(monkeypatch, cases, "--only", "nothing") == 1
