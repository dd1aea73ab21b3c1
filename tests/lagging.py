"""An emulated device whose streams lag behind: what is enqueued runs when somebody waits for it.

Streams that do not follow one another run in a random order, as a card's may: an answer that is
read before its stream was waited for, an array that is changed while it is on its way, and
a stream that should have followed another show as wrong answers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import cast

import numpy.typing as npt

from swarmbench.gpu.device import Argument, Array, Buffer, Kernel, Stream
from swarmbench.gpu.emulated import EmulatedDevice, EmulatedStream


class LaggingDevice(EmulatedDevice):
    """The emulator with streams that lag; `seed` says in which order they run."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed=seed)
        self._random = Random(seed)
        self._streams = list[LaggingStream]()
        self._pinned = list[tuple[int, int]]()

    def stream(self) -> LaggingStream:
        made = LaggingStream(self)
        self._streams.append(made)
        return made

    def pinned(self, count: int, dtype: npt.DTypeLike) -> Array:
        array = super().pinned(count, dtype)
        self._pinned.append((array.ctypes.data, array.ctypes.data + array.nbytes))
        return array

    def is_pinned(self, array: Array) -> bool:
        """Whether a copy of it is under way until its stream was waited for."""
        return any(first <= array.ctypes.data < end for first, end in self._pinned)

    def reads_late(self, array: Array) -> bool:
        """Whether an upload reads an array only when it runs; of what is not pinned the driver may
        take a copy at once, or not (CUDA driver API, "API synchronization behavior")."""
        return self.is_pinned(array) or self._random.random() < 0.5

    def run_until_idle(self, stream: LaggingStream) -> None:
        """Runs one thing after the other of any stream, until that one has nothing left."""
        while not stream.is_idle:
            self._random.choice([each for each in self._streams if each.is_ready]).advance()


class LaggingStream(EmulatedStream):
    """A stream that runs when it, or another one, is waited for."""

    def __init__(self, device: LaggingDevice) -> None:
        super().__init__(device)
        self._lagging = device
        self._waiting = deque[Callable[[], None]]()
        #: How many things were enqueued, and how many of them have ended.
        self._enqueued = self._ended = 0
        #: By a thing's number: another stream, and how many things of it have to end before.
        self._ahead = dict[int, tuple[LaggingStream, int]]()

    @property
    def is_idle(self) -> bool:
        return not self._waiting

    @property
    def is_ready(self) -> bool:
        """Whether its next thing can run."""
        if self.is_idle:
            return False
        other, count = self._ahead.get(self._ended, (self, 0))
        return other._ended >= count

    def advance(self) -> None:
        """Runs its next thing."""
        self._ahead.pop(self._ended, None)
        self._waiting.popleft()()
        self._ended += 1

    def launch(
        self,
        kernel: Kernel,
        grid: int,
        block: int,
        arguments: Sequence[Argument],
        *,
        shared_bytes: int = 0,
    ) -> None:
        given = list(arguments)
        run = super().launch
        self._enqueue(partial(run, kernel, grid, block, given, shared_bytes=shared_bytes))

    def fill(self, buffer: Buffer, byte: int) -> None:
        self._enqueue(partial(super().fill, buffer, byte))

    def copy(self, target: Buffer, source: Buffer) -> None:
        self._enqueue(partial(super().copy, target, source))

    def upload(self, target: Buffer, array: Array) -> None:
        given = array if self._lagging.reads_late(array) else array.copy()
        self._enqueue(partial(super().upload, target, given))

    def download(self, array: Array, source: Buffer) -> None:
        self._enqueue(partial(super().download, array, source))

    def follow(self, other: Stream) -> None:
        ahead = cast(LaggingStream, other)
        self._ahead[self._enqueued] = ahead, ahead._enqueued
        self._enqueue(lambda: None)

    def matmul(
        self,
        target: Buffer,
        left: Buffer,
        right: Buffer,
        shape: tuple[int, int, int],
        *,
        scale: float,
        adds: bool = False,
    ) -> None:
        run = super().matmul
        self._enqueue(partial(run, target, left, right, shape, scale=scale, adds=adds))

    def synchronize(self) -> None:
        self._lagging.run_until_idle(self)

    def _enqueue(self, thing: Callable[[], None]) -> None:
        self._waiting.append(thing)
        self._enqueued += 1
