"""What the harness itself costs: rate and lateness beside LoadGen and fio, a Python callable
beside LoadGen's binding, recording beside HdrHistogram.

The Python callables answer at once on both sides: LoadGen's through its own binding, one query of
one sample at a time, or one query of all samples.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np

from harness import null_system
from harness.native import ROOT, program
from paired import Case, PeerMissing, main
from swarmbench._native import Histogram
from swarmbench.experiments import hold_callable

STRETCH_S = 1.0
PERCENTS = [50.0, 90.0, 99.0, 99.9, 100.0]
SAMPLES = 100_000


def callable_ops_s(*, per_op: bool) -> float:
    """Operations per second of a Python callable that answers at once, in a closed loop."""
    call = (lambda op, key: None) if per_op else (lambda keys, ops, due_ns: None)
    figures = hold_callable(call, STRETCH_S, in_flight=1024, per_op=per_op)
    return figures.ok / STRETCH_S


def loadgen_python_ops_s(*, offline: bool) -> float:
    """Samples per second through LoadGen's Python binding, by its own summary."""
    with tempfile.TemporaryDirectory() as folder:
        program = ROOT / "benchmarks" / "peers" / "loadgen_python.py"
        command = [sys.executable, program, "offline" if offline else "singlestream", folder]
        ended = subprocess.run([*command, str(STRETCH_S)], capture_output=True, check=False)
        if ended.returncode == 3:
            raise PeerMissing("mlcommons-loadgen is not installed")
        ended.check_returncode()
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text()
    field = "Samples per second" if offline else "QPS w/ loadgen overhead"
    found = re.search(rf"^{field}\s*: *([0-9.e+]+)$", summary, re.MULTILINE)
    if found is None:
        raise PeerMissing(f"LoadGen's summary has no `{field}`")
    return float(found[1])


def callback_cases() -> Iterator[Case]:
    """A Python callable: one call an operation, and one call a batch."""
    yield Case(
        "engine", "callback_per_op", "ops/s", 10.0, "LoadGen SingleStream in Python",
        partial(callable_ops_s, per_op=True), partial(loadgen_python_ops_s, offline=False),
        threads=2,
    )  # fmt: skip
    yield Case(
        "engine", "callback_batch_256", "ops/s", 9.6, "LoadGen Offline in Python",
        partial(callable_ops_s, per_op=False), partial(loadgen_python_ops_s, offline=True),
        threads=2,
    )  # fmt: skip


def native_ns(side: str, case: str) -> float:
    """Nanoseconds a call of `side` (ours, peer) in `benches/histogram.rs`."""
    ended = subprocess.run(
        [program("histogram"), side, case], check=True, capture_output=True, text=True
    )
    return float(ended.stdout)


def per_call_us(calls: int, call: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - began) / calls * 1e6


@cache
def latencies() -> np.ndarray:
    return np.random.default_rng(3).lognormal(12, 2.5, SAMPLES).astype(np.int64)


@cache
def ours() -> Histogram:
    return Histogram.from_values(latencies())


def their_empty() -> object:
    from hdrh.histogram import HdrHistogram

    return HdrHistogram(1, 3_600_000_000_000, 3)


@cache
def theirs() -> object:
    """The same samples in PyPI's hdrhistogram."""
    histogram = their_empty()
    for value in latencies().tolist():
        histogram.record_value(value)
    return histogram


def same_percentiles() -> bool:
    found = theirs().get_percentile_to_value_dict(PERCENTS)
    return ours().percentiles(PERCENTS) == [found[percent] for percent in PERCENTS]


def histogram_cases() -> Iterator[Case]:
    """The recorder beside the Rust crate (no interpreter on either side) and PyPI's package."""
    for case in ("record", "percentiles", "merge", "encode", "decode"):
        yield Case(
            "histogram", f"native_{case}", "ns", 1.0, "hdrhistogram (Rust)",
            partial(native_ns, "ours", case), partial(native_ns, "peer", case), better="lower",
        )  # fmt: skip
    their_sum = cache(their_empty)
    calls: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "percentiles": (
            lambda: ours().percentiles(PERCENTS),
            lambda: theirs().get_percentile_to_value_dict(PERCENTS),
        ),
        "encode": (lambda: ours().encode(), lambda: theirs().encode()),
        "merge": (lambda: ours().merged(ours()), lambda: their_sum().add(theirs())),
    }
    for case, (own, peer) in calls.items():
        yield Case(
            "histogram", f"python_{case}", "us", 1.0, "hdrhistogram (PyPI)",
            partial(per_call_us, 20, own), partial(per_call_us, 20, peer),
            same_percentiles if case == "percentiles" else lambda: True, "lower",
        )  # fmt: skip


def collect(_large: bool) -> Iterator[Case]:
    """All cases; their sizes do not depend on `--large`."""
    yield from null_system.cases()
    yield from callback_cases()
    yield from histogram_cases()


if __name__ == "__main__":
    sys.exit(main(collect, __doc__))
