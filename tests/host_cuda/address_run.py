"""Runs kernels built with AddressSanitizer; started with its library by `test_address.py`.

`components SEED`: two operations of every op of every component. `beyond SEED`: a kernel that
writes one element past a buffer, which the sanitizer has to end.
"""

from __future__ import annotations

import sys

import numpy as np

from swarmbench.components import COMPONENTS
from swarmbench.components.cuda import CUDA
from swarmbench.gpu.emulated import EmulatedDevice

BEYOND = """
#include "common.cuh"
extern "C" __global__ void beyond(u32* values, u32 count) {
    if (threadIdx.x <= count) values[threadIdx.x] = threadIdx.x;
}
"""


def components(seed: int) -> None:
    for name, kind in CUDA.items():
        component = COMPONENTS[name].small()
        native = component.prepare(backend="cpu", seed=seed).native
        device = EmulatedDevice(seed=seed, build="address", is_random=True)
        lane = kind(component, native, device, seed).operation()
        for op in component.ops:
            for key in (seed % 1000, seed % 1000 + 1):
                assert lane.run(op.name, key).status == "ok", f"{name} {op.name}, key {key}"
                assert lane.verify()[1] == 0, f"{name} {op.name}, key {key}"


def beyond(seed: int) -> None:
    device = EmulatedDevice(seed=seed, build="address")
    values = device.empty(50, np.uint32)
    device.stream().launch(device.kernel_of(BEYOND, "beyond"), 1, 64, [values, np.uint32(50)])


if __name__ == "__main__":
    {"components": components, "beyond": beyond}[sys.argv[1]](int(sys.argv[2]))
    print("whole")
