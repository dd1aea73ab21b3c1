"""The synthesis component on a device: a lane's five operations over requests that all share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from swarmbench.components.base import Arrays, Component
from swarmbench.components.cuda.base import Cost, CudaComponent, CudaOperation, Done
from swarmbench.components.cuda.synthesis_cost import cost_of
from swarmbench.components.cuda.synthesis_given import Given
from swarmbench.components.cuda.synthesis_launches import (
    ANSWER,
    NO_PROBLEM,
    PROBLEM,
    REWRITES,
    TOTAL,
    Launcher,
    Shape,
    Steps,
)
from swarmbench.components.cuda.synthesis_requests import (
    Answer,
    Requests,
    expansion_room,
    lane_layout,
    made_room,
    nbytes,
    pairs_room,
    tables_layout,
)
from swarmbench.components.synthesis import Synthesis
from swarmbench.gpu.device import Buffer

#: The bit that a planted fault flips.
_FLIPPED = np.uint32(1 << 7)
#: Words of the answer that come back; of the other op types it is the total.
_ANSWER_WORDS = {"expand": PROBLEM + 1, "transform": REWRITES + 1}


class CudaSynthesis(CudaComponent):
    """The pool of requests on a device."""

    name = Synthesis.name
    repeatable = frozenset(op.name for op in Synthesis.ops)
    told_by_check = repeatable

    def build(self) -> None:
        component = self.component
        assert isinstance(component, Synthesis)
        self.requests = Requests(component, self.native, self.device, self.seed, self.progress)

    def operation(self) -> SynthesisOperation:
        return SynthesisOperation(self.requests)

    @classmethod
    def device_bytes(cls, component: Component, lanes: int) -> int:
        assert isinstance(component, Synthesis)
        return nbytes(tables_layout(component)) + lanes * nbytes(lane_layout(component))

    @classmethod
    def host_bytes(cls, component: Component, lanes: int) -> int:
        assert isinstance(component, Synthesis)
        layout = lane_layout(component)
        return lanes * nbytes({name: layout[name] for name in ("answer", "digests")})

    def describe(self) -> dict[str, Any]:
        used = self.requests.used
        return {
            "program_words": {name: used[name] for name in ("patterns", "rules", "bytes")},
            "tile_nodes": self.requests.tile_capacity,
        }


class SynthesisOperation(CudaOperation):
    """A lane: its answers stay on the device; what comes back is how much they are.

    An answer is checked in full, by the digest of every word of it.
    """

    def __init__(self, requests: Requests, shape: Shape | None = None) -> None:
        super().__init__(requests.device)
        self.requests, self.shape = requests, shape or Shape()
        layout = lane_layout(requests.component)
        self.buffers = {name: self.device.empty(*each) for name, each in layout.items()}
        starts, answer = self.buffers["starts"], self.buffers["answer"]
        self.launcher = Launcher(self.device, starts, answer, self.shape)
        self._answer = self.device.pinned(answer.count, np.uint64)
        self._digests = self.device.pinned(self.buffers["digests"].count, np.uint64)
        self.stream.upload(answer, ANSWER)
        self.stream.synchronize()
        #: Op, request and answer of the last operation that succeeded.
        self.last: tuple[str, int, Answer] | None = None

    def run(self, op: str, key: int) -> Done:
        index = self.requests.component.index_of(key)
        steps, room, units = self._planned(op, index)
        if op == "expand":
            self.stream.fill(self.buffers["answer"].part(PROBLEM, 1), 0xFF)
        elif op == "transform":
            self.stream.fill(self.buffers["answer"].part(REWRITES, 1), 0)
        steps.enqueue(self.stream, steps.count)
        steps.enqueue(self.stream, steps.write)
        # Words that others leave are not brought back: they are no part of this answer.
        words = _ANSWER_WORDS.get(op, TOTAL + 1)
        self.stream.download(self._answer[:words], self.buffers["answer"].part(0, words))
        self.stream.synchronize()
        total, rewrites = int(self._answer[TOTAL]), int(self._answer[REWRITES])
        self.last = None
        if total > room or (op == "expand" and int(self._answer[PROBLEM]) != NO_PROBLEM):
            return Done(0, "error")
        is_shared = op in ("template_compare", "byte_match")
        rewrites = rewrites if op == "transform" else 0
        self.last = op, 0 if is_shared else index, Answer(total, rewrites)
        return Done(units)

    def _planned(self, op: str, index: int) -> tuple[Steps, int, int]:
        """The launches of an operation, the room for its answer and its units of work."""
        requests, own = self.requests, self.buffers
        component, launcher = requests.component, self.launcher
        room = pairs_room(component)
        if op == "match":
            nodes = requests.nodes(index)
            return launcher.match(nodes, own["kept"], own["pairs"], room), room, component.nodes
        if op == "template_compare":
            steps = launcher.compare(requests.linearised(), own["found"], own["pairs"], room)
            return steps, room, component.trees * component.tree_templates
        if op == "byte_match":
            steps = launcher.match_bytes(requests.text(), own["kept"], own["pairs"], room)
            return steps, room, component.text_bytes
        if op == "expand":
            room = expansion_room(component)
            instances = requests.instances(index)
            steps = launcher.expand(instances, own["written"], own["offsets"], room)
            return steps, room, component.nodes
        room = made_room(component)
        trees = requests.trees(index)
        steps = launcher.transform(trees, own["fates"], own["made"], own["made_roots"], room)
        return steps, room, component.nodes

    def _parts(self, op: str, total: int) -> list[tuple[Buffer, int]]:
        """The buffers that an answer lies in, and its bytes in each."""
        own = self.buffers
        if op == "expand":
            return [(own["written"], total), (own["offsets"], own["offsets"].nbytes)]
        if op == "transform":
            return [(own["made"], 16 * total), (own["made_roots"], own["made_roots"].nbytes)]
        return [(own["pairs"], 8 * total)]

    def verify(self) -> tuple[int, int]:
        if self.last is None:
            return 0, 0
        op, index, answer = self.last
        self.last = None
        parts, sums = self._parts(op, answer.total), self.buffers["digests"]
        for number, (buffer, length) in enumerate(parts):
            self.launcher.digest(self.stream, buffer, length, sums.part(number, 1))
        self.stream.download(self._digests[: len(parts)], sums.part(0, len(parts)))
        self.stream.synchronize()
        found = replace(answer, digests=tuple(self._digests[: len(parts)].tolist()))
        return 1, int(found != self.requests.expected[op, index])

    def plant(self, fault: str) -> bool:
        if self.last is None or self.last[2].total == 0:
            return False
        op, index, answer = self.last
        buffer, length = self._parts(op, answer.total)[0]
        if fault == "flipped_bit":
            self._flip(buffer, length)
            return True
        size = self._last_bytes(op, answer.total)
        each = size if op == "expand" else 1
        more = each if fault == "doubled_result" else -each
        if size == 0 or length + size > buffer.nbytes:
            return False
        if fault == "doubled_result":
            width = buffer.dtype.itemsize
            start, count = length // width, size // width
            self.stream.copy(buffer.part(start, count), buffer.part(start - count, count))
            self.stream.synchronize()
        self.last = op, index, replace(answer, total=answer.total + more)
        return True

    def _flip(self, buffer: Buffer, length: int) -> None:
        """Flips a bit in the middle of an answer."""
        damaged = np.zeros(1, buffer.dtype)
        place = buffer.part(length // buffer.dtype.itemsize // 2, 1)
        self.stream.download(damaged, place)
        self.stream.synchronize()
        damaged ^= _FLIPPED.astype(buffer.dtype)
        self.stream.upload(place, damaged)
        self.stream.synchronize()

    def _last_bytes(self, op: str, total: int) -> int:
        """Bytes of the last result: an instance's text, a node, a pair."""
        if op != "expand":
            return 16 if op == "transform" else 8
        starts = self.buffers["offsets"]
        last = np.zeros(1, np.uint32)
        self.stream.download(last, starts.part(starts.count - 2, 1))
        self.stream.synchronize()
        return total - int(last[0])

    def evaluate(self, op: str, inputs: Arrays) -> Arrays:
        return Given(self.requests, self.shape).answer(op, inputs)

    def cost(self, op: str) -> Cost:
        assert self.last is not None, "there was no operation"
        last, index, _ = self.last
        assert last == op, f"the last operation was no {op}"
        return cost_of(self.requests, index, op, self._planned(op, index)[0].grid)
