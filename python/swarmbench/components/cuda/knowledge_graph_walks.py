"""Traversals on a device: the tree of a root, and the path between two nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from swarmbench.components.base import Arrays
from swarmbench.components.cuda.base import Cost
from swarmbench.components.cuda.knowledge_graph_tables import (
    LEVELS_PER_LOOK,
    MEETING,
    OVER,
    PATH_HEAD,
    PIECE_ARCS,
    PIECES_MAX,
    TRAVERSAL,
    Lane,
    OpSide,
    words_of,
)
from swarmbench.gpu.device import Argument

#: Nodes of a path that come back with its length.
_PATH_NODES = 1020
_NONE = 0xFFFFFFFF
_NOT_MET = (1 << 64) - 1
#: Read and written by a start: 64 words of draws and the ends of rows, and the state.
_START_BYTES = (4 * 64 + 32, 200)
_SIDES = ("there", "back")
#: Nodes whose parents are looked at where a tree is not checked in full.
_SAMPLED_NODES = 64

U32 = npt.NDArray[np.uint32]


class Tree(OpSide):
    """Breadth-first search of the component of a root, from above and from below.

    The tree stays on the device, in inner numbers; how many nodes and arcs it reached comes back.
    """

    def __init__(self, lane: Lane, *, is_top_down: bool = False) -> None:
        super().__init__(lane)
        self.is_top_down = is_top_down
        self.found: dict[str, int] = {}
        self.root = lane.device.pinned(1, np.uint32)

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
        sizes = (np.uint32(tables.nodes), np.uint32(tables.connected))
        top_down = np.uint32(self.is_top_down)
        here, there = scratch.states
        arguments: list[Argument] = [
            *(tables.inner, tables.offsets, *sizes, *lane.drawn(key)),
            *(scratch.given, np.uint32(given), top_down, scratch.root, here, scratch.tally),
            *(scratch.visited, scratch.queue, scratch.parents),
        ]
        lane.launch("_bfs", "bfs_start", 32, arguments, block=32)
        stream.download(self.root, scratch.root)
        for _ in range(0, 2 * tables.nodes + LEVELS_PER_LOOK, LEVELS_PER_LOOK):
            for level in range(LEVELS_PER_LOOK):
                states = (here, there) if level % 2 == 0 else (there, here)
                arguments = [
                    *(tables.offsets, tables.neighbours, tables.biggest, *sizes, top_down),
                    *(*states, scratch.tally, scratch.visited, scratch.fresh, scratch.queue),
                    scratch.parents,
                ]
                lane.launch("_bfs", "bfs_level", tables.connected, arguments)
            stream.download(scratch.state, here)
            stream.synchronize()
            self.found = scratch.named(TRAVERSAL)
            if self.found["mode"] == OVER:
                return
        raise AssertionError("a search has no more levels than nodes")

    def evaluate(self, inputs: Arrays) -> Arrays:
        """`levels` by node, from the tree that was found."""
        self._search(0, int(inputs["root"][0]))
        visited, parents, outer = self._tree()
        levels = np.full(self.lane.tables.nodes, _NONE, np.uint32)
        depths = depths_of(parents, visited, int(self.root[0]))
        if depths is not None:
            levels[outer[visited]] = depths[visited]
        return {"levels": levels}

    def _tree(self) -> tuple[npt.NDArray[np.bool_], U32, U32]:
        """Which inner nodes were visited, their parents, and all nodes' own numbers."""
        lane, scratch, nodes = self.lane, self.lane.scratch, self.lane.tables.nodes
        parents, outer = np.empty(nodes, np.uint32), np.empty(nodes, np.uint32)
        lane.stream.download(parents, scratch.parents)
        lane.stream.download(outer, lane.tables.outer)
        return self._visited(), parents, outer

    def _visited(self) -> npt.NDArray[np.bool_]:
        tables = self.lane.tables
        words = words_of(tables.nodes)
        bits = np.empty(words, np.uint32)
        first = self.found["bitmap"] * words
        self.lane.stream.download(bits, self.lane.scratch.visited.part(first, words))
        self.lane.stream.synchronize()
        visited = np.unpackbits(bits.view(np.uint8), bitorder="little")[: tables.nodes].astype(bool)
        # What has no edge is not in the bitmap of a level from below, and only a root is visited.
        visited[tables.connected :] = False
        visited[self.root[0]] |= self.root[0] >= tables.connected
        return visited

    def verify(self, key: int) -> tuple[int, int]:
        """As many nodes visited as said, and parents that are neighbours; some in full."""
        visited = self._visited()
        is_right = int(visited.sum()) == self.found["nodes"] and self._sample_hangs(key, visited)
        is_full = self.next_is_full(self.lane.full_one_in)
        if is_full and is_right:
            is_right = self._is_valid(key)
        return int(is_full or not is_right), int(not is_right)

    def _sample_hangs(self, key: int, visited: npt.NDArray[np.bool_]) -> bool:
        lane, nodes = self.lane, self.lane.tables.nodes
        count = min(_SAMPLED_NODES, nodes)
        first = key * 0x9E3779B9 % (nodes - count + 1)
        parents = np.empty(count, np.uint32)
        lane.stream.download(parents, lane.scratch.parents.part(first, count))
        lane.stream.synchronize()
        below = np.arange(first, first + count)
        wanted = visited[below] & (below != self.root[0])
        parents, below = parents[wanted], below[wanted]
        if (parents >= nodes).any() or not visited[parents].all():
            return False
        outer = np.empty(nodes, np.uint32)
        lane.stream.download(outer, lane.tables.outer)
        lane.stream.synchronize()
        return lane.have_edges(outer[below], outer[parents])

    def _is_valid(self, key: int) -> bool:
        """The rules of Graph500 (specification 2.0, section 9), and the levels of another search:
        a tree of existing edges that spans the component, none of which skips a level."""
        lane, root = self.lane, int(self.root[0])
        visited, parents, outer = self._tree()
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
        visited = self._visited()
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
        visited, parents, _ = self._tree()
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
            read += 4 * len(np.unique(np.flatnonzero(touched) // 32))
            claimed = len(np.unique(np.flatnonzero(fresh) // 32))
            written += 4 * (claimed + int(piece_counts(degrees[: tables.connected][fresh]).sum()))
            if was_below:  # which was listed first
                read += 4 * ends_of(frontier)
                written += 4 * rows
        looks = -(-(found["hops"] + found["listings"]) // LEVELS_PER_LOOK)
        # The states that launches leave to each other, and the tally and the sums in them.
        fixed = 8 * len(TRAVERSAL) * LEVELS_PER_LOOK * looks + 8 * 5 * found["hops"]
        read, written = read + fixed + _START_BYTES[0], written + fixed + _START_BYTES[1]
        return Cost(bytes_read=read, bytes_written=written)


def ends_of(nodes: npt.NDArray[np.bool_]) -> int:
    """Different words of the ends of some nodes' rows: two each, of which neighbours share one."""
    return int((nodes | np.append(False, nodes[:-1])).sum() + nodes[-1:].sum())


def piece_counts(degrees: U32) -> npt.NDArray[np.int64]:
    """Entries of a queue for rows of so many arcs."""
    rows = degrees.astype(np.int64)
    return -(-rows // np.maximum(PIECE_ARCS, -(-rows // PIECES_MAX)))


def depths_of(parents: U32, visited: npt.NDArray[np.bool_], root: int) -> U32 | None:
    """Steps from each visited node up to the root; None where one does not get there.

    Pointer jumping: Wyllie, "The Complexity of Parallel Computations", 1979.
    """
    nodes = len(parents)
    above = np.where(visited, parents, root).astype(np.int64)
    above[root] = root
    if (above >= nodes).any() or not visited[above].all():
        return None
    depths = np.where(visited, 1, 0)
    depths[root] = 0
    for _ in range(nodes.bit_length() + 1):
        if (above == root).all():
            return depths.astype(np.uint32)
        depths += depths[above]
        above = above[above]
    return None


class Path(OpSide):
    """A shortest path between two nodes, searched from both ends; it comes back whole."""

    def __init__(self, lane: Lane) -> None:
        super().__init__(lane)
        self.found: dict[str, int] = {}
        self.head = lane.device.pinned(
            min(PATH_HEAD + _PATH_NODES, lane.scratch.path.count), np.uint32
        )
        self.path: list[int] | None = None

    def run(self, key: int) -> int:
        """Finds the path that a request asks for; units are queries."""
        self._search(key, None)
        return 1

    def _search(self, key: int, ends: U32 | None) -> None:
        lane, tables, scratch = self.lane, self.lane.tables, self.lane.scratch
        stream, given = lane.stream, ends is not None
        if ends is not None:
            stream.upload(scratch.given.part(0, 2), ends)
        stream.fill(scratch.marks, 0)
        sizes = (np.uint32(tables.nodes), np.uint32(tables.connected))
        last = np.uint32(scratch.queue.count - 1)
        here, there = scratch.states
        arguments: list[Argument] = [
            *(tables.inner, tables.offsets, *sizes, *lane.drawn(key)),
            *(scratch.given, np.uint32(given), here, scratch.tally, scratch.marks),
            *(scratch.queue, last),
        ]
        lane.launch("_paths", "path_start", 32, arguments, block=32)
        for _ in range(0, 2 * tables.nodes + LEVELS_PER_LOOK, LEVELS_PER_LOOK):
            for level in range(LEVELS_PER_LOOK):
                states = (here, there) if level % 2 == 0 else (there, here)
                arguments = [
                    *(tables.offsets, tables.neighbours, *states, scratch.tally),
                    *(scratch.marks, scratch.queue, last, scratch.parents),
                ]
                lane.launch("_paths", "path_level", tables.connected, arguments)
            walk = (tables.outer, here, scratch.parents, scratch.path)
            lane.launch("_paths", "path_walk", 32, walk, block=32)
            stream.download(self.head, scratch.path.part(0, len(self.head)))
            stream.download(scratch.state, here)
            stream.synchronize()
            if self.head[0]:
                self._take()
                return
        raise AssertionError("a search has no more levels than nodes")

    def _take(self) -> None:
        """The path that came back; of a long one the rest is fetched."""
        self.found = self.lane.scratch.named(MEETING)
        length = int(self.head[1])
        nodes = self.head[PATH_HEAD:]
        if length > len(nodes):
            nodes = np.empty(length, np.uint32)
            self.lane.stream.download(nodes, self.lane.scratch.path.part(PATH_HEAD, length))
            self.lane.stream.synchronize()
        self.path = nodes[:length].tolist() if length else None

    def evaluate(self, inputs: Arrays) -> Arrays:
        """`lengths` in edges of the paths between `sources` and `targets`."""
        lengths = []
        for ends in zip(inputs["sources"], inputs["targets"], strict=True):
            self._search(0, np.array(ends, np.uint32))
            lengths.append(_NONE if self.path is None else len(self.path) - 1)
        return {"lengths": np.array(lengths, np.uint32)}

    def verify(self, key: int) -> tuple[int, int]:
        """It leads from one end asked for to the other over edges that exist, in as many steps as
        both sides went; the length of some is held against the native search."""
        asked = self.lane.requested(key)
        ends = (int(asked["sources"][0]), int(asked["targets"][0]))
        is_right = self._is_way(ends)
        if self.next_is_full(self.lane.full_one_in) and is_right:
            pair = {name: asked[name][:1] for name in ("sources", "targets")}
            length = int(self.lane.native.evaluate("path_finding", pair)["lengths"][0])
            is_right = length == (_NONE if self.path is None else len(self.path) - 1)
        return 1, int(not is_right)

    def _is_way(self, ends: tuple[int, int]) -> bool:
        path, found = self.path, self.found
        if ends[0] == ends[1]:
            return path == [ends[0]]
        if path is None:
            return 0 in (found["there_arcs"], found["back_arcs"])
        steps = found["there_hops"] + found["back_hops"] + 1
        if len(path) != steps + 1 or (path[0], path[-1]) != ends:
            return False
        nodes = np.array(path, np.uint32)
        return self.lane.have_edges(nodes[:-1], nodes[1:])

    def damage(self, fault: str, draw: int) -> bool:
        """A bit of an end; a node left out, or a short path said not to exist; a node twice."""
        path = self.path
        if path is None or len(path) < 2:
            return False
        if fault == "flipped_bit":
            path[-(draw & 1)] ^= 1 << (draw >> 1 & 31)
        elif fault == "doubled_result":
            path.insert(1, path[0])
        elif len(path) == 2:
            self.path = None
        else:
            del path[1]
        return True

    def cost(self) -> Cost:
        """Rows, their ends, the queue, parents and marks, by what the launches counted."""
        found, scratch, nodes = self.found, self.lane.scratch, self.lane.tables.nodes
        marks = np.empty(scratch.marks.count, np.uint32)
        self.lane.stream.download(marks, scratch.marks)
        self.lane.stream.synchronize()
        pairs = marks[:, np.newaxis] >> np.arange(0, 32, 2, dtype=np.uint32) & 3
        marked = int((marks != 0).sum())
        ends = ends_of(pairs.reshape(-1)[:nodes] != 0)
        read = 4 * (found["looked_at"] + ends + marked) + 12 * found["taken"]
        queued = sum(found[f"{side}_{what}"] for side in _SIDES for what in ("first", "entries"))
        written = 4 * (found["nodes"] + queued + marked)
        levels = found["there_hops"] + found["back_hops"] + (found["met"] != _NOT_MET)
        looks = max(1, -(-levels // LEVELS_PER_LOOK))
        fixed = 8 * len(MEETING) * LEVELS_PER_LOOK * looks + 8 * 6 * levels
        # The start draws both ends; the walk reads the state and two words of each node.
        read += fixed + _START_BYTES[0] + looks * 48 + 8 * len(self.path or ())
        written += fixed + _START_BYTES[1] + looks * 16 + 4 * len(self.path or ())
        return Cost(bytes_read=read, bytes_written=written)
