"""Streaming on a device: the pool of chunks, their frames, and what all lanes know of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np

from swarmbench import _native
from swarmbench.components import chunks
from swarmbench.components.base import Component
from swarmbench.components.chunks import Bytes, Kind
from swarmbench.components.cuda.base import CudaComponent, CudaOperation
from swarmbench.components.cuda.streaming_disk import ChunkFile
from swarmbench.components.philox import stream_key
from swarmbench.components.streaming import PACK, STORED, Streaming
from swarmbench.errors import MachineError
from swarmbench.gpu.device import Buffer, Stream

GROUP_BYTES, HEADER_BYTES = 2048, 32
#: Threads of a block, and of the one that makes a chunk by seed.
BLOCK, SOURCE_BLOCK = 256, 1024
#: Codecs whose kernels are here; the host's libraries have the others.
DEVICE_CODECS = (STORED, PACK)
#: Shared memory of a warp: a group of words.
WARP_BYTES = GROUP_BYTES
_FILE = "streaming_source.cu"
#: Placements whose chunks and frames the host holds.
_HOSTS = ("host_device_host", "file_device_file")


class State(NamedTuple):
    """What the kernels of a lane know of the chunk under way and of the lane's stream, a word each
    (`State` in streaming.cuh)."""

    codec: int
    is_shuffled: int
    done: int
    length: int
    source_sum: int
    restored_sum: int
    problems: int
    sequence: int
    delivered: int
    doubled: int
    missing: int

    @property
    def is_numeric(self) -> bool:
        """Whether the survey found words of small differences."""
        return self.codec == PACK or self.is_shuffled == 1


STATE = State._fields


@dataclass(frozen=True, slots=True)
class Shape:
    """A chunk as its kernels see it: whole groups, in blocks of so many of them."""

    groups: int
    block_groups: int

    @property
    def blocks(self) -> int:
        """Blocks of the chunk; the last may be shorter."""
        return -(-self.groups // self.block_groups)

    @property
    def pad(self) -> int:
        """Bytes in front of a frame, so that its first block begins at a multiple of 16."""
        return -4 * self.blocks % 16

    @property
    def room(self) -> int:
        """Bytes of a frame at its longest, packed against all reason, and of what is before it."""
        longest = HEADER_BYTES + self.blocks * (4 + 4) + self.groups * (GROUP_BYTES + 1)
        return -(-(self.pad + longest) // 16) * 16

    @classmethod
    def of(cls, component: Streaming, op: str) -> Shape:
        """The shape in which an op codes its chunks: Zstandard's blocks are half as long."""
        block_bytes = component.block_bytes // 2 if op == "zstd" else component.block_bytes
        return cls(component.chunk_bytes // GROUP_BYTES, block_bytes // GROUP_BYTES)


def shapes(component: Streaming) -> dict[str, Shape]:
    """The shape of each op."""
    return {op.name: Shape.of(component, op.name) for op in component.ops}


def room_of(component: Streaming) -> int:
    """Bytes that hold a frame of any op."""
    return max(shape.room for shape in shapes(component).values())


def sums_of(component: Streaming) -> int:
    """Blocks of the op that has most."""
    return max(shape.blocks for shape in shapes(component).values())


class CudaStreaming(CudaComponent):
    """What all lanes share: the chunks, their frames and checksums, and where those lie.

    Chunks of random words and of walks are made on the device by seed, text and JSON come from the
    CPU's backend; frames are the CPU's, so that what the device decodes is what another coded.
    """

    name: ClassVar[str] = "streaming"

    def build(self) -> None:
        self.streaming = streaming = cast(Streaming, self.component)
        self.shapes = shapes(streaming)
        self.is_remote = streaming.placement == "host_device_host"
        self.is_hosts = streaming.placement in _HOSTS
        is_filed = streaming.placement == "file_device_file"
        self.file = ChunkFile(streaming, self.native) if is_filed else None
        self.kinds = streaming.kinds()
        numeric = [i for i, kind in enumerate(self.kinds) if kind in ("int32", "float32")]
        self._numeric = numeric or list(range(len(self.kinds)))
        self.room = room_of(streaming)
        take = self._host_memory if self.is_hosts else self._device_memory
        # Chunks of a file pass through the room of one while they are made.
        chunks_held = streaming.pool_chunks if self.file is None else 1
        self.pool, self._host_pool = take(chunks_held * streaming.chunk_bytes)
        self.frames, self._host_frames = take(streaming.pool_chunks * self.room)
        self._sums = self.device.empty(sums_of(streaming), np.uint64)
        self._state = self.device.empty(len(STATE), np.uint64)
        #: Length and codec of each kept frame; checksums in whole blocks and in halves.
        self.lengths: list[int] = []
        self.codecs: list[int] = []
        self.checksums: dict[str, list[int]] = {"auto": [], "zstd": []}
        self._fill()

    def _device_memory(self, nbytes: int) -> tuple[Buffer, Bytes]:
        return self.device.empty(nbytes, np.uint8), np.zeros(0, np.uint8)

    def _host_memory(self, nbytes: int) -> tuple[Buffer, Bytes]:
        """Memory of the host, and the device's view of it."""
        host = self.device.pinned(nbytes, np.uint8)
        return self.device.mapped(host), host

    def operation(self) -> CudaOperation:
        # The lanes import this module.
        from swarmbench.components.cuda.streaming_file import FileLane
        from swarmbench.components.cuda.streaming_lane import Lane
        from swarmbench.components.cuda.streaming_remote import RemoteLane

        if self.file is not None:
            return FileLane(self, self.file)
        return RemoteLane(self) if self.is_remote else Lane(self)

    @classmethod
    def device_bytes(cls, component: Component, lanes: int) -> int:
        streaming = cast(Streaming, component)
        room, blocks = room_of(streaming), sums_of(streaming)
        groups = streaming.chunk_bytes // GROUP_BYTES
        chunks_held = 0 if streaming.placement in _HOSTS else streaming.pool_chunks
        pool = chunks_held * (streaming.chunk_bytes + room)
        state = 8 * blocks + 8 * len(STATE)
        lane = 2 * streaming.chunk_bytes + room + 4 * groups + 4 * blocks
        return pool + state + lanes * (lane + state)

    @classmethod
    def host_bytes(cls, component: Component, lanes: int) -> int:
        streaming = cast(Streaming, component)
        chunk_bytes, room, pool = streaming.chunk_bytes, room_of(streaming), 0
        if streaming.placement in _HOSTS:
            is_filed = streaming.placement == "file_device_file"
            chunks_held = 1 if is_filed else streaming.pool_chunks
            pool = chunks_held * chunk_bytes + streaming.pool_chunks * room
        coder = _native.Coder(streaming.block_bytes, streaming.zstd_level)
        state = 8 * len(STATE)
        lane = 2 * chunk_bytes + max(room, coder.bound(chunk_bytes)) + state
        return pool + state + lanes * lane

    def describe(self) -> dict[str, Any]:
        """Which chunks the host's libraries code, and whether a file is past the page cache."""
        return {
            "placement": self.streaming.placement,
            "host_coded_chunks": sum(codec not in DEVICE_CODECS for codec in self.codecs),
            "direct_io": None if self.file is None else self.file.is_direct,
        }

    def index_of(self, op: str, key: int) -> int:
        """Which chunk of the pool the operation `key` streams; `Streaming.pool_index`, faster."""
        step = (key & ((1 << 48) - 1)) + (key >> 48) * 7
        if op == "pack":
            return self._numeric[step % len(self._numeric)]
        return step % len(self.kinds)

    def chunk(self, index: int) -> Buffer:
        """A chunk of the pool, as the device sees it."""
        first, nbytes = self._place(index), self.streaming.chunk_bytes
        return self.pool.part(first, nbytes)

    def host_chunk(self, index: int) -> Bytes:
        """A chunk of a pool that the host holds."""
        first, nbytes = self._place(index), self.streaming.chunk_bytes
        return self._host_pool[first : first + nbytes]

    def _place(self, index: int) -> int:
        return index * self.streaming.chunk_bytes if self.file is None else 0

    def frame(self, index: int) -> Buffer:
        """The kept frame of a chunk, as the device sees it, and the room behind it."""
        pad = self.shapes["auto"].pad
        return self.frames.part(index * self.room + pad, self.room - pad)

    def host_frame(self, index: int) -> Bytes:
        """The kept frame of a chunk whose frames the host holds."""
        first = index * self.room + self.shapes["auto"].pad
        return self._host_frames[first : first + self.lengths[index]]

    def launch_checksum(
        self,
        stream: Stream,
        op: str,
        buffers: tuple[Buffer, Buffer, Buffer],
        *,
        sequence: int | None = None,
        block: int = BLOCK,
        grid: int | None = None,
    ) -> None:
        """Enqueues taking a chunk's checksum into the state's `restored_sum`; `buffers` are chunk,
        sums and state. One with a number is held against the source's and delivered."""
        shape = self.shapes[op]
        numbers = (shape.block_groups, shape.groups, sequence is not None)
        stream.launch(
            self.device.kernel("streaming_restore.cu", "streaming_checksum"),
            grid or shape.blocks,
            block,
            [
                buffers[0],
                *(np.uint32(number) for number in numbers),
                np.uint64(sequence or 0),
                *buffers[1:],
            ],
            shared_bytes=block // 32 * WARP_BYTES,
        )

    def _fill(self) -> None:
        """Makes the pool, its checksums, and the frames by the CPU's coder."""
        streaming, stream = self.streaming, self.device.stream()
        coder = _native.Coder(streaming.block_bytes, streaming.zstd_level)
        room = np.zeros(coder.bound(streaming.chunk_bytes), np.uint8)
        op, state = np.zeros(1, np.uint8), self.device.pinned(len(STATE), np.uint64)
        stream.upload(self._state, state)
        for index, kind in enumerate(self.kinds):
            key = np.array([index], np.uint64)
            chunk = self.native.evaluate("source", {"op": op, "key": key})["chunk"]
            self._make(stream, kind, index, chunk)
            length, codec = coder.encode("auto", index, chunk, room)
            self.lengths.append(length)
            self.codecs.append(codec)
            if self.is_hosts:
                self.host_frame(index)[:] = room[:length]
            else:
                stream.upload(self.frame(index).part(0, length), room[:length])
            for name in self.checksums:
                self.launch_checksum(stream, name, (self.chunk(index), self._sums, self._state))
                stream.download(state, self._state)
                stream.synchronize()
                self.checksums[name].append(int(state[STATE.index("restored_sum")]))
            if self.checksums["auto"][index] != int(room[16:24].view(np.uint64)[0]):
                raise MachineError(
                    f"streaming: the device's chunk {index} ({kind}) is not the CPU's",
                    hint="the device computes wrongly; see its ECC counters and Xid messages",
                )
            self.progress("chunks", (index + 1) / len(self.kinds))
        if self.file is not None:
            self.file.make_room()

    def _make(self, stream: Stream, kind: Kind, index: int, chunk: Bytes) -> None:
        """Makes a chunk of the pool, on the device by seed where it can; `chunk` is the CPU's."""
        target = self.chunk(index)
        if self.is_hosts:
            self.host_chunk(index)[:] = chunk
            if self.file is not None:
                self.file.keep(chunk)
        elif kind == "zeros":
            stream.fill(target, 0)
        elif kind in ("text", "json"):
            stream.upload(target, chunk)
        else:
            number = chunks.KINDS.index(kind)
            key = stream_key(self.seed, chunks.DOMAIN + number)
            words = [np.uint32(word) for word in (*key, len(chunk) // 4)]
            stream.launch(
                self.device.kernel(_FILE, "streaming_source"),
                1,
                SOURCE_BLOCK,
                [np.uint32(number), np.uint64(index), *words, target],
            )
