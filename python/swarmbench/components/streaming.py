"""The `streaming` component: chunks of a stated mix, compressed, decompressed and checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from swarmbench.components import chunks
from swarmbench.components.base import Arrays, Component, Op, Profile
from swarmbench.components.chunks import Bytes, Kind
from swarmbench.units import about_bytes, check_shares

Placement = Literal["memory", "file", "device", "host_device_host", "file_device_file"]
Blend = tuple[tuple[Kind, float], ...]

#: The named data mixes: (kind, share). None is all zeros.
MIXES: Mapping[str, Blend] = {
    "mixed": (
        ("text", 0.30),
        ("json", 0.20),
        ("int32", 0.20),
        ("float32", 0.15),
        ("random", 0.10),
        ("zeros", 0.05),
    ),
    "text_binary_random": (("text", 1.0), ("int32", 1.0), ("random", 1.0)),
    "text": (("text", 1.0),),
    "json": (("json", 1.0),),
    "numeric": (("int32", 1.0), ("float32", 1.0)),
    "random": (("random", 1.0),),
}

#: Numbers of `Codec` in a frame's header.
STORED, LZ4, ZSTD, PACK = range(4)
#: Zstandard's two contexts, and a frame's header (`streaming/frame.rs`).
_CONTEXTS_BYTES, _HEADER_BYTES = 1 << 20, 32
#: What a frame takes of its chunk, in thousandths (`streaming/mod.rs`).
_FRAME_PER_MILLE: Mapping[Kind, int] = {
    "text": 600,
    "json": 220,
    "int32": 260,
    "float32": 380,
    "random": 1001,
    "zeros": 2,
}
_POOL_CHUNKS_MIN = 6
#: Where each backend can put chunks; `memory` is the backend's own.
_PLACEMENTS: Mapping[str, tuple[str, ...]] = {
    "cpu": ("memory", "file"),
    "cuda": ("memory", "device", "host_device_host", "file_device_file"),
}
#: What moves chunks of a device to files and back (`streaming/files.rs`): four requests of 256 KiB,
#: two buffers to spare and one that no request uses.
_TRANSIT_BYTES = 7 * (256 << 10)


class Streaming(Component):
    """One op is one chunk: source, transform, compress, transfer, decompress, verify.

    `auto` packs numeric chunks with the native codec, compresses others with LZ4 and lets
    incompressible ones pass; `lz4` and `zstd` use those for all that is compressible; `pack` draws
    numeric chunks only. `compress` and `decompress` are the halves of `auto`, for benchmarks, and
    no part of the production mix, in which the four pipelines weigh the same.
    """

    name: ClassVar[str] = "streaming"
    unit: ClassVar[str] = "bytes"
    ops: ClassVar[tuple[Op, ...]] = tuple(
        Op(name, "bytes", "copy_bytes_s", 1.0)
        for name in ("auto", "lz4", "zstd", "pack", "compress", "decompress")
    )
    weights: ClassVar[Mapping[str, float]] = {"auto": 1.0, "lz4": 1.0, "zstd": 1.0, "pack": 1.0}
    production_rate_s: ClassVar[float | None] = None
    capacity_share: ClassVar[float] = 0.05
    #: Four per worker on four cores: a chunk takes 0.1 to 4 ms, so no worker waits for the next
    #: one, and what queues is a few chunks' time and no memory (the buffers are the workers').
    stress_in_flight: ClassVar[int] = 16
    claim: ClassVar[str] = "10 GB/s with compression"

    chunk_bytes: int = Field(default=1 << 20, ge=4096, le=1 << 26, multiple_of=4096)
    #: Coded each on its own (Zstandard in halves), so that a worker can serve others in between:
    #: about 200 us of LZ4 on text, at a ratio of 1.78 instead of 1.84 for the whole chunk.
    block_bytes: int = Field(default=96 << 10, ge=4096, le=1 << 24, multiple_of=4096)
    #: Chunks kept and streamed in turn.
    pool_chunks: int = Field(default=64, ge=1, le=1 << 16)
    #: A name of `MIXES` or (kind, share) pairs.
    blend: Blend = MIXES["mixed"]
    zstd_level: int = Field(default=1, ge=-50, le=19)
    #: Most chunks between the source and their release in order.
    queue_depth: int = Field(default=1024, ge=1, le=1 << 20)
    placement: Placement = "memory"
    #: Where the placements `file` and `file_device_file` put their nameless files.
    directory: str = "."
    write_budget_bytes: int = Field(default=8 << 30, ge=0, lt=1 << 63)

    @field_validator("blend", mode="before")
    @classmethod
    def _named_mix(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value not in MIXES:
                raise ValueError(f"there is no mix `{value}`; choose one of {', '.join(MIXES)}")
            return MIXES[value]
        return tuple(value.items()) if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _never_all_zero(self) -> Self:
        if any(not 0.0 <= share < float("inf") for _, share in self.blend):
            raise ValueError("blend: holds a share below 0 or without end; give finite shares")
        if not any(share > 0.0 for kind, share in self.blend if kind != "zeros"):
            raise ValueError("blend: holds only zeros; it must hold something else than zeros")
        try:
            check_shares([share for _, share in self.blend])
        except ValueError as error:
            raise ValueError(f"blend: {error}") from None
        return self

    def unfit(self, backend: str) -> tuple[str, str] | None:
        """Placements on a device need one; a directory must be there."""
        if self.placement not in _PLACEMENTS[backend]:
            right = " or ".join(", ".join(_PLACEMENTS[backend]).rsplit(", ", 1))
            other = "cuda" if backend == "cpu" else "cpu"
            return "placement", f"`{self.placement}` needs the {other} backend; choose {right}"
        if "file" in self.placement and not Path(self.directory).is_dir():
            return "directory", f"there is no directory `{self.directory}`; give one"
        return None

    def on_host(self) -> Self:
        """In memory, where the placement is a device's."""
        return self.model_copy(update={"placement": "memory"})

    def written_bytes(self) -> int:
        """Chunks and frames go to files where the placement says so."""
        return self.write_budget_bytes if "file" in self.placement else 0

    def writing(self, budget_bytes: int) -> tuple[Self, list[str]]:
        """The smaller of its own budget and this one."""
        budget_bytes = min(self.write_budget_bytes, budget_bytes)
        bounded = self.model_copy(update={"write_budget_bytes": budget_bytes})
        return bounded, [f"writes {about_bytes(budget_bytes)} at most, then chunks are rejected"]

    @classmethod
    def for_profile(cls, profile: Profile, **parameters: Any) -> Self:
        """64 MiB of chunks in the quick profile, else 160 MiB: cold on caches up to 40 MiB."""
        return cls(**{"pool_chunks": 64 if profile == "quick" else 160, **parameters})

    @classmethod
    def small(cls) -> Self:
        """A pool of every kind; chunks of several blocks."""
        blend = tuple((kind, 1.0) for kind in chunks.KINDS)
        return cls(chunk_bytes=1 << 17, block_bytes=1 << 15, pool_chunks=20, blend=blend)

    def resident_bytes(self, workers: int) -> int:
        """The pool, its frames as they are expected to come out; buffers and coder of a worker."""
        frames = sum(self.chunk_bytes * _FRAME_PER_MILLE[kind] // 1000 for kind in self.kinds())
        pool = self.pool_chunks * (self.chunk_bytes + 16)
        transit = _TRANSIT_BYTES if self.placement == "file_device_file" else 0
        return pool + frames + transit + workers * self._worker_bytes()

    def _worker_bytes(self) -> int:
        """The frame at its longest, the chunk, where there are files its copy, and the coder's."""
        blocks = -(-self.chunk_bytes // (self.block_bytes // 2))
        frame = _HEADER_BYTES + 4 * blocks + self.chunk_bytes + self.block_bytes // 128 + 1024
        copies = 1 if self.placement == "memory" else 2
        return frame + copies * self.chunk_bytes + self.block_bytes + _CONTEXTS_BYTES

    def fitted(self, budget_bytes: int, workers: int) -> tuple[Self, list[str]]:
        """Keeps the chunk's size and shortens the pool, to `_POOL_CHUNKS_MIN` chunks at least."""
        low, high = min(self.pool_chunks, _POOL_CHUNKS_MIN), self.pool_chunks
        while low < high:
            middle = (low + high + 1) // 2
            fits = self._with_pool(middle).resident_bytes(workers) <= budget_bytes
            low, high = (middle, high) if fits else (low, middle - 1)
        if low == self.pool_chunks:
            return self, []
        line = f"streaming.pool_chunks: {self.pool_chunks} -> {low}"
        return self._with_pool(low), [line]

    def _with_pool(self, pool_chunks: int) -> Self:
        return self.model_copy(update={"pool_chunks": pool_chunks})

    def kinds(self) -> list[Kind]:
        """The kind of every chunk of the pool, in the stated shares over any stretch of it."""
        shares = [(kind, share) for kind, share in self.blend if share > 0.0]
        total, below, limits = 0.0, 0.0, []
        for _, share in self.blend:
            total += share
        for _, share in shares:
            below += share
            limits.append(int(below / total * 4294967296.0))
        places = [index * 0x9E3779B9 & 0xFFFFFFFF for index in range(self.pool_chunks)]
        last = len(shares) - 1
        return [
            shares[next((i for i, limit in enumerate(limits) if place < limit), last)][0]
            for place in places
        ]

    def pool_index(self, op: str, key: int) -> int:
        """Which chunk of the pool the operation `key` streams."""
        step = (key & ((1 << 48) - 1)) + (key >> 48) * 7
        kinds = self.kinds()
        if op == "pack":
            numeric = [i for i, kind in enumerate(kinds) if kind in ("int32", "float32")]
            if numeric:
                return numeric[step % len(numeric)]
        return step % self.pool_chunks

    def inputs(self, op: str, seed: int, key: int) -> Arrays:
        """`chunk`: u8, `chunk_bytes` long."""
        index = self.pool_index(op, key)
        return {"chunk": chunks.generate(self.kinds()[index], seed, index, self.chunk_bytes)}

    def reference(self, op: str, inputs: Arrays) -> Arrays:
        """`chunk` as it must come out and its `checksum` (u64); `pack` also the blocks' `encoded`
        bytes (u8), `compress` the number of the `codec` chosen (u8)."""
        chunk: Bytes = inputs["chunk"]
        block_bytes = self.block_bytes // 2 if op == "zstd" else self.block_bytes
        blocks = [chunk[at : at + block_bytes] for at in range(0, len(chunk), block_bytes)]
        answers: Arrays = {
            "chunk": chunk.copy(),
            "checksum": np.array([chunks.folded_checksum(blocks)], dtype=np.uint64),
        }
        if op == "pack":
            answers["encoded"] = np.concatenate([chunks.pack(block) for block in blocks])
        if op == "compress":
            codec = {"numeric": PACK, "incompressible": STORED, "other": LZ4}
            answers["codec"] = np.array([codec[chunks.survey(chunk)]], dtype=np.uint8)
        return answers
