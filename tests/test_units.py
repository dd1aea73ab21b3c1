"""Quantities: what people write is read exactly, and what is wrong is said with what is right."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as some

from swarmbench import units

finite = some.floats(min_value=1e-9, max_value=1e15, allow_nan=False)


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (units.parse_duration_s, "90s", 90.0),
        (units.parse_duration_s, "20m", 1200.0),
        (units.parse_duration_s, "72h", 259_200.0),
        (units.parse_duration_s, "1d", 86_400.0),
        (units.parse_duration_s, "1.5 h", 5400.0),
        (units.parse_duration_s, "250ms", 0.25),
        (units.parse_rate_s, "100/sec", 100.0),
        (units.parse_rate_s, "10/s", 10.0),
        (units.parse_rate_s, "5/min", 5 / 60),
        (units.parse_rate_s, "2.5M/s", 2.5e6),
        (units.parse_rate_s, "100", 100.0),
        (units.parse_bytes, "64KiB", 65_536),
        (units.parse_bytes, "100MB", 100_000_000),
        (units.parse_bytes, "7", 7),
        (units.parse_share, "50%", 0.5),
        (units.parse_budget, "60%", 0.6),
        (units.parse_budget, "8GB", 8_000_000_000),
        (units.parse_throughput_s, "10GB/s", 1e10),
        (units.parse_throughput_s, "100/s", 100.0),
        (units.parse_load, "5%", units.Load(share=0.05)),
        (units.parse_load, "100/sec", units.Load(rate_s=100.0)),
        (units.parse_size_range, "1MB-100MB", units.Range(10**6, 10**8)),
        (units.parse_size_range, "64KiB", units.Range(65_536, 65_536)),
        (units.parse_count_range, "1000-2000", units.Range(1000, 2000)),
        (units.parse_numbers, "0,2-5", (0, 2, 3, 4, 5)),
    ],
)
def test_quantities_are_read_as_they_are_meant(
    parse: Callable[[str], object], text: str, value: object
) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "problem"),
    [
        (units.parse_duration_s, "5", "`5` has no unit; give a duration with its unit"),
        (units.parse_duration_s, "5 parsecs", "`parsecs` is not a unit of time"),
        (units.parse_duration_s, "0s", "is no time at all"),
        (units.parse_duration_s, "-5s", "is negative"),
        (units.parse_duration_s, "", "`` is not a quantity"),
        (units.parse_duration_s, "1e999s", "is out of range"),
        (units.parse_duration_s, "9" * 60 + "s", "is not a quantity"),
        (units.parse_rate_s, "-5/s", "is negative; give a rate, such as `100/s` or `5/min`"),
        (units.parse_rate_s, "5/fortnight", "`/fortnight` is not a period"),
        (units.parse_rate_s, "5 cats/s", "`cats` is not a count"),
        (units.parse_rate_s, "nan/s", "is not a quantity"),
        (units.parse_bytes, "5 bananas", "`bananas` is not a unit of size"),
        (units.parse_bytes, "5mb", "`mb` is not a unit of size"),
        (units.parse_share, "50", "`50` has no `%`"),
        (units.parse_share, "101%", "is above 100%"),
        (units.parse_budget, "60", "`60` has no unit; give a share or a size"),
        (units.parse_throughput_s, "10 cats/s", "give a throughput, such as `10GB/s`"),
        (units.parse_size_range, "2MB-1MB", "runs downwards"),
        (units.parse_size_range, "1MB-", "is not a range"),
        (units.parse_size_range, "1s-2s", "`1s` has no unit that fits"),
        (units.parse_numbers, "0,x", "is no list of numbers"),
        (units.parse_numbers, "5-2", "runs downwards"),
        (units.parse_numbers, "1" * 6, "is no list of numbers"),
    ],
)
def test_what_is_wrong_is_said_with_what_would_be_right(
    parse: Callable[[str], object], text: str, problem: str
) -> None:
    with pytest.raises(ValueError, match="; give ") as caught:
        parse(text)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@given(finite)
def test_a_duration_written_is_the_duration_read(seconds: float) -> None:
    assert units.parse_duration_s(units.format_duration(seconds)) == seconds


@given(finite | some.just(0.0))
def test_a_rate_written_is_the_rate_read(rate_s: float) -> None:
    assert units.parse_rate_s(units.format_rate(rate_s)) == rate_s
    assert units.parse_throughput_s(units.format_rate(rate_s)) == rate_s


@given(some.integers(min_value=0, max_value=2**60))
def test_a_size_written_is_the_size_read(count: int) -> None:
    assert units.parse_bytes(units.format_bytes(count)) == count


@given(some.floats(min_value=1e-9, max_value=1) | some.just(0.0))
def test_a_share_written_is_the_share_read(share: float) -> None:
    read = units.parse_load(str(units.Load(share=share))).share
    assert read is not None
    assert math.isclose(read, share, rel_tol=1e-12, abs_tol=1e-15)


@given(some.integers(0, 10**12), some.integers(0, 10**12))
def test_a_range_written_is_the_range_read(one: int, other: int) -> None:
    written = units.Range(min(one, other), max(one, other))
    assert units.parse_count_range(str(written)) == written
    assert units.parse_size_range(str(written)) == written


@given(some.sets(some.integers(0, 99_999), min_size=1, max_size=50))
def test_numbers_written_are_the_numbers_read(numbers: set[int]) -> None:
    written = units.format_numbers(sorted(numbers))
    assert units.parse_numbers(written) == tuple(sorted(numbers))


@given(some.text(max_size=60))
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    for parse in (
        units.parse_duration_s,
        units.parse_rate_s,
        units.parse_bytes,
        units.parse_share,
        units.parse_budget,
        units.parse_throughput_s,
        units.parse_load,
        units.parse_size_range,
        units.parse_count_range,
        units.parse_numbers,
    ):
        said = "; give "
        try:
            parse(text)
        except ValueError as error:
            said = str(error)
        assert "; give " in said


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (units.about_seconds(0.9996), "1.00 s"),
        (units.about_seconds(0.00073), "730 µs"),
        (units.about_seconds(2e-9), "2.00 ns"),
        (units.about_seconds(0), "0 s"),
        (units.about_seconds(300), "5.00 min"),
        (units.about_seconds(259_200), "72.0 h"),
        (units.about_bytes(999_999), "1.00 MB"),
        (units.about_bytes(0), "0 B"),
        (units.about_count(1234), "1.23k"),
        (units.about_count(7), "7"),
    ],
)
def test_people_are_shown_three_digits(text: str, shown: str) -> None:
    assert text == shown
