"""One lane of streaming on a device: chunks through survey, coding, restoring, check, delivery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from swarmbench import _native
from swarmbench.components.base import Arrays
from swarmbench.components.chunks import Bytes
from swarmbench.components.cuda import streaming_cost
from swarmbench.components.cuda.base import Cost, CudaOperation, Done
from swarmbench.components.cuda.streaming import (
    BLOCK,
    DEVICE_CODECS,
    HEADER_BYTES,
    CudaStreaming,
    State,
)
from swarmbench.components.cuda.streaming_damage import damaged
from swarmbench.components.cuda.streaming_launches import Launches, Span, Way
from swarmbench.gpu.device import Buffer


@dataclass(frozen=True, slots=True)
class Last:
    """The last operation, as its check needs it: what it answered with, by which codec, under which
    number where it has one; `length` is the frame's."""

    op: str
    index: int
    answer: Literal["chunk", "frame"]
    codec: int
    length: int
    is_numeric: bool
    sequence: int | None = None


class Lane(CudaOperation):
    """A stream of numbered chunks that stay on the device, one at a time on its way.

    `block` and `grid` shape the launches; a chunk goes in pieces of about `piece_bytes`, whose
    kernels follow one another.
    """

    #: Whether the codec is known before anything is restored.
    _is_apart: ClassVar[bool] = False

    def __init__(
        self,
        shared: CudaStreaming,
        *,
        block: int = BLOCK,
        grid: int | None = None,
        piece_bytes: int | None = None,
    ) -> None:
        super().__init__(shared.device)
        component, device = shared.streaming, shared.device
        self._shared, self._component = shared, component
        self._on = Launches(shared, self.stream, block, grid, piece_bytes)
        self._coder = _native.Coder(component.block_bytes, component.zstd_level)
        self._given = device.pinned(component.chunk_bytes, np.uint8)
        self._host_chunk = device.pinned(component.chunk_bytes, np.uint8)
        room = max(shared.room, self._coder.bound(component.chunk_bytes))
        self._host_frame = device.pinned(room, np.uint8)
        #: Where a restored chunk is brought to; nothing where it stays on the device.
        self._leaving: Bytes | None = None
        self._admitted = 0
        self._last: Last | None = None
        self._on.begin(0)

    def run(self, op: str, key: int) -> Done:
        index = self._shared.index_of(op, key)
        if op == "compress":
            self._last = self._compressed(op, index)
        elif op == "decompress":
            self._last = self._decompressed(op, index)
        else:
            self._last = self._streamed(op, index)
        if self._last is None:
            # The number was used up: the stream goes on behind it.
            self._on.begin(self._admitted)
            return Done(0, "error")
        return Done(self._component.chunk_bytes)

    def verify(self) -> tuple[int, int]:
        """The answer in memory against the checksum of its source, a frame by restoring it, and the
        numbers of the stream: every one once, in order."""
        last, self._last = self._last, None
        if last is None:
            return 0, 0
        is_whole = last.sequence is None or self._is_in_order()
        holds = self._is_frame(last) if last.answer == "frame" else self._is_original(last)
        self._spoil()
        return 1, int(not (holds and is_whole))

    def plant(self, fault: str) -> bool:
        last = self._last
        if last is None:
            return False
        if last.sequence is not None and fault == "lost_result":
            # A number that was handed out and never comes.
            self._admitted += 1
            return True
        if last.sequence is not None and fault == "doubled_result":
            self._on.checksum(last.op, last.sequence)
            return True
        return self._damage(last, fault)

    def evaluate(self, op: str, inputs: Arrays) -> Arrays:
        self._give(inputs["chunk"])
        way = Way(self._on.source, self._on.source)
        found = self._coded_and_restored(op, way, 0, delivers=False)
        codec = found.codec
        if codec not in DEVICE_CODECS:
            restored = self._through_host(op, self._given, 0, delivers=False)
            assert restored is not None, f"{op}: the host restores its own frame"
            found = restored
        assert found.problems == 0, f"{op}: problems {found.problems} in its own frame"
        self.stream.download(self._host_chunk, self._on.chunk)
        self.stream.synchronize()
        answers: Arrays = {
            "chunk": self._host_chunk.copy(),
            "checksum": np.array([found.restored_sum], np.uint64),
        }
        if op == "pack":
            length = self._coded(op, way, 0, is_forced=True).length
            table_end = HEADER_BYTES + 4 * self._shared.shapes[op].blocks
            answers["encoded"] = self._framed(op, length)[table_end:].copy()
        if op == "compress":
            answers["codec"] = np.array([codec], np.uint8)
        self._spoil()
        return answers

    def cost(self, op: str) -> Cost:
        assert self._last is not None, "an operation has run"
        last, shape = self._last, self._shared.shapes[op]
        return streaming_cost.of(
            op, shape, last.codec, last.length, last.is_numeric, is_apart=self._is_apart
        )

    def frame_of(self, chunk: Bytes, sequence: int) -> Bytes:
        """The frame that the device makes of a chunk for `auto`; empty where it is the host's."""
        self._give(chunk)
        found = self._coded("auto", Way(self._on.source, self._on.source), sequence)
        is_own = found.codec in DEVICE_CODECS
        return self._framed("auto", found.length if is_own else 0).copy()

    def restored_from(self, frame: Bytes) -> tuple[Bytes, State]:
        """What the device makes of a frame of `auto`, and what it found to be wrong with it."""
        room, length = self._on.frame("auto"), len(frame)
        self._host_frame[:length] = frame
        self.stream.upload(room.part(0, length), self._host_frame[:length])
        found = self._restored("auto", room, length)
        self.stream.download(self._host_chunk, self._on.chunk)
        self.stream.synchronize()
        return self._host_chunk.copy(), found

    def _streamed(self, op: str, index: int) -> Last | None:
        """A pipeline: source, survey, coding, restoring, check and delivery under a number."""
        sequence = self._admitted
        self._admitted += 1
        coded = self._coded_and_restored(op, self._way(index), sequence, delivers=True)
        found: State | None = coded
        if coded.codec not in DEVICE_CODECS:
            found = self._through_host(op, self._on_host(index), sequence, delivers=True)
        if found is None or found.problems:
            return None
        return Last(op, index, "chunk", coded.codec, found.length, coded.is_numeric, sequence)

    def _compressed(self, op: str, index: int) -> Last:
        found = self._coded(op, self._way(index), index)
        length = found.length
        if found.codec not in DEVICE_CODECS:
            chunk = self._on_host(index)
            length, _ = self._coder.encode("auto", index, chunk, self._host_frame)
        elif self._shared.is_remote:
            self._framed(op, length)
        return Last(op, index, "frame", found.codec, length, found.is_numeric)

    def _decompressed(self, op: str, index: int) -> Last | None:
        codec, length = self._shared.codecs[index], self._shared.lengths[index]
        found: State | None
        if codec in DEVICE_CODECS:
            found = self._restored(op, self._kept(index), length, self._leaving)
        else:
            found = self._restored_by_host(op, self._kept_on_host(index), delivers=False)
        if found is None or found.problems or found.sequence != index:
            return None
        return Last(op, index, "chunk", codec, length, found.is_numeric)

    def _coded_and_restored(self, op: str, way: Way, sequence: int, *, delivers: bool) -> State:
        """Source to restored chunk, piece by piece; where the survey chose a codec of the host,
        only the checksum was taken."""
        self._on.survey(op, way.seen)
        for span in self._on.spans[op]:
            self._arrive(way, span)
            self._on.encode(op, way.source, span, sequence)
            self._on.restore(op, self._on.frame(op), 0, span, delivers=delivers)
            self._leave(way.leaving, span)
        self._gather()
        return self._on.found()

    def _coded(self, op: str, way: Way, sequence: int, *, is_forced: bool = False) -> State:
        """Source to frame."""
        self._on.survey(op, way.seen)
        for span in self._on.spans[op]:
            self._arrive(way, span)
            self._on.encode(op, way.source, span, sequence, is_forced=is_forced)
        return self._on.found()

    def _restored(
        self,
        op: str,
        frame: Buffer,
        length: int,
        leaving: Bytes | None = None,
        *,
        delivers: bool = False,
    ) -> State:
        """Frame to chunk; under the number of the frame where it `delivers`."""
        self._on.forget_problems()
        for span in self._on.spans[op]:
            self._on.restore(op, frame, length, span, delivers=delivers)
            self._leave(leaving, span)
        self._gather()
        return self._on.found()

    def _through_host(
        self, op: str, chunk: Bytes, sequence: int, *, delivers: bool
    ) -> State | None:
        """Source to restored chunk by the host's libraries."""
        choice = "auto" if op in ("compress", "decompress") else op
        length, _ = self._coder.encode(choice, sequence, chunk, self._host_frame)
        self._carry(self._host_frame[:length])
        return self._restored_by_host(op, self._host_frame[:length], delivers=delivers)

    def _restored_by_host(self, op: str, frame: Bytes, *, delivers: bool) -> State | None:
        """Frame to chunk by the host's libraries, its checksum taken by the device; None for what
        is no frame."""
        try:
            sequence = self._coder.decode(frame, self._host_chunk)
        except ValueError:
            return None
        self.stream.upload(self._on.chunk, self._host_chunk)
        self._on.forget_problems()
        self._on.checksum(op, sequence if delivers else None)
        return self._on.found()._replace(sequence=sequence, length=len(frame))

    def _framed(self, op: str, length: int) -> Bytes:
        """The lane's frame, brought to the host."""
        frame = self._host_frame[:length]
        self.stream.download(frame, self._on.frame(op).part(0, length))
        self.stream.synchronize()
        return frame

    def _give(self, chunk: Bytes) -> None:
        self._given[:] = chunk
        self.stream.upload(self._on.source, self._given)

    def _is_in_order(self) -> bool:
        found = self._on.found()
        is_whole = found.doubled == found.missing == 0 and found.delivered == self._admitted
        if not is_whole:
            self._on.begin(self._admitted)
        return is_whole

    # Where chunks and frames lie: here on the device, in `RemoteLane` on the host.

    def _way(self, index: int) -> Way:
        chunk = self._shared.chunk(index)
        return Way(chunk, chunk)

    def _arrive(self, way: Way, span: Span) -> None:
        """Brings a piece of the source to the device."""

    def _leave(self, leaving: Bytes | None, span: Span) -> None:
        """Takes a piece of the restored chunk from the device."""

    def _carry(self, frame: Bytes) -> None:
        """Takes a frame on the host on its way, from where it was made to where it is restored."""

    def _gather(self) -> None:
        """Lets what is enqueued from now on wait for all pieces that leave."""

    def _on_host(self, index: int) -> Bytes:
        """A chunk of the pool for the host's libraries."""
        self.stream.download(self._given, self._shared.chunk(index))
        self.stream.synchronize()
        return self._given

    def _kept(self, index: int) -> Buffer:
        """The kept frame of a chunk for the device's kernels."""
        return self._shared.frame(index)

    def _kept_on_host(self, index: int) -> Bytes:
        """The kept frame of a chunk for the host's libraries."""
        frame = self._host_frame[: self._shared.lengths[index]]
        self.stream.download(frame, self._kept(index).part(0, len(frame)))
        self.stream.synchronize()
        return frame

    def _is_original(self, last: Last) -> bool:
        """Whether the restored chunk in memory has the checksum of its source."""
        self._on.checksum(last.op)
        sums = self._shared.checksums["zstd" if last.op == "zstd" else "auto"]
        return self._on.found().restored_sum == sums[last.index]

    def _is_frame(self, last: Last) -> bool:
        """Whether a frame says what it is and gives the chunk back."""
        if last.codec not in DEVICE_CODECS:
            return self._is_host_frame(last)
        found = self._restored("auto", self._on.frame("auto"), last.length)
        right = self._shared.checksums["auto"][last.index]
        return (found.problems, found.sequence, found.restored_sum) == (0, last.index, right)

    def _is_host_frame(self, last: Last) -> bool:
        """Whether a frame on the host gives the chunk back."""
        try:
            sequence = self._coder.decode(self._host_frame[: last.length], self._host_chunk)
        except ValueError:
            return False
        is_right = sequence == last.index and int(self._host_frame[4]) == last.codec
        return is_right and np.array_equal(self._host_chunk, self._on_host(last.index))

    def _damage(self, last: Last, fault: str) -> bool:
        """Damages a few bytes of the answer where it lies."""
        if last.answer == "frame" and last.codec not in DEVICE_CODECS:
            return damaged(self._host_frame[: last.length], fault, last.index)
        answer = self._on.chunk if last.answer == "chunk" else self._on.frame("auto")
        length = self._component.chunk_bytes if last.answer == "chunk" else last.length
        bytes_of_it = np.zeros(length, np.uint8)
        self.stream.download(bytes_of_it, answer.part(0, length))
        self.stream.synchronize()
        is_damaged = damaged(bytes_of_it, fault, last.index)
        self.stream.upload(answer.part(0, length), bytes_of_it)
        self.stream.synchronize()
        return is_damaged

    def _spoil(self) -> None:
        self._on.spoil()
