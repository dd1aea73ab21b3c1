"""The `agents` component: a population that churns, steps and talks, and process agents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from swarmbench.components import populations
from swarmbench.components.base import Arrays, Component, Op
from swarmbench.components.populations import Shape, Slab

SLOT_BYTES = 128
_LANES = 16
_TILED_BYTES = 112
_SLOTS_MAX = 8192
_SWARM_BYTES = 512


class Agents(Component):
    """Agents in slabs: born, stepped among their neighbours, sent messages, stopped.

    They are spread over swarms, each a slab with a lock and a torus of its own; agents see and
    write to those of their own swarm. Coordinates and all arithmetic are integers, so an answer
    depends neither on the order of neighbours nor on the width of vectors.

    The schedule asks for births and ends, 5/s and 3/s in the original, which would grow for ever.
    A controller in every swarm ends agents at the rate of exponential lifetimes (with a mean of
    as many births as the target has agents, less what `destroy` ends anyway), so that the size is
    stationary at the middle of the band, and replaces or ends agents at once at the band's edges.

    `destroy` ends agents at random, `destroy_oldest` the oldest; `step` moves all live agents
    once; `tick` lets each read its messages and send one. `process` starts a real process that
    takes its steps, reports and is reaped. It has no part in the default mix: it costs a thousand
    times what a spawn does, nearly all of it in the kernel, so in a closed loop, where the mix is
    by number, a share of one in a hundred would leave hardly anything else to be measured.
    """

    name: ClassVar[str] = "agents"
    unit: ClassVar[str] = "agents"
    #: A birth writes 72 bytes of its tile (all but inboxes and what a step finds) and 4 of the list
    #: of births and reads its generation, 8; an end reads the generation, and reads and writes the
    #: state, 4, and the inboxes, 16. A step reads and writes 44
    #: bytes (place, velocity, energy, state, ticks, generator) and writes and reads an entry of
    #: 12 in the cell list; a tick reads 36 and writes 32, and reads and writes an inbox of 8. What
    #: a process costs the kernel has no roof among those measured.
    ops: ClassVar[tuple[Op, ...]] = (
        Op("spawn", "agents", "cache_read_bytes_s", 84.0),
        Op("destroy", "agents", "cache_read_bytes_s", 48.0),
        Op("destroy_oldest", "agents", "cache_read_bytes_s", 48.0),
        Op("step", "agents", "cache_read_bytes_s", 112.0),
        Op("tick", "agents", "cache_read_bytes_s", 84.0),
        Op("process", "agents", "cache_read_bytes_s", 0.0),
    )
    #: The original's births and ends, and ten steps and ten ticks of the population a second.
    weights: ClassVar[Mapping[str, float]] = {
        "spawn": 5.0,
        "destroy": 3.0,
        "step": 10.0,
        "tick": 10.0,
    }
    production_rate_s: ClassVar[float | None] = 28.0
    stress_in_flight: ClassVar[int] = 64
    claim: ClassVar[str] = "spawn < 500 µs; 10 000 agents per node"

    #: The band that the number of live agents is held in.
    population_min: int = Field(default=1000, ge=1, le=1 << 22)
    population_max: int = Field(default=2000, ge=1, le=1 << 22)
    #: Swarms that the agents are spread over: more of them, and workers meet less often.
    swarms: int = Field(default=16, ge=1, le=2048)
    #: Agents that one `spawn` or `destroy` is about.
    batch: int = Field(default=1, ge=1, le=4096)
    #: One operation in so many has a whole swarm checked; births and ends are all checked.
    check_every: int = Field(default=16, ge=1, le=1 << 16)
    #: Steps that a process takes before it reports.
    process_steps: int = Field(default=1000, ge=1, le=1 << 24)
    #: Most processes alive at a time; one more is rejected.
    processes_max: int = Field(default=64, ge=1, le=1024)

    @model_validator(mode="after")
    def _swarms_hold_the_band(self) -> Self:
        if self._least > self._most:
            raise ValueError(
                f"population_max: no number of agents times {self.swarms} swarms is within "
                f"{self.population_min} to {self.population_max}"
            )
        if self.slots > _SLOTS_MAX:
            raise ValueError(
                f"swarms: {self.slots} slots in each are more than {_SLOTS_MAX}; use more"
            )
        return self

    @property
    def _least(self) -> int:
        return -(-self.population_min // self.swarms)

    @property
    def _most(self) -> int:
        return self.population_max // self.swarms

    @property
    def slots(self) -> int:
        """Slots of one swarm: room for its band and one batch."""
        return -(-(self._most + self.batch) // _LANES) * _LANES

    def shape(self, seed: int) -> Shape:
        """One swarm, as the reference takes it."""
        return Shape(self.slots, self._least, self._most, self.batch, seed)

    def resident_bytes(self, workers: int) -> int:
        """Slots with four bits each and a second entry in the list of births, a table of cells for
        each swarm; two swarms and the ids of a batch for each worker."""
        slots = self.slots
        table = 4 * (populations.columns(slots) ** 2 + 3)
        swarm = slots * SLOT_BYTES + 32 * -(-slots // 64) + 4 * slots + table + _SWARM_BYTES
        worker = 2 * _TILED_BYTES * slots + 8 * (self.batch + 1 + self.swarms)
        return self.swarms * swarm + workers * worker

    def fitted(self, budget_bytes: int, workers: int) -> tuple[Self, list[str]]:
        """Halves the number of swarms while the budget asks for it, then the one left."""
        fit, sizes = self, ("population_min", "population_max", "swarms", "batch")
        while fit.resident_bytes(workers) > budget_bytes:
            swarms = max(1, fit.swarms // 2)
            part = 1 if swarms < fit.swarms else 2
            halved = {
                "population_min": max(1, fit._least // part) * swarms,
                "population_max": max(1, fit._most // part) * swarms,
                "swarms": swarms,
                "batch": max(1, fit.batch // part),
            }
            if all(halved[name] == getattr(fit, name) for name in sizes):
                break
            fit = fit.model_copy(update=halved)
        changed = [name for name in sizes if getattr(fit, name) != getattr(self, name)]
        return fit, [
            f"agents.{name}: {getattr(self, name)} -> {getattr(fit, name)}" for name in changed
        ]

    @classmethod
    def small(cls) -> Self:
        """Few enough agents for Numba's simulator, where each takes a thread of Python."""
        return cls(population_min=100, population_max=200, swarms=4)

    def inputs(self, op: str, seed: int, key: int) -> Arrays:
        """A swarm (see `populations`), the seed of its births, and the key of the operation."""
        given = {"key": np.array([key], np.uint64)}
        if op == "process":
            return given
        given["seed"] = np.array([seed], np.uint64)
        return given | populations.synthetic(self.shape(seed), key)

    def reference(self, op: str, inputs: Arrays) -> Arrays:
        """The swarm after the operation and the `ids` it spawned or destroyed (uint64); of a
        process its `report` (uint64: key, steps, place, digest)."""
        key = int(inputs["key"][0])
        if op == "process":
            return {"report": populations.solitary_life(key, self.process_steps)}
        shape = self.shape(int(inputs["seed"][0]))
        given: dict[str, Any] = {
            name: array for name, array in inputs.items() if name not in ("key", "seed")
        }
        if op == "spawn":
            return Slab(shape, given).spawn(key)
        if op in ("destroy", "destroy_oldest"):
            return Slab(shape, given).destroy(key, oldest=op == "destroy_oldest")
        return {"step": populations.step, "tick": populations.tick}[op](shape, given)
