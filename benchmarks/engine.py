"""What the harness itself costs: rate and lateness beside MLPerf LoadGen, recording beside
HdrHistogram.

LoadGen drives its own null system in C++ (`scripts/build_loadgen.sh` builds it), which answers
inside the issuing thread; ours has one worker, which paces while it is idle. LoadGen has a second
thread that writes its log. The Python callables answer at once on both sides: LoadGen's through its
own binding, one query of one sample at a time, or one query of all samples.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np

from paired import Case, PeerMissing, main
from swarmbench._native import Component, Engine, Histogram, Reading, Workload
from swarmbench.experiments import hold_callable

ROOT = Path(__file__).resolve().parent.parent
LOADGEN = ROOT / "target" / "peers" / "loadgen_null"
STRETCH_S = 1.0
PERCENTS = [50.0, 90.0, 99.0, 99.9, 100.0]
SAMPLES = 100_000
#: More than LoadGen issues on any machine seen, within the memory that it needs for a schedule.
OFFERED = 3e6


def null_engine(rate: float) -> Engine:
    null = Component("null", "{}", seed=1)
    workload = Workload(null, weights=[1.0], rate=rate, queue=1_000_000)
    return Engine([workload], seed=1, workers=1)


def closed_ops_s(in_flight: int) -> float:
    """Operations per second of the null component with so many in flight."""
    engine = null_engine(1.0)
    phase, began_ns = engine.begin_closed([in_flight])
    engine.wait(STRETCH_S)
    ended_ns = engine.cease()
    engine.settle(1.0)
    completed = engine.reading(phase)[0][0].counters()["ok"]
    engine.stop()
    return completed / ((ended_ns - began_ns) / 1e9)


def open_reading(rate: float) -> tuple[Reading, float]:
    """What the null component did under Poisson arrivals, and for how many seconds."""
    engine = null_engine(rate)
    phase, began_ns = engine.begin_open([(0.0, 1.0)])
    engine.wait(STRETCH_S)
    engine.cease()
    engine.settle(10.0)
    ended_ns = engine.now()
    reading = engine.reading(phase)[0][0]
    engine.stop()
    return reading, (ended_ns - began_ns) / 1e9


def open_ops_s(rate: float) -> float:
    """Operations per second until all that was scheduled in a second had completed."""
    reading, elapsed_s = open_reading(rate)
    return reading.counters()["ok"] / elapsed_s


def response_p99_us(rate: float) -> float:
    return open_reading(rate)[0].response.percentile(99.0) / 1e3


def loadgen(scenario: str, rate: float, field: str) -> float:
    """The figure that LoadGen's summary gives for `field` (a regular expression)."""
    if not LOADGEN.exists():
        raise PeerMissing("LoadGen's null system is not built: make bench-peers builds it")
    with tempfile.TemporaryDirectory() as folder:
        command = [LOADGEN, scenario, str(rate), str(STRETCH_S), folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text()
    found = re.search(rf"^{field}\s*: *([0-9.e+]+)$", summary, re.MULTILINE)
    if found is None:
        raise PeerMissing(f"LoadGen's summary has no `{field}`")
    return float(found[1])


def loadgen_p99_us(rate: float) -> float:
    return loadgen("server", rate, "99.00 percentile latency \\(ns\\)") / 1e3


def engine_cases() -> Iterator[Case]:
    """Rate and lateness of the null system."""
    one = partial(loadgen, "singlestream", 1e6, "QPS w/ loadgen overhead")
    yield Case(
        "engine", "closed_1_in_flight", "ops/s", 1.0, "LoadGen SingleStream",
        partial(closed_ops_s, 1), one, threads=2,
    )  # fmt: skip
    peer = partial(loadgen, "server", OFFERED, "Completed samples per second")
    yield Case(
        "engine", f"open_{OFFERED:.0e}_offered", "ops/s", 1.0, "LoadGen Server",
        partial(open_ops_s, OFFERED), peer, threads=2,
    )  # fmt: skip
    for rate in (1e4, 1e5):
        yield Case(
            "engine", f"response_p99_at_{rate:.0e}", "us", 1.0, "LoadGen Server",
            partial(response_p99_us, rate), partial(loadgen_p99_us, rate),
            better="lower", threads=2,
        )  # fmt: skip
    offline = partial(loadgen, "offline", 2e6, "Samples per second")
    yield Case(
        "engine", "closed_1024_in_flight", "ops/s", None, "LoadGen Offline, one query",
        partial(closed_ops_s, 1024), offline, threads=2,
    )  # fmt: skip


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
        "engine", "callback_per_op", "ops/s", 1.0, "LoadGen SingleStream in Python",
        partial(callable_ops_s, per_op=True), partial(loadgen_python_ops_s, offline=False),
        threads=2,
    )  # fmt: skip
    yield Case(
        "engine", "callback_batch_256", "ops/s", 1.0, "LoadGen Offline in Python",
        partial(callable_ops_s, per_op=False), partial(loadgen_python_ops_s, offline=True),
        threads=2,
    )  # fmt: skip


@cache
def native_bench() -> Path:
    """The built program of `rust/core/benches/histogram.rs`."""
    command = ["cargo", "bench", "-p", "swarmbench-core", "--bench", "histogram", "--no-run"]
    command += ["--message-format", "json"]
    try:
        built = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise PeerMissing("cargo is missing") from error
    messages = map(json.loads, built.stdout.splitlines())
    return Path(next(one["executable"] for one in messages if one.get("executable")))


def native_ns(side: str, case: str) -> float:
    """Nanoseconds a call of `side` (ours, peer) in the program of `native_bench`."""
    program = subprocess.run(
        [native_bench(), side, case], check=True, capture_output=True, text=True
    )
    return float(program.stdout)


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
    yield from engine_cases()
    yield from callback_cases()
    yield from histogram_cases()


if __name__ == "__main__":
    sys.exit(main(collect, __doc__))
