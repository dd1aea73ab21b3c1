"""The roof that a component's work is held against, one op type alone and several together."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from figures import DONE
from swarmbench.capacities import mixed_ceiling, op_ceiling
from swarmbench.ceilings import Calibration, Ceiling
from swarmbench.components import Synthesis
from swarmbench.measured import Figures

SYNTHESIS = Synthesis()


def calibrated(bytes_s: float) -> Calibration:
    """A machine of which the caches alone were measured."""
    cache = Ceiling(value=bytes_s, unit="B/s", spread=0.01, threads=2, samples=30)
    return Calibration({"cache_read_bytes_s": cache}, {}, (), 2, 0, 0, 1.0)


def done(**units: int) -> Figures:
    operations = {name: replace(DONE, units=each) for name, each in units.items()}
    return replace(DONE, units=sum(units.values()), operations=operations)


@given(units=st.integers(1, 10**12), bytes_s=st.floats(1e9, 1e12))
def test_one_op_type_alone_has_its_own_roof_to_the_last_bit(units: int, bytes_s: float) -> None:
    ceilings = calibrated(bytes_s)

    assert mixed_ceiling(SYNTHESIS, done(match=units), ceilings) == op_ceiling(
        SYNTHESIS, "match", ceilings
    )


@given(
    match=st.integers(1, 10**12),
    expand=st.integers(1, 10**12),
    bytes_s=st.floats(1e9, 1e12),
)
def test_the_least_times_of_several_op_types_add_up(
    match: int, expand: int, bytes_s: float
) -> None:
    ceilings = calibrated(bytes_s)
    seconds = sum(
        units * SYNTHESIS.cost(op) / bytes_s
        for op in SYNTHESIS.ops
        for units in [{"match": match, "expand": expand}.get(op.name, 0)]
    )

    both = mixed_ceiling(SYNTHESIS, done(match=match, expand=expand), ceilings)

    assert both == pytest.approx((match + expand) / seconds)


def test_work_counted_in_another_unit_and_work_not_done_leave_the_roof_as_it_is() -> None:
    ceilings = calibrated(1e11)
    mixed = done(match=1000, byte_match=10**9, expand=0)

    assert mixed_ceiling(SYNTHESIS, mixed, ceilings) == op_ceiling(SYNTHESIS, "match", ceilings)


def test_there_is_no_roof_where_none_was_measured_or_nothing_was_done() -> None:
    assert mixed_ceiling(SYNTHESIS, done(match=1000), None) is None
    assert mixed_ceiling(SYNTHESIS, done(match=0), calibrated(1e11)) is None
