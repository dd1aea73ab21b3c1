"""Process agents: real processes that report, are reaped, and are nobody else's."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from swarmbench import _native
from swarmbench.components.agents import Agents
from swarmbench.components.base import same_arrays
from swarmbench.components.populations import solitary_life

SEED = 20240607
NAME = "swarmbench-agent"
#: About 50 ms of a process' life.
LONG = 1 << 24


def built(**parameters: int) -> _native.Component:
    return Agents(**parameters).prepare(seed=SEED).native


def agents_alive() -> list[psutil.Process]:
    """Children of ours that are agents, zombies (which have lost their arguments) included."""
    found = []
    for child in psutil.Process().children():
        try:
            if child.status() == psutil.STATUS_ZOMBIE or child.cmdline()[:1] == [NAME]:
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.fixture
def foreign() -> Iterator[subprocess.Popen[bytes]]:
    """A child that is none of ours."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield child
    child.kill()
    child.wait()


@pytest.mark.parametrize("steps", [1, 1000])
def test_a_process_reports_what_the_reference_says(steps: int) -> None:
    native = built(process_steps=steps)
    for key in (0, 7, (1 << 64) - 1):
        found = native.evaluate("process", {"key": np.array([key], np.uint64)})
        assert same_arrays(found, {"report": solitary_life(key, steps)})
        assert not same_arrays(found, {"report": solitary_life(key ^ 1, steps)})


def test_every_process_is_reaped_and_counted(foreign: subprocess.Popen[bytes]) -> None:
    native = built()
    assert '"process":"ready"' in native.describe()
    result = native.run("process", count=40, threads=3)
    assert (result["ok"], result["units"], result["verified"]) == (120, 120, 120)
    assert (result["errors"], result["violations"]) == (0, 0)
    counters = dict(native.counters())
    assert (counters["processes"], counters["processes_failed"]) == (120, 0)
    assert 0 < counters["process_start_ns"] < result["busy_ns"]
    assert agents_alive() == []
    del native
    assert foreign.poll() is None


def test_a_process_that_is_killed_is_an_error_and_the_run_goes_on() -> None:
    native = built(process_steps=LONG)
    answers: list[dict[str, int]] = []
    running = threading.Thread(target=lambda: answers.append(native.run("process", count=4)))
    running.start()
    killed = False
    while not killed and running.is_alive():
        for child in agents_alive():
            child.kill()
            killed = True
            break
    running.join()
    assert killed
    assert (answers[0]["ok"], answers[0]["errors"]) == (3, 1)
    assert answers[0]["violations"] == 0
    assert dict(native.counters())["processes_failed"] == 1
    assert agents_alive() == []


def test_a_stop_leaves_no_process_behind(foreign: subprocess.Popen[bytes]) -> None:
    component = Agents(process_steps=LONG)
    native = component.prepare(seed=SEED).native
    weights = [1.0 if op == "process" else 0.0 for op in native.ops()]
    workload = _native.Workload(native, weights=weights, rate=200.0, max_in_flight=8)
    engine = _native.Engine([workload], seed=3, workers=2)
    engine.begin_closed([8])
    seen = 0
    until = time.monotonic() + 20
    while not seen and time.monotonic() < until:
        seen = len(agents_alive())
    assert seen
    engine.stop()
    del engine, workload, native
    assert agents_alive() == []
    assert foreign.poll() is None


def test_one_process_more_than_allowed_is_rejected_and_no_error() -> None:
    native = built(process_steps=LONG, processes_max=1)
    result = native.run("process", count=3, threads=3)
    assert result["rejected"] > 0
    assert (result["errors"], result["violations"]) == (0, 0)
    assert result["ok"] + result["rejected"] == 9


def test_single_calls_from_python_run_check_and_fail_as_operations_do() -> None:
    native = built()
    caller = native.caller("spawn")
    assert [caller.run(key) for key in range(5)] == [1] * 5
    assert caller.verify() == (1, 0)
    assert caller.verify() == (0, 0)
    with pytest.raises(ValueError, match="no op `fly`"):
        native.caller("fly")
    busy = built(process_steps=LONG, processes_max=1)
    running = threading.Thread(target=lambda: busy.run("process"))
    running.start()
    while not agents_alive() and running.is_alive():
        pass
    with pytest.raises(RuntimeError, match="was rejected"):
        busy.caller("process").run(0)
    running.join()
