"""What kernels did in the traced emulator, held against what their component declares."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from swarmbench.components.cuda.base import Cost, CudaOperation
from swarmbench.gpu.emulated import EmulatedDevice

#: How far what was counted may be from what was declared.
TOLERANCE = 0.05
#: The fields of a cost and of the emulator's counts.
KINDS = {
    "bytes_read": "distinct_read_bytes",
    "bytes_written": "distinct_written_bytes",
    "multiply_adds": "multiply_adds",
    "random_draws": "random_draws",
    "comparisons": "comparisons",
}


@contextmanager
def followed(lane: CudaOperation) -> Iterator[dict[str, int]]:
    """What the lane's kernels do in the block, by field of a cost; there once it has ended."""
    device = lane.device
    assert isinstance(device, EmulatedDevice)
    before = {kind: getattr(device.counts, counted) for kind, counted in KINDS.items()}
    done: dict[str, int] = {}
    yield done
    for kind, counted in KINDS.items():
        done[kind] = getattr(device.counts, counted) - before[kind]


def check(done: dict[str, int], cost: Cost, what: str, tolerance: float = TOLERANCE) -> None:
    """Asserts that a cost declares what was done."""
    for kind, counted in done.items():
        declared = getattr(cost, kind)
        assert abs(counted - declared) <= tolerance * max(counted, declared), (
            f"{what}: {counted} {kind.replace('_', ' ')}, {declared} declared"
        )
