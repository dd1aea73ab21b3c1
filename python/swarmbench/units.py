"""Quantities with units as people write them, to numbers in base units and back to text.

Every parser takes text (a bare number only where that is unambiguous) and raises `ValueError`
whose text says what is wrong and what would be right; the caller adds where it stood.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

_NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
_QUANTITY = re.compile(rf"(?P<number>{_NUMBER})\s*(?P<unit>[A-Za-z%]*)", re.ASCII)
#: A number longer than this is a mistake or an attack on the exact arithmetic below.
_TEXT_MAX = 40
_EXPONENT_MAX = 30

SECONDS: dict[str, Fraction] = {
    "us": Fraction(1, 1_000_000),
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
}
#: What may stand behind the slash of a rate, in seconds.
PERIODS: dict[str, Fraction] = {
    "s": Fraction(1),
    "sec": Fraction(1),
    "second": Fraction(1),
    "min": Fraction(60),
    "minute": Fraction(60),
    "h": Fraction(3600),
    "hour": Fraction(3600),
    "d": Fraction(86400),
    "day": Fraction(86400),
}
BYTES: dict[str, int] = {
    "B": 1,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate("KMGT", start=1)},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", start=1)},
}
#: How far the sum of probabilities may be from 1.
SHARES_TOLERANCE = 1e-6
COUNTS: dict[str, int] = {"": 1, "k": 1000, "K": 1000, "M": 10**6, "G": 10**9}


@dataclass(frozen=True, slots=True)
class Range:
    """A closed interval of whole numbers; one number stands for itself."""

    low: int
    high: int

    def __str__(self) -> str:
        return f"{self.low}-{self.high}"


@dataclass(frozen=True, slots=True)
class Load:
    """Either operations per second or a share (0..1) of the capacity calibrated in the run."""

    rate_s: float | None = None
    share: float | None = None

    def __str__(self) -> str:
        if self.share is not None:
            return f"{_plain(self.share * 100)}%"
        return format_rate(self.rate_s or 0.0)


def _quoted(text: str) -> str:
    return f"`{text[:_TEXT_MAX]}{'…' if len(text) > _TEXT_MAX else ''}`"


def _quantity(text: str, right: str) -> tuple[Fraction, str]:
    """The number, exactly, and the unit behind it."""
    stripped = text.strip()
    if stripped.startswith("-"):
        raise ValueError(f"{_quoted(stripped)} is negative; give {right}")
    match = _QUANTITY.fullmatch(stripped)
    if match is None or len(stripped) > _TEXT_MAX:
        raise ValueError(f"{_quoted(stripped)} is not a quantity; give {right}")
    number = match["number"]
    exponent = number.partition("e")[2]
    if exponent and abs(int(exponent)) > _EXPONENT_MAX:
        raise ValueError(f"{_quoted(stripped)} is out of range; give {right}")
    return Fraction(number), match["unit"]


def parse_duration_s(text: str) -> float:
    """Seconds of `90s`, `20m`, `72h`, `1d` or `250ms`; a duration needs a unit and is above 0."""
    right = "a duration with its unit, such as `90s`, `20m`, `72h` or `1d`"
    number, unit = _quantity(text, right)
    if not unit:
        raise ValueError(f"{_quoted(text)} has no unit; give {right}")
    if unit not in SECONDS:
        raise ValueError(f"`{unit}` is not a unit of time; give {right}")
    if number == 0:
        raise ValueError(f"{_quoted(text)} is no time at all; give {right}")
    return float(number * SECONDS[unit])


def parse_rate_s(text: str) -> float:
    """Operations per second of `100/s`, `100/sec`, `5/min`; a bare number is per second."""
    right = "a rate, such as `100/s` or `5/min`"
    amount, slash, period = text.strip().partition("/")
    number, unit = _quantity(amount, right)
    if unit not in COUNTS:
        raise ValueError(f"`{unit}` is not a count; give {right}")
    if slash and period.strip() not in PERIODS:
        raise ValueError(f"`/{period[:_TEXT_MAX]}` is not a period; give {right}")
    return float(number * COUNTS[unit] / (PERIODS[period.strip()] if slash else 1))


def parse_bytes(text: str) -> int:
    """Bytes of `100GB` (decimal), `64KiB` (binary) or a bare whole number."""
    right = "a size, such as `64KiB` or `100MB`"
    number, unit = _quantity(text, right)
    if unit and unit not in BYTES:
        raise ValueError(f"`{unit}` is not a unit of size; give {right}")
    return round(number * BYTES[unit or "B"])


def parse_share(text: str) -> float:
    """A share in 0..1 of `50%`."""
    right = "a share, such as `50%`"
    number, unit = _quantity(text, right)
    if unit != "%":
        raise ValueError(f"{_quoted(text)} has no `%`; give {right}")
    if number > 100:
        raise ValueError(f"{_quoted(text)} is above 100%; give {right}")
    return float(number / 100)


def parse_budget(text: str) -> int | float:
    """Bytes (int) of a size, or a share of what is free (float in 0..1) of `60%`."""
    if text.strip().endswith("%"):
        return parse_share(text)
    right = "a share or a size, such as `60%` or `8GB`"
    if not _quantity(text, right)[1]:
        raise ValueError(f"{_quoted(text)} has no unit; give {right}")
    return parse_bytes(text)


def parse_load(text: str) -> Load:
    """The production load of `100/s` or of `50%`."""
    if text.strip().endswith("%"):
        return Load(share=parse_share(text))
    return Load(rate_s=parse_rate_s(text))


def parse_throughput_s(text: str) -> float:
    """Units of work per second of `10GB/s` (bytes), `10M/s` or `100/min`."""
    amount, slash, period = text.strip().partition("/")
    if slash and period.strip() in PERIODS and amount.rstrip().endswith("B"):
        return float(parse_bytes(amount) / PERIODS[period.strip()])
    try:
        return parse_rate_s(text)
    except ValueError as error:
        problem = str(error).partition("; give ")[0]
        raise ValueError(f"{problem}; give a throughput, such as `10GB/s` or `100/s`") from None


def _range(text: str, unit_scale: dict[str, int], right: str) -> Range:
    ends = [part.strip() for part in text.split("-")]
    if len(ends) > 2 or not all(ends):
        raise ValueError(f"{_quoted(text)} is not a range; give {right}")
    numbers: list[int] = []
    for end in ends:
        number, unit = _quantity(end, right)
        if unit not in unit_scale:
            raise ValueError(f"{_quoted(end)} has no unit that fits; give {right}")
        numbers.append(round(number * unit_scale[unit]))
    if numbers[0] > numbers[-1]:
        raise ValueError(f"{_quoted(text)} runs downwards; give {right}")
    return Range(numbers[0], numbers[-1])


def parse_size_range(text: str) -> Range:
    """Bytes of `1MB-100MB`, or of one size."""
    return _range(text, {**BYTES, "": 1}, "a range of sizes, such as `1MB-100MB`")


def parse_count_range(text: str) -> Range:
    """Counts of `1000-2000`, or of one count."""
    return _range(text, COUNTS, "a range of counts, such as `1000-2000`")


def parse_numbers(text: str) -> tuple[int, ...]:
    """Numbers of cores or devices of `0,2-5`, ascending, each once."""
    right = "numbers, such as `0,2-5`"
    chosen: set[int] = set()
    for part in text.split(","):
        if not re.fullmatch(r"\s*[0-9]{1,5}(\s*-\s*[0-9]{1,5})?\s*", part, re.ASCII):
            raise ValueError(f"{_quoted(text)} is no list of numbers; give {right}")
        low, _, high = part.partition("-")
        if int(high or low) < int(low):
            raise ValueError(f"{_quoted(text)} runs downwards; give {right}")
        chosen.update(range(int(low), int(high or low) + 1))
    return tuple(sorted(chosen))


def check_shares(shares: Sequence[float]) -> None:
    """Raises `ValueError` unless the parts of a whole are weights, or probabilities that add up.

    They are probabilities where none is above 1 and one is a fraction, and must then sum to 1
    within `SHARES_TOLERANCE`; else they are weights, of which only the proportions count.
    """
    are_probabilities = max(shares, default=0) <= 1 and any(0 < each < 1 for each in shares)
    total = math.fsum(shares)
    if are_probabilities and abs(total - 1) > SHARES_TOLERANCE:
        parts = " + ".join(f"{each:g}" for each in shares)
        raise ValueError(
            f"{parts} is not 1 but {total:g}; give probabilities that add up, or whole weights"
        )


def _plain(number: float) -> str:
    """The shortest text that reads back as exactly this number, never in the `1e+20` form."""
    text = repr(float(number))
    if "e" in text:
        mantissa, _, exponent = text.partition("e")
        return f"{mantissa}e{int(exponent)}"
    return text.removesuffix(".0")


def format_duration(seconds: float) -> str:
    """Text that `parse_duration_s` reads back exactly, in the largest unit that divides it."""
    exact = Fraction(seconds)
    for unit in ("d", "h", "m", "s", "ms"):
        count = exact / SECONDS[unit]
        if count.denominator == 1 and count >= 1:
            return f"{count.numerator}{unit}"
    return f"{_plain(seconds)}s"


def format_rate(rate_s: float) -> str:
    """Text that `parse_rate_s` reads back exactly."""
    return f"{_plain(rate_s)}/s"


def format_bytes(count: int) -> str:
    """Text that `parse_bytes` reads back exactly, in the largest unit that divides it."""
    for unit in sorted(BYTES, key=lambda name: (BYTES[name], name), reverse=True):
        if count and count % BYTES[unit] == 0:
            return f"{count // BYTES[unit]}{unit}"
    return f"{count}B"


def format_numbers(numbers: Sequence[int]) -> str:
    """Text that `parse_numbers` reads back exactly, of ascending numbers: `0,2-5`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def about_bytes(count: float) -> str:
    """A size for people, three digits: `1.23 GB`."""
    return f"{_scaled(count, ('B', 'KB', 'MB', 'GB', 'TB', 'PB'), spaced=True)}"


def about_count(count: float) -> str:
    """A count for people, three digits: `12.3k`, `4.56M`."""
    return _scaled(count, ("", "k", "M", "G", "T", "P"), spaced=False)


def about_seconds(seconds: float) -> str:
    """A time for people, three digits: `17.3 µs`, `2.05 ms`, `41.0 s`, `12.5 min`."""
    if not math.isfinite(seconds):
        return str(seconds)
    if seconds == 0:
        return "0 s"
    if seconds >= 7200:
        return f"{_three(seconds / 3600)} h"
    if seconds >= 120:
        return f"{_three(seconds / 60)} min"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if float(_three(seconds / scale)) >= 1:
            return f"{_three(seconds / scale)} {unit}"
    return f"{_three(seconds / 1e-9)} ns"


def _three(number: float) -> str:
    """Three significant digits without an exponent."""
    digits = max(0, 2 - math.floor(math.log10(abs(float(f"{number:.2e}")))))
    return f"{number:.{digits}f}"


def _scaled(number: float, units: tuple[str, ...], *, spaced: bool) -> str:
    if not math.isfinite(number):
        return str(number)
    power = 0
    while power < len(units) - 1 and abs(float(f"{number:.2e}")) >= 1000:
        number, power = number / 1000, power + 1
    whole = power == 0 and number == int(number)
    text = f"{int(number)}" if whole else _three(number)
    return f"{text}{' ' if spaced else ''}{units[power]}"
