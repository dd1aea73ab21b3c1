"""Batches that are decided through a ring, each answer held against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np

from spinning import Feeding, Spinning, Words, ring_in
from swarmbench.components.base import same_arrays
from swarmbench.components.consensus import Consensus
from swarmbench.components.cuda.consensus_ring import ConsensusRing
from swarmbench.components.cuda.consensus_tables import Tables
from swarmbench.gpu.device import Array
from swarmbench.gpu.emulated import EmulatedDevice

SLOTS = 8
#: Numbers of messages wrap around after a few.
FIRST = (1 << 64) - 20


class Deciding:
    """A ring and a kernel that decides batches of consecutive keys; `block` replaces its own."""

    def __init__(
        self,
        component: Consensus,
        device: EmulatedDevice,
        seed: int,
        *,
        groups: int = 2,
        block: int | None = None,
    ) -> None:
        self.component, self.device, self.seed = component, device, seed
        self.side = ConsensusRing(Tables(component, device, seed))
        self.key = int(np.random.default_rng(seed).integers(1 << 30)) | 9 << 48
        self._sizes = (groups, SLOTS, self.side.answer_lines)
        self._block = block or self.side.block

    def make(self, count: int) -> Words:
        keys = range(self.key, self.key + count)
        self.key += count
        return self.side.messages(keys)

    def check(self, _group: int, payloads: Words, answers: Array) -> None:
        for payload, words in zip(payloads, answers, strict=True):
            key = int(payload[0])
            inputs = self.component.inputs("decide", self.seed, key)
            right = self.component.reference("decide", inputs)
            found = self.side.answer(words)
            assert found.is_consistent(self.component.batch)
            assert same_arrays(found.arrays(), right), f"seed {self.seed}, key {key}"

    def begin(self, text: str | None = None) -> tuple[Spinning, Feeding]:
        """An empty ring, and its kernel, by another text than the file's where one is given."""
        side, (groups, slots, lines) = self.side, self._sizes
        ring = ring_in(self.device, groups=groups, slots=slots, answer_lines=lines, first=FIRST)
        kernel: Any = self.device.kernel_of(text, "decide_ring") if text else side.kernel
        spinning = Spinning(
            self.device,
            kernel,
            ring,
            self._sizes,
            self._block,
            side.arguments,
            shared_bytes=side.shared_bytes,
            seed=self.seed,
        )
        return spinning, Feeding(ring, groups, slots, FIRST)

    def run(self, count: int, text: str | None = None) -> Spinning:
        """Decides so many batches while launches end and are stopped."""
        spinning, feeding = self.begin(text)
        with spinning:
            feeding.pump(count, self.make, self.check, spinning, self.seed)
        return spinning

    def once(self, count: int) -> None:
        """Decides so many batches in one launch."""
        spinning, feeding = self.begin()
        feeding.once(self.make(count), self.check, spinning)
