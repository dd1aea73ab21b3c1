"""A Python callable under the load engine: its own schedule, its own queue, every op accounted."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypedDict, Unpack

from swarmbench import _native
from swarmbench.engine import op_figures
from swarmbench.errors import MachineError
from swarmbench.experiments.alone import measured_alone
from swarmbench.measured import Figures
from swarmbench.scenarios.steady import Rule, Steady

#: How long operations under way are waited for at the end, and again after the queued are given up.
PATIENCE_S = 5.0


def hold_callable(
    call: Callable[..., object],
    seconds: float,
    *,
    rate_s: float | None = None,
    in_flight: int | None = None,
    batch: int = 256,
    linger_s: float = 0.0,
    per_op: bool = False,
    process: Literal["poisson", "constant"] = "poisson",
    queue: int = 10_000,
    seed: int = 1,
) -> Figures:
    """Puts `call` under load for `seconds` and returns what it did.

    Give `rate_s` (operations per second, open loop: response times count from the intended starts)
    or `in_flight` (closed loop), not both. By batch, `call(keys, ops, due_ns)` gets NumPy views
    (uint64, uint8, uint64) of at most `batch` operations, valid until it returns; a batch is
    closed at the latest `linger_s` after the intended start of its first operation. It answers
    None, or an array of bool that is True where an operation succeeded. With `per_op`, which is
    slower, `call(op, key)`; False is a failure. An exception counts its operations as errors, and
    the first one is raised at the end.

    `keys` are unique; all randomness of an operation should be keyed by its own. Raises
    `ValueError` for loads that make no sense and `MachineError` where `call` does not return.
    """
    load = _Load(rate_s, in_flight, batch, linger_s, per_op, process, queue, seed)
    with _served(call, load) as engine:
        return held(engine, seconds, in_flight)


class CallableLoad(TypedDict, total=False):
    """The load of a callable and how it is called: the options of `hold_callable`."""

    rate_s: float | None
    in_flight: int | None
    batch: int
    linger_s: float
    per_op: bool
    process: Literal["poisson", "constant"]
    queue: int
    seed: int


def measure_callable(
    call: Callable[..., object], rule: Rule | None = None, **load: Unpack[CallableLoad]
) -> Steady:
    """Puts `call` under load until it is steady, and on until its figures are known.

    Options and errors are those of `hold_callable`; `rule` says how long and how precisely. The
    figures are `held.components["call"]` of the answer, which says whether they converged.
    """
    options = _Load(**load)
    with _served(call, options) as engine:
        return measured_alone(engine, "call", ["call"], options.in_flight, rule or Rule())


@dataclass(frozen=True, slots=True)
class _Load:
    rate_s: float | None = None
    in_flight: int | None = None
    batch: int = 256
    linger_s: float = 0.0
    per_op: bool = False
    process: Literal["poisson", "constant"] = "poisson"
    queue: int = 10_000
    seed: int = 1


@contextmanager
def _served(call: Callable[..., object], load: _Load) -> Iterator[_native.Engine]:
    """An engine whose only workload a thread serves by `call`; raises what `call` raised."""
    if (load.rate_s is None) == (load.in_flight is None):
        raise ValueError("give `rate_s` for an open loop or `in_flight` for a closed one")
    workload = _native.Workload(
        _native.Component.outside(["call"]),
        weights=[1.0],
        rate=load.rate_s or 0.0,
        process=load.process,
        max_in_flight=max(1, load.in_flight or 1),
        queue=load.queue,
    )
    engine = _native.Engine([workload], seed=load.seed, workers=0)
    drain = engine.drain()
    assert drain is not None
    ended: list[BaseException | None] = []

    def serve() -> None:
        ended.append(
            drain.serve(call, batch=load.batch, linger_s=load.linger_s, per_op=load.per_op)
        )

    consumer = threading.Thread(target=serve, name="callable", daemon=True)
    consumer.start()
    try:
        yield engine
    finally:
        engine.stop()
    consumer.join()
    if ended[0] is not None:
        raise ended[0]


def held(engine: _native.Engine, seconds: float, in_flight: int | None) -> Figures:
    """The engine's only workload after `seconds` of load; `MachineError` where it hangs."""
    if in_flight is None:
        phase, began_ns = engine.begin_open([(0.0, 1.0)])
    else:
        phase, began_ns = engine.begin_closed([in_flight])
    engine.wait(seconds)
    engine.cease()
    if not engine.settle(PATIENCE_S):
        raise MachineError(
            f"the callable has not come back {2 * PATIENCE_S:g} s after the load ended",
            hint="give it a smaller batch, or a lower rate",
        )
    now_ns = engine.now()
    return op_figures(engine.reading(phase)[0], engine.maxima()[0], now_ns - began_ns, now_ns)
