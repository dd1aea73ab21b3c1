"""The tree of a root on a device: breadth-first search from above and from below."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from swarmbench.components.base import Arrays
from swarmbench.components.cuda.base import Cost
from swarmbench.components.cuda.knowledge_graph_tables import (
    LEVELS_PER_LOOK,
    OVER,
    PIECE_ARCS,
    PIECES_MAX,
    START_BYTES,
    TRAVERSAL,
    Lane,
    OpSide,
    draws_of_pair,
    words_of,
)
from swarmbench.gpu.device import Argument

U32 = npt.NDArray[np.uint32]

_NONE = 0xFFFFFFFF
#: Nodes whose parents are looked at where a tree is not checked in full.
_SAMPLED_NODES = 64


class Tree(OpSide):
    """Breadth-first search of the component of a root, from above and from below.

    The tree stays on the device, in inner numbers; how many nodes and arcs it reached comes back.
    """

    #: Pinned memory of one lane.
    HOST_BYTES = 4

    def __init__(self, lane: Lane, *, is_top_down: bool = False) -> None:
        super().__init__(lane)
        self.is_top_down = is_top_down
        self.found: dict[str, int] = {}
        self.root = lane.device.pinned(1, np.uint32)
        tables, scratch = lane.tables, lane.scratch
        sizes = [np.uint32(tables.nodes), np.uint32(tables.connected)]
        top_down, here = np.uint32(is_top_down), scratch.states[0]
        start: list[Argument] = [tables.inner, tables.offsets, *sizes, *lane.drawn(0)]
        start += [scratch.given, np.uint32(0), top_down, scratch.root, here, scratch.tally]
        start += [scratch.visited, scratch.queue, scratch.parents]
        self.start = lane.step("_bfs", "bfs_start", start, grid=1, block=32)
        graph: list[Argument] = [
            tables.offsets,
            tables.neighbours,
            tables.biggest,
            *sizes,
            top_down,
        ]
        rest = [scratch.tally, scratch.visited, scratch.fresh, scratch.queue, scratch.parents]
        self.levels = [
            lane.step("_bfs", "bfs_level", [*graph, *states, *rest], threads=tables.connected)
            for states in (scratch.states, scratch.states[::-1])
        ]

    def run(self, key: int) -> int:
        """Searches from the root of a request; units are undirected edges of its component."""
        self._search(key, None)
        return self.found["arcs"] // 2

    def _search(self, key: int, root: int | None) -> None:
        lane, tables, scratch = self.lane, self.lane.tables, self.lane.scratch
        stream, given = lane.stream, root is not None
        if given:
            stream.upload(scratch.given.part(0, 1), np.array([root], np.uint32))
        stream.fill(scratch.visited.part(0, words_of(tables.nodes)), 0)
        self.start.arguments[4:9] = [*lane.drawn(key), scratch.given, np.uint32(given)]
        lane.launch(self.start)
        stream.download(self.root, scratch.root)
        for _ in range(0, 2 * tables.nodes + LEVELS_PER_LOOK, LEVELS_PER_LOOK):
            for level in range(LEVELS_PER_LOOK):
                lane.launch(self.levels[level % 2])
            stream.download(scratch.state, scratch.states[0])
            stream.synchronize()
            self.found = scratch.named(TRAVERSAL)
            if self.found["mode"] == OVER:
                return
        raise AssertionError("a search has no more levels than nodes")

    def evaluate(self, inputs: Arrays) -> Arrays:
        """`levels` by node, from the tree that was found."""
        self._search(0, int(inputs["root"][0]))
        visited, parents = self._tree()
        outer = self.lane.tables.outer_nodes
        levels = np.full(self.lane.tables.nodes, _NONE, np.uint32)
        depths = depths_of(parents, visited, int(self.root[0]))
        if depths is not None:
            levels[outer[visited]] = depths[visited]
        return {"levels": levels}

    def _tree(self) -> tuple[npt.NDArray[np.bool_], U32]:
        """Which inner nodes were visited, and their parents."""
        nodes = self.lane.tables.nodes
        parents = np.empty(nodes, np.uint32)
        self.lane.stream.download(parents, self.lane.scratch.parents)
        bits = self._bits().view(np.uint8)
        return np.unpackbits(bits, bitorder="little")[:nodes].astype(bool), parents

    def _bits(self) -> U32:
        """A bit per inner node, set where it was visited."""
        tables = self.lane.tables
        words = words_of(tables.nodes)
        bits = np.empty(words, np.uint32)
        first = self.found["bitmap"] * words
        self.lane.stream.download(bits, self.lane.scratch.visited.part(first, words))
        self.lane.stream.synchronize()
        # A level from below writes no word of nodes without an edge; only a root may be one.
        bits[words_of(tables.connected) :] = 0
        root = int(self.root[0])
        if root >= tables.connected:
            bits[root // 32] = 1 << root % 32
        return bits

    def verify(self, key: int) -> tuple[int, int]:
        """As many nodes visited as said, and parents that are neighbours; some in full."""
        bits = self._bits()
        is_right = int(np.bitwise_count(bits).sum()) == self.found["nodes"]
        is_right = is_right and self._sample_hangs(key, bits)
        is_full = self.next_is_full(self.lane.full_one_in)
        if is_full and is_right:
            is_right = self._is_valid(key)
        return int(is_full or not is_right), int(not is_right)

    def _sample_hangs(self, key: int, bits: U32) -> bool:
        lane, nodes = self.lane, self.lane.tables.nodes
        count = min(_SAMPLED_NODES, nodes)
        first = key * 0x9E3779B9 % (nodes - count + 1)
        parents = np.empty(count, np.uint32)
        lane.stream.download(parents, lane.scratch.parents.part(first, count))
        lane.stream.synchronize()
        below = np.arange(first, first + count)
        wanted = are_set(bits, below) & (below != self.root[0])
        parents, below = parents[wanted], below[wanted]
        if (parents >= nodes).any() or not are_set(bits, parents).all():
            return False
        outer = lane.tables.outer_nodes
        return lane.have_edges(outer[below], outer[parents])

    def _is_valid(self, key: int) -> bool:
        """The rules of Graph500 (specification 2.0, section 9), and the levels of another search:
        a tree of existing edges that spans the component, none of which skips a level."""
        lane, root = self.lane, int(self.root[0])
        visited, parents = self._tree()
        outer = lane.tables.outer_nodes
        asked = lane.requested(key)["sources"][:1]
        depths = depths_of(parents, visited, root)
        if depths is None or outer[root] != asked[0]:
            return False
        below = np.flatnonzero(visited & (np.arange(len(parents)) != root))
        levels = lane.native.evaluate("bfs", {"root": asked})["levels"][outer]
        offsets = np.empty(len(parents) + 1, np.uint32)
        lane.stream.download(offsets, lane.tables.offsets)
        lane.stream.synchronize()
        return (
            np.array_equal(levels != _NONE, visited)
            and np.array_equal(levels[visited], depths[visited])
            and lane.have_edges(outer[below], outer[parents[below]])
            and int(np.diff(offsets)[visited].sum()) == self.found["arcs"]
        )

    def damage(self, fault: str, draw: int) -> bool:
        """A bit of a parent or of the arcs counted; a node not visited; one counted twice."""
        visited, _ = self._tree()
        visited[self.root[0]] = False
        reached = np.flatnonzero(visited)
        if len(reached) == 0:
            return False
        node = int(reached[draw % len(reached)])
        lane, scratch = self.lane, self.lane.scratch
        if fault == "doubled_result":
            self.found["nodes"] += 1
        elif fault == "lost_result":
            words = words_of(lane.tables.nodes)
            word = scratch.visited.part(self.found["bitmap"] * words + node // 32, 1)
            self._change(word, 1 << node % 32)
        elif draw >> 32 & 3 == 0:
            self.found["arcs"] ^= 1 << (draw >> 34 & 31)
        else:
            self._change(scratch.parents.part(node, 1), 1 << (24 + (draw >> 34 & 7)))
        return True

    def _change(self, word: Any, bits: int) -> None:
        """Toggles bits of a word on the device; a parent's upper ones, so that none is another
        right parent."""
        held = np.empty(1, np.uint32)
        self.lane.stream.download(held, word)
        self.lane.stream.synchronize()
        self.lane.stream.upload(word, held ^ np.uint32(bits))
        self.lane.stream.synchronize()

    def cost(self) -> Cost:
        """Rows, their ends, the queue, parents and bitmaps, level by level of the tree.

        From above a level reads the rows of its frontier; from below it reads the ends and the
        biggest neighbours of what was not visited before, and of their rows what was counted.
        """
        found, tables = self.found, self.lane.tables
        visited, parents = self._tree()
        offsets = np.empty(tables.nodes + 1, np.uint32)
        self.lane.stream.download(offsets, tables.offsets)
        self.lane.stream.synchronize()
        degrees = np.diff(offsets)
        depths = depths_of(parents, visited, int(self.root[0]))
        assert depths is not None, "the last tree was damaged"
        level_of = np.where(visited, depths, tables.nodes)[: tables.connected]
        words, is_below = words_of(tables.connected), False
        read = 4 * found["seen_below"] + 4 * words * found["listings"]
        written = 4 * (found["nodes"] + found["listings"])
        for hop in range(min(found["hops"], 64)):
            was_below, is_below = is_below, bool(found["ways"] >> hop & 1)
            fresh, frontier = level_of == hop + 1, level_of == hop
            if is_below:
                is_open = level_of > hop
                read += 4 * (words + ends_of(is_open) + int(is_open.sum()))
                written += 8 * words
                continue
            rows = int(piece_counts(degrees[: tables.connected][frontier]).sum())
            read += 4 * (rows + ends_of(frontier) + ends_of(fresh))
            read += 4 * int(degrees[: tables.connected][frontier].sum())
            touched = fresh | frontier | (level_of == hop - 1)
            read += 4 * words_with(touched, 32)
            claimed = words_with(fresh, 32)
            written += 4 * (claimed + int(piece_counts(degrees[: tables.connected][fresh]).sum()))
            if was_below:  # which was listed first
                read += 4 * ends_of(frontier)
                written += 4 * rows
        looks = -(-(found["hops"] + found["listings"]) // LEVELS_PER_LOOK)
        # The states that launches leave to each other, and the tally and the sums in them.
        fixed = 8 * len(TRAVERSAL) * LEVELS_PER_LOOK * looks + 8 * 5 * found["hops"]
        read, written = read + fixed + START_BYTES[0], written + fixed + START_BYTES[1]
        draws = round(draws_of_pair(tables))
        return Cost(bytes_read=read, bytes_written=written, random_draws=draws)


def are_set(bits: U32, nodes: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Whether the bit of each node is set."""
    found: npt.NDArray[np.bool_] = (bits[nodes // 32] >> (nodes % 32).astype(np.uint32) & 1).astype(
        bool
    )
    return found


def ends_of(nodes: npt.NDArray[np.bool_]) -> int:
    """Different words of the ends of some nodes' rows: two each, of which neighbours share one."""
    return int((nodes | np.append(False, nodes[:-1])).sum() + nodes[-1:].sum())


def piece_counts(degrees: U32) -> npt.NDArray[np.int64]:
    """Entries of a queue for rows of so many arcs."""
    rows = degrees.astype(np.int64)
    return -(-rows // np.maximum(PIECE_ARCS, -(-rows // PIECES_MAX)))


def depths_of(parents: U32, visited: npt.NDArray[np.bool_], *roots: int) -> U32 | None:
    """Steps from each visited node up to a root; None where one does not get there.

    Pointer jumping: Wyllie, "The Complexity of Parallel Computations", 1979.
    """
    nodes, tops = len(parents), list(roots)
    above = np.where(visited, parents, tops[0]).astype(np.int64)
    above[tops] = tops
    if (above >= nodes).any() or not visited[above].all():
        return None
    is_top = np.zeros(nodes, bool)
    is_top[tops] = True
    depths = np.where(visited & ~is_top, 1, 0)
    for _ in range(nodes.bit_length() + 1):
        if is_top[above].all():
            return depths.astype(np.uint32)
        depths += depths[above]
        above = above[above]
    return None


def words_with(nodes: npt.NDArray[np.bool_], each: int) -> int:
    """Different words of some nodes' bits, of which a word holds those of so many nodes."""
    return len(np.unique(np.flatnonzero(nodes) // each))
