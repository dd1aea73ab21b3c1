"""The parts of `gpu_suite.sh` that are measured or put together in Python.

`roofs FILE` measures what the card copies; `solo FILE` each op alone; `rungs FILE` a small op by
each rung of the submission ladder, alone and beside copies; `small` runs each op once at the sizes
of the tests; `gather PARTS OUT` writes suite.json and summary.md.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from swarmbench import machine
from swarmbench.components import COMPONENTS
from swarmbench.components.base import Component
from swarmbench.components.consensus import Consensus
from swarmbench.components.cuda import CUDA
from swarmbench.components.cuda.base import Cost, CudaOperation
from swarmbench.errors import SwarmbenchError
from swarmbench.experiments.rungs import copy_hog, measure_rung
from swarmbench.gpu.device import Device
from swarmbench.gpu.found import open_device
from swarmbench.plan import Submit

SEED = 20_240_607
#: What stops one op or one component, and leaves the others to be tried: CuPy's errors are
#: `RuntimeError`s.
FAILURES = (SwarmbenchError, RuntimeError, ValueError, AssertionError)
#: Bytes of the copy: many times the largest cache of a card.
COPY_BYTES = 2 << 30
ROUNDS = 9
#: An op is timed for so long, and for so many operations at most: 37 of them, and the eight
#: components, take less than the part's 110 s.
SOLO_S, SOLO_OPS_MAX = 1.5, 2000
#: A rung gives 100 000 response times: eight of them take less than the part's 70 s.
RUNGS: tuple[Submit, ...] = ("python", "native", "graph", "armed")
RUNG_RATE_S, RUNG_S = 25_000.0, 4.0
HOG_BYTES = 256 << 20


def roofs(out: Path) -> None:
    """Bytes per second that a copy on the device reads and writes together."""
    device = open_device(0)
    count = COPY_BYTES // 8
    source, target = device.empty(count, np.uint64), device.empty(count, np.uint64)
    stream = device.stream()
    stream.copy(target, source)
    stream.synchronize()
    rates = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        stream.copy(target, source)
        stream.synchronize()
        rates.append(2 * COPY_BYTES / (time.perf_counter() - began))
    out.write_text(json.dumps({"device": device.name, "copy_bytes_s": rates}))


def solo(out: Path) -> None:
    """Each op of each component alone on the card, at the sizes of a quick run."""
    device, found = open_device(0), list[dict[str, Any]]()
    for name, kind in CUDA.items():
        component = COMPONENTS[name].for_profile("quick")
        try:
            native = component.prepare(backend="cpu", seed=SEED, threads=8).native
            lane = kind(component, native, device, SEED).operation()
        except FAILURES as error:
            found.append({"component": name, "problem": f"{type(error).__name__}: {error}"})
            out.write_text(json.dumps(found))
            continue
        for op in component.ops:
            found.append(
                {"component": name, "op": op.name, "unit": op.unit, **timed(lane, op.name)}
            )
            out.write_text(json.dumps(found))


def timed(lane: CudaOperation, op: str) -> dict[str, Any]:
    """Times of one op type and what its answers were, or what stopped it."""
    times_ns, units, done_all, checked, wrong = [], 0, Cost(0, 0), 0, 0
    try:
        lane.run(op, 0)
        until = time.perf_counter() + SOLO_S
        while len(times_ns) < SOLO_OPS_MAX and time.perf_counter() < until:
            began = time.perf_counter_ns()
            done = lane.run(op, len(times_ns) + 1)
            times_ns.append(time.perf_counter_ns() - began)
            verified, violations = lane.verify()
            units, done_all = units + done.units, done_all + lane.cost(op)
            checked, wrong = checked + verified, wrong + violations
    except FAILURES as error:
        return {"problem": f"{type(error).__name__}: {error}"}
    total_s = sum(times_ns) / 1e9
    return {
        "operations": len(times_ns),
        "median_ns": median(times_ns),
        "p99_ns": float(np.percentile(times_ns, 99)),
        "units_s": units / total_s,
        "bytes_s": (done_all.bytes_read + done_all.bytes_written) / total_s,
        "multiply_adds_s": done_all.multiply_adds / total_s,
        "random_draws_s": done_all.random_draws / total_s,
        "comparisons_s": done_all.comparisons / total_s,
        "verified": checked,
        "violations": wrong,
    }


def rungs(out: Path) -> None:
    """Decisions on 100 votes by each rung, on an idle card and beside one that copies."""
    device, found = open_device(0), list[dict[str, Any]]()
    component = Consensus(batch=100)
    native = component.prepare(backend="cpu", seed=SEED, threads=8).native
    for beside in ("nothing", "copies"):
        for submit in RUNGS:
            row: dict[str, Any] = {"asked": submit, "beside": beside}
            try:
                with copy_hog(device, HOG_BYTES) if beside == "copies" else nullcontext():
                    rung = measure_rung(
                        component,
                        "decide",
                        submit,
                        device,
                        rate_s=RUNG_RATE_S,
                        seconds=RUNG_S,
                        seed=SEED,
                        native=native,
                    )
                row |= rung.to_json()
            except FAILURES as error:
                row["problem"] = f"{type(error).__name__}: {error}"
            found.append(row)
            out.write_text(json.dumps(found))


def small() -> None:
    """Each op once at the sizes of the tests; raises where an answer is wrong."""
    device = open_device(0)
    for name in CUDA:
        component = COMPONENTS[name].small()
        lane = built_small(component, device)
        for op in component.ops:
            assert lane.run(op.name, 1).status == "ok", f"{name} {op.name}"
            assert lane.verify()[1] == 0, f"{name} {op.name}"


def built_small(component: Component, device: Device) -> CudaOperation:
    native = component.prepare(backend="cpu", seed=SEED).native
    return CUDA[component.name](component, native, device, SEED).operation()


def gather(parts: Path, out: Path) -> None:
    """suite.json and summary.md from what the parts left."""
    ended = [line.split() for line in (parts / "ended").read_text().splitlines()]
    suite: dict[str, Any] = {
        "machine": machine.fingerprint(out),
        "python": platform.python_version(),
        "parts": [
            {"name": name, "status": int(status), "seconds": int(seconds)}
            for status, seconds, name in ended
        ],
        "tests": last_line(parts / "tests.log"),
        "sanitizer": last_line(parts / "sanitizer.log"),
    }
    for name in ("roofs", "solo", "rungs"):
        path = parts / f"{name}.json"
        suite[name] = json.loads(path.read_text()) if path.exists() else None
    (out / "suite.json").write_text(json.dumps(suite, indent=1))
    (out / "summary.md").write_text(summary(suite))


def last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1] if lines else ""


def summary(suite: dict[str, Any]) -> str:
    """What stands in `suite.json`, for reading."""
    lines = ["# What a GPU showed", "", "| part | status | seconds |", "| --- | --- | --- |"]
    lines += [f"| {e['name']} | {e['status']} | {e['seconds']} |" for e in suite["parts"]]
    copy = median(suite["roofs"]["copy_bytes_s"]) if suite["roofs"] else None
    if copy:
        lines += ["", f"{suite['roofs']['device']}: copies {copy / 1e9:.0f} GB/s"]
    lines += ["", f"Tests: {suite['tests']}", f"Sanitizer: {suite['sanitizer']}", ""]
    lines += ["| op | units/s | p50 | p99 | of the copy roof | checked | wrong |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
    for each in suite["solo"] or ():
        name = f"{each['component']} {each.get('op', '')}"
        if "problem" in each:
            lines.append(f"| {name} | {each['problem']} | | | | | |")
            continue
        share = f"{each['bytes_s'] / copy:.1%}" if copy else ""
        lines.append(
            f"| {name} | {each['units_s']:.3g} {each['unit']} | {each['median_ns'] / 1e3:.1f} us "
            f"| {each['p99_ns'] / 1e3:.1f} us | {share} | {each['verified']} "
            f"| {each['violations']} |"
        )
    return "\n".join([*lines, *rung_lines(suite["rungs"] or ())]) + "\n"


def rung_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The rungs as a table; times are those of a response, from the intended start."""
    lines = ["", "| rung | beside | p50 | p99 | submitted in | checked | wrong |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
    for each in rows:
        if "problem" in each:
            lines.append(f"| {each['asked']} | {each['beside']} | {each['problem']} | | | | |")
            continue
        times = [each["response_ns"]["p50"], each["response_ns"]["p99"]]
        times.append(each.get("submit_ns", {}).get("p50"))
        shown = " | ".join("" if time is None else f"{time / 1e3:.1f} us" for time in times)
        lines.append(
            f"| {each['submit']} | {each['beside']} | {shown} | {each['verified']} "
            f"| {each['violations']} |"
        )
    return lines


if __name__ == "__main__":
    what, *paths = sys.argv[1:]
    parts = {"roofs": roofs, "solo": solo, "rungs": rungs, "small": small, "gather": gather}
    parts[what](*map(Path, paths))
