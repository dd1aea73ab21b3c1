"""Synthesis on trees and templates beside Numba and Python's own string joining.

Ours works as the pool does, one request per thread; a peer splits a request over as many threads,
or, where it cannot, does one request per thread as ours does. Patterns are compiled beforehand by
both sides; what belongs to a request (turning trees into tiles, measuring sizes) is timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np

from paired import Case
from swarmbench.components.base import Arrays, same_arrays
from swarmbench.components.forests import NEW, NONE, TYPE
from swarmbench.components.synthesis import Synthesis
from swarmbench.components.synthesis_words import NO_VARIABLE, VARIABLES

SEED = 7
THREADS = 2
#: A round of ours lasts about so long.
ROUND_S = 0.15
OPS_MAX = 2000
#: One of each of the ops that the benchmarks do not look at.
TINY: dict[str, Any] = {"nodes": 1, "pool": 1, "texts": 1, "templates": 1, "rules": 1,
                        "patterns": 1, "trees": 1, "tree_templates": 1, "text_bytes": 1,
                        "byte_patterns": 1}  # fmt: skip


class Job:
    """One op of a component, with its inputs as arrays."""

    def __init__(self, op: str, **sizes: Any) -> None:
        self.op, self.component = op, Synthesis(**{**TINY, **sizes})

    @cached_property
    def native(self) -> Any:
        return self.component.prepare(seed=SEED, threads=THREADS).native

    @cached_property
    def inputs(self) -> Arrays:
        asked = {"key": np.zeros(1, np.uint64), "seed": np.array([SEED], np.uint64)}
        found: Arrays = self.native.evaluate(f"{self.op}_inputs", asked)
        return found

    @cached_property
    def answers(self) -> Arrays:
        found: Arrays = self.native.evaluate(self.op, self.inputs)
        return found

    @cached_property
    def count(self) -> int:
        """Operations of a round."""
        one = self.native.run(self.op, count=2, verify=False)
        return int(min(max(ROUND_S * 2e9 / one["elapsed_ns"], 1), OPS_MAX))

    def ours(self) -> float:
        """Units per second on all threads; every answer was checked once before."""
        if "answers" not in self.__dict__:
            assert self.answers
            checked = self.native.run(self.op, count=1, threads=THREADS)
            if checked["violations"] or checked["verified"] != THREADS:
                raise AssertionError(f"wrong answers of {self.op}")
        result = self.native.run(self.op, count=self.count, threads=THREADS, verify=False)
        return float(result["units"] / result["elapsed_ns"] * 1e9)

    def pairs(self, place: str, pattern: str) -> np.ndarray:
        return self.answers[place].astype(np.int64) << 32 | self.answers[pattern]


def timed(work: Callable[[], object], units: float) -> float:
    began = time.perf_counter_ns()
    work()
    return units / (time.perf_counter_ns() - began) * 1e9


class NumbaPairs:
    """A Numba function that writes pairs into one kept row per thread."""

    def __init__(self, function: Any, arguments: tuple[Any, ...], room: int, units: float) -> None:
        import numba

        numba.set_num_threads(THREADS)
        self.function, self.arguments, self.units = function, arguments, units
        self.found = np.ones((THREADS, room), dtype=np.int64)
        self.counts = np.zeros(THREADS, dtype=np.int64)

    def __call__(self) -> float:
        work = partial(self.function, *self.arguments, self.found, self.counts)
        return timed(work, self.units)

    def pairs(self) -> np.ndarray:
        rows = zip(self.found, self.counts, strict=True)
        return np.concatenate([row[:count] for row, count in rows])


def depths_of(inputs: Arrays) -> np.ndarray:
    """The level of every place of every pattern."""
    depths: list[int] = []
    listed, counts = inputs["pattern_flags"] & 8 != 0, inputs["pattern_count"]
    for start, end in pairwise(inputs["pattern_first"].tolist()):
        left: list[int] = []
        for place in range(start, end):
            while left and left[-1] == 0:
                left.pop()
            if left:
                left[-1] -= 1
            depths.append(len(left))
            if listed[place]:
                left.append(int(counts[place]))
    return np.array(depths, dtype=np.int64)


def forest_of(inputs: Arrays) -> tuple[np.ndarray, ...]:
    """Types, counts, values, first children and next siblings; -1 for no node."""
    links = [
        np.where(inputs[name] == NONE, -1, inputs[name].astype(np.int64))
        for name in ("first", "next")
    ]
    return inputs["type"], inputs["count"], inputs["value"], *links


def patterns_of(inputs: Arrays) -> tuple[np.ndarray, ...]:
    """Starts, levels, and what each place demands."""
    named = ("pattern_type", "pattern_count", "pattern_value", "pattern_flags")
    starts = inputs["pattern_first"].astype(np.int64)
    return starts, depths_of(inputs), *(inputs[name] for name in named)


def numba_match(job: Job) -> NumbaPairs:
    from peers import synthesis_numba

    arguments = (*forest_of(job.inputs), *patterns_of(job.inputs))
    room = len(job.answers["node"]) + 1
    return NumbaPairs(synthesis_numba.match_all, arguments, room, job.component.nodes)


def match_cases(large: bool) -> Iterator[Case]:
    sizes = [(32, 0.1), (256, 0.1)]
    if large:
        sizes = [(p, s) for p in (1, 8, 32, 256, 4096) for s in (0.001, 0.1, 0.9)]
    for patterns, selectivity in sizes:
        job = Job("match", nodes=10_000, pool=32, patterns=patterns, selectivity=selectivity)
        peer = cache(partial(numba_match, job))
        yield Case(
            benchmark="synthesis",
            case=f"match 10,000 nodes, {patterns} patterns, {selectivity:.1%} match",
            unit="nodes/s",
            goal=1.0,
            peer_name="numba, all patterns at all nodes",
            ours=job.ours,
            peer=lambda peer=peer: peer()(),
            check=lambda job=job, peer=peer: np.array_equal(
                job.pairs("node", "pattern"), peer().pairs()
            ),
            threads=THREADS,
        )


class NumbaRewriter:
    """One request per thread, rules tried by their root's type, every buffer kept."""

    #: Times that a round rewrites the request.
    REPEATS = 20

    def __init__(self, job: Job) -> None:
        from peers import synthesis_numba

        self.function = synthesis_numba.rewrite_all
        inputs = self.inputs = job.inputs
        self.threads = ThreadPoolExecutor(THREADS)
        self.given = (
            forest_of(inputs),
            inputs["roots"].astype(np.int64),
            patterns_of(inputs),
            rules_by_type(inputs),
            (
                inputs["item_first"].astype(np.int64),
                *(inputs[f"item_{name}"] for name in ("kind", "type", "count", "value")),
                inputs["item_keeps_value"],
                spans_of(inputs),
            ),
        )
        self.targets = [self.buffers() for _ in range(THREADS)]
        self.counted = [(0, 0)] * THREADS

    def buffers(self) -> tuple[Any, ...]:
        """Arrays of the new nodes and their last children, the roots, a stack and captures."""
        room = 2 * len(self.inputs["type"])
        columns = tuple(
            np.zeros(room, dtype=kind)
            for kind in (np.uint8, np.uint8, np.uint32, np.int64, np.int64, np.int64)
        )
        roots = np.zeros(len(self.inputs["roots"]), dtype=np.int64)
        return columns, roots, np.zeros((room, 5), np.int64), np.zeros(room, np.int64)

    def rewrite(self, thread: int) -> None:
        for _ in range(self.REPEATS):
            self.counted[thread] = self.function(*self.given, *self.targets[thread])

    def __call__(self) -> float:
        nodes = THREADS * self.REPEATS * len(self.inputs["type"])
        return timed(lambda: list(self.threads.map(self.rewrite, range(THREADS))), nodes)

    def agrees(self, answers: Arrays) -> bool:
        (count, rewrites), (columns, roots, _, _) = self.counted[0], self.targets[0]
        named = zip(("type", "count", "value", "first", "next"), columns, strict=False)
        found = {name: column[:count].astype(answers[name].dtype) for name, column in named}
        found |= {"roots": roots.astype(np.uint32), "rewrites": np.array([rewrites], np.uint64)}
        return same_arrays(found, answers)


def rules_by_type(inputs: Arrays) -> tuple[np.ndarray, np.ndarray]:
    """Of every root type the rules to try, in order, from one number to the next."""
    roots = inputs["pattern_first"][:-1]
    kinds, typed = inputs["pattern_type"][roots], inputs["pattern_flags"][roots] & TYPE != 0
    lists = [np.flatnonzero(~typed | (kinds == kind)) for kind in range(256)]
    return np.cumsum([0, *map(len, lists)]), np.concatenate(lists)


def spans_of(inputs: Arrays) -> np.ndarray:
    """How many items the tree of each item of a replacement has."""
    spans = np.ones(len(inputs["item_kind"]), dtype=np.int64)
    for item in reversed(range(len(spans))):
        below = item + 1
        for _ in range(inputs["item_count"][item] if inputs["item_kind"][item] == NEW else 0):
            below += spans[below]
        spans[item] = below - item
    return spans


def transform_cases(large: bool) -> Iterator[Case]:
    for rules in (32, 256) if large else (32,):
        job = Job("transform", nodes=10_000, pool=32, rules=rules, patterns=256, selectivity=0.1)
        peer = cache(partial(NumbaRewriter, job))
        yield Case(
            benchmark="synthesis",
            case=f"transform 10,000 nodes, {rules} rules, 10.0% hot",
            unit="nodes/s",
            goal=1.0,
            peer_name=f"numba, a request on each of {THREADS} threads",
            ours=job.ours,
            peer=lambda peer=peer: peer()(),
            check=lambda job=job, peer=peer: peer().agrees(job.answers),
            threads=THREADS,
        )


class Joined:
    """Python's fastest: a bound `str.format`-like tuple of pieces per instance, joined once."""

    def __init__(self, job: Job) -> None:
        inputs = job.inputs
        ends = inputs["text_first"].tolist()
        texts = [inputs["text"][a:b].tobytes() for a, b in pairwise(ends)]
        spans = zip(inputs["part_start"].tolist(), inputs["part_length"].tolist(), strict=True)
        literals = [inputs["literal"][start : start + length].tobytes() for start, length in spans]
        variables = inputs["part_variable"].tolist()
        first = inputs["template_first"].tolist()
        self.formats = []
        for a, b in pairwise(first):
            text, used = b"", []
            for part in range(a, b):
                text += literals[part].replace(b"%", b"%%")
                if variables[part] != NO_VARIABLE:
                    text += b"%b"
                    used.append(variables[part])
            self.formats.append((text, tuple(used)))
        bound = inputs["binding"].reshape(-1, VARIABLES).tolist()
        self.bound = [[texts[number] for number in row] for row in bound]
        self.templates = inputs["template"].tolist()
        self.written = b""
        self.bytes = len(job.answers["bytes"])

    def __call__(self) -> float:
        def work() -> None:
            formats = self.formats
            pieces = []
            for template, row in zip(self.templates, self.bound, strict=True):
                text, used = formats[template]
                pieces.append(text % tuple([row[variable] for variable in used]))
            self.written = b"".join(pieces)

        return timed(work, self.bytes)


def expand_cases(large: bool) -> Iterator[Case]:
    pool = 256 if large else 32
    job = Job("expand", nodes=10_000, pool=pool, templates=256, texts=4096)
    peer = cache(partial(Joined, job))

    def ours() -> float:
        return job.ours() * len(job.answers["bytes"]) / job.component.nodes

    yield Case(
        benchmark="synthesis",
        case=f"expand 10,000 instances of 256 templates, {pool} requests",
        unit="bytes/s",
        goal=1.0,
        peer_name="bytes % tuple, join (one thread)",
        ours=ours,
        peer=lambda: peer()(),
        check=lambda: peer().written == job.answers["bytes"].tobytes(),
        threads=THREADS,
    )


def cases(large: bool) -> Iterator[Case]:
    """Units per second on two threads; `large` are the sizes of the published goals."""
    yield from match_cases(large)
    yield from expand_cases(large)
    yield from transform_cases(large)
