"""Numba kernels: compiled without a card, and what their simulator sees of a wrong one."""

import re
import secrets
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numba import types

from swarmbench.errors import MachineError
from swarmbench.gpu import source
from swarmbench.gpu.compiler import CompileError
from swarmbench.gpu.emulated import EmulatedDevice, EmulationError
from swarmbench.gpu.host_memory import HostBuffer
from swarmbench.gpu.numba import compiling, simulated
from swarmbench.gpu.numba.declared import Elements, counted, parameters, u32, u32s
from swarmbench.gpu.numba.simulated import SimulatedKernel

ARCHITECTURE = 90
SEED = secrets.randbits(32)

every_file = pytest.mark.parametrize("file", source.numba_files())


@every_file
def test_a_numba_kernel_takes_its_arrays_as_seven_words_each(file: str) -> None:
    """What `CardStream.launch` passes; a version of Numba that has it otherwise is seen here."""
    built = compiling.compiled(file, ARCHITECTURE)
    for kernel in source.kernels(file):
        arrays = sum(parameter.dtype is None for parameter in kernel.parameters)
        scalars = len(kernel.parameters) - arrays
        entry = re.search(r"\.entry \w+\((.*?)\)", built[kernel.name].ptx, re.DOTALL)
        assert entry is not None
        sizes = [
            {"u64": 8, "b64": 8, "u32": 4, "b32": 4, "f32": 4}[kind]
            for kind in re.findall(r"\.param \.(\w+)", entry[1])
        ]
        assert len(sizes) == compiling.WORDS_OF_ARRAY * arrays + scalars
        expected: list[int] = []
        for parameter in kernel.parameters:
            expected += [8] * 7 if parameter.dtype is None else [np.dtype(parameter.dtype).itemsize]
        assert sizes == expected


@pytest.mark.parametrize("file", ["agents.py", "births.py"])
def test_kernels_of_integers_have_become_no_floats(file: str) -> None:
    """Numba makes a float of a signed and an unsigned 64-bit number."""
    for name, kernel in compiling.compiled(file, ARCHITECTURE).items():
        assert ".f64" not in kernel.ptx, name
        assert ".f32" not in kernel.ptx, name
        assert kernel.cubin.startswith(b"\x7fELF")
        assert kernel.entry in kernel.ptx


def test_a_file_that_is_not_there_does_not_compile_and_says_so() -> None:
    with pytest.raises(CompileError, match=r"`nothing.py` does not compile: .*nothing") as refused:
        compiling.compiled("nothing.py", ARCHITECTURE)
    assert refused.value.exit_code == 3


def doubled(values: u32s, count: u32) -> None:
    """Doubles each element."""
    at = cuda.grid(1)
    if at < count:
        values[at] = np.uint32(values[at] + values[at])


def beyond(values: u32s, count: u32) -> None:
    """Writes one element too far."""
    at = cuda.grid(1)
    if at < count:
        values[at + 1] = np.uint32(0)


def before(values: u32s, count: u32) -> None:
    """Reads the element before the first, which Python would take for the last."""
    at = cuda.grid(1)
    if at == 0:
        values[at] = values[at - 1]


def reversed_plainly(values: u32s, count: u32) -> None:
    """Reads what another thread writes, without a barrier."""
    at = cuda.threadIdx.x
    values[at] = values[count - np.uint32(1) - np.uint32(at)]


def reversed_rightly(values: u32s, count: u32) -> None:
    """Reads what another thread writes after a barrier."""
    at = cuda.threadIdx.x
    kept = values[count - np.uint32(1) - np.uint32(at)]
    cuda.syncthreads()
    values[at] = kept


def counted_plainly(values: u32s, count: u32) -> None:
    """Adds without an atomic."""
    values[0] = np.uint32(values[0] + np.uint32(1))


def counted_rightly(values: u32s, count: u32) -> None:
    cuda.atomic.add(values, 0, np.uint32(1))


def wrapped(values: u32s, count: u32) -> None:
    """Passes the end of 32 bits."""
    at = cuda.grid(1)
    values[at] = np.uint32(values[at] + np.uint32(0xFFFFFFFF))


def summed(values: u32s, count: u32) -> None:
    """Adds up in shared memory that each thread takes to be zero."""
    total = cuda.shared.array(1, types.uint32)
    cuda.atomic.add(total, 0, values[cuda.grid(1)])
    cuda.syncthreads()
    values[cuda.grid(1)] = total[0]


def shifted_plainly(values: u32s, count: u32) -> None:
    """Reads what a neighbour puts into shared memory, without a barrier."""
    kept = cuda.shared.array(16, types.uint32)
    at = cuda.threadIdx.x
    kept[at] = values[at]
    values[at] = kept[(at + 1) % 16]


def shifted_rightly(values: u32s, count: u32) -> None:
    """The same after a barrier."""
    kept = cuda.shared.array(16, types.uint32)
    at = cuda.threadIdx.x
    kept[at] = values[at]
    cuda.syncthreads()
    values[at] = kept[(at + 1) % 16]


# Before a function for the device is made, which else would be one for a card.
cuda: Any = simulated._simulator()
philox = import_module("swarmbench.gpu.numba.words").philox


@counted("comparisons")
def larger(left: Any, right: Any) -> Any:
    return left if left > right else right


def bounded(values: u32s, count: u32) -> None:
    """Draws a block of words for each element, and holds its own word against that of each."""
    at = cuda.grid(1)
    if at < count:
        first, second, _, _ = philox(np.uint32(at), np.uint32(0), np.uint64(1), np.uint64(2))
        values[at] = larger(larger(values[at], first), second)


def launched(function: Any, values: Any, grid: int, block: int, build: Any = "traced") -> Any:
    given = tuple(
        SimpleNamespace(name=name, dtype=None if isinstance(kind, Elements) else np.dtype(kind))
        for name, kind in zip(("values", "count"), parameters(function), strict=True)
    )
    kernel = SimulatedKernel(
        SimpleNamespace(name=function.__name__, parameters=given, file="given.py"), function
    )
    device = EmulatedDevice(build=build)
    buffer = device.uploaded(values)
    device.stream().launch(kernel, grid, block, [buffer, np.uint32(len(values))])
    assert isinstance(buffer, HostBuffer)
    return device, buffer.array


def test_the_simulator_runs_a_kernel_and_counts_what_it_moves() -> None:
    values = np.random.default_rng(SEED).integers(0, 1 << 31, 40, dtype=np.uint32)
    device, found = launched(doubled, values, 3, 16)
    assert np.array_equal(found, 2 * values), f"seed {SEED}"
    assert device.counts.launches == 1
    assert device.counts.distinct_read_bytes == device.counts.distinct_written_bytes == 160
    assert device.counts.read_bytes == 320


@pytest.mark.parametrize("build", ["plain", "traced"])
def test_the_simulator_counts_arithmetic_where_accesses_are_followed(build: str) -> None:
    device, _ = launched(bounded, np.zeros(40, np.uint32), 3, 16, build)
    times = 40 * (build == "traced")
    assert (device.counts.random_draws, device.counts.comparisons) == (times, 2 * times)
    assert device.counts.multiply_adds == 0


@pytest.mark.parametrize("build", ["plain", "traced"])
def test_an_index_beside_the_buffer_stops_the_kernel(build: str) -> None:
    for function, index in ((beyond, 32), (before, -1)):
        with pytest.raises(EmulationError, match=f"index {index} of `values`, which has 32"):
            launched(function, np.zeros(32, np.uint32), 2, 16, build)


def test_a_missing_barrier_and_a_missing_atomic_are_seen() -> None:
    values = np.arange(16, dtype=np.uint32)
    for function in (reversed_plainly, counted_plainly):
        with pytest.raises(EmulationError, match="data race: `values`"):
            launched(function, values, 1, 16)
    with pytest.raises(EmulationError, match="data race"):
        launched(counted_plainly, values, 4, 1)
    assert np.array_equal(launched(reversed_rightly, values, 1, 16)[1], values[::-1])
    device, found = launched(counted_rightly, values, 2, 16)
    assert found[0] == 32
    assert device.counts.atomics == 32


def test_shared_memory_is_poisoned_before_each_block_and_followed() -> None:
    values = np.arange(32, dtype=np.uint32)
    found = launched(summed, values, 2, 16, "plain")[1]
    assert (found[:16] == 120 + 0xA5A5A5A5).all()
    assert (found[16:] == 376 + 0xA5A5A5A5).all()
    with pytest.raises(EmulationError, match="data race: `shared memory`"):
        launched(shifted_plainly, values[:16], 1, 16)
    device, found = launched(shifted_rightly, values[:16], 1, 16)
    assert np.array_equal(found, np.roll(values[:16], -1))
    assert device.counts.shared_read_bytes == device.counts.shared_written_bytes == 64


def test_integers_wrap_around_as_on_a_card() -> None:
    values = np.arange(1, 17, dtype=np.uint32)
    assert np.array_equal(launched(wrapped, values, 1, 16)[1], values - 1)


def test_the_simulator_takes_small_launches_alone() -> None:
    for grid, block in ((5, 16), (1, 65)):
        with pytest.raises(AssertionError, match="in the simulator"):
            launched(doubled, np.zeros(16, np.uint32), grid, block)


def test_numba_that_is_missing_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> str:
        raise compiling.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(compiling.importlib.metadata, "version", gone)
    with pytest.raises(MachineError, match="numba, which compiles kernels, is not here"):
        compiling.compiled("agents.py", ARCHITECTURE)
