"""The litmus of the ring on a card: nothing lost, torn or done twice across PCIe."""

from __future__ import annotations

import secrets

import pytest

from spinning import Echo, Feeding, Spinning, ring_in
from swarmbench.gpu.found import open_device

pytestmark = pytest.mark.gpu

SEED = secrets.randbits(32)
#: Groups, slots of each, lines of an answer.
SIZES = (8, 64, 1)
FIRST = (1 << 64) - 1000
MESSAGES = 1_000_000


def test_each_message_is_answered_once_though_its_kernel_ends_and_is_stopped() -> None:
    device = open_device(0)
    groups, slots, lines = SIZES
    ring = ring_in(device, groups=groups, slots=slots, answer_lines=lines, first=FIRST)
    spinning = Spinning(
        device,
        device.kernel("ring.cu", "ring_echo"),
        ring,
        SIZES,
        32,
        seed=SEED,
        slices_ns=(200_000, 5_000_000, 100_000_000),
        looks=(100, 1 << 30),
    )
    echo = Echo(SIZES, SEED)
    with spinning:
        Feeding(ring, groups, slots, FIRST).pump(MESSAGES, echo.make, echo.check, spinning, SEED)
    assert [ring.state(group) for group in range(groups)] == echo.digests.tolist()
    assert spinning.launch > 1
