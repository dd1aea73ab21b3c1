"""What a lane of streaming enqueues: its buffers, the kernels over a chunk's blocks, the state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from swarmbench.components.chunks import Bytes
from swarmbench.components.cuda.streaming import (
    BLOCK,
    GROUP_BYTES,
    STATE,
    WARP_BYTES,
    CudaStreaming,
    Shape,
    State,
    sums_of,
)
from swarmbench.gpu.device import POISON, Buffer, Stream

#: What an op asks of the survey, as the codecs' numbers; 0 leaves the choice to it.
_CHOICES = {"auto": 0, "lz4": 1, "zstd": 2, "pack": 3, "compress": 0, "decompress": 0}
#: Ops that may pack.
PACKING = ("auto", "pack", "compress", "decompress")
#: Blocks to a multiprocessor of a full grid of warps.
_BLOCKS_EACH = 16


@dataclass(frozen=True, slots=True)
class Span:
    """Blocks of a chunk that one round of launches works on, and their bytes in the chunk;
    `numbers` are what kernels take of it: first, count, groups of a block and of the chunk."""

    count: int
    begin: int
    end: int
    numbers: tuple[np.uint32, ...]


def spans(shape: Shape, piece_bytes: int) -> list[Span]:
    """A chunk cut into pieces of whole blocks, of about `piece_bytes` and one block at least."""
    block_bytes, end = shape.block_groups * GROUP_BYTES, shape.groups * GROUP_BYTES
    each = max(1, piece_bytes // block_bytes)
    found = []
    for first in range(0, shape.blocks, each):
        count = min(each, shape.blocks - first)
        numbers = (first, count, shape.block_groups, shape.groups)
        begin = first * block_bytes
        words = tuple(np.uint32(number) for number in numbers)
        found.append(Span(count, begin, min(end, begin + count * block_bytes), words))
    return found


class Launches:
    """One lane's memory on the device and what is enqueued over it, on `stream`."""

    def __init__(
        self,
        shared: CudaStreaming,
        stream: Stream,
        block: int = BLOCK,
        grid: int | None = None,
        piece_bytes: int | None = None,
    ) -> None:
        component, device = shared.streaming, shared.device
        self._shared, self._stream = shared, stream
        self._block, self._grid = block, grid
        self._full = device.multiprocessors * _BLOCKS_EACH
        piece_bytes = piece_bytes or component.chunk_bytes
        self.spans = {op: spans(shape, piece_bytes) for op, shape in shared.shapes.items()}
        self._kernels = {
            name: device.kernel(file, f"streaming_{name}")
            for name, file in (
                ("survey", "streaming.cu"),
                ("measure", "streaming.cu"),
                ("pack", "streaming.cu"),
                ("restore", "streaming_restore.cu"),
            )
        }
        blocks = sums_of(component)
        self.source = device.empty(component.chunk_bytes, np.uint8)
        self.chunk = device.empty(component.chunk_bytes, np.uint8)
        self._frame_room = device.empty(shared.room, np.uint8)
        self._frames = {
            op: self._frame_room.part(shape.pad, shared.room - shape.pad)
            for op, shape in shared.shapes.items()
        }
        self._places = device.empty(component.chunk_bytes // GROUP_BYTES, np.uint32)
        self._offsets = device.empty(blocks, np.uint32)
        self._sums = device.empty(blocks, np.uint64)
        self._state = device.empty(len(STATE), np.uint64)
        self._host_state = device.pinned(len(STATE), np.uint64)

    def survey(self, op: str, chunk: Buffer) -> None:
        """Chooses the codec of a chunk."""
        groups, choice = np.uint32(self._shared.shapes[op].groups), np.uint32(_CHOICES[op])
        self._stream.launch(
            self._kernels["survey"], 1, self._block, [chunk, groups, choice, self._state]
        )

    def encode(
        self, op: str, source: Buffer, span: Span, sequence: int, *, is_forced: bool = False
    ) -> None:
        """Codes blocks of a chunk into the lane's frame; where the survey chose a codec of the
        host, only their checksums are taken."""
        numbers, frame = span.numbers, self.frame(op)
        self._stream.launch(
            self._kernels["measure"],
            self._grid or span.count,
            self._block,
            [
                source,
                *numbers,
                np.uint32(is_forced),
                np.uint64(sequence),
                self._places,
                self._sums,
                self._offsets,
                frame,
                self._state,
            ],
            shared_bytes=self._block // 32 * WARP_BYTES,
        )
        if op not in PACKING:
            return
        groups = (span.end - span.begin) // GROUP_BYTES
        self._stream.launch(
            self._kernels["pack"],
            self._grid or min(self._full, -(-groups * 32 // self._block)),
            self._block,
            [source, *numbers, self._places, self._offsets, frame, self._state],
        )

    def restore(self, op: str, frame: Buffer, length: int, span: Span, *, delivers: bool) -> None:
        """Restores blocks of a frame to the lane's chunk; a frame of length 0 is the one that the
        state tells of. With the last block the chunk is checked and delivered."""
        self._stream.launch(
            self._kernels["restore"],
            self._grid or span.count,
            self._block,
            [
                frame,
                np.uint32(length),
                *span.numbers,
                np.uint32(delivers),
                self._sums,
                self._state,
                self.chunk,
            ],
            shared_bytes=self._block // 32 * WARP_BYTES,
        )

    def checksum(self, op: str, sequence: int | None = None) -> None:
        """Takes the checksum of the lane's chunk as it lies in memory; one with a number is held
        against that of the source and delivered."""
        buffers = (self.chunk, self._sums, self._state)
        self._shared.launch_checksum(
            self._stream, op, buffers, sequence=sequence, block=self._block, grid=self._grid
        )

    def frame(self, op: str) -> Buffer:
        """The lane's frame, with all its room."""
        return self._frames[op]

    def forget_problems(self) -> None:
        """What was wrong with the last frame is not wrong with the next."""
        self._stream.fill(self._state.part(STATE.index("problems"), 1), 0)

    def begin(self, delivered: int) -> None:
        """Lets the stream go on behind `delivered` chunks."""
        self._host_state[:] = 0
        self._host_state[STATE.index("delivered")] = delivered
        self._stream.upload(self._state, self._host_state)
        self._stream.synchronize()

    def spoil(self) -> None:
        """What the next operation does not restore shall not look as if it had."""
        self._stream.fill(self.chunk, POISON)
        self._stream.synchronize()

    def found(self) -> State:
        """The state once all that was enqueued has ended."""
        self._stream.download(self._host_state, self._state)
        self._stream.synchronize()
        return State(*self._host_state.tolist())


@dataclass(frozen=True, slots=True)
class Way:
    """Where a chunk comes from: what the survey looks at, what is coded, and, where they are the
    host's, what is uploaded to there and what the restored chunk is downloaded to."""

    seen: Buffer
    source: Buffer
    arriving: Bytes | None = None
    leaving: Bytes | None = None
