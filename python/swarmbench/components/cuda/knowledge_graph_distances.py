"""Distances of 64 pairs of nodes at once on a device."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from swarmbench.components.base import Arrays
from swarmbench.components.cuda.base import Cost
from swarmbench.components.cuda.knowledge_graph_tables import (
    BATCH,
    LEVELS_PER_LOOK,
    OVER,
    Lane,
    OpSide,
    distinct,
    draws_of_pair,
)
from swarmbench.gpu.device import Argument

U32 = npt.NDArray[np.uint32]

_LANES = 64
_NONE = 0xFFFFFFFF


class Distances(OpSide):
    """Distances of 64 pairs, 64 searches in the bits of a word; all of them come back."""

    #: Pinned memory of one lane.
    HOST_BYTES = 4 * 5 * _LANES

    def __init__(self, lane: Lane) -> None:
        super().__init__(lane)
        self.found: dict[str, int] = {}
        self.ends = lane.device.pinned(5 * _LANES, np.uint32)
        tables, scratch = lane.tables, lane.scratch
        sizes = [np.uint32(tables.nodes), np.uint32(tables.connected)]
        seen, *frontiers = scratch.lanes
        start: list[Argument] = [tables.inner, tables.outer, tables.offsets, *sizes]
        start += [*lane.drawn(0), scratch.given, np.uint32(0), np.uint32(0)]
        start += [scratch.states[0], scratch.tally, scratch.ends, seen, frontiers[0]]
        self.start = lane.step("_batch", "batch_start", start, grid=1, block=1024)
        pieces: list[Argument] = [
            tables.pieces,
            np.uint32(tables.piece_total),
            np.uint32(tables.hubs),
        ]
        rows = [tables.offsets, tables.neighbours, *pieces, sizes[1]]
        threads = tables.connected + 32 * tables.piece_total
        self.levels = []
        for turn in (1, -1):
            now, after = scratch.states[::turn]
            frontier, room = frontiers[::turn]
            spread: list[Argument] = [*rows, now, scratch.tally, seen, frontier, room]
            settle: list[Argument] = [tables.offsets, *sizes, now, after, scratch.tally]
            settle += [scratch.ends, seen, frontier, room]
            self.levels += [
                lane.step("_batch", "batch_spread", spread, threads=threads),
                lane.step("_batch", "batch_settle", settle, threads=tables.connected),
            ]

    @property
    def distances(self) -> U32:
        """The distance of each pair, `_NONE` where there is no path."""
        return self.ends[4 * _LANES :]

    def run(self, key: int) -> int:
        """Finds the distances of a request's pairs; units are queries."""
        self._search(key, None, _LANES)
        return _LANES

    def _search(self, key: int, ends: U32 | None, count: int) -> None:
        lane, tables, scratch = self.lane, self.lane.tables, self.lane.scratch
        stream, given = lane.stream, ends is not None
        if ends is not None:
            stream.upload(scratch.given, ends)
        for words in scratch.lanes:
            stream.fill(words.part(0, tables.connected), 0)
        self.start.arguments[5:8] = lane.drawn(key)
        self.start.arguments[9:11] = [np.uint32(given), np.uint32(count)]
        lane.launch(self.start)
        for _ in range(0, tables.nodes + LEVELS_PER_LOOK, LEVELS_PER_LOOK):
            for step in self.levels * (LEVELS_PER_LOOK // 2):
                lane.launch(step)
            stream.download(scratch.state, scratch.states[0])
            stream.download(self.ends, scratch.ends)
            stream.synchronize()
            self.found = scratch.named(BATCH)
            if self.found["mode"] == OVER:
                return
        raise AssertionError("a search has no more levels than nodes")

    def evaluate(self, inputs: Arrays) -> Arrays:
        """`lengths` in edges of the paths between `sources` and `targets`."""
        lengths = []
        for first in range(0, len(inputs["sources"]), _LANES):
            ends = np.zeros(2 * _LANES, np.uint32)
            sources, targets = (
                inputs[name][first : first + _LANES] for name in ("sources", "targets")
            )
            ends[: len(sources)], ends[_LANES : _LANES + len(targets)] = sources, targets
            self._search(0, ends, len(sources))
            lengths.append(self.distances[: len(sources)].copy())
        return {"lengths": np.concatenate(lengths)}

    def verify(self, key: int) -> tuple[int, int]:
        """The pairs are those asked for; distances of 0 and 1 are those of equal and of adjacent
        nodes; in full, all distances are those of the native search from both ends."""
        asked = self.lane.requested(key)
        is_full = self.next_is_full(self.lane.full_one_in)
        pairs = (self.ends[2 * _LANES : 3 * _LANES], self.ends[3 * _LANES : 4 * _LANES])
        is_right = np.array_equal(asked["sources"], pairs[0]) and np.array_equal(
            asked["targets"], pairs[1]
        )
        if is_full:
            right = self.lane.native.evaluate("path_finding", asked)["lengths"]
            wrong = int((right != self.distances).sum())
        else:
            adjacent = self.lane.native.evaluate("edges", asked)["edges"] == 1
            wrong = int(((self.distances == 1) != adjacent).sum())
            wrong += int(((self.distances == 0) != (asked["sources"] == asked["targets"])).sum())
        is_right = is_right and wrong == 0
        return int(is_full or not is_right), int(not is_right)

    def damage(self, fault: str, draw: int) -> bool:
        """A bit of a distance; a path said not to exist; a distance given to the next pair."""
        distances = self.distances
        if fault == "flipped_bit":
            distances[draw % _LANES] ^= np.uint32(1 << (draw >> 32 & 31))
            return True
        if fault == "lost_result":
            places = np.flatnonzero(distances != _NONE)
            if len(places) == 0:
                return False
            distances[places[0]] = _NONE
            return True
        places = np.flatnonzero(distances[1:] != distances[:-1])
        if len(places) == 0:
            return False
        distances[places[0] + 1] = distances[places[0]]
        return True

    def cost(self) -> Cost:
        """Rows, their ends and the lanes of nodes, by what the launches counted."""
        found, connected = self.found, self.lane.tables.connected
        levels, passes = found["distance"], found["passes"]
        # Every level reads all words of seen, of the lanes that were spread and of the room.
        read = 32.0 * connected * levels + 4 * (found["pushed"] + found["pulled"])
        read += 8 * found["pushing"]
        if found["pulling"]:
            alike = found["pulling"] ** 2 / found["pulling_squares"]  # passes as large as most are
            read += 8 * alike * distinct(found["pulled"] / alike, connected)
        if levels > passes:
            read += 8 * found["reached"] // levels * (levels - passes)
        # Of the two ends of a random row neighbours share one.
        for name in ("pulling", "fresh"):
            read += 4 * (2 * found[name] - found[f"{name}_squares"] / connected)
        cleared = found["fresh"] - found["last_fresh"]
        written = 8 * (found["reached"] + found["mended"] + found["fresh"] + cleared)
        looks = -(-levels // LEVELS_PER_LOOK)
        fixed = 8 * len(BATCH) * LEVELS_PER_LOOK * looks + 8 * 7 * levels
        # The start draws 64 ends twice, each from the first half of its draws.
        start = (4 * 64 * _LANES * 3 // 4, 5 * 4 * _LANES + 16 * _LANES)
        return Cost(
            bytes_read=int(read) + fixed + start[0],
            bytes_written=int(written) + fixed + start[1],
            random_draws=round(_LANES * draws_of_pair(self.lane.tables)),
        )
