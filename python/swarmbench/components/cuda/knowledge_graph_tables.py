"""The knowledge graph's tables on a device, one lane's scratch, and what all its op types share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from swarmbench import _native
from swarmbench.components import graphs
from swarmbench.components.base import Arrays
from swarmbench.components.cuda.base import Cost
from swarmbench.components.knowledge_graph import KnowledgeGraph
from swarmbench.components.philox import stream_key
from swarmbench.gpu.device import Argument, Buffer, Device, Kernel, Stream

#: Streams of random words, as `graphs` names them.
KEYS, POOL, REQUESTS = 0x6B670002, 0x6B670003, 0x6B670004
#: Arcs of one entry of a queue, and entries of one row, as in `knowledge_graph.cuh`.
PIECE_ARCS, PIECES_MAX = 128, 256
#: 64-bit words of the structures that launches leave to each other.
TRAVERSAL = (
    *("mode", "hops", "first", "entries", "bitmap", "nodes", "arcs"),
    *("taken", "found_above", "seen_above", "opened", "found_below", "seen_below"),
    *("passes", "listings", "ways"),
)
MEETING = (
    *("mode", "side", "there_first", "there_entries", "there_arcs", "there_hops"),
    *("back_first", "back_entries", "back_arcs", "back_hops"),
    *("met", "start", "end", "looked_at", "taken", "nodes"),
)
BATCH = (
    *("mode", "distance", "open"),
    *("pushing", "pushed", "pulling", "pulled", "passes"),
    *("reached", "mended", "fresh", "last_fresh", "pulling_squares", "fresh_squares"),
)
#: Levels enqueued between two looks at whether a search is over; even, so that the two states have
#: the same parts each time.
LEVELS_PER_LOOK = 8
#: Read and written by a start: 64 words of draws and the ends of rows, and the state.
START_BYTES = (4 * 64 + 32, 200)
#: Draws at a time for the ends of a pair, and most of them, as `knowledge_graph.cuh` has them.
WARP, ATTEMPTS_MAX = 32, 64
#: The mode of a traversal that has ended.
OVER = 3
_STATE_WORDS = max(len(TRAVERSAL), len(MEETING), len(BATCH))
_TALLY_WORDS = 8
#: Words of an answer before the path itself.
PATH_HEAD = 4


@dataclass(frozen=True, slots=True)
class Shape:
    """Launch shapes: threads of a block, and most blocks per multiprocessor of a grid."""

    block: int = 256
    blocks_per_multiprocessor: int = 8

    def grid(self, device: Device, threads: int) -> int:
        """Blocks for so many threads with work, of which a grid in strides needs no more."""
        blocks = self.blocks_per_multiprocessor * device.multiprocessors
        return max(1, min(blocks, -(-threads // self.block)))


def distinct(touched: float, places: int) -> float:
    """Expected different places of `places` among so many touched at random."""
    return places * -np.expm1(-touched / places) if places else 0.0


def words_of(nodes: int) -> int:
    """32-bit words of one bit per node."""
    return -(-nodes // 32)


def piece_bound(edges: int) -> int:
    """Most entries that the rows of more than `PIECE_ARCS` arcs are in."""
    return edges * 4 // PIECE_ARCS + 1


def queue_room(nodes: int, edges: int) -> int:
    """Most entries of a queue that each node enters once."""
    return nodes + 2 * edges // PIECE_ARCS + 1


@dataclass(frozen=True, slots=True)
class GraphTables:
    """The graph in inner numbers, which fall with the degree, the records and the pool of keys."""

    device: Device
    nodes: int
    edges: int
    connected: int
    arcs: int
    hubs: int
    piece_total: int
    slot_count: int
    offsets: Buffer
    neighbours: Buffer
    biggest: Buffer
    inner: Buffer
    outer: Buffer
    pieces: Buffer
    slots: Buffer
    records: Buffer
    pool: Buffer
    request_key: tuple[np.uint32, np.uint32]
    #: Own numbers of the inner nodes, on the host: for checks.
    outer_nodes: npt.NDArray[np.uint32] = field(repr=False)

    @property
    def shift(self) -> int:
        """How far a hash is shifted to its slot."""
        return 65 - self.slot_count.bit_length()

    @classmethod
    def bytes(cls, component: KnowledgeGraph) -> int:
        """Device memory of the tables, by the sizes that are known before there is a graph."""
        nodes, edges = component.nodes, component.edge_count()
        graph = 4 * (nodes + 1) + 8 * edges + 12 * nodes + 4 * piece_bound(edges)
        return graph + 4 * graphs.slot_count(nodes) + 64 * nodes + 8 * graphs.POOL_KEYS

    @classmethod
    def build(
        cls, component: KnowledgeGraph, native: _native.Component, device: Device, seed: int
    ) -> GraphTables:
        """Uploads the native component's graph; records, slots and pool are made on the device."""
        rows = native.evaluate("inner_graph", {})
        nodes, edges = component.nodes, component.edge_count()
        stream = device.stream()
        pieces, hubs = long_rows(rows["offsets"])
        slots = device.empty(graphs.slot_count(nodes), np.uint32)
        stream.fill(slots, 0xFF)

        def table(array: npt.NDArray[np.uint32], room: int) -> Buffer:
            buffer = device.empty(room, np.uint32)
            if len(array):
                stream.upload(buffer.part(0, len(array)), array)
                stream.synchronize()
            return buffer

        low, high = stream_key(seed, REQUESTS)
        tables = cls(
            device=device,
            nodes=nodes,
            edges=edges,
            connected=len(rows["biggest"]),
            arcs=len(rows["neighbours"]),
            hubs=hubs,
            piece_total=len(pieces),
            slot_count=slots.count,
            offsets=table(rows["offsets"], nodes + 1),
            neighbours=table(rows["neighbours"], 2 * edges),
            biggest=table(rows["biggest"], nodes),
            inner=table(rows["inner"], nodes),
            outer=table(rows["outer"], nodes),
            pieces=table(pieces, piece_bound(edges)),
            slots=slots,
            records=device.empty(8 * nodes, np.uint64),
            pool=device.empty(graphs.POOL_KEYS, np.uint64),
            request_key=(np.uint32(low), np.uint32(high)),
            outer_nodes=rows["outer"],
        )
        tables._write_records(stream, seed)
        return tables

    def _write_records(self, stream: Stream, seed: int) -> None:
        low, high = stream_key(seed, KEYS)
        base, block = np.uint64(high << 32 | low), 256
        nodes = np.uint32(self.nodes)
        write = self.device.kernel("knowledge_graph.cu", "write_records")
        slots = (np.uint32(self.slot_count), np.uint32(self.shift), self.slots)
        given: list[Argument] = [self.inner, self.offsets, nodes, base, *slots, self.records]
        stream.launch(write, -(-self.nodes // block), block, given)
        fill = self.device.kernel("knowledge_graph.cu", "fill_pool")
        octaves = np.uint32(max(self.nodes.bit_length() - 1, 1))
        words = [np.uint32(word) for word in stream_key(seed, POOL)]
        keys = np.uint32(self.pool.count)
        given = [keys, nodes, octaves, base, *words, self.pool]
        stream.launch(fill, -(-self.pool.count // block), block, given)
        stream.synchronize()


def long_rows(offsets: npt.NDArray[np.uint32]) -> tuple[npt.NDArray[np.uint32], int]:
    """The entries of all rows of more than `PIECE_ARCS` arcs, and how many rows those are.

    Rows fall in length, so these are the first ones.
    """
    degrees = np.diff(offsets)
    hubs = int(np.searchsorted(-degrees.astype(np.int64), -PIECE_ARCS, side="left"))
    rows = degrees[:hubs].astype(np.int64)
    lengths = np.maximum(PIECE_ARCS, -(-rows // PIECES_MAX))
    counts = -(-rows // lengths)
    nodes = np.repeat(np.arange(hubs), counts)
    numbers = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return (nodes | numbers << 24).astype(np.uint32), hubs


@dataclass(slots=True)
class Scratch:
    """One lane's memory for traversals, shared by the op types since a lane runs one at a time."""

    parents: Buffer
    queue: Buffer
    visited: Buffer
    fresh: Buffer
    marks: Buffer
    path: Buffer
    lanes: tuple[Buffer, Buffer, Buffer]
    states: tuple[Buffer, Buffer]
    tally: Buffer
    given: Buffer
    root: Buffer
    ends: Buffer
    state: npt.NDArray[np.uint64] = field(repr=False)

    @classmethod
    def bytes(cls, nodes: int, edges: int) -> int:
        """Device memory of one lane."""
        bits = 3 * 4 * words_of(nodes) + 4 * -(-nodes // 16)
        words = 4 * nodes + 4 * queue_room(nodes, edges) + 4 * (nodes + PATH_HEAD)
        small = 8 * (2 * _STATE_WORDS + _TALLY_WORDS) + 4 * (128 + 1 + 320)
        return words + bits + 24 * nodes + small

    @classmethod
    def host_bytes(cls) -> int:
        """Pinned memory of one lane: the state that comes back."""
        return 8 * _STATE_WORDS

    @classmethod
    def build(cls, device: Device, nodes: int, edges: int) -> Scratch:
        return cls(
            parents=device.empty(nodes, np.uint32),
            queue=device.empty(queue_room(nodes, edges), np.uint32),
            visited=device.empty(2 * words_of(nodes), np.uint32),
            fresh=device.empty(words_of(nodes), np.uint32),
            marks=device.empty(-(-nodes // 16), np.uint32),
            path=device.empty(nodes + PATH_HEAD, np.uint32),
            lanes=(
                device.empty(nodes, np.uint64),
                device.empty(nodes, np.uint64),
                device.empty(nodes, np.uint64),
            ),
            states=(device.empty(_STATE_WORDS, np.uint64), device.empty(_STATE_WORDS, np.uint64)),
            tally=device.empty(_TALLY_WORDS, np.uint64),
            given=device.empty(128, np.uint32),
            root=device.empty(1, np.uint32),
            ends=device.empty(320, np.uint32),
            state=device.pinned(_STATE_WORDS, np.uint64),
        )

    def named(self, names: Sequence[str]) -> dict[str, int]:
        """The state that came back last, by the names of its words."""
        return {name: int(word) for name, word in zip(names, self.state, strict=False)}


@dataclass(slots=True)
class Step:
    """A launch that is ready to be made."""

    kernel: Kernel
    grid: int
    block: int
    arguments: list[Argument]
    shared_bytes: int = 0


@dataclass(slots=True)
class Lane:
    """What every op type of one lane works with."""

    device: Device
    stream: Stream
    tables: GraphTables
    native: _native.Component
    shape: Shape
    scratch: Scratch

    def step(
        self,
        file: str,
        name: str,
        arguments: Sequence[Argument],
        *,
        threads: int = 0,
        grid: int = 0,
        block: int = 0,
        shared_bytes: int = 0,
        defines: Mapping[str, int] | None = None,
    ) -> Step:
        """A launch, its kernel compiled and loaded now: over so many threads with work in the
        lane's shape, or over a given grid."""
        kernel = self.device.kernel(f"knowledge_graph{file}.cu", name, defines)
        grid = grid or self.shape.grid(self.device, threads)
        return Step(kernel, grid, block or self.shape.block, list(arguments), shared_bytes)

    def launch(self, step: Step) -> None:
        """Enqueues a launch."""
        self.stream.launch(
            step.kernel, step.grid, step.block, step.arguments, shared_bytes=step.shared_bytes
        )

    def drawn(self, key: int) -> tuple[np.uint64, np.uint32, np.uint32]:
        """A request as the kernels draw from it."""
        return (np.uint64(key), *self.tables.request_key)

    def requested(self, key: int) -> Arrays:
        """The 64 pairs of nodes that a request asks for, in their own numbers."""
        return self.native.evaluate("requested_pairs", {"key": np.array([key], np.uint64)})

    def have_edges(self, ones: npt.NDArray[Any], others: npt.NDArray[Any]) -> bool:
        """Whether there is an edge between each two nodes, by their own numbers."""
        if not ((ones < self.tables.nodes) & (others < self.tables.nodes)).all():
            return False
        pairs = {"sources": ones.astype(np.uint32), "targets": others.astype(np.uint32)}
        return bool(self.native.evaluate("edges", pairs)["edges"].all())

    @property
    def full_one_in(self) -> int:
        """One answer in so many is held against a search of the native component, which takes
        the longer the larger the graph is."""
        return max(8, min(512, self.tables.nodes >> 8))


def draws_of_pair(tables: GraphTables) -> float:
    """Expected random draws for the ends of a pair: a warp at a time, until both have edges."""
    missing = (1.0 - tables.connected / tables.nodes) ** WARP
    turns, left = 0.0, 1.0
    for turn in range(ATTEMPTS_MAX // WARP):
        turns += left
        left = 1.0 - (1.0 - missing ** (turn + 1)) ** 2
    return WARP * turns


class OpSide(ABC):
    """One op type of one lane: its launches, its last answer, and the check of that."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.verified = 0
        #: Every answer is checked in full.
        self.looks_closely = False

    @abstractmethod
    def run(self, key: int) -> int:
        """Does the operation; returns its units."""

    @abstractmethod
    def verify(self, key: int) -> tuple[int, int]:
        """Answers checked and wrong ones, of the operation `key` that was run last."""

    @abstractmethod
    def damage(self, fault: str, draw: int) -> bool:
        """Damages the last answer; `draw` decides where."""

    @abstractmethod
    def evaluate(self, inputs: Arrays) -> Arrays:
        """The answers for given inputs."""

    @abstractmethod
    def cost(self) -> Cost:
        """What the last operation had to move."""

    def next_is_full(self, one_in: int) -> bool:
        """Counts an answer; says whether it is the first, or another one in so many."""
        self.verified += 1
        return self.looks_closely or self.verified % one_in == 1
