"""Memory of the host that stands for a device's in the emulator."""

from __future__ import annotations

import ctypes
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from swarmbench.gpu.device import POISON, Array, DeviceMemoryError


@dataclass(frozen=True, slots=True)
class HostBuffer:
    """Device memory of the emulator: an array of the host."""

    array: Array

    @property
    def count(self) -> int:
        return len(self.array)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    @property
    def address(self) -> int:
        return int(self.array.ctypes.data)

    def part(self, first: int, count: int) -> HostBuffer:
        assert 0 <= first <= first + count <= len(self.array)
        return HostBuffer(self.array[first : first + count])


def poisoned(nbytes: int) -> npt.NDArray[np.uint8]:
    """Memory that begins at a multiple of 256 bytes, as on a card, and ends where it ends.

    An allocation of its own, so that AddressSanitizer sees the byte after it.
    """
    if nbytes == 0:
        return np.empty(0, np.uint8)
    libc, place = ctypes.CDLL(None), ctypes.c_void_p()
    failed = libc.posix_memalign(ctypes.byref(place), ctypes.c_size_t(256), ctypes.c_size_t(nbytes))
    if failed:
        raise DeviceMemoryError(f"the host has no {nbytes} bytes left", hint="lower the sizes")
    raw = (ctypes.c_uint8 * nbytes).from_address(place.value or 0)
    # At the interpreter's end streams may still be at work on it.
    weakref.finalize(raw, libc.free, place).atexit = False
    array: npt.NDArray[np.uint8] = np.ctypeslib.as_array(raw)
    array[:] = POISON
    return array
