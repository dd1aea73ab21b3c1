"""The file of the placement `file_device_file`: the chunks of the pool, and the frames of lanes."""

from __future__ import annotations

import numpy as np

from swarmbench import _native
from swarmbench.components.chunks import Bytes
from swarmbench.components.streaming import Streaming

PAGE_BYTES = 4096
#: Words lie in the file as they are.
_MASK = 0


class SpentError(Exception):
    """The write budget does not allow what was to be written."""


class DamagedError(Exception):
    """What was read is not what was written."""


class ChunkFile:
    """A nameless file, within the component's write budget, past the page cache where the file
    system can: first the chunks, then room for the frame of each lane.

    What is read is held against the checksum of what was written; a frame has its number in it, so
    none of before passes for it. Lanes wait for one another. Raises `ValueError` where the
    directory is refused.
    """

    def __init__(self, component: Streaming, native: _native.Component) -> None:
        self._file = native.block_file()
        self._directory = component.directory
        self._chunk_bytes = component.chunk_bytes
        self._frames_begin = component.pool_chunks * component.chunk_bytes
        coder = _native.Coder(component.block_bytes, component.zstd_level)
        # A packed frame is no longer than one of the host's at its longest.
        longest = coder.bound(component.chunk_bytes)
        self._frame_bytes = -(-longest // PAGE_BYTES) * PAGE_BYTES
        #: Of each chunk, as it was written.
        self._sums: list[int] = []
        self._lanes = 0

    @property
    def is_direct(self) -> bool:
        """Whether it is read and written past the page cache."""
        return self._file.is_direct

    def keep(self, chunk: Bytes) -> None:
        """Writes the next chunk of the pool. Raises `ValueError` where the write budget does not
        allow it or the disk fails."""
        index = len(self._sums)
        self._sums.append(self._made(chunk, index * self._chunk_bytes))

    def make_room(self) -> None:
        """Writes the room of the first lane, so that a disk without it shows before a run. Raises
        as `keep`."""
        self._made(np.zeros(self._frame_bytes, np.uint8), self._frames_begin)

    def _made(self, block: Bytes, offset: int) -> int:
        try:
            written = self._file.write(block, offset, _MASK)
        except OSError as error:
            raise ValueError(
                f"directory: `{self._directory}`: {error}; give one that can be written and has "
                "room"
            ) from None
        if written is None:
            raise ValueError("write_budget_bytes: is less than the source file needs")
        return written

    def claim(self) -> int:
        """Where the frames of another lane go."""
        self._lanes += 1
        return self._frames_begin + (self._lanes - 1) * self._frame_bytes

    def fetch(self, index: int, room: Bytes) -> None:
        """Reads a chunk of the pool. Raises `OSError` where the disk fails, `DamagedError` where it
        is another one."""
        if self._file.read(room, index * self._chunk_bytes, _MASK) != self._sums[index]:
            raise DamagedError(f"chunk {index}")

    def carry(self, frame: Bytes, place: int) -> None:
        """Writes a frame to a lane's place and reads it again. Raises `SpentError` without having
        written, `OSError` where the disk fails, `DamagedError` where another frame came back."""
        written = self._file.write(frame, place, _MASK)
        if written is None:
            raise SpentError
        # What is not read after all must not look as if it had been.
        marks = frame[::PAGE_BYTES]
        np.invert(marks, out=marks)
        if self._file.read(frame, place, _MASK) != written:
            raise DamagedError("a frame")
