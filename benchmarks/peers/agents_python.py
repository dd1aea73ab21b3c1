"""Agents as a user would write them: in a NumPy slab, in Mesa, and as asyncio tasks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any

import numpy as np

from swarmbench.components.base import Arrays
from swarmbench.components.populations import ENERGY_MAX, MESSAGE, STOPPED, next_words

#: Fields of an agent and what a new one has there, beside its place, velocity and energy.
WORDS = ("x", "y", "velocity_x", "velocity_y", "energy", "state", "ticks", "heard", "since")


class NumpySlab:
    """Arrays of fields, a stack of free slots, and the live ones in the order of birth."""

    def __init__(self, live: int, batch: int) -> None:
        slots = live + batch
        self.random = np.random.Generator(np.random.SFC64(7))
        self.fields = {name: np.zeros(slots, np.uint32) for name in WORDS}
        self.rng = np.zeros((slots, 4), np.uint32)
        self.generation = np.zeros(slots, np.uint64)
        self.inbox = np.zeros((2, slots), np.uint64)
        self.free = np.arange(slots, dtype=np.int64)[::-1].copy()
        self.left = slots
        self.order = np.zeros(2 * slots, np.int64)
        self.first = self.end = 0
        for begun in range(0, live, batch):
            self.spawn(min(batch, live - begun))

    def spawn(self, count: int) -> np.ndarray:
        """As many new agents; returns their ids."""
        self.left -= count
        slots = self.free[self.left : self.left + count]
        words = self.random.integers(0, 1 << 32, (count, 8), np.uint32)
        fields = self.fields
        fields["x"][slots], fields["y"][slots] = words[:, 0] >> 12, words[:, 1] >> 12
        fields["velocity_x"][slots] = words[:, 2] & 255
        fields["velocity_y"][slots] = words[:, 2] >> 8 & 255
        fields["energy"][slots] = 8192 + (words[:, 2] >> 19)
        for name in ("state", "ticks", "heard", "since"):
            fields[name][slots] = 0
        self.rng[slots] = words[:, 4:]
        self.generation[slots] += 1
        if self.end + count > len(self.order):
            live = self.order[self.first : self.end].copy()
            self.order[: len(live)] = live
            self.first, self.end = 0, len(live)
        self.order[self.end : self.end + count] = slots
        self.end += count
        return self.generation[slots] << np.uint64(24) | slots.astype(np.uint64)

    def destroy(self, count: int) -> None:
        """The oldest ones end, which is what is cheapest here."""
        slots = self.order[self.first : self.first + count]
        self.first += count
        self.fields["state"][slots] = STOPPED
        self.inbox[:, slots] = 0
        self.free[self.left : self.left + count] = slots
        self.left += count

    @property
    def live(self) -> int:
        """Agents that there are."""
        return self.end - self.first


class NumpyMail:
    """The tick of a given swarm, over its live agents alone, in reused arrays."""

    def __init__(self, swarm: Arrays) -> None:
        live = np.flatnonzero(swarm["state"] != STOPPED)
        self.rng = swarm["rng"].reshape(-1, 4)[live].copy()
        self.energy = swarm["energy"][live].astype(np.int64)
        self.heard = swarm["heard"][live].copy()
        self.parity = int(swarm["clock"][1]) % 2
        mail = [swarm[name][live] for name in ("inbox_even", "inbox_odd")]
        self.counts = [(each // np.uint64(MESSAGE)).astype(np.int64) for each in mail]
        self.sums = [(each % np.uint64(MESSAGE)).astype(np.int64) for each in mail]

    def words(self) -> np.ndarray:
        """A word of chance for every agent."""
        words, self.rng = next_words(self.rng)
        return words

    def tick(self) -> None:
        """Everybody reads, and sends one message to anybody."""
        live, now = len(self.energy), self.parity
        self.heard += self.counts[now].astype(np.uint32)
        np.minimum(self.energy + (self.sums[now] >> 12), ENERGY_MAX, out=self.energy)
        words = self.words()
        targets = (words.astype(np.uint64) * np.uint64(live) >> np.uint64(32)).astype(np.int64)
        self.counts[1 - now] += np.bincount(targets, minlength=live)
        sums = np.bincount(targets, words & np.uint32(0xFFFF), minlength=live)
        self.sums[1 - now] += sums.astype(np.int64)
        self.counts[now][:] = 0
        self.sums[now][:] = 0
        self.parity = 1 - now


def mesa_model(mail: NumpyMail) -> Any:
    """A Mesa model of the same swarm; chance, which is slow in Python, comes from NumPy."""
    import mesa

    class Talker(mesa.Agent):
        def __init__(self, model: Any, energy: int, heard: int, inbox: Any) -> None:
            super().__init__(model)
            self.energy, self.heard = energy, heard
            self.count, self.sum = inbox
            self.next_count = self.next_sum = 0

        def read(self) -> None:
            self.heard += self.count
            self.energy = min(self.energy + (self.sum >> 12), ENERGY_MAX)

        def send(self) -> None:
            word = next(self.model.words)
            target = self.model.everybody[word * len(self.model.everybody) >> 32]
            target.next_count += 1
            target.next_sum += word & 0xFFFF

        def turn(self) -> None:
            self.count, self.sum = self.next_count, self.next_sum
            self.next_count = self.next_sum = 0

    class Model(mesa.Model):
        def __init__(self) -> None:
            super().__init__()
            now = mail.parity
            inboxes = zip(mail.counts[now].tolist(), mail.sums[now].tolist(), strict=True)
            given = zip(mail.energy.tolist(), mail.heard.tolist(), inboxes, strict=True)
            self.everybody = [Talker(self, *each) for each in given]

        def tick(self) -> None:
            self.words = iter(mail.words().tolist())
            self.agents.do("read")
            self.agents.do("send")
            self.agents.do("turn")

    return Model()


class MesaChurn:
    """Mesa agents with the same fields that come and go, the oldest first."""

    def __init__(self, live: int) -> None:
        import mesa

        class Walker(mesa.Agent):
            def __init__(self, model: Any) -> None:
                super().__init__(model)
                random = model.random.getrandbits
                self.x, self.y = random(20), random(20)
                self.velocity_x, self.velocity_y = random(8) - 128, random(8) - 128
                self.energy, self.state = 8192 + random(13), 0

        self.kind, self.model = Walker, mesa.Model(seed=7)
        self.order = deque(Walker(self.model) for _ in range(live))

    def churn(self, count: int) -> None:
        """As many births, each followed by an end."""
        for _ in range(count):
            self.order.append(self.kind(self.model))
            self.order.popleft().remove()

    @property
    def live(self) -> int:
        """Agents that there are."""
        return len(self.model.agents)


async def _stay(stopped: asyncio.Event) -> None:
    await stopped.wait()


def asyncio_churn(live: int, count: int) -> Coroutine[Any, Any, int]:
    """As many tasks, each begun, and then ended after `live` others; returns how many ran."""

    async def churn() -> int:
        begun: deque[tuple[asyncio.Task[None], asyncio.Event]] = deque()
        ended = 0
        for _ in range(count):
            stopped = asyncio.Event()
            begun.append((asyncio.create_task(_stay(stopped)), stopped))
            if len(begun) > live:
                task, stopped = begun.popleft()
                stopped.set()
                await task
                ended += 1
        for task, stopped in begun:
            stopped.set()
            await task
        return ended + len(begun)

    return churn()
