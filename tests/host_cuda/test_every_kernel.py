"""Every kernel of every file runs followed access by access, at more than one shape."""

from __future__ import annotations

import secrets

from every_kernel import ONE_SHAPE, TURNED, Recorder, every_kernel, run_all

SEED = secrets.randbits(32)


def test_every_kernel_is_right_and_followed_at_several_shapes() -> None:
    device = Recorder(seed=SEED, build="traced", is_random=True, memory_bytes=1 << 36)
    run_all(device, SEED)
    assert device.missed() == []
    assert [kernel for kernel in ONE_SHAPE if len(device.shapes[kernel]) > 1] == []


def test_a_kernel_that_nobody_launches_twice_is_missed() -> None:
    device = Recorder(seed=SEED)
    assert len(device.missed()) == len(every_kernel())
    for kernel in every_kernel():
        device.shapes[kernel].add((1, 32))
    assert len(device.missed()) == len(every_kernel()) - len(ONE_SHAPE)
    assert {*ONE_SHAPE, *TURNED} <= set(every_kernel())
