"""Streaming from a file through the device to a file, from where the device restores the chunk."""

from __future__ import annotations

from swarmbench.components.chunks import Bytes
from swarmbench.components.cuda.base import Done
from swarmbench.components.cuda.streaming import BLOCK, DEVICE_CODECS, CudaStreaming, State
from swarmbench.components.cuda.streaming_disk import ChunkFile, DamagedError, SpentError
from swarmbench.components.cuda.streaming_launches import Way
from swarmbench.components.cuda.streaming_remote import ArrivingLane
from swarmbench.gpu.device import POISON


class FileLane(ArrivingLane):
    """A stream whose chunks are read from a file into pinned memory and travel to the device in
    pieces; the frame goes to the lane's place in the file and back, and is restored on the device.

    As on the CPU, `compress` ends with the frame and `decompress` begins with one in memory, so
    neither writes. Where the write budget is spent an operation is rejected; where the disk fails
    it is an error, and where it gives back something else, a violation too.
    """

    _is_apart = True

    def __init__(
        self,
        shared: CudaStreaming,
        file: ChunkFile,
        *,
        block: int = BLOCK,
        grid: int | None = None,
        piece_bytes: int | None = None,
    ) -> None:
        super().__init__(shared, block=block, grid=grid, piece_bytes=piece_bytes)
        self._file, self._place = file, file.claim()
        self._seen = shared.device.mapped(self._given)
        #: The chunk of the pool that `_given` holds.
        self._held: int | None = None
        self._damaged = 0

    def run(self, op: str, key: int) -> Done:
        try:
            done = super().run(op, key)
        except SpentError:
            done = Done(0, "rejected")
        except DamagedError:
            self._damaged += 1
            done = Done(0, "error")
        except OSError:
            done = Done(0, "error")
        else:
            # A frame that cannot be restored was damaged on its way.
            self._damaged += int(done.status == "error")
            return done
        # The number was used up: the stream goes on behind it.
        self._last = None
        self._on.begin(self._admitted)
        return done

    def verify(self) -> tuple[int, int]:
        """As that of chunks on the device, with what the file gave back wrong since the last."""
        checked, violations = super().verify()
        damaged, self._damaged = self._damaged, 0
        violations += damaged
        return max(checked, violations), violations

    def _coded_and_restored(self, op: str, way: Way, sequence: int, *, delivers: bool) -> State:
        """Source to frame, through the file, and to the restored chunk; where the survey chose a
        codec of the host, only the checksum was taken."""
        coded = self._coded(op, way, sequence)
        if coded.codec not in DEVICE_CODECS:
            return coded
        frame = self._framed(op, coded.length)
        self._carry(frame)
        room = self._on.frame(op).part(0, len(frame))
        # What does not arrive must not be what was there before.
        self.stream.fill(room, POISON)
        self.stream.upload(room, frame)
        return self._restored(op, self._on.frame(op), len(frame), delivers=delivers)

    def _carry(self, frame: Bytes) -> None:
        self._file.carry(frame, self._place)

    def _way(self, index: int) -> Way:
        self._held = None
        return Way(self._seen, self._on.source, self._on_host(index))

    def _give(self, chunk: Bytes) -> None:
        self._held = None
        super()._give(chunk)

    def _on_host(self, index: int) -> Bytes:
        if self._held != index:
            self._file.fetch(index, self._given)
            self._held = index
        return self._given
