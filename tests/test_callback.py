"""Operations run outside the pool: batches, single calls, a consumer by hand, failures."""

from __future__ import annotations

import threading
import time

import numpy as np
import numpy.typing as npt
import pytest

from swarmbench import _native
from swarmbench.experiments import Rule, hold_callable, measure_callable
from swarmbench.measured import Figures

Keys = npt.NDArray[np.uint64]
Ops = npt.NDArray[np.uint8]


def conserved(figures: Figures) -> bool:
    ended = figures.ok + figures.errors + figures.rejected + figures.abandoned
    return figures.scheduled == ended


def test_every_operation_reaches_the_callable_once_with_its_own_intended_start() -> None:
    seen: list[tuple[Keys, Keys]] = []

    def call(keys: Keys, ops: Ops, due_ns: Keys) -> None:
        assert not ops.any()
        seen.append((keys.copy(), due_ns.copy()))

    figures = hold_callable(call, 0.2, rate_s=20_000.0, process="constant")

    keys = np.concatenate([keys for keys, _ in seen])
    due_ns = np.concatenate([due for _, due in seen])
    assert conserved(figures)
    assert figures.ok == len(keys) == len(np.unique(keys)) > 3000
    assert set(np.diff(due_ns)) <= {49_999, 50_000, 50_001}


def test_a_batch_lingers_until_it_is_full_or_its_first_operation_has_waited() -> None:
    sizes: list[int] = []
    waited_ns: list[int] = []

    def call(keys: Keys, ops: Ops, due_ns: Keys) -> None:
        sizes.append(len(keys))
        waited_ns.append(int(due_ns[-1]) - int(due_ns[0]))

    hold_callable(call, 0.3, rate_s=10_000.0, batch=20, linger_s=0.5, process="constant")
    assert max(sizes) == 20
    assert np.median(sizes) == 20

    sizes.clear()
    waited_ns.clear()
    figures = hold_callable(
        call, 0.3, rate_s=10_000.0, batch=10_000, linger_s=0.01, process="constant"
    )
    assert 80 <= np.median(sizes) <= 120
    assert np.median(waited_ns) < 0.012e9
    # The first of a batch waits for the whole of it, the last for next to nothing.
    assert 0.003e9 < figures.response.percentile(50.0) < 0.02e9


def test_false_is_a_failure_per_operation_and_per_batch() -> None:
    def odd(op: int, key: int) -> bool:
        return key % 2 == 1

    def odds(keys: Keys, ops: Ops, due_ns: Keys) -> npt.NDArray[np.bool_]:
        return keys % 2 == 1

    for figures in (
        hold_callable(odd, 0.1, rate_s=5000.0, per_op=True),
        hold_callable(odds, 0.1, rate_s=5000.0),
    ):
        assert conserved(figures)
        assert figures.errors > 0.4 * figures.scheduled
        assert figures.ok > 0.4 * figures.scheduled


def test_an_exception_is_raised_at_the_end() -> None:
    def broken(*fields: object) -> None:
        raise LookupError("planted")

    for per_op in (False, True):
        with pytest.raises(LookupError, match="planted"):
            hold_callable(broken, 0.05, rate_s=1000.0, per_op=per_op)


def test_an_answer_of_the_wrong_length_is_said() -> None:
    with pytest.raises(ValueError, match="2 answers for 1 operations"):
        hold_callable(lambda *fields: np.ones(2, bool), 0.05, rate_s=100.0, batch=1)


def test_a_closed_loop_keeps_its_number_in_flight() -> None:
    sizes: list[int] = []

    def call(keys: Keys, ops: Ops, due_ns: Keys) -> None:
        sizes.append(len(keys))

    figures = hold_callable(call, 0.1, in_flight=32)

    assert conserved(figures)
    assert figures.in_flight_max == 32
    assert max(sizes) == 32


def test_a_slow_callable_is_charged_from_the_intended_start() -> None:
    figures = hold_callable(lambda op, key: time.sleep(0.01), 0.2, rate_s=200.0, per_op=True)

    # Twice as much is asked for as it can do: the last arrival waits for about 0.2 s.
    assert figures.service.percentile(50.0) < 0.02e9
    assert figures.response.percentile(90.0) > 0.1e9
    assert conserved(figures)


def test_a_load_that_makes_no_sense_is_refused() -> None:
    for load in ({}, {"rate_s": 1.0, "in_flight": 1}):
        with pytest.raises(ValueError, match="open loop"):
            hold_callable(print, 0.1, **load)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="open loop"):
            measure_callable(print, **load)  # type: ignore[arg-type]


def test_a_callable_is_measured_until_it_is_known_and_no_longer_than_the_rule_allows() -> None:
    rule = Rule(0.1, 0.4, 0.2, 0.6, samples_min=100, percentile=50.0)
    for load in ({"rate_s": 4000.0}, {"in_flight": 16}):
        found = measure_callable(lambda *fields: None, rule, **load)  # type: ignore[arg-type]

        assert conserved(found.held.components["call"])
        assert found.held.components["call"].ok > 300
        assert 0.1 <= found.warm_up_s < 5.0
        assert 0.2 <= found.held.duration_s < 5.0
        assert found.converged == (not found.doubts)


def test_a_callable_that_becomes_slower_does_not_converge_and_one_that_raises_is_raised() -> None:
    rule = Rule(0.2, 0.4, 0.8, 0.8, samples_min=100, percentile=50.0, percentile_precision=9.0)
    began_s = time.monotonic()

    def slower(op: int, key: int) -> None:
        time.sleep(0.002 * (time.monotonic() - began_s + 0.1))

    assert any(
        "call's" in doubt
        for doubt in measure_callable(slower, rule, in_flight=1, per_op=True).doubts
    )

    def broken(*fields: object) -> None:
        raise LookupError("planted")

    with pytest.raises(LookupError, match="planted"):
        measure_callable(broken, rule, rate_s=1000.0)


def test_a_consumer_takes_and_gives_back_by_hand_beside_the_pool() -> None:
    null = _native.Component("null", "{}", seed=1)
    workloads = [
        _native.Workload(null, weights=[1.0], rate=2000.0),
        _native.Workload(_native.Component.outside(["a", "b"]), weights=[1.0, 3.0], rate=4000.0),
    ]
    engine = _native.Engine(workloads, seed=3, workers=1)
    drain = engine.drain()
    assert drain is not None
    assert engine.drain() is None
    taken = np.zeros(2, int)

    def consume() -> None:
        while (batch := drain.take(64)) is not None:
            taken[:] += np.bincount(batch[1], minlength=2)
            drain.complete()

    consumer = threading.Thread(target=consume)
    consumer.start()
    phase, _ = engine.begin_open([(0.0, 1.0)])
    engine.wait(0.2)
    engine.cease()
    assert engine.settle(5.0)
    pooled, hosted = engine.reading(phase)
    engine.stop()
    consumer.join()

    assert pooled[0].counters()["ok"] == pooled[0].counters()["scheduled"] > 300
    assert [reading.counters()["ok"] for reading in hosted] == taken.tolist()
    assert [reading.counters()["scheduled"] for reading in hosted] == taken.tolist()
    assert taken[1] > 2 * taken[0] > 100


def test_what_is_no_error_of_the_callable_ends_the_service_and_fails_the_rest_of_its_batch() -> (
    None
):
    outside = _native.Component.outside(["call"])
    engine = _native.Engine(
        [_native.Workload(outside, weights=[1.0], rate=1.0)], seed=1, workers=0
    )  # fmt: skip
    drain = engine.drain()
    assert drain is not None
    calls: list[int] = []

    def call(op: int, key: int) -> None:
        calls.append(key)
        if len(calls) == 3:
            raise KeyboardInterrupt

    phase, _ = engine.begin_closed([8])
    with pytest.raises(KeyboardInterrupt):
        drain.serve(call, per_op=True)
    counters = engine.reading(phase)[0][0].counters()
    engine.stop()

    assert (counters["ok"], len(calls)) == (2, 3)
    assert counters["errors"] >= 1
