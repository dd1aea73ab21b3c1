"""Every kernel file compiles for every architecture, within bounds, and says what it does."""

from __future__ import annotations

import re

import pytest

from swarmbench.gpu import compiler, source
from swarmbench.gpu.compiler import ARCHITECTURES, CompileError, compile_text
from swarmbench.gpu.usage import usage

#: The oldest and a current one in every run; all of them in the long one.
EVERY_RUN = (75, 90)
#: Of a block of 256 threads so many registers leave two blocks to a multiprocessor.
REGISTERS_MAX = 128
#: What every architecture grants a block without being asked.
SHARED_BYTES_MAX = 48 << 10
#: Local arrays whose indices the compiler does not know.
STACK_BYTES_MAX = 1024

SPILLING = """
#include "common.cuh"
extern "C" __global__ void spilling(const f32* in, f32* out) {
    f32 kept[64];
    for (u32 i = 0; i < 64; ++i) kept[i] = in[i * 64 + threadIdx.x];
    for (u32 i = 0; i < 64; ++i) out[i * 64 + threadIdx.x] = kept[i] * kept[63 - i];
}
"""

every_file = pytest.mark.parametrize("file", [*source.files(), *source.numba_files()])


def check(file: str, architecture: int) -> None:
    found = usage(file, architecture)
    assert set(found) == {kernel.name for kernel in source.kernels(file)}
    for name, used in found.items():
        where = f"{file}: {name} on sm_{architecture}: {used}"
        assert used.spilled_bytes == 0, where
        assert used.registers <= REGISTERS_MAX, where
        assert used.shared_bytes <= SHARED_BYTES_MAX, where
        assert used.stack_bytes <= STACK_BYTES_MAX, where


@every_file
@pytest.mark.parametrize("architecture", EVERY_RUN)
def test_a_file_compiles_within_bounds(file: str, architecture: int) -> None:
    check(file, architecture)


@pytest.mark.soak
@every_file
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_file_compiles_within_bounds_for_every_architecture(file: str, architecture: int) -> None:
    check(file, architecture)


@every_file
def test_every_kernel_says_what_it_computes_moves_and_needs(file: str) -> None:
    for kernel in source.kernels(file):
        assert kernel.summary, f"{file}: {kernel.name} has no head"
        missing = [part for part in source.PARTS if not kernel.parts.get(part)]
        assert not missing, f"{file}: the head of {kernel.name} lacks {', '.join(missing)}"


def test_no_two_kernels_have_one_name() -> None:
    names = [kernel.name for kernel in source.every_kernel()]
    assert len(names) == len(set(names))


def test_the_gate_sees_a_spill_and_a_stack() -> None:
    options = ("--std=c++17", "--gpu-architecture=sm_90", "--ptxas-options=-v")
    _, log = compile_text(SPILLING, "spilling.cu", (*options, "--maxrregcount=24"))
    assert compiler.usage_of(log)["spilling"].spilled_bytes > 0
    _, log = compile_text(SPILLING, "spilling.cu", options)
    assert compiler.usage_of(log)["spilling"].spilled_bytes == 0


def test_an_empty_log_leaves_the_interpreters_own_bytes_alone() -> None:
    """What NVRTC writes to must be nobody else's: a space of one byte is every module's."""
    options = ("--std=c++17", "--gpu-architecture=sm_90")
    _, log = compile_text('extern "C" __global__ void nothing() {}', "nothing.cu", options)
    assert log == ""
    assert bytes([32]) == bytearray([32])


def test_a_file_that_does_not_compile_is_named_with_its_first_error_and_line() -> None:
    broken = SPILLING.replace("kept[63 - i]", "lost[63 - i]")
    with pytest.raises(CompileError) as refused:
        compile_text(broken, "broken.cu", ("--std=c++17",))
    assert str(refused.value) == (
        'kernel file `broken.cu` does not compile: broken.cu:6: identifier "lost" is undefined'
    )
    assert refused.value.exit_code == 3


def test_a_head_is_read_part_by_part() -> None:
    text = """// Adds one.
//
//   out[i] = in[i] + 1
//
// Work    per element: 4 bytes read,
//         4 written.
// Launch  one thread per element.
// Needs   nothing.
// Checked against NumPy: exact.
extern "C" __global__ void __launch_bounds__(256) add(const u32* __restrict__ in, u32 count,
                                                      u32* out) {}
"""
    (kernel,) = source.parsed("add.cu", text)
    assert kernel.name == "add"
    assert kernel.summary == "Adds one.\n\nout[i] = in[i] + 1"
    assert kernel.parts["Work"] == "per element: 4 bytes read, 4 written."
    assert kernel.parts["Checked against"] == "NumPy: exact."
    assert kernel.signature == "const u32* in, u32 count, u32* out"
    with pytest.raises(ValueError, match="give scalars as u8"):
        list(source.parsed("add.cu", text.replace("u32 count", "int count")))


@pytest.mark.parametrize(
    "file", ["consensus_elect.cu", "evolution.cu", "streaming.cu", "synthesis_templates.cu"]
)
def test_what_the_emulator_counts_is_no_code_on_a_card(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(text: str) -> str:
        found, times = re.subn(r"(?m)^ +count_\w+\(\d?\);$", "", text)
        counted.append(times)
        return found

    options = ("--std=c++17", "--device-as-default-execution-space", "--gpu-architecture=sm_90")
    counted: list[int] = []
    whole = compile_text(source.text_of(file), file, options)[0]
    headers = compiler._headers()
    monkeypatch.setattr(
        compiler, "_headers", lambda: {name: without(text) for name, text in headers.items()}
    )
    assert compile_text(without(source.text_of(file)), file, options)[0] == whole
    assert sum(counted) >= 3
