"""Consensus beside Numba and NumPy: drawing votes, tallying them, deciding batches.

Ours works as the pool does, one batch per thread; a peer may split one batch over its threads.
The peers' votes lie in one array per field, which suits them best; ours are 16-byte records.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from paired import Case
from swarmbench.components.base import Arrays
from swarmbench.components.consensus import DOMAIN_VOTES, SEQUENCE_MAX, Consensus
from swarmbench.components.philox import stream_key

SEED = 7
THREADS = 2
FIELDS = ("agent", "proposal", "value", "flags", "round")


@cache
def native(component: Consensus) -> Any:
    return component.prepare(seed=SEED)


def ours(component: Consensus, op: str, count: int) -> float:
    """Votes per second of `count` batches on each thread."""
    result = native(component).run(op, count=count, threads=THREADS, verify=False)
    return float(result["units"] / result["elapsed_ns"] * 1e9)


def timed(work: Callable[[], int]) -> float:
    """Votes per second of a call that returns how many it did."""
    began = time.perf_counter_ns()
    votes = work()
    return votes / (time.perf_counter_ns() - began) * 1e9


@cache
def stored(component: Consensus) -> Arrays:
    """The stored votes, field by field, as the native generator draws them."""
    whole = component.model_copy(update={"batch": component.stored_votes})
    inputs = {"key": np.zeros(1, np.uint64), "seed": np.array([SEED], np.uint64)}
    return dict(whole.prepare(seed=SEED).evaluate("generate", inputs))
