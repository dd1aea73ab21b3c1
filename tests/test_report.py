"""The summary of a result: its words, its order, its width, and what it must not leave out."""

from __future__ import annotations

from typing import Any

import pytest

from figures import operation, result, result_json
from goldens import GOLDEN
from swarmbench.report.text import summary
from swarmbench.schema import Result


def text_of(**changes: Any) -> str:
    """The summary of the made-up result with parts of it replaced."""
    return summary(Result.model_validate({**result_json(), **changes}))


def test_the_summary_is_the_golden_one() -> None:
    assert summary(result()) == (GOLDEN / "summary.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    content = result_json()
    content["components"]["consensus"]["operations"] = {
        "an_operation_with_a_long_name": operation(10, 10),
        "other": operation(10**9, 10**12),
    }
    text = summary(Result.model_validate(content), width=width)
    assert max(len(line) for line in text.splitlines() if not line.startswith("claimed")) <= width


def test_without_colour_there_are_no_terminal_codes_and_with_it_the_same_words() -> None:
    plain, coloured = summary(result()), summary(result(), colour=True)
    assert "\x1b" not in plain
    assert "\x1b[33mWARN\x1b[0m" in coloured


def test_the_verdict_comes_first_with_every_reason_for_it() -> None:
    trust = {**result_json()["trust"], "reasons": ["the clock was unstable"]}
    criteria = result_json()["criteria"]
    criteria[0]["verdict"] = "fail"
    criteria[1]["verdict"] = "unresolved"
    text = text_of(verdict="untrusted", trust=trust, criteria=criteria)
    assert text.splitlines()[:4] == [
        "max-throughput: UNTRUSTED",
        "  the clock was unstable",
        "  breaking point failed: 4.2x (3.9x to 4.6x)",
        "  recovery time is open: 1.70 s (1.50 s to 2.00 s)",
    ]


def test_wrong_results_are_said_by_component() -> None:
    content = result_json()
    content["components"]["streaming"]["violations"] = 3
    assert "  streaming gave 3 wrong results" in summary(Result.model_validate(content))


def test_no_break_up_to_the_limit_is_said_so() -> None:
    point = {"multiplier": 64.0, "interval": [60.0, None], "censored": True}
    assert "breaking point  none up to 64x" in text_of(breaking_point=point)


def test_a_recovery_that_was_not_seen_is_said_so() -> None:
    assert "recovery        not seen before the end of the phase" in text_of(recovery_s=None)


def test_a_missing_figure_is_a_dash_or_said_never_a_zero() -> None:
    content = result_json()
    content["components"]["consensus"]["response_ns"] = {"count": 0}
    content["criteria"][1] |= {"value": None, "interval": None, "verdict": "fail"}
    text = summary(Result.model_validate(content))
    row = next(line for line in text.splitlines() if line.startswith("consensus"))
    assert row.split()[2:4] == ["-", "-"]
    assert "recovery time failed: no figure" in text


def test_names_given_by_the_user_are_not_taken_for_markup() -> None:
    assert "note: [red]x[/red] [/]" in text_of(notes=["[red]x[/red] [/]"])


def test_the_p99_shows_how_far_its_interval_reaches_and_nothing_where_it_has_none() -> None:
    content = result_json()
    response = content["components"]["consensus"]["response_ns"]
    response |= {"p99": 1_000_000, "p99_9": None, "interval_95": {"p99": [800_000, 1_120_000]}}
    content["components"]["streaming"]["response_ns"]["interval_95"] = {"p50": [1, 2]}
    text = summary(Result.model_validate(content))
    assert "1.00 ms ±20%" in text
    assert "±" not in next(line for line in text.splitlines() if line.startswith("streaming"))


@pytest.mark.parametrize(
    ("percent", "shown"), [(0.0, "0%"), (0.00123, "<0.01%"), (0.0123, "0.0123%"), (97.44, "97.4%")]
)
def test_the_roof_is_a_share_without_digits_where_it_is_hardly_any(
    percent: float, shown: str
) -> None:
    content = result_json()
    content["components"]["consensus"]["goodput"]["percent_of_ceiling"] = percent
    text = summary(Result.model_validate(content))
    assert shown in next(line for line in text.splitlines() if line.startswith("consensus")).split()


def test_bytes_of_a_kind_are_bytes_and_their_kind_is_said() -> None:
    content = result_json()
    content["components"]["streaming"]["goodput"] |= {"unit": "allocated bytes", "value": 158e9}
    lines = summary(Result.model_validate(content)).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("streaming"))
    assert "158 GB/s" in lines[at]
    assert "allocated" in lines[at] + lines[at + 1]
