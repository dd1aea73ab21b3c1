"""Linearised trees and byte patterns beside Numba, NumPy and Hyperscan.

The conditions are those of the trees' cases: compiled beforehand, a request per thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise

import numpy as np

from cases.synthesis import THREADS, Job, NumbaPairs, timed
from paired import Case
from swarmbench.components.synthesis_words import TOKENS


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


def cases(large: bool) -> Iterator[Case]:
    """Units per second on two threads; `large` are the sizes of the published goals."""
    yield from template_cases(large)
    yield from byte_cases(large)
