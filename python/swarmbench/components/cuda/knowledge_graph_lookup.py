"""Node lookups on a device: a window of the pool of keys, four lanes to a key."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from swarmbench.components.base import Arrays
from swarmbench.components.cuda.base import Cost
from swarmbench.components.cuda.knowledge_graph_tables import Lane, OpSide
from swarmbench.gpu.device import Argument, Buffer

#: One batch in so many is checked key by key, of the others one key in so many.
_FULL_ONE_IN, _KEYS_ONE_IN = 8, 64
_NONE = 0xFFFFFFFF


class Lookup(OpSide):
    """Batches of lookups; the answer is a node and a digest per key."""

    def __init__(self, lane: Lane, batch: int) -> None:
        super().__init__(lane)
        self.batch, self.key = batch, 0
        device = lane.device
        self.given = device.empty(batch, np.uint64)
        self.device_nodes = device.empty(batch, np.uint32)
        self.device_digests = device.empty(batch, np.uint64)
        self.nodes = device.pinned(batch, np.uint32)
        self.digests = device.pinned(batch, np.uint64)
        tables = lane.tables
        asked: list[Argument] = [tables.pool, np.uint32(0), np.uint32(0), *lane.drawn(0)]
        slots: list[Argument] = [
            tables.slots,
            np.uint32(tables.slot_count),
            np.uint32(tables.shift),
        ]
        asked += [*slots, tables.records, self.device_nodes, self.device_digests]
        self.step = lane.step("", "node_lookup", asked, grid=1)

    @classmethod
    def bytes(cls, batch: int) -> int:
        """Device memory of one lane's batch."""
        return 20 * batch

    @classmethod
    def host_bytes(cls, batch: int) -> int:
        """Pinned memory of its answer."""
        return 12 * batch

    def run(self, key: int) -> int:
        """Looks a window of the pool up; units are keys."""
        tables = self.lane.tables
        self._find(tables.pool, self.batch, tables.pool.count // 2, key)
        self.key = key
        return self.batch

    def _find(self, keys: Buffer, count: int, half: int, key: int) -> None:
        lane = self.lane
        step = self.step
        step.grid = -(-4 * count // step.block)
        step.arguments[:6] = [keys, np.uint32(count), np.uint32(half), *lane.drawn(key)]
        lane.launch(step)
        lane.stream.download(self.nodes, self.device_nodes)
        lane.stream.download(self.digests, self.device_digests)
        lane.stream.synchronize()

    def evaluate(self, inputs: Arrays) -> Arrays:
        """`nodes` and `digests` of `keys`."""
        keys = inputs["keys"]
        found: list[npt.NDArray[np.uint32]] = []
        digests: list[npt.NDArray[np.uint64]] = []
        for first in range(0, len(keys), self.batch):
            part = keys[first : first + self.batch]
            self.lane.stream.upload(self.given.part(0, len(part)), np.ascontiguousarray(part))
            self._find(self.given, len(part), 0, 0)
            found.append(self.nodes[: len(part)].copy())
            digests.append(self.digests[: len(part)].copy())
        return {"nodes": np.concatenate(found), "digests": np.concatenate(digests)}

    def verify(self, key: int) -> tuple[int, int]:
        """Held against the native table: all keys of some batches, a few of the others."""
        is_full = self.next_is_full(_FULL_ONE_IN)
        keys = self._keys(key)
        places = slice(None) if is_full else slice(None, None, _KEYS_ONE_IN)
        right = self.lane.native.evaluate("node_lookup", {"keys": keys[places].copy()})
        is_right = np.array_equal(right["nodes"], self.nodes[places]) and np.array_equal(
            right["digests"], self.digests[places]
        )
        return int(is_full or not is_right), int(not is_right)

    def _keys(self, key: int) -> npt.NDArray[np.uint64]:
        asked = {"key": np.array([key], np.uint64)}
        return self.lane.native.evaluate("requested_keys", asked)["keys"]

    def damage(self, fault: str, draw: int) -> bool:
        """A bit of a node or a digest; a hit said to be a miss; an answer given twice."""
        place = draw % self.batch
        if fault == "flipped_bit":
            if draw >> 32 & 1:
                self.nodes[place] ^= np.uint32(1 << (draw >> 33 & 31))
            else:
                self.digests[place] ^= np.uint64(1 << (draw >> 33 & 63))
            return True
        if fault == "lost_result":
            hits = np.flatnonzero(self.nodes != _NONE)
            if len(hits) == 0:
                return False
            self.nodes[hits[0]], self.digests[hits[0]] = _NONE, 0
            return True
        other = (place + 1) % self.batch
        if self.nodes[other] == self.nodes[place]:
            return False
        self.nodes[other], self.digests[other] = self.nodes[place], self.digests[place]
        return True

    def cost(self) -> Cost:
        """Keys, the windows of slots probed and the records read; nodes and digests. Every thread
        draws the window by itself."""
        slots, records = self._probed()
        return Cost(
            bytes_read=8 * self.batch + 4 * slots + 64 * records,
            bytes_written=12 * self.batch,
            random_draws=self.step.grid * self.step.block,
        )

    def _probed(self) -> tuple[int, int]:
        """Different slots and records that the keys of the last batch led to."""
        tables, mask = self.lane.tables, self.lane.tables.slot_count - 1
        slots = np.empty(tables.slot_count, np.uint32)
        self.lane.stream.download(slots, tables.slots)
        self.lane.stream.synchronize()
        hashes = self._keys(self.key) * np.uint64(0x9E3779B97F4A7C15)
        tags = (hashes >> np.uint64(tables.shift - 8)).astype(np.uint32) & np.uint32(0xFF)
        places, nodes = (hashes >> np.uint64(tables.shift)).astype(np.int64), self.nodes
        is_read, records = np.zeros(tables.slot_count, bool), set()
        for place, tag, node in zip(places, tags, nodes, strict=True):
            for _ in range(tables.slot_count):
                window = (place + np.arange(4)) & mask
                is_read[window] = True
                entries = slots[window]
                ends = np.flatnonzero(entries == _NONE)
                end = ends[0] if len(ends) else 4
                fitting = np.flatnonzero(entries[:end] >> 24 == tag)
                if len(fitting) == 0 and len(ends):
                    break
                place += fitting[0] + 1 if len(fitting) else 4
                if len(fitting) == 0:
                    continue
                seen = int(entries[fitting[0]]) & 0xFFFFFF
                records.add(seen)
                if seen == node:
                    break
        return int(is_read.sum()), len(records)
