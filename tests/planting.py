"""Real runs with a known culprit: one component made slow, or a resource taken by a hog."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from swarmbench import _native, config
from swarmbench.config.options import Override
from swarmbench.plan import WorkloadPlan
from swarmbench.schema import Result

#: The module, which the package's function of that name hides.
run = importlib.import_module("swarmbench.run")

COMPONENTS = ("consensus", "streaming", "knowledge_graph")
#: At these factors the slowed component asks for about 0.6 of a worker at 1x, the others together
#: for a quarter.
SLOWED = {"consensus": 1200.0, "streaming": 5.0, "knowledge_graph": 5.0}
HOGS = {
    "cpu_foreign": "while True: pass",
    # Copies between two buffers that no cache holds.
    "memory_bandwidth": (
        "import numpy as np\n"
        "a = np.ones(1 << 27, np.uint8)\n"
        "b = a.copy()\n"
        "while True: np.copyto(b, a)"
    ),
}


def real_run(
    out: Path, seed: int, monkeypatch: pytest.MonkeyPatch, *, slowed: str = "", hog: str = ""
) -> Result:
    """A quick run on this machine with one thing planted.

    A hog begins with the first phase. One of memory keeps to a core that the run leaves it, so
    that it takes bandwidth and nothing else; one of the processor shares the run's only core.
    """
    overrides = [
        Override(("seed",), seed, "seed"),
        Override(("workloads", "streaming", "rate"), "100/sec", "rate"),
    ]
    if hog:
        overrides.append(Override(("settings", "cpus"), "0", "cpus"))
    plan = config.make_plan("max-throughput", overrides=overrides, out=out)
    plain = run.native_workload

    def planted(each: WorkloadPlan, component: _native.Component) -> _native.Workload:
        factor = SLOWED[each.name] if each.name == slowed else 0.0
        return plain(each, component, planted_delay=factor)

    monkeypatch.setattr(run, "native_workload", planted)
    with hogging(hog, {"memory_bandwidth": 1}.get(hog, 0)) as begin:

        def progress(label: str, share: float) -> None:
            if label == "ramp up":
                begin()

        finished = run.execute(plan, out=out, progress=progress)
    assert finished.result is not None
    return finished.result


@contextmanager
def hogging(name: str, cpu: int) -> Iterator[object]:
    """Yields what starts the hog, once, on core `cpu`; it ends with the block."""
    started: list[subprocess.Popen[bytes]] = []

    def begin() -> None:
        if name and not started:
            command = ["taskset", "--cpu-list", str(cpu), sys.executable, "-c", HOGS[name]]
            started.append(subprocess.Popen(command))

    try:
        yield begin
    finally:
        for process in started:
            process.kill()
            process.wait()


def told(result: Result) -> Mapping[str, object]:
    """What the result says broke first."""
    point = result.breaking_point
    assert point is not None
    return {
        "component": point.first_component,
        "resource": point.resource,
        "multiplier": point.multiplier,
        "interval": point.interval,
        "converged": result.trust.converged,
        "reasons": result.trust.reasons,
    }
