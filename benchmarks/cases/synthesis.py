"""Synthesis beside Numba, NumPy, Hyperscan and Python's own string joining.

Ours works as the pool does, one request per thread; a peer splits a request over as many threads,
or, where it cannot, does one request per thread as ours does. Patterns are compiled beforehand by
both sides; what belongs to a request (turning trees into tiles, measuring sizes) is timed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np

from paired import Case
from swarmbench.components.base import Arrays
from swarmbench.components.synthesis import Synthesis
from swarmbench.components.synthesis_words import NO_VARIABLE, TOKENS, VARIABLES

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


def numba_templates(job: Job) -> NumbaPairs:
    """Demanded tokens rarest first, as ours orders them, in flat arrays."""
    from peers import synthesis_numba

    trees = job.inputs["trees"].reshape(-1, TOKENS)
    tokens = job.inputs["template_tokens"].reshape(-1, TOKENS)
    common = np.stack([np.bincount(column, minlength=256) for column in trees.T])
    first, positions, wanted = [0], [], []
    for own, flags in zip(tokens, job.inputs["template_flags"].reshape(-1, TOKENS), strict=True):
        demanded = np.flatnonzero(flags)
        demanded = demanded[np.argsort(common[demanded, own[demanded]], kind="stable")]
        positions.append(demanded)
        wanted.append(own[demanded])
        first.append(first[-1] + len(demanded))
    arguments = (
        trees,
        np.array(first),
        np.concatenate(positions).astype(np.uint8),
        np.concatenate(wanted),
    )
    units = len(trees) * len(tokens)
    room = len(job.answers["tree"]) + 1
    return NumbaPairs(synthesis_numba.compare_templates, arguments, room, units)


class NumpyTemplates:
    """All trees against one template at a time: the demanded columns, then `all`."""

    def __init__(self, job: Job, templates: int) -> None:
        self.trees = job.inputs["trees"].reshape(-1, TOKENS)
        self.tokens = job.inputs["template_tokens"].reshape(-1, TOKENS)[:templates]
        self.flags = job.inputs["template_flags"].reshape(-1, TOKENS)[:templates] != 0
        self.found = np.zeros(0, dtype=np.int64)

    def __call__(self) -> float:
        def work() -> None:
            found = []
            for number, (own, flags) in enumerate(zip(self.tokens, self.flags, strict=True)):
                agree = (self.trees[:, flags] == own[flags]).all(axis=1)
                found.append(np.flatnonzero(agree) << 32 | number)
            self.found = np.sort(np.concatenate(found))

        return timed(work, len(self.trees) * len(self.tokens))


def template_cases(large: bool) -> Iterator[Case]:
    trees = 100_000 if large else 20_000
    for templates, goal in ((1000, 25.0), (10_000, 25.0)):
        job = Job("template_compare", trees=trees, tree_templates=templates)
        peer = cache(partial(numba_templates, job))
        yield Case(
            benchmark="synthesis",
            case=f"{trees:,} trees x 64 tokens x {templates:,} templates",
            unit="comparisons/s",
            goal=goal,
            peer_name="numba, rarest token first",
            ours=job.ours,
            peer=lambda peer=peer: peer()(),
            check=lambda job=job, peer=peer: np.array_equal(
                job.pairs("tree", "template"), peer().pairs()
            ),
            threads=THREADS,
        )
    job = Job("template_compare", trees=trees, tree_templates=1000)
    rows = cache(partial(NumpyTemplates, job, 100))
    yield Case(
        benchmark="synthesis",
        case=f"{trees:,} trees x 64 tokens, against NumPy",
        unit="comparisons/s",
        goal=None,
        peer_name="numpy, of 100 templates (one thread)",
        ours=job.ours,
        peer=lambda: rows()(),
        check=lambda: np.array_equal(
            job.pairs("tree", "template")[job.answers["template"] < 100], rows().found
        ),
        threads=THREADS,
    )


class Hyperscan:
    """One database in block mode, compiled for this processor; a scan of the text per thread."""

    def __init__(self, job: Job) -> None:
        import hyperscan

        self.text = job.inputs["text"].tobytes()
        first = job.inputs["pattern_first"].tolist()
        pieces = job.inputs["pattern_bytes"], job.inputs["pattern_flags"]
        self.lengths = np.diff(first)
        self.database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        is_literal = bool(pieces[1].all())
        expressions = [
            b"".join(
                (bytes([byte]) if is_literal else re.escape(bytes([byte]))) if demanded else b"."
                for byte, demanded in zip(*(each[a:b].tolist() for each in pieces), strict=True)
            )
            for a, b in pairwise(first)
        ]
        flags = 0 if is_literal else hyperscan.HS_FLAG_DOTALL
        self.database.compile(
            expressions=expressions,
            ids=list(range(len(expressions))),
            elements=len(expressions),
            flags=flags,
            literal=is_literal,
        )
        self.scratches = [hyperscan.Scratch(self.database) for _ in range(THREADS)]
        self.found: list[list[int]] = [[] for _ in range(THREADS)]
        self.threads = ThreadPoolExecutor(THREADS)

    def scan(self, thread: int) -> None:
        found = self.found[thread]
        found.clear()

        def on_match(number: int, start: int, end: int, flags: int, context: object) -> None:
            found.append(end << 32 | number)

        self.database.scan(self.text, on_match, scratch=self.scratches[thread])

    def __call__(self, threads: int) -> float:
        def work() -> None:
            list(self.threads.map(self.scan, range(threads)))

        return timed(work, threads * len(self.text))

    def pairs(self) -> np.ndarray:
        """(start, pattern), sorted."""
        found = np.array(self.found[0], dtype=np.int64)
        return np.sort(found - (self.lengths[found & 0xFFFFFFFF] << 32))


def byte_cases(large: bool) -> Iterator[Case]:
    text_bytes = 4 << 20 if large else 1 << 20
    #: (patterns, share of wildcards, goal).
    rows = ((1000, 0.3, 4.0), (10_000, 0.3, 6.5), (1000, 0.0, 1.6), (10_000, 0.0, 1.6))
    for patterns, wildcards, goal in rows:
        job = Job(
            "byte_match", text_bytes=text_bytes, byte_patterns=patterns, byte_wildcards=wildcards
        )
        peer = cache(partial(Hyperscan, job))
        kind = "30 % wildcards" if wildcards else "literal"
        yield Case(
            benchmark="synthesis",
            case=f"{patterns:,} byte patterns, {kind}, {text_bytes >> 20} MiB",
            unit="bytes/s",
            goal=goal,
            peer_name=f"hyperscan, {THREADS} threads",
            ours=job.ours,
            peer=lambda peer=peer: peer()(THREADS),
            check=lambda job=job, peer=peer: np.array_equal(
                job.pairs("position", "pattern"), peer().pairs()
            ),
            threads=THREADS,
        )


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


def numba_match(job: Job) -> NumbaPairs:
    from peers import synthesis_numba

    inputs = job.inputs
    links = [
        np.where(inputs[name] == 0xFFFFFFFF, -1, inputs[name].astype(np.int64))
        for name in ("first", "next")
    ]
    arguments = (
        inputs["type"],
        inputs["count"],
        inputs["value"],
        *links,
        inputs["pattern_first"].astype(np.int64),
        depths_of(inputs),
        inputs["pattern_type"],
        inputs["pattern_count"],
        inputs["pattern_value"],
        inputs["pattern_flags"],
    )
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
    yield Case(
        benchmark="synthesis",
        case=f"expand 10,000 instances of 256 templates, {pool} requests",
        unit="bytes/s",
        goal=1.0,
        peer_name="bytes % tuple, join (one thread)",
        ours=job.ours,
        peer=lambda: peer()(),
        check=lambda: peer().written == job.answers["bytes"].tobytes(),
        threads=THREADS,
    )


def cases(large: bool) -> Iterator[Case]:
    """Units per second on two threads; `large` are the sizes of the published goals."""
    yield from template_cases(large)
    yield from byte_cases(large)
    yield from match_cases(large)
    yield from expand_cases(large)
