"""Streaming whose chunks lie on the host: up to the device, through it, and down again."""

from __future__ import annotations

import numpy as np

from swarmbench.components.chunks import Bytes
from swarmbench.components.cuda.streaming import BLOCK, CudaStreaming
from swarmbench.components.cuda.streaming_damage import damaged
from swarmbench.components.cuda.streaming_lane import Lane, Last
from swarmbench.components.cuda.streaming_launches import Span, Way
from swarmbench.gpu.device import POISON, Buffer

#: Bytes of a chunk that travel while those before them are worked on: PCIe 4 carries them in about
#: 160 us, several times what the launches of a piece take from Python.
TRAVEL_BYTES = 4 << 20


class ArrivingLane(Lane):
    """A stream whose chunks and kept frames the host holds: pieces of a chunk travel to the device
    while those before them are worked on."""

    def __init__(
        self,
        shared: CudaStreaming,
        *,
        block: int = BLOCK,
        grid: int | None = None,
        piece_bytes: int | None = None,
    ) -> None:
        self._up = shared.device.stream()
        super().__init__(shared, block=block, grid=grid, piece_bytes=piece_bytes or TRAVEL_BYTES)

    def _arrive(self, way: Way, span: Span) -> None:
        if way.arriving is None:
            return
        piece = way.source.part(span.begin, span.end - span.begin)
        self._up.upload(piece, way.arriving[span.begin : span.end])
        self.stream.follow(self._up)

    def _kept(self, index: int) -> Buffer:
        frame = self._on.frame("auto").part(0, self._shared.lengths[index])
        self.stream.upload(frame, self._shared.host_frame(index))
        return self._on.frame("auto")

    def _kept_on_host(self, index: int) -> Bytes:
        return self._shared.host_frame(index)


class RemoteLane(ArrivingLane):
    """A stream whose chunks come from the host and go back to it: pieces travel both ways while
    others are worked on."""

    def __init__(
        self,
        shared: CudaStreaming,
        *,
        block: int = BLOCK,
        grid: int | None = None,
        piece_bytes: int | None = None,
    ) -> None:
        self._down = shared.device.stream()
        super().__init__(shared, block=block, grid=grid, piece_bytes=piece_bytes)
        self._leaving = self._host_chunk

    def _way(self, index: int) -> Way:
        host = self._shared.host_chunk(index)
        return Way(self._shared.chunk(index), self._on.source, host, self._leaving)

    def _leave(self, leaving: Bytes | None, span: Span) -> None:
        if leaving is None:
            return
        self._down.follow(self.stream)
        piece = self._on.chunk.part(span.begin, span.end - span.begin)
        self._down.download(leaving[span.begin : span.end], piece)

    def _gather(self) -> None:
        self.stream.follow(self._down)

    def _on_host(self, index: int) -> Bytes:
        return self._shared.host_chunk(index)

    def _is_original(self, last: Last) -> bool:
        return np.array_equal(self._host_chunk, self._shared.host_chunk(last.index))

    def _is_frame(self, last: Last) -> bool:
        return self._is_host_frame(last)

    def _damage(self, last: Last, fault: str) -> bool:
        answer = self._host_chunk if last.answer == "chunk" else self._host_frame[: last.length]
        return damaged(answer, fault, last.index)

    def _spoil(self) -> None:
        super()._spoil()
        self._host_chunk[:] = POISON
