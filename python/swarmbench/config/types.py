"""The kinds of value that stand in a configuration: text with a unit outside, a number inside."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from swarmbench import units
from swarmbench.gpu.found import EMULATED

_SHOWN_MAX = 40


def shown(value: object) -> str:
    """A value as it can be quoted in one line, whatever its size."""
    if value is None or isinstance(value, bool):
        value = {None: "null", True: "true", False: "false"}[value]
    text = value if isinstance(value, str) else reprlib.repr(value)
    text = " ".join(text.split())
    return f"`{text[:_SHOWN_MAX]}{'…' if len(text) > _SHOWN_MAX else ''}`"


def wrong(problem: str, *at: object) -> PydanticCustomError:
    """An error whose whole text is ours, `at` a key below the value that is being checked."""
    return PydanticCustomError("wrong", "{problem}", {"problem": problem, "at": at})


def _quantity(
    parse: Callable[[str], Any],
    render: Callable[[Any], str],
    example: str,
    unit: str,
    *,
    numbers: bool = False,
) -> tuple[Any, Any, Any]:
    """The three annotations of a quantity; `numbers` says that a bare one is meaningful."""

    def validate(value: object) -> Any:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not isinstance(value, str) and not is_number:
            raise wrong(f"{shown(value)} is not {unit}; give one such as `{example}`")
        try:
            return parse(value if isinstance(value, str) else f"{value}")
        except ValueError as error:
            raise wrong(str(error)) from None

    schema: dict[str, Any] = {"type": ["string", "number"] if numbers else "string"}
    schema |= {"examples": [example], "unit": unit}
    return PlainValidator(validate), PlainSerializer(render), WithJsonSchema(schema)


def _parse_devices(text: str) -> tuple[int, ...] | str:
    if text == EMULATED:
        return EMULATED
    try:
        return units.parse_numbers(text)
    except ValueError as error:
        raise ValueError(f"{error}, or `{EMULATED}`") from None


def _render_devices(value: tuple[int, ...] | str) -> str:
    return value if isinstance(value, str) else units.format_numbers(value)


def _render_budget(value: int | float) -> str:
    return f"{value:.0%}" if isinstance(value, float) else units.format_bytes(value)


Duration = Annotated[
    float, *_quantity(units.parse_duration_s, units.format_duration, "90s", "a duration")
]
LoadRate = Annotated[
    units.Load, *_quantity(units.parse_load, str, "100/s", "operations per second", numbers=True)
]
Throughput = Annotated[
    float,
    *_quantity(
        units.parse_throughput_s, units.format_rate, "10GB/s", "units per second", numbers=True
    ),
]
Share = Annotated[float, *_quantity(units.parse_share, lambda v: f"{v * 100:g}%", "20%", "a share")]
Size = Annotated[
    int, *_quantity(units.parse_bytes, units.format_bytes, "1GB", "bytes", numbers=True)
]
Budget = Annotated[
    int | float, *_quantity(units.parse_budget, _render_budget, "60%", "bytes, or a share of free")
]
SizeRange = Annotated[
    units.Range,
    *_quantity(units.parse_size_range, str, "1MB-100MB", "a range of bytes", numbers=True),
]
Numbers = Annotated[
    tuple[int, ...],
    *_quantity(units.parse_numbers, units.format_numbers, "0,2-5", "numbers", numbers=True),
]
Devices = Annotated[
    tuple[int, ...] | str,
    *_quantity(_parse_devices, _render_devices, "0", "numbers", numbers=True),
]
