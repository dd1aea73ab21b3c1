"""Compression and decompression beside thread pools over LZ4, and bypassing beside a copy."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np

from paired import Case, PeerMissing
from swarmbench import _native
from swarmbench.components.streaming import Streaming

THREADS = 2
SEED = 20240607
#: Rounds in which the peer's libraries compete before the first measured one.
TRIALS = 2
#: Bytes of a thread in a round, about: at 15 GB/s one lap of a small pool takes 3 ms, and whoever
#: else runs on a core for one slice of the scheduler decides what such a round gives.
ROUND_BYTES = 384 << 20
#: What the chunks of the PEERS mix must shrink by for the row to count.
RATIO_MIN = 1.6


class Chunks:
    """A pool of chunks of one mix: the native component that streams it, and its bytes."""

    def __init__(self, mix: str, pool_chunks: int) -> None:
        self.component = Streaming(blend=mix, pool_chunks=pool_chunks)

    @cached_property
    def native(self) -> _native.Component:
        return self.component.prepare(seed=SEED, threads=THREADS).native

    @cached_property
    def originals(self) -> list[bytes]:
        """Every chunk once per thread, as many as the native side streams in a lap."""
        op = np.zeros(1, dtype=np.uint8)
        made = [
            self.native.evaluate("source", {"op": op, "key": np.array([key], dtype=np.uint64)})
            for key in range(self.component.pool_chunks)
        ]
        return [chunk["chunk"].tobytes() for chunk in made] * THREADS

    @property
    def laps(self) -> int:
        """How often each thread goes through the pool in a round."""
        component = self.component
        return max(1, ROUND_BYTES // (component.pool_chunks * component.chunk_bytes))

    @property
    def round_bytes(self) -> int:
        return THREADS * self.laps * self.component.pool_chunks * self.component.chunk_bytes

    def ours(self, op: str) -> float:
        count = self.laps * self.component.pool_chunks
        tally = self.native.run(op, count=count, threads=THREADS, verify=False)
        return self.round_bytes / tally["elapsed_ns"]

    def checked(self, op: str) -> bool:
        """Whether every chunk of a round comes back unchanged."""
        tally = self.native.run(op, count=self.component.pool_chunks, threads=THREADS)
        return tally["violations"] == 0 and tally["ok"] == tally["verified"] > 0

    @property
    def ratio(self) -> float:
        return float(json.loads(self.native.describe())["ratio"])


class Pool:
    """The peer: one task per chunk on a thread pool, over the faster of two LZ4 bindings."""

    def __init__(self, chunks: Chunks, compress: bool) -> None:
        self.chunks = chunks
        self.compress = compress

    @cached_property
    def threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(THREADS)

    @cached_property
    def round(self) -> Callable[[], float]:
        """The round of the faster library, by its best of some trials."""
        rounds = [self.round_of(*made) for made in self.libraries()]
        best = [max(one() for _ in range(1 + TRIALS)) for one in rounds]
        return rounds[int(np.argmax(best))]

    def libraries(self) -> list[tuple[Callable[[Any, Any], Any], Sequence[Any], Sequence[Any]]]:
        """(call, sources, targets) of every binding that is installed."""
        found = []
        for make in (self.lz4_calls, self.cramjam_calls):
            try:
                found.append(make())
            except ImportError:
                continue
        if not found:
            raise PeerMissing("neither lz4 nor cramjam is installed; pip install lz4 cramjam")
        return found

    def lz4_calls(self) -> tuple[Callable[[Any, Any], Any], Sequence[Any], Sequence[Any]]:
        block = importlib.import_module("lz4.block")
        length, originals = self.chunks.component.chunk_bytes, self.chunks.originals
        if self.compress:
            return (
                (lambda source, _: block.compress(source, store_size=False)),
                originals,
                originals,
            )
        coded = [block.compress(chunk, store_size=False) for chunk in originals]
        if any(
            block.decompress(source, uncompressed_size=length) != original
            for source, original in zip(coded, originals, strict=True)
        ):
            raise PeerMissing("lz4 does not give the chunks back")
        return (lambda source, _: block.decompress(source, uncompressed_size=length)), coded, coded

    def cramjam_calls(self) -> tuple[Callable[[Any, Any], Any], Sequence[Any], Sequence[Any]]:
        """Into kept buffers, one per thread's turn: its fastest documented way."""
        lz4 = importlib.import_module("cramjam").lz4
        length, originals = self.chunks.component.chunk_bytes, self.chunks.originals
        targets = [np.zeros(length + length // 128 + 1024, dtype=np.uint8) for _ in originals]
        if self.compress:
            compress = lz4.compress_block_into
            return (
                (lambda source, target: compress(source, target, store_size=False)),
                originals,
                targets,
            )
        coded = [bytes(lz4.compress_block(chunk, store_size=False)) for chunk in originals]
        targets = [target[:length] for target in targets]
        for source, target, original in zip(coded, targets, originals, strict=True):
            lz4.decompress_block_into(source, target, output_len=length)
            if target.tobytes() != original:
                raise PeerMissing("cramjam does not give the chunks back")
        decompress = lz4.decompress_block_into
        return (
            (lambda source, target: decompress(source, target, output_len=length)),
            coded,
            targets,
        )

    def round_of(
        self, call: Callable[[Any, Any], Any], sources: Sequence[Any], targets: Sequence[Any]
    ) -> Callable[[], float]:
        laps = self.chunks.laps

        def one() -> float:
            began = time.perf_counter_ns()
            for _ in self.threads.map(call, [*sources] * laps, [*targets] * laps):
                pass
            return self.chunks.round_bytes / (time.perf_counter_ns() - began)

        return one


def copy_round(chunks: Chunks) -> Callable[[], float]:
    """A NumPy copy of every chunk into one kept buffer per thread, on as many threads."""

    def halves() -> list[tuple[list[Any], Any]]:
        views = [np.frombuffer(chunk, dtype=np.uint8) for chunk in chunks.originals]
        share = len(views) // THREADS
        targets = [np.zeros_like(views[0]) for _ in range(THREADS)]
        return [(views[i * share : (i + 1) * share], targets[i]) for i in range(THREADS)]

    kept: list[list[tuple[list[Any], Any]]] = []
    threads = ThreadPoolExecutor(THREADS)

    def copy_all(half: tuple[list[Any], Any]) -> None:
        for view in half[0] * chunks.laps:
            np.copyto(half[1], view)

    def one() -> float:
        if not kept:
            kept.append(halves())
        began = time.perf_counter_ns()
        list(threads.map(copy_all, kept[0]))
        return chunks.round_bytes / (time.perf_counter_ns() - began)

    return one


def halves_of(mix: str, label: str, goals: tuple[float, float], chunks: Chunks) -> list[Case]:
    """The two rows of a mix: compression alone and decompression alone."""
    rows = []
    for op, goal in zip(("compress", "decompress"), goals, strict=True):
        pool = Pool(chunks, compress=op == "compress")
        rows.append(
            Case(
                benchmark="streaming",
                case=f"{op}, {label}",
                unit="GB/s",
                goal=goal,
                peer_name="thread pool over lz4 or cramjam, the faster",
                ours=lambda op=op: chunks.ours(op),
                peer=lambda pool=pool: pool.round(),
                check=lambda op=op: (
                    chunks.checked(op)
                    and (mix != "text_binary_random" or chunks.ratio >= RATIO_MIN)
                ),
                threads=THREADS,
            )
        )
    return rows


def cases(large: bool) -> list[Case]:
    """Rows of 1 MiB chunks; `large` streams four times the last-level cache of most machines."""
    pool_chunks = 144 if large else 24
    mixed = Chunks("text_binary_random", pool_chunks)
    numeric = Chunks("numeric", pool_chunks)
    random = Chunks("random", pool_chunks)
    return [
        *halves_of("text_binary_random", "text, binary, random", (1.25, 1.4), mixed),
        *halves_of("numeric", "numeric", (1.0, 1.0), numeric),
        Case(
            benchmark="streaming",
            case="compress, random (bypassed)",
            unit="GB/s",
            goal=1.0,
            peer_name="numpy copy on as many threads",
            ours=lambda: random.ours("compress"),
            peer=copy_round(random),
            check=lambda: random.checked("compress"),
            threads=THREADS,
        ),
    ]
