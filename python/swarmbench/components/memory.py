"""The `memory` component: blocks that move between tiers, and a storm of allocations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from swarmbench import machine
from swarmbench.components import chunks, philox
from swarmbench.components.base import Arrays, Component, Op, Profile
from swarmbench.units import about_bytes

#: First domain of this component's random streams.
_DOMAIN = 0x4D454D00
DOMAIN_CONTENT, DOMAIN_BLOCK, _DOMAIN_ALLOCATION = _DOMAIN + 1, _DOMAIN + 2, _DOMAIN + 3

PAGE_BYTES = 4096
GRANULE_BYTES = 1024
_TAG_BYTES = 16
#: A cache line before the bytes handed out, a word behind them: both hold a canary.
FRONT_BYTES, _BACK_BYTES = 64, 8
_BLOCK_RECORD_BYTES = 128
#: Staging buffers of a worker beyond its requests in flight; one more is used by none.
_BUFFERS_SPARE = 2
#: What a storm keeps of when each allocation is due, and of each that is alive.
_BOOKS_BYTES = (1 << 16) * 4 + 8192 * 36
_LIFETIME_MAX = (1 << 16) - 1
_LIFETIME_MEAN_MAX = 4096.0
#: Allocators of each backend, first the usual one.
_ALLOCATORS = {"cpu": ("pool", "heap"), "cuda": ("pool", "pinned", "raw")}
#: Allocations in one call of `inputs`.
_STRETCH = 256

_ONE = 1 << 32
#: 2^f = 1 + f (a + (1 - a) f) and log2(1 + f) = f (1 + b - b f), in 2^-32.
_POWER_LINEAR, _LOGARITHM_CURVE = 0xA810624E, 0x58B43958

_MIB = 1 << 20
_POOL_MIN_BYTES = 4 * _MIB
_SIZE_FITTED_MIN_BYTES = 64 << 10
_PROFILE_SIZES: Mapping[Profile, Mapping[str, int]] = {
    "quick": {"size_max_bytes": 16 * _MIB, "write_budget_bytes": 16 << 30},
    "standard": {"size_max_bytes": 100_000_000, "pool_bytes": 512 * _MIB},
    "full": {"size_max_bytes": 100_000_000, "pool_bytes": 1024 * _MIB},
}


def log_uniform(least: int, most: int, position: int) -> int:
    """The size at `position` / 2^32 of the way between two bounds, in integers alone."""
    octaves = int(math.log2(most / least) * (1 << 20) + 0.5)
    exponent = position * octaves
    fraction = (exponent >> 20) & (_ONE - 1)
    curve = _POWER_LINEAR + ((_ONE - _POWER_LINEAR) * fraction >> 32)
    power = _ONE + (fraction * curve >> 32)
    return min((least << (exponent >> 52)) * power >> 32, most)


def halvings(draw: int) -> int:
    """-log2 of a uniform 64-bit draw, in 2^-32."""
    draw |= 1
    zeros = 64 - draw.bit_length()
    fraction = (draw << (zeros + 1) & ((1 << 64) - 1)) >> 32
    curve = _ONE + _LOGARITHM_CURVE - (_LOGARITHM_CURVE * fraction >> 32)
    return ((zeros + 1) << 32) - (fraction * (curve >> 1) >> 31)


def taken_bytes(size: int) -> int:
    """What an allocation of `size` takes of its source and of the bound."""
    least = FRONT_BYTES + -(-size // 8) * 8 + _BACK_BYTES
    return -(-least // GRANULE_BYTES) * GRANULE_BYTES


@cache
def _is_direct(directory: str) -> bool:
    return machine.direct_problem(Path(directory)) is None


class Memory(Component):
    """Blocks that migrate between the tiers `cpu` and `nvme`, and a storm of allocations.

    `migrate` moves one block to the other tier, `round_trip` there and back; which block follows
    from the key, or it is the next that is free to be moved. Blocks have log-uniform sizes and
    never change, so that every checksum is known. Half of them fit the tier in memory. `allocate`
    frees what is due, allocates a log-uniform size for an exponential lifetime and touches it;
    above the bound of its worker (`pool_bytes`) it is rejected. Lifetimes count in operations of a
    worker: the mean is `lifetime_s` at `allocation_rate_s`, or by Little's law as much less as
    keeps `live_share` of the bound alive. Once `write_budget_bytes` are written, migrations only
    read.

    On CUDA there is a third tier, `gpu`: a block moves to either of the two that it is not in, as
    its key says, or with a `way` in one direction alone, and the storm is of memory of the device
    or of pinned memory, by its `allocator`.

    The mix is that of the original: 10 000 allocations and 50 migrations a second.
    """

    name: ClassVar[str] = "memory"
    unit: ClassVar[str] = "bytes"
    #: Bytes that moved and bytes that were handed out are told apart, for they share no roof.
    #: Floors per byte: at most every second hop is a read and writes may overlap them, so half a
    #: byte is read from the disk; a page that is touched has one line of 64 bytes written.
    ops: ClassVar[tuple[Op, ...]] = (
        Op("migrate", "bytes", "disk_read_direct_bytes_s", 0.5),
        Op("allocate", "allocated bytes", "cache_read_bytes_s", 64.0 / PAGE_BYTES),
        Op("round_trip", "bytes", "disk_read_direct_bytes_s", 0.5),
    )
    weights: ClassVar[Mapping[str, float]] = {"migrate": 1.0, "allocate": 200.0}
    production_rate_s: ClassVar[float | None] = 10_050.0
    #: Two per worker of a machine of 32: a worker waits for the disk, not for the next operation.
    stress_in_flight: ClassVar[int] = 64
    claim: ClassVar[str] = "migration < 1 ms (impossible for 100 MB: 4 ms over PCIe 4)"

    #: Blocks that the tiers hold together.
    blocks: int = Field(default=48, ge=4, le=4096)
    size_min_bytes: int = Field(default=4096, ge=512, le=1 << 30)
    size_max_bytes: int = Field(default=16 * _MIB, ge=512, le=1 << 30)
    #: Copied, summed and moved by the disk in one piece; a worker serves others in between.
    chunk_bytes: int = Field(default=_MIB, ge=PAGE_BYTES, le=16 * _MIB, multiple_of=PAGE_BYTES)
    chunks_in_flight: int = Field(default=4, ge=2, le=64)
    #: On CUDA: chunks on their way between the host and the device at a time.
    streams: int = Field(default=2, ge=1, le=4)
    #: On CUDA: the tier `cpu` and what passes through the host. The driver copies `pinned` memory
    #: where it lies and stages `pageable`, which the processor sums where it arrives.
    host_memory: Literal["pinned", "pageable"] = "pinned"
    #: On CUDA: `up`, every migration takes a block of the tier `cpu` to the device, `down` back;
    #: it is where it was before the next one, for its bytes never left. `any`: to any tier.
    way: Literal["any", "up", "down"] = "any"
    #: `auto`: io_uring where the kernel allows it, else threads with pread and pwrite.
    io: Literal["auto", "io_uring", "threads"] = "auto"
    #: Whether a block is made durable before its room in memory is given away.
    fsync: Literal["none", "data"] = "none"
    #: Where the nameless file of the tier `nvme` lies.
    directory: str = "."
    write_budget_bytes: int = Field(default=64 << 30, ge=0, lt=1 << 63)
    #: `heap` is the control: malloc and free of the C library. On CUDA `pool` lies on the device;
    #: there `pinned`, a pool in pinned memory of the host, and `raw`, which asks the driver for
    #: each allocation (cudaMalloc, cudaFree), are the controls.
    allocator: Literal["pool", "heap", "pinned", "raw"] = "pool"
    pool_bytes: int = Field(default=256 * _MIB, ge=_MIB, le=1 << 40)
    allocation_min_bytes: int = Field(default=1000, ge=8)
    allocation_max_bytes: int = Field(default=100_000_000, ge=8)
    touch: Literal["none", "page", "fill"] = "page"
    lifetime_s: float = Field(default=30.0, ge=1e-6, le=3600.0)
    allocation_rate_s: float = Field(default=10_000.0, ge=1.0, le=1e9)
    #: 1/16 leaves one allocation in 30 000 without room, 1/8 one in 2000.
    live_share: float = Field(default=0.0625, ge=0.001, le=0.9)
    #: One operation in so many is checked in full: its bytes, its place, the books.
    check_every: int = Field(default=16, ge=1, le=1 << 20)

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if self.size_min_bytes > self.size_max_bytes:
            raise ValueError("size_min_bytes: is more than size_max_bytes")
        if self.allocation_min_bytes > self.allocation_max_bytes:
            raise ValueError("allocation_min_bytes: is more than allocation_max_bytes")
        if self.allocation_max_bytes > self.pool_bytes // 2:
            raise ValueError("allocation_max_bytes: is more than half of pool_bytes")
        return self

    @classmethod
    def for_profile(cls, profile: Profile, **parameters: Any) -> Self:
        """Quick: blocks up to 16 MiB and 16 GiB written at most; else up to 100 MB, 64 GiB."""
        return cls(**{**_PROFILE_SIZES[profile], **parameters})

    @classmethod
    def small(cls) -> Self:
        """Blocks up to 256 KiB, allocations up to 1 MB: the plain checksum takes a millisecond."""
        return cls(
            blocks=12,
            size_max_bytes=256 << 10,
            chunk_bytes=64 << 10,
            pool_bytes=16 * _MIB,
            allocation_max_bytes=1_000_000,
        )

    def unfit(self, backend: str) -> tuple[str, str] | None:
        """A directory must be there, every block may be written once, and what only a device has
        is not there without one."""
        if self.allocator not in _ALLOCATORS[backend]:
            known = ", ".join(f"`{each}`" for each in _ALLOCATORS[backend])
            problem = f"backend `{backend}` has no `{self.allocator}`; choose one of {known}"
            return "allocator", problem
        if backend == "cpu" and self != self.on_host():
            key = "way" if self.way != "any" else "host_memory"
            problem = f"`{getattr(self, key)}` is of copies to a device, and backend `cpu` has none"
            return key, f"{problem}; leave it out"
        if not Path(self.directory).is_dir():
            return "directory", f"there is no directory `{self.directory}`; give one"
        least = sum(-(-size // PAGE_BYTES) * PAGE_BYTES for size in self.block_sizes())
        if self.write_budget_bytes < least:
            allowed = about_bytes(self.write_budget_bytes)
            problem = f"{allowed} is less than the {about_bytes(least)} of its blocks"
            return "write_budget_bytes", problem
        return None

    def on_host(self) -> Self:
        """The same blocks and allocations, without what only a device has."""
        host = {"allocator": self.allocator, "host_memory": "pinned", "way": "any"}
        if self.allocator not in _ALLOCATORS["cpu"]:
            host["allocator"] = _ALLOCATORS["cpu"][0]
        return self.model_copy(update=host)

    def written_bytes(self) -> int:
        """All that its own budget allows: how soon it is spent depends on the disk."""
        return self.write_budget_bytes

    def writing(self, budget_bytes: int) -> tuple[Self, list[str]]:
        """The smaller of its own budget and this one."""
        budget_bytes = min(self.write_budget_bytes, budget_bytes)
        bounded = self.model_copy(update={"write_budget_bytes": budget_bytes})
        return bounded, [f"writes {about_bytes(budget_bytes)} at most, then migrations only read"]

    def disk_directory(self) -> Path | None:
        """The directory of the tier `nvme`."""
        return Path(self.directory)

    def cost(self, op: Op) -> float:
        """Allocations that touch nothing have no roof, filled ones write every byte; what a file
        system buffers, or never leaves host and device, has nothing to do with the disk's."""
        if op.name == "migrate" and self.way != "any":
            return 0.0
        if op.name != "allocate":
            return op.cost if _is_direct(self.directory) else 0.0
        return {"none": 0.0, "page": op.cost, "fill": 1.0}[self.touch]

    def block_sizes(self) -> list[int]:
        """Bytes of every block, rising: evenly spread over the log-uniform distribution."""
        positions = [((2 * index + 1) << 31) // self.blocks for index in range(self.blocks)]
        least, most = self.size_min_bytes, self.size_max_bytes
        return [log_uniform(least, most, position) for position in positions]

    def tier_bytes(self) -> int:
        """Bytes of a tier that holds half of the blocks, and in which the largest can arrive."""
        rooms = [-(-size // PAGE_BYTES) * PAGE_BYTES for size in self.block_sizes()]
        return -(-(sum(rooms) // 2 + max(rooms)) // PAGE_BYTES) * PAGE_BYTES

    def resident_bytes(self, workers: int) -> int:
        """The tier in memory (half the blocks and the largest) with its tags; per worker the
        staging chunks, the pool with its tags and the books of the storm."""
        tier = self.tier_bytes()
        shared = tier + tier // PAGE_BYTES * _TAG_BYTES + self.blocks * _BLOCK_RECORD_BYTES
        return shared + workers * self._worker_bytes()

    def _worker_bytes(self) -> int:
        staging = (self.chunks_in_flight + _BUFFERS_SPARE + 1) * self.chunk_bytes
        tags = self.pool_bytes // GRANULE_BYTES * _TAG_BYTES
        return staging + self.pool_bytes + tags + _BOOKS_BYTES

    def fitted(self, budget_bytes: int, workers: int) -> tuple[Self, list[str]]:
        """Halves what is largest, the pools or the largest block, until all of it fits."""
        fitted = self
        while fitted.resident_bytes(workers) > budget_bytes:
            pools = workers * fitted.pool_bytes
            tier = fitted.resident_bytes(workers) - workers * fitted._worker_bytes()
            if pools >= tier and fitted.pool_bytes >= 2 * _POOL_MIN_BYTES:
                pool = fitted.pool_bytes // 2
                most = min(fitted.allocation_max_bytes, pool // 2)
                changes = {"pool_bytes": pool, "allocation_max_bytes": most}
                least = min(fitted.allocation_min_bytes, most)
                changes["allocation_min_bytes"] = least
            elif fitted.size_max_bytes >= 2 * _SIZE_FITTED_MIN_BYTES:
                most = fitted.size_max_bytes // 2
                least = min(fitted.size_min_bytes, most)
                changes = {"size_max_bytes": most, "size_min_bytes": least}
            else:
                break
            fitted = fitted.model_copy(update=changes)
        keys = ("pool_bytes", "allocation_max_bytes", "size_max_bytes")
        pairs = [(key, getattr(self, key), getattr(fitted, key)) for key in keys]
        return fitted, [f"{key}: {old} -> {new}" for key, old, new in pairs if old != new]

    def lifetime_mean(self) -> float:
        """Mean lifetime of an allocation, in operations of its worker."""
        least, most = float(self.allocation_min_bytes), float(self.allocation_max_bytes)
        mean = least if least == most else (most - least) / math.log(most / least)
        bounded = self.live_share * self.pool_bytes / (mean + GRANULE_BYTES)
        return min(bounded, self.lifetime_s * self.allocation_rate_s, _LIFETIME_MEAN_MAX)

    def inputs(self, op: str, seed: int, key: int) -> Arrays:
        """`block` (u8) that a migration moves; or the `sizes` and `lifetimes` (u64, in operations)
        of 256 allocations from `key` on."""
        if op == "allocate":
            return self._allocations(seed, key)
        sizes = self.block_sizes()
        drawn = philox.draws(philox.stream_key(seed, DOMAIN_BLOCK), key, 1)
        index = int(drawn[0]) * len(sizes) >> 64
        words = -(-sizes[index] // 8)
        content = philox.draws(philox.stream_key(seed, DOMAIN_CONTENT), index, words)
        return {"block": content.astype("<u8").view(np.uint8)[: sizes[index]].copy()}

    def _allocations(self, seed: int, key: int) -> Arrays:
        stream = philox.stream_key(seed, _DOMAIN_ALLOCATION)
        half_life = max(1, int(self.lifetime_mean() * math.log(2.0) * 65536.0 + 0.5))
        sizes, lifetimes = [], []
        for each in range(key, key + _STRETCH):
            size, life = (int(draw) for draw in philox.draws(stream, each, 2))
            least, most = self.allocation_min_bytes, self.allocation_max_bytes
            sizes.append(log_uniform(least, most, size >> 32))
            lifetimes.append(min(1 + (halvings(life) * half_life >> 48), _LIFETIME_MAX))
        return {
            "sizes": np.array(sizes, dtype=np.uint64),
            "lifetimes": np.array(lifetimes, dtype=np.uint64),
        }

    def reference(self, op: str, inputs: Arrays) -> Arrays:
        """The `block` as it left and its `checksum` (u64); or, of a storm that starts empty,
        whether each allocation was `accepted` (u8) and the `live_bytes` (u64) after it."""
        if op != "allocate":
            block = inputs["block"]
            checksum = np.array([chunks.pieced_checksum(block)], dtype=np.uint64)
            return {"block": block.copy(), "checksum": checksum}
        due: dict[int, int] = {}
        live, accepted, live_bytes = 0, [], []
        pairs = zip(inputs["sizes"].tolist(), inputs["lifetimes"].tolist(), strict=True)
        for step, (size, lifetime) in enumerate(pairs):
            live -= due.pop(step, 0)
            taken = taken_bytes(size)
            fits = live + taken <= self.pool_bytes
            if fits:
                live += taken
                due[step + lifetime] = due.get(step + lifetime, 0) + taken
            accepted.append(fits)
            live_bytes.append(live)
        return {
            "accepted": np.array(accepted, dtype=np.uint8),
            "live_bytes": np.array(live_bytes, dtype=np.uint64),
        }
