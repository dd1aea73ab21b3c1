"""Operations of one type on one lane of a device, one after the other, timed by the host."""

from __future__ import annotations

import time
from typing import Protocol


class Ended(Protocol):
    """How an operation ended."""

    @property
    def units(self) -> int: ...
    @property
    def status(self) -> str: ...


class Operation(Protocol):
    """A lane of a component, as `components.cuda.base.CudaOperation` defines it."""

    def run(self, op: str, key: int) -> Ended: ...
    def verify(self) -> tuple[int, int]: ...


def run_alone(
    operation: Operation, op: str, first_key: int, count: int, *, verify: bool
) -> dict[str, int]:
    """What `count` operations did, in the same counts as `_native.Component.run` gives.

    An operation's time is from its first launch until its answer has come back.
    """
    totals = dict.fromkeys(("ok", "errors", "rejected", "units", "verified", "violations"), 0)
    busy_ns = verify_ns = 0
    began_ns = time.perf_counter_ns()
    for key in range(first_key, first_key + count):
        started_ns = time.perf_counter_ns()
        done = operation.run(op, key)
        finished_ns = time.perf_counter_ns()
        busy_ns += finished_ns - started_ns
        totals[{"ok": "ok", "error": "errors", "rejected": "rejected"}[done.status]] += 1
        totals["units"] += done.units
        if verify and done.status == "ok":
            checked, violations = operation.verify()
            totals["verified"] += checked
            totals["violations"] += violations
            verify_ns += time.perf_counter_ns() - finished_ns
    elapsed_ns = time.perf_counter_ns() - began_ns
    return totals | {"elapsed_ns": elapsed_ns, "busy_ns": busy_ns, "verify_ns": verify_ns}
