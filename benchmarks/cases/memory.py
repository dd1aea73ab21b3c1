"""The allocation storm beside jemalloc and glibc, and the tier round trip beside the disk alone."""

from __future__ import annotations

import ctypes.util
import importlib
import json
import mmap
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from paired import Case, PeerMissing
from swarmbench import _native
from swarmbench.components.memory import Memory

THREADS = 2
SEED = 20240607
HEAP = Path(__file__).resolve().parent.parent / "peers" / "storm_heap.py"
#: Pages are kept for good, huge where there are any, as many arenas as threads, and what is up to
#: 8 MiB cached by each thread: without these a long storm is one of page faults.
JEMALLOC = (
    "narenas:2,dirty_decay_ms:-1,muzzy_decay_ms:-1,oversize_threshold:0,lg_tcache_max:23,"
    "thp:always,metadata_thp:always"
)
#: Allocations of a thread in a round, by what is touched, and the goals beside jemalloc and glibc.
STORMS: dict[str, tuple[int, float, float]] = {
    "none": (300_000, 2.2, 7.9),
    "page": (8_000, 1.0, 33.0),
    "fill": (800, 2.4, 10.0),
}
#: Bytes of a request of the floor, and requests in flight.
REQUEST_BYTES = 1 << 20
IN_FLIGHT = 8
BLOCKS = 4


class Heap:
    """A process of its own whose heap another allocator may have taken over."""

    def __init__(self, preload: str | None) -> None:
        self.preload = preload

    @cached_property
    def process(self) -> subprocess.Popen[str]:
        environment = dict(os.environ)
        if self.preload is not None:
            library = ctypes.util.find_library(self.preload)
            if library is None:
                raise PeerMissing(f"lib{self.preload} is missing: apt-get install libjemalloc2")
            environment |= {"LD_PRELOAD": library, "MALLOC_CONF": JEMALLOC}
        return subprocess.Popen(
            [sys.executable, str(HEAP), str(SEED), json.dumps({})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def run(self, touch: str, count: int) -> dict[str, Any]:
        asked, told = self.process.stdin, self.process.stdout
        if asked is None or told is None:
            raise PeerMissing("the peer's process has no pipes")
        asked.write(f"{touch} {count} {THREADS} 0\n")
        asked.flush()
        line = told.readline()
        if not line:
            raise PeerMissing(f"the peer's process ended with {self.process.wait()}")
        tally: dict[str, Any] = json.loads(line)
        return tally


def per_s(tally: dict[str, Any]) -> float:
    return (tally["ok"] + tally["rejected"]) / tally["elapsed_ns"] * 1e9


class Storm:
    """The storm with one way of touching, ours and on the heaps."""

    def __init__(self, touch: str) -> None:
        self.touch = touch
        self.count, self.jemalloc_goal, self.glibc_goal = STORMS[touch]

    @cached_property
    def native(self) -> _native.Component:
        return Memory(touch=self.touch).prepare(seed=SEED, threads=THREADS).native

    def ours(self) -> float:
        tally = self.native.run("allocate", count=self.count, threads=THREADS, verify=False)
        return per_s(tally)

    def same(self, heap: Heap) -> bool:
        """Both hand out the same allocations, but for one in a thousand that found no place."""
        ours = self.native.run("allocate", count=self.count, threads=THREADS)
        other = heap.run(self.touch, self.count)
        near = abs(ours["ok"] - other["ok"]) <= ours["ok"] // 1000
        return near and ours["violations"] == 0 and ours["verified"] > 0 and other["errors"] == 0


def storms(jemalloc: Heap, glibc: Heap) -> list[Case]:
    """Untouched, one word a page, every word."""
    rows = []
    for touch in STORMS:
        storm = Storm(touch)
        for name, heap, goal in (
            ("jemalloc, tuned, the same storm", jemalloc, storm.jemalloc_goal),
            ("glibc, the same storm", glibc, storm.glibc_goal),
        ):
            rows.append(
                Case(
                    benchmark="memory",
                    case=f"allocation storm, touch {touch}, beside {name.split(',')[0]}",
                    unit="allocs/s",
                    goal=goal,
                    peer_name=name,
                    ours=storm.ours,
                    peer=lambda heap=heap, storm=storm: per_s(heap.run(storm.touch, storm.count)),
                    check=lambda heap=heap, storm=storm: storm.same(heap),
                    threads=THREADS,
                )
            )
    return rows


class Trips:
    """Blocks of one size that go out to a file and come back."""

    def __init__(self, block_bytes: int) -> None:
        self.block_bytes = block_bytes
        self.trips = max(1, (256 << 20) // block_bytes)

    @cached_property
    def native(self) -> _native.Component:
        component = Memory(
            blocks=BLOCKS,
            size_min_bytes=self.block_bytes,
            size_max_bytes=self.block_bytes,
            chunk_bytes=REQUEST_BYTES,
            chunks_in_flight=IN_FLIGHT,
            write_budget_bytes=1 << 50,
            pool_bytes=4 << 20,
            allocation_max_bytes=1 << 20,
        )
        native = component.prepare(seed=SEED).native
        if json.loads(native.describe())["nvme"] != "O_DIRECT":
            raise PeerMissing("this directory's file system has no O_DIRECT")
        return native

    def ours(self) -> float:
        tally = self.native.run("round_trip", count=self.trips, verify=False)
        return float(tally["units"]) / tally["elapsed_ns"]

    def checked(self) -> bool:
        tally = self.native.run("round_trip", count=2 * self.trips)
        return tally["ok"] == 2 * self.trips and tally["violations"] == 0 < tally["verified"]

    @cached_property
    def file(self) -> int:
        """A nameless file of one block beside ours, written once."""
        with tempfile.NamedTemporaryFile(dir=".") as named:
            file = os.open(named.name, os.O_RDWR | os.O_DIRECT)
        for start in range(0, self.block_bytes, REQUEST_BYTES):
            os.pwritev(file, [self.block[start : start + REQUEST_BYTES]], start)
        return file

    @cached_property
    def block(self) -> memoryview:
        """Random bytes that start at a page, on huge pages where there are any."""
        mapped = mmap.mmap(-1, self.block_bytes)
        mapped.madvise(mmap.MADV_HUGEPAGE)
        mapped[:] = os.urandom(REQUEST_BYTES) * (self.block_bytes // REQUEST_BYTES)
        return memoryview(mapped)

    def floor(self) -> float:
        """The disk alone: as many bytes out and back by the same requests, nothing copied and
        nothing summed."""
        trips = np.full(self.trips, self.block_bytes, dtype=np.uint64)
        elapsed_ns = self.native.evaluate("disk", {"bytes": trips})["elapsed_ns"]
        return 2 * self.block_bytes * self.trips / float(elapsed_ns.sum())

    def serial(self) -> float:
        """One thread: sum, write, read, sum, with the fastest checksum that is installed."""
        summed: Callable[[Any], int]
        try:
            summed = importlib.import_module("xxhash").xxh3_64_intdigest
        except ImportError:
            summed = importlib.import_module("zlib").crc32
        block, file = self.block, self.file
        began = time.perf_counter_ns()
        for _ in range(self.trips):
            left = summed(block)
            os.pwritev(file, [block], 0)
            os.preadv(file, [block], 0)
            if summed(block) != left:
                raise PeerMissing("the disk gave other bytes back")
        return 2 * self.block_bytes * self.trips / (time.perf_counter_ns() - began)


def round_trips(trips: Trips) -> list[Case]:
    """Beside the disk's own floor, and beside serial Python."""
    label = f"round trip to a file and back, {trips.block_bytes >> 20} MiB"
    peers: list[tuple[str, Callable[[], float], str, float]] = [
        ("disk alone", trips.floor, f"O_DIRECT alone, {IN_FLIGHT} requests in flight", 0.9),
        ("serial Python", trips.serial, "serial Python with xxhash, O_DIRECT", 1.8),
    ]
    return [
        Case(
            benchmark="memory",
            case=f"{label}, beside {name}",
            unit="GB/s",
            goal=goal,
            peer_name=said,
            ours=trips.ours,
            peer=peer,
            check=trips.checked,
        )
        for name, peer, said, goal in peers
    ]


def cases(large: bool) -> list[Case]:
    """Storms up to 100 MB; round trips of 64 MiB blocks, and of 256 MiB ones where `large`."""
    return [
        *storms(Heap("jemalloc"), Heap(None)),
        *round_trips(Trips(64 << 20)),
        *(round_trips(Trips(256 << 20)) if large else []),
    ]
