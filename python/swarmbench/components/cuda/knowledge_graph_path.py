"""The shortest path between two nodes on a device, searched from both ends."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from swarmbench.components.base import Arrays
from swarmbench.components.cuda.base import Cost
from swarmbench.components.cuda.knowledge_graph_tables import (
    LEVELS_PER_LOOK,
    MEETING,
    PATH_HEAD,
    START_BYTES,
    Lane,
    OpSide,
    draws_of_pair,
)
from swarmbench.components.cuda.knowledge_graph_tree import depths_of, ends_of, words_with
from swarmbench.gpu.device import Argument

U32 = npt.NDArray[np.uint32]

_NONE = 0xFFFFFFFF
_NOT_MET = (1 << 64) - 1
_SIDES = ("there", "back")
#: Nodes of a path that come back with its length.
_PATH_NODES = 1020


def _head_words(nodes: int) -> int:
    return PATH_HEAD + min(_PATH_NODES, nodes)


class Path(OpSide):
    """A shortest path between two nodes, searched from both ends; it comes back whole."""

    def __init__(self, lane: Lane) -> None:
        super().__init__(lane)
        self.found: dict[str, int] = {}
        self.head = lane.device.pinned(_head_words(lane.tables.nodes), np.uint32)
        self.path: list[int] | None = None
        tables, scratch = lane.tables, lane.scratch
        sizes = [np.uint32(tables.nodes), np.uint32(tables.connected)]
        here, last = scratch.states[0], np.uint32(scratch.queue.count - 1)
        start: list[Argument] = [tables.inner, tables.offsets, *sizes, *lane.drawn(0)]
        start += [scratch.given, np.uint32(0), here, scratch.tally, scratch.marks]
        self.start = lane.step(
            "_paths", "path_start", [*start, scratch.queue, last], grid=1, block=32
        )
        graph = [tables.offsets, tables.neighbours]
        rest: list[Argument] = [scratch.tally, scratch.marks, scratch.queue, last, scratch.parents]
        self.levels = [
            lane.step("_paths", "path_level", [*graph, *states, *rest], threads=tables.connected)
            for states in (scratch.states, scratch.states[::-1])
        ]
        walk = [tables.outer, here, scratch.parents, scratch.path]
        self.walk = lane.step("_paths", "path_walk", walk, grid=1, block=32)

    @classmethod
    def host_bytes(cls, nodes: int) -> int:
        """Pinned memory of one lane."""
        return 4 * _head_words(nodes)

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
        self.start.arguments[4:9] = [*lane.drawn(key), scratch.given, np.uint32(given)]
        lane.launch(self.start)
        for _ in range(0, 2 * tables.nodes + LEVELS_PER_LOOK, LEVELS_PER_LOOK):
            for level in range(LEVELS_PER_LOOK):
                lane.launch(self.levels[level % 2])
            lane.launch(self.walk)
            stream.download(self.head, scratch.path.part(0, len(self.head)))
            stream.download(scratch.state, scratch.states[0])
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
        marks, parents = np.empty(scratch.marks.count, np.uint32), np.empty(nodes, np.uint32)
        self.lane.stream.download(marks, scratch.marks)
        self.lane.stream.download(parents, scratch.parents)
        self.lane.stream.synchronize()
        shifts = np.arange(0, 32, 2, dtype=np.uint32)
        sides = (marks[:, np.newaxis] >> shifts & 3).reshape(-1)[:nodes]
        depths = depths_of(parents, sides != 0, found["start"], found["end"])
        assert depths is not None, "the last search was damaged"
        read, marked = 4 * (found["looked_at"] + ends_of(sides != 0)) + 12 * found["taken"], 0
        for side in (1, 2):
            levels = np.where(sides & side, depths, nodes)
            for level in range(1, int(levels[levels < nodes].max(initial=0)) + 1):
                marked += words_with(levels == level, 16)
                read += 4 * words_with((level - 2 <= levels) & (levels <= level), 16)
        queued = sum(found[f"{side}_{what}"] for side in _SIDES for what in ("first", "entries"))
        written = 4 * (found["nodes"] + queued + marked)
        went = found["there_hops"] + found["back_hops"] + (found["met"] != _NOT_MET)
        looks = max(1, -(-went // LEVELS_PER_LOOK))
        fixed = 8 * len(MEETING) * LEVELS_PER_LOOK * looks + 8 * 6 * went
        # The start draws both ends; the walk reads the state and two words of each node.
        read += fixed + START_BYTES[0] + looks * 48 + 8 * len(self.path or ())
        written += fixed + START_BYTES[1] + looks * 16 + 4 * len(self.path or ())
        draws = round(draws_of_pair(self.lane.tables))
        return Cost(bytes_read=read, bytes_written=written, random_draws=draws)
