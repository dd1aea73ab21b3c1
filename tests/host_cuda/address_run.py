"""Runs kernels built with AddressSanitizer; started with its library by `test_address.py`.

`kernels SEED`: every kernel at several shapes; prints those that were missed. `beyond SEED`: a
kernel that writes one element past a buffer, which the sanitizer has to end.
"""

from __future__ import annotations

import sys

import numpy as np

from every_kernel import Recorder, run_all
from swarmbench.gpu.emulated import EmulatedDevice

BEYOND = """
#include "common.cuh"
extern "C" __global__ void beyond(u32* values, u32 count) {
    if (threadIdx.x <= count) values[threadIdx.x] = threadIdx.x;
}
"""


def kernels(seed: int) -> None:
    device = Recorder(seed=seed, build="address", is_random=True, memory_bytes=1 << 36)
    run_all(device, seed)
    print(*device.missed(), sep="\n")


def beyond(seed: int) -> None:
    device = EmulatedDevice(seed=seed, build="address")
    values = device.empty(50, np.uint32)
    device.stream().launch(device.kernel_of(BEYOND, "beyond"), 1, 64, [values, np.uint32(50)])


if __name__ == "__main__":
    {"kernels": kernels, "beyond": beyond}[sys.argv[1]](int(sys.argv[2]))
    print("whole")
