"""Lanes of the memory component on the emulated device, and what is moved and asked of them."""

from __future__ import annotations

import secrets
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from lagging import LaggingDevice
from swarmbench.components import Memory
from swarmbench.components.cuda.memory import CudaMemory, Mover
from swarmbench.gpu.device import Array, Buffer
from swarmbench.gpu.emulated import Build, EmulatedDevice

#: Inputs change with every run; a failure says which they were.
SEED = secrets.randbits(32)
SMALL = Memory.small().model_copy(update={"check_every": 1})


def lane(
    *,
    grid: int | None = None,
    block: int | None = None,
    build: Build = "plain",
    device: EmulatedDevice | None = None,
    **changes: Any,
) -> Mover:
    """A lane of the small component with some parameters changed."""
    component = SMALL.model_copy(update=changes)
    native = component.on_host().prepare(seed=SEED).native
    if device is None:
        device = EmulatedDevice(seed=SEED, build=build, is_random=build == "plain")
    return Mover(CudaMemory(component, native, device, SEED), grid=grid, block=block)


def content(nbytes: int) -> npt.NDArray[np.uint8]:
    """Bytes that no other length begins with."""
    return np.random.default_rng([SEED, nbytes]).integers(0, 256, nbytes, np.uint8)


def asked(count: int, most: int, longest: int) -> tuple[list[int], list[int]]:
    """Sizes in bytes and lifetimes in operations of some allocations."""
    random = np.random.default_rng([SEED, count])
    return random.integers(1, most, count).tolist(), random.integers(1, longest, count).tolist()


class LateDevice(LaggingDevice):
    """A device that reads what is not pinned as late as what is, as its driver may; what it takes
    back is overwritten at once."""

    def reads_late(self, array: Array) -> bool:
        return True

    def raw_free(self, buffer: Buffer) -> None:
        super().raw_free(buffer)
        cast(Any, buffer).array[:] = 0xEE
