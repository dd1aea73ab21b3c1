"""Agents on a device: swarms that all lanes share, turned over and stepped by Numba kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt

from swarmbench import _native
from swarmbench.components import populations
from swarmbench.components.agents import Agents
from swarmbench.components.base import Arrays, Component, same_arrays
from swarmbench.components.cuda import agents_cost
from swarmbench.components.cuda.base import Cost, CudaComponent, CudaOperation, Done
from swarmbench.components.cuda.swarms import (
    FIELDS,
    LONGS,
    HostSwarm,
    Longs,
    Swarms,
    adds_up,
    digest,
    words_of,
)
from swarmbench.components.philox import stream_key
from swarmbench.components.prepared import Progress
from swarmbench.errors import MachineError
from swarmbench.gpu.device import Buffer, Device
from swarmbench.gpu.turns import Turns

#: Keys of the first agents, apart from those of operations; the CPU's backend has the same.
_FIRST_KEYS = (1 << 64) - 1 - (1 << 16)
#: Threads of a block on a card, and in Numba's simulator, where each costs as much as its work.
_BLOCK, _BLOCK_EMULATED = 256, 16
#: Blocks to a multiprocessor of a full grid.
_BLOCKS_EACH = 8
#: Most columns of the cell list, so that shared memory holds it: beyond, its cells are wider.
_COLUMN_BITS_MAX = 6
#: What an answer begins with (count, mixed ids, born, ended, places looked at); then come ids.
_HEADER = 8
#: Ops whose answer is ids.
_TURNOVER = ("spawn", "destroy", "destroy_oldest")


@dataclass(frozen=True, slots=True)
class Launch:
    """Blocks of a launch over all swarms, and the threads of a block."""

    grid: int
    block: int


class CudaAgents(CudaComponent):
    """The swarms, at which lanes take turns.

    Processes are the host's: `process` is handed to the CPU's backend.
    """

    name: ClassVar[str] = "agents"

    def __init__(
        self,
        component: Component,
        native: _native.Component,
        device: Device,
        seed: int,
        progress: Progress | None = None,
        *,
        launch: Launch | None = None,
    ) -> None:
        super().__init__(component, native, device, seed, progress)
        self.agents = cast(Agents, component)
        self.slots = self.agents.slots
        self.launch = launch or self._usual_launch()
        if max(self.step_bytes, self.turnover_bytes) > device.shared_bytes_max:
            raise MachineError(
                f"swarms of {self.slots} slots do not fit the device's shared memory",
                hint="raise `agents.swarms`",
            )
        self.turns, self.processes = Turns(), Turns(self.agents.processes_max)
        files = dict.fromkeys(("populate", *_TURNOVER), "births.py") | dict.fromkeys(
            ("step", "tick"), "agents.py"
        )
        self.kernels = {op: device.kernel(file, f"agents_{op}") for op, file in files.items()}
        low, high = stream_key(seed, populations.DOMAIN_BIRTHS)
        self.stream_key = np.uint64(low | high << 32)
        self.shift = np.uint32(32 - self.agents.shape(seed).coordinate_bits)
        self.swarms = Swarms.on(device, self.agents.swarms, self.slots)
        self._populate()

    @property
    def cell_list(self) -> tuple[int, int]:
        """Bits of a column's number, and of a coordinate within a cell."""
        bits = self.agents.shape(0).coordinate_bits
        columns = min(bits - populations.CELL_BITS, _COLUMN_BITS_MAX)
        return columns, bits - columns

    @property
    def step_bytes(self) -> int:
        """Shared memory of a `step`: heads of chains, places, velocities and links."""
        return 4 * (1 << 2 * self.cell_list[0]) + 10 * self.slots

    @property
    def tick_bytes(self) -> int:
        """Shared memory of a `tick`: the live slots, and counts below each word of bits."""
        return 4 * (words_of(self.slots) + self.slots)

    @property
    def turnover_bytes(self) -> int:
        """Shared memory of births and ends: bits, flags, and two numbers for each slot."""
        return 4 * (6 * words_of(self.slots) + 32 + 2 * self.slots)

    def operation(self) -> CudaOperation:
        return AgentsLane(self)

    @classmethod
    def device_bytes(cls, component: Component, lanes: int) -> int:
        agents = cast(Agents, component)
        swarm = Swarms.nbytes(agents.slots)
        answers = 8 * (_HEADER + agents.batch)
        return (agents.swarms * swarm + 8 * _HEADER) + lanes * (2 * swarm + answers)

    @classmethod
    def host_bytes(cls, component: Component, lanes: int) -> int:
        agents = cast(Agents, component)
        return lanes * (2 * Swarms.nbytes(agents.slots) + 8 * (_HEADER + agents.batch))

    def describe(self) -> dict[str, Any]:
        columns, cell_bits = self.cell_list
        return {
            "slot_bytes": 4 * len(FIELDS) + 8 * len(LONGS),
            "columns": 1 << columns,
            "cell_bits": cell_bits,
            "grid": self.launch.grid,
            "block": self.launch.block,
            "process": "on the host",
        }

    def _usual_launch(self) -> Launch:
        if self.device.is_emulated:
            return Launch(min(2, self.agents.swarms), _BLOCK_EMULATED)
        full = self.device.multiprocessors * _BLOCKS_EACH
        return Launch(min(full, self.agents.swarms), min(_BLOCK, -(-self.slots // 32) * 32))

    def _populate(self) -> None:
        stream = self.device.stream()
        answer = self.device.empty(_HEADER, np.uint64)
        stream.launch(
            self.kernels["populate"],
            self.launch.grid,
            self.launch.block,
            [
                *self.swarms.buffers,
                answer,
                np.uint32(self.agents.swarms),
                np.uint32(self.slots),
                self.shift,
                self.stream_key,
                np.uint64(_FIRST_KEYS),
                np.uint32(self.agents.shape(self.seed).target),
            ],
            shared_bytes=self.turnover_bytes,
        )
        stream.synchronize()
        self.progress("agents", 1.0)


@dataclass(slots=True)
class _Last:
    """The last operation: its swarm, and whether that was kept before and after."""

    op: str
    key: int
    swarm: int
    is_kept: bool
    header: Longs
    ids: Longs
    #: A kept swarm before and after, once they were fetched.
    kept: tuple[HostSwarm, HostSwarm] | None = None
    report: Longs | None = None


class AgentsLane(CudaOperation):
    """One lane: its answers, and room for a swarm before and after an operation."""

    def __init__(self, shared: CudaAgents) -> None:
        super().__init__(shared.device)
        self._shared, self._agents = shared, shared.agents
        slots = shared.slots
        self._before = Swarms.on(self.device, 1, slots)
        self._after = Swarms.on(self.device, 1, slots)
        self._answer = self.device.empty(_HEADER + self._agents.batch, np.uint64)
        self._found = self.device.pinned(_HEADER + self._agents.batch, np.uint64)
        self._host = HostSwarm.on(self.device, slots), HostSwarm.on(self.device, slots)
        self._last: _Last | None = None

    def run(self, op: str, key: int) -> Done:
        self._last = None
        if op == "process":
            return self._run_process(key)
        index = populations.mixed(key) * self._agents.swarms >> 64
        # Of every lane's keys the low 48 bits count from 0.
        is_kept = key % (1 << 48) % self._agents.check_every == 0
        swarms, row = self._shared.swarms, self._shared.swarms.row(index)
        with self._shared.turns:
            if is_kept:
                self._before.take(self.stream, row)
            self._enqueue(op, key, swarms, index, self._agents.swarms)
            if is_kept:
                self._after.take(self.stream, row)
            self.stream.download(self._found, self._answer)
            self.stream.synchronize()
        header = self._found[:_HEADER].copy()
        count = int(header[0])
        ids = self._found[_HEADER : _HEADER + count].copy() if op in _TURNOVER else header[:0]
        self._last = _Last(op, key, index, is_kept, header, ids)
        if op == "spawn" and count < self._agents.batch:
            return Done(count, "rejected")
        return Done(count)

    def verify(self) -> tuple[int, int]:
        last, self._last = self._last, None
        if last is None:
            return 0, 0
        if last.report is not None:
            right = populations.solitary_life(last.key, self._agents.process_steps)
            return 1, int(not np.array_equal(last.report, right))
        if last.op in ("step", "tick"):
            holds = last.header[0] == last.header[1]
            holds = holds and (not last.is_kept or self._kept_holds(last))
            return int(last.is_kept or not holds), int(not holds)
        return 1, int(not self._turnover_holds(last))

    def plant(self, fault: str) -> bool:
        last = self._last
        if last is None:
            return False
        if last.report is not None:
            return self._plant_report(last, fault)
        if last.op in ("step", "tick"):
            if last.is_kept:
                return self._plant_kept(last, fault)
            more = {"lost_result": -1, "doubled_result": 1}.get(fault, 0)
            last.header[0] = (int(last.header[0]) + more) % (1 << 64)
            return fault != "flipped_bit"
        return self._plant_ids(last, fault)

    def evaluate(self, op: str, inputs: Arrays) -> Arrays:
        key = int(inputs["key"][0])
        if op == "process":
            return self._shared.native.evaluate(op, inputs)
        host = self._host[0]
        host.read(inputs)
        host.upload(self.stream, self._before)
        self._enqueue(op, key, self._before, 0, 1)
        self.stream.download(self._found, self._answer)
        host.download(self.stream, self._before)
        self.stream.synchronize()
        count = int(self._found[0]) if op in _TURNOVER else 0
        return host.as_reference() | {"ids": self._found[_HEADER : _HEADER + count].copy()}

    def cost(self, op: str) -> Cost:
        last = self._last
        if op == "process" or last is None:
            return Cost(0, 0)
        swarms, slots = self._agents.swarms, self._shared.slots
        if op in _TURNOVER:
            return agents_cost.turnover(op, last.header, len(last.ids), slots)
        if op == "tick":
            return agents_cost.tick(int(last.header[1]), swarms, slots)
        host, compared = HostSwarm.on(self.device, slots), 0
        for index in range(swarms):
            host.download(self.stream, self._shared.swarms.row(index))
            self.stream.synchronize()
            compared += agents_cost.pairs_before(host, *self._shared.cell_list)
        return agents_cost.step(int(last.header[1]), compared, swarms, slots)

    def _enqueue(self, op: str, key: int, swarms: Swarms, index: int, count: int) -> None:
        shared = self._shared
        if op not in _TURNOVER:
            self.stream.fill(self._answer, 0)
        slots, launch = np.uint32(shared.slots), shared.launch
        fields, longs, bits, ledger = swarms.buffers
        grid, bytes_each = min(launch.grid, count), shared.turnover_bytes
        given: list[Buffer | np.generic] = [fields, longs, bits, ledger, self._answer]
        if op == "step":
            columns, cell = shared.cell_list
            given = [fields, bits, ledger, self._answer, np.uint32(count), slots]
            given += [np.uint32(columns), np.uint32(cell)]
            bytes_each = shared.step_bytes
        elif op == "tick":
            given += [np.uint32(count), slots]
            bytes_each = shared.tick_bytes
        else:
            shape = self._agents.shape(shared.seed)
            given += [np.uint32(index), slots, shared.shift, shared.stream_key, np.uint64(key)]
            given += [np.uint32(number) for number in (shape.batch, shape.least, shape.most)]
            grid = 1
        self.stream.launch(shared.kernels[op], grid, launch.block, given, shared_bytes=bytes_each)

    def _run_process(self, key: int) -> Done:
        if not self._shared.processes.try_enter():
            return Done(0, "rejected")
        try:
            given = {"key": np.array([key], np.uint64)}
            report = self._shared.native.evaluate("process", given)["report"]
        except ValueError:
            return Done(0, "error")
        finally:
            self._shared.processes.leave()
        nothing = np.zeros(0, np.uint64)
        self._last = _Last("process", key, 0, False, nothing, nothing, report=report)
        return Done(1)

    def _kept(self, last: _Last) -> tuple[HostSwarm, HostSwarm]:
        """The swarm before and after the last operation."""
        if last.kept is None:
            for host, swarm in zip(self._host, (self._before, self._after), strict=True):
                host.download(self.stream, swarm)
            self.stream.synchronize()
            last.kept = self._host
        return last.kept

    def _turnover_holds(self, last: _Last) -> bool:
        """Whether the ids are those that the swarm gave or took back, each of them once."""
        first_slot = last.swarm * self._shared.slots
        slots = last.ids & np.uint64((1 << populations.SLOT_BITS) - 1)
        in_swarm = (slots >= first_slot) & (slots < first_slot + self._shared.slots)
        return (
            len(last.ids) == int(last.header[0])
            and len(np.unique(last.ids)) == len(last.ids)
            and bool(in_swarm.all())
            and digest(last.ids) == last.header[1]
            and (not last.is_kept or self._kept_holds(last))
        )

    def _kept_holds(self, last: _Last) -> bool:
        """Whether the kept swarm is what the CPU's backend makes of it, and adds up."""
        before, after = self._kept(last)
        given = before.as_reference()
        given |= {
            "key": np.array([last.key], np.uint64),
            "seed": np.array([self._shared.seed], np.uint64),
        }
        first_slot = last.swarm * self._shared.slots
        found = after.as_reference() | {"ids": last.ids - np.uint64(first_slot)}
        try:
            right = self._shared.native.evaluate(last.op, given)
        except ValueError:
            return False
        return same_arrays(found, right) and adds_up(after, first_slot)

    def _plant_report(self, last: _Last, fault: str) -> bool:
        assert last.report is not None
        changes: dict[str, Callable[[Longs], npt.NDArray[np.uint64]]] = {
            "flipped_bit": lambda words: words ^ np.uint64(1 << 17),
            "lost_result": lambda words: words[:-1],
            "doubled_result": lambda words: np.concatenate([words, words]),
        }
        last.report = changes[fault](last.report)
        return True

    def _plant_ids(self, last: _Last, fault: str) -> bool:
        if len(last.ids) == 0:
            return False
        if fault == "flipped_bit":
            last.ids[0] ^= np.uint64(1 << int(last.ids[0]) % 64)
        elif fault == "lost_result":
            last.ids = last.ids[:-1]
        else:
            last.ids = np.append(last.ids, last.ids[0])
        return True

    def _plant_kept(self, last: _Last, fault: str) -> bool:
        """Damages what the last step or tick did to the oldest agent of the kept swarm."""
        before, after = self._kept(last)
        order = after.order()
        if len(order) == 0:
            return False
        slot = int(order[0])
        names = ("heard", "energy") if last.op == "tick" else ("ticks", "x")
        if fault == "flipped_bit":
            after.plane(names[1])[slot] ^= 1
        elif fault == "doubled_result":
            after.plane(names[0])[slot] += 1
        else:
            for name in (*FIELDS[:13], *LONGS):
                after.plane(name)[slot] = before.plane(name)[slot]
        return True
