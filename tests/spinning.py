"""A kernel that spins, launched again and again beside whoever feeds its ring."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from swarmbench import _native
from swarmbench.errors import SwarmbenchError
from swarmbench.gpu.device import Argument, Array, Device, Kernel

Words = npt.NDArray[np.uint64]

#: Words of a message beside its sequence word.
PAYLOAD_WORDS = 15
LINE_BYTES = 128
#: A feeder that waits longer for its kernel has lost a message.
PATIENCE_S = 20.0
HOUR_NS = 3_600_000_000_000
#: Messages that a feeder has ready at a time.
BATCH = 256
#: What keeps a block from acknowledging a message that it has answered, or half answered: it ends
#: there and leaves no word.
DEATH = "if (__syncthreads_or(threadIdx.x == 0 && mixed(u32(clock_ns())) % {} == 0)) return;\n"


#: As in `kernels/ring.cu`.
FACTOR = 0x9E3779B97F4A7C15


class LostError(AssertionError):
    """What was published does not come back."""


def ring_in(
    device: Device, *, groups: int, slots: int, answer_lines: int, first: int = 0
) -> _native.Ring:
    """An empty ring in memory that the device sees."""
    count = _native.Ring.words(groups=groups, slots=slots, answer_lines=answer_lines)
    room = device.pinned(count + LINE_BYTES // 8, np.uint64)
    skipped = -room.ctypes.data % LINE_BYTES // 8
    memory = room[skipped : skipped + count]
    return _native.Ring(memory, groups=groups, slots=slots, answer_lines=answer_lines, first=first)


class Spinning:
    """Launches a kernel in a thread of its own, each time with other limits, until it is left."""

    def __init__(
        self,
        device: Device,
        kernel: Kernel,
        ring: _native.Ring,
        sizes: tuple[int, int, int],
        block: int,
        rest: Sequence[Argument] = (),
        *,
        shared_bytes: int = 0,
        seed: int = 0,
        slices_ns: tuple[int, ...] = (20_000, 200_000, 2_000_000),
        looks: tuple[int, ...] = (1, 4, 64),
    ) -> None:
        self.launch = 0
        self._slices_ns, self._looks = slices_ns, looks
        self._ring, self._buffer = ring, device.mapped(ring.memory)
        self._device, self._stream, self._kernel = device, device.stream(), kernel
        self._sizes, self._block, self._rest = sizes, block, rest
        self._shared_bytes, self._draw = shared_bytes, random.Random(seed)
        self._is_ending = False
        self._failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._serve)

    def once(self, slice_ns: int, polls: int) -> None:
        """One launch, to its end."""
        groups, slots, answer_lines = self._sizes
        self.launch += 1
        sizes = [np.uint32(slots), np.uint32(answer_lines)]
        limits = [np.uint64(self.launch), np.uint64(slice_ns), np.uint64(polls)]
        arguments: list[Argument] = [self._buffer, *sizes, *limits, *self._rest]
        self._stream.launch(
            self._kernel, groups, self._block, arguments, shared_bytes=self._shared_bytes
        )
        self._stream.synchronize()

    def _serve(self) -> None:
        self._device.use()
        try:
            while not self._is_ending:
                self.once(self._draw.choice(self._slices_ns), self._draw.choice(self._looks))
        except (AssertionError, RuntimeError, SwarmbenchError) as error:
            self._failed.append(error)

    def __enter__(self) -> Spinning:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_ending = True
        self._ring.stop((1 << 64) - 1)
        self._thread.join()
        if self._failed and error is None:
            raise self._failed[0]


class Feeding:
    """Publishes messages and collects them: each once, in its group's order, stamped in order."""

    def __init__(self, ring: _native.Ring, groups: int, slots: int, first: int) -> None:
        self.ring, self._mask = ring, np.uint64(slots - 1)
        self.next = np.full(groups, first, np.uint64)
        self.outstanding = np.zeros((groups, slots, PAYLOAD_WORDS), np.uint64)
        self._stamp = 0

    def push(self, payloads: Words) -> int:
        """Publishes as many as there is room for."""
        tickets = self.ring.push(payloads)
        groups, places = tickets[:, 0], tickets[:, 1] & self._mask
        self.outstanding[groups, places] = payloads[: len(tickets)]
        return len(tickets)

    def collect(self) -> dict[int, tuple[Words, Array]]:
        """What came back since, by group: payloads as they were published, and answers."""
        tickets, stamps_ns, answers = self.ring.poll()
        for stamp in stamps_ns[[0, -1]] if len(stamps_ns) else ():
            assert stamp >= self._stamp, "a moment before the last one"
            self._stamp = int(stamp)
        found: dict[int, tuple[Words, Array]] = {}
        for group in np.unique(tickets[:, 0]):
            mine = tickets[:, 0] == group
            numbers = tickets[mine, 1]
            right = self.next[group : group + 1] + np.arange(len(numbers), dtype=np.uint64)
            assert np.array_equal(numbers, right), "lost, doubled or out of order"
            self.next[group : group + 1] = numbers[-1:] + np.uint64(1)
            found[int(group)] = (self.outstanding[group, numbers & self._mask], answers[mine])
        return found

    def once(self, payloads: Words, check: Any, spinning: Spinning) -> None:
        """Sends payloads for which there is room, and answers them in one launch."""
        assert self.push(payloads) == len(payloads)
        spinning.once(HOUR_NS, 1)
        for group, (sent, answers) in self.collect().items():
            check(group, sent, answers)
        assert self.ring.in_flight == 0

    def pump(self, count: int, make: Any, check: Any, spinning: Spinning, seed: int) -> None:
        """Sends `make(n)`'s payloads and gives `check` what comes back, `count` in all; stops the
        launch every now and then."""
        draw = random.Random(seed)
        sent = done = 0
        ready = make(BATCH)
        moved = time.monotonic()
        while done < count:
            pushed = self.push(ready[: count - sent])
            sent += pushed
            ready = ready[pushed:] if pushed < len(ready) else make(BATCH)
            found = self.collect()
            for group, (payloads, answers) in found.items():
                check(group, payloads, answers)
                done += len(answers)
            if draw.random() < 0.02:
                self.ring.stop(spinning.launch)
            if found:
                moved = time.monotonic()
            elif time.monotonic() - moved > PATIENCE_S:
                raise LostError(f"{done} of {count} came back")
            else:
                os.sched_yield()
        assert (sent, self.ring.in_flight) == (count, 0)


def powers(base: int, count: int) -> Words:
    """base^0, base^1, ... modulo 2^64."""
    factors = np.full(count, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)


class Echo:
    """What `ring_echo` must answer: each message, and the digest of all that its group has had."""

    def __init__(self, sizes: tuple[int, int, int], seed: int) -> None:
        groups, slots, _ = sizes
        self.draw, self.seed = np.random.default_rng(seed), seed
        self.digests = np.zeros(groups, np.uint64)
        self._forward = powers(FACTOR, slots + 1)
        self._backward = powers(pow(FACTOR, -1, 1 << 64), slots + 1)
        self._weights = FACTOR + 2 * np.arange(PAYLOAD_WORDS, dtype=np.uint64)

    def make(self, count: int) -> Words:
        whole = np.iinfo(np.uint64).max
        return self.draw.integers(whole, size=(count, PAYLOAD_WORDS), dtype=np.uint64)

    def check(self, group: int, payloads: Words, answers: Array) -> None:
        """The digests are d(n) = F d(n-1) + sum(n), so d(n) F^-n are the running sums."""
        count = len(payloads)
        sums = (payloads * self._weights).sum(axis=1, dtype=np.uint64)
        running = np.cumsum(sums * self._backward[1 : count + 1], dtype=np.uint64)
        digests = (running + self.digests[group]) * self._forward[1 : count + 1]
        assert np.array_equal(answers[:, :PAYLOAD_WORDS], payloads), f"seed {self.seed}: an answer"
        assert np.array_equal(answers[:, PAYLOAD_WORDS], digests), f"seed {self.seed}: a digest"
        self.digests[group] = digests[-1]


def echo_once(device: Device, groups: int, seed: int) -> None:
    """One launch of `ring_echo` with some messages for each group."""
    sizes = (groups, 4, 1)
    ring = ring_in(device, groups=groups, slots=4, answer_lines=1)
    spinning = Spinning(device, device.kernel("ring.cu", "ring_echo"), ring, sizes, 32)
    echo, feeding = Echo(sizes, seed), Feeding(ring, groups, 4, 0)
    feeding.once(echo.make(3 * groups), echo.check, spinning)
