"""The fake driver beside the emulator: kernels by their handles, and launches in many threads."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from swarmbench.gpu.emulated import EmulatedDevice, EmulationError
from swarmbench.gpu.host_compiler import Build

COUNT = 300
#: Of every number its square less a scalar; the barrier makes the fibers change places.
SQUARES = """
#include "common.cuh"
extern "C" __global__ void squares(const u32* numbers, u16 less, u64* found, u32 count) {
    __shared__ u32 seen[64];
    const u32 index = blockIdx.x * blockDim.x + threadIdx.x;
    seen[threadIdx.x] = index < count ? numbers[index] : 0;
    __syncthreads();
    const u32 number = seen[blockDim.x - 1 - threadIdx.x];
    const u32 mirrored = blockIdx.x * blockDim.x + blockDim.x - 1 - threadIdx.x;
    if (mirrored < count) found[mirrored] = u64(number) * number - less;
}
extern "C" __global__ void unmet(u32 count) {
    if (threadIdx.x < count) __syncwarp(1u << 31);
}
"""


def expected(numbers: np.ndarray, less: int) -> np.ndarray:
    return numbers.astype(np.uint64) ** 2 - np.uint64(less)


class FakeDriver:
    """The calls of the fake driver, each of which has to return 0."""

    def __init__(self, device: EmulatedDevice) -> None:
        self.library = ctypes.CDLL(device.driver_path)
        self.call("cuInit", 0)
        self.context, self.stream = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(self.context), 0)
        self.call("cuCtxSetCurrent", self.context)
        self.call("cuStreamCreateWithPriority", ctypes.byref(self.stream), 1, 0)

    def call(self, name: str, *arguments: object) -> None:
        assert self.library[name](*arguments) == 0, name

    def launch(
        self, function: int, grid: int, block: int, values: Sequence[ctypes._SimpleCData[int]]
    ) -> None:
        places = (ctypes.c_void_p * len(values))(*(ctypes.addressof(each) for each in values))
        shape = (grid, 1, 1, block, 1, 1, 0)
        handle = ctypes.c_void_p(function)
        self.call("cuLaunchKernel", handle, *shape, self.stream, places, None)

    def synchronize(self) -> int:
        return int(self.library.cuStreamSynchronize(self.stream))

    def close(self) -> None:
        self.call("cuStreamDestroy_v2", self.stream)
        self.call("cuDevicePrimaryCtxRelease_v2", 0)


@pytest.fixture
def device() -> EmulatedDevice:
    return EmulatedDevice(seed=7)


def test_a_kernel_launched_through_the_driver_answers_as_on_the_device(
    device: EmulatedDevice,
) -> None:
    numbers = np.arange(COUNT, dtype=np.uint32) * 65_537
    source, found = device.uploaded(numbers), device.empty(COUNT, np.uint64)
    function = device.driver_function(device.kernel_of(SQUARES, "squares"))
    assert function is not None
    driver = FakeDriver(device)
    values = [
        ctypes.c_uint64(source.array.ctypes.data),
        ctypes.c_uint16(9),
        ctypes.c_uint64(found.array.ctypes.data),
        ctypes.c_uint32(COUNT),
    ]
    driver.launch(function, (COUNT + 63) // 64, 64, values)
    for value in values:
        value.value = 0  # the driver took its own copy
    assert driver.synchronize() == 0
    driver.close()
    assert np.array_equal(found.array, expected(numbers, 9))


def test_what_no_kernel_may_do_loses_the_context_until_the_reset(device: EmulatedDevice) -> None:
    kernel = device.kernel_of(SQUARES, "unmet")
    with pytest.raises(EmulationError) as on_the_device:
        device.run(kernel, 1, 32, [np.uint32(1)], 0)
    function = device.driver_function(kernel)
    assert function is not None
    driver = FakeDriver(device)
    driver.launch(function, 1, 32, [ctypes.c_uint32(1)])
    assert driver.synchronize() == 719
    assert driver.library.cuStreamQuery(driver.stream) == 719
    problem = ctypes.create_string_buffer(512)
    driver.library.fake_problem(problem, ctypes.c_uint64(len(problem)))
    driver.library.fake_reset()
    assert driver.synchronize() == 0
    driver.close()
    assert problem.value.decode() in str(on_the_device.value)


@pytest.mark.parametrize(("build", "is_there"), [("plain", True), ("traced", False)])
def test_a_kernel_has_a_function_where_the_driver_can_run_it(build: Build, is_there: bool) -> None:
    device = EmulatedDevice(build=build)
    function = device.driver_function(device.kernel_of(SQUARES, "squares"))
    assert (function is not None) is is_there
    assert device.driver_function(device.kernel("agents.py", "agents_step")) is None


def test_launches_of_one_kernel_in_many_threads_do_not_meet(device: EmulatedDevice) -> None:
    kernel = device.kernel_of(SQUARES, "squares")

    def launch(less: int) -> bool:
        numbers = np.arange(COUNT, dtype=np.uint32) + less * 1000
        source, found = device.uploaded(numbers), device.empty(COUNT, np.uint64)
        arguments = [source, np.uint16(less), found, np.uint32(COUNT)]
        for _ in range(50):
            found.array[:] = 0
            device.stream().launch(kernel, (COUNT + 63) // 64, 64, arguments)
            if not np.array_equal(found.array, expected(numbers, less)):
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(launch, range(8)))
