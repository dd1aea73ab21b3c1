"""The ring between host and device: nothing lost, nothing done twice, whatever ends its kernel."""

from __future__ import annotations

import re
import secrets
import time
from functools import cache

import numpy as np
import pytest

from spinning import DEATH, HOUR_NS, Echo, Feeding, LostError, Spinning, ring_in
from swarmbench.gpu import source
from swarmbench.gpu.emulated import Build, EmulatedDevice, HostKernel

SEED = secrets.randbits(32)
#: Groups, slots of each, lines of an answer.
SIZES = (3, 64, 1)
#: Numbers wrap around after this many messages of each group.
BEFORE_WRAP = 1000
FIRST = (1 << 64) - BEFORE_WRAP


def text(deaths: int = 0) -> str:
    """The kernel's text with its header; with `deaths`, one message in so many ends its block once
    before it is kept and once before it is acknowledged."""
    whole = source.text_of("ring.cu").replace('#include "ring.cuh"', source.text_of("ring.cuh"))
    assert "struct Group" in whole
    if deaths:
        dying = DEATH.format(deaths)
        for place in ("if (lane() == 0) group.keep(digest);", "group.acknowledge();"):
            assert whole.count(place) == 1
            whole = whole.replace(place, dying + place)
    return whole


@cache
def device(build: Build) -> EmulatedDevice:
    return EmulatedDevice(seed=SEED, build=build, is_random=True)


def echoing(
    kernel: HostKernel, count: int, *, build: Build = "plain", first: int = FIRST
) -> Spinning:
    """Sends `count` messages through a ring whose kernel ends again and again."""
    groups, slots, _ = SIZES
    ring = ring_in(device(build), groups=groups, slots=slots, answer_lines=1, first=first)
    spinning = Spinning(device(build), kernel, ring, SIZES, 32, seed=SEED)
    echo, feeding = Echo(SIZES, SEED), Feeding(ring, groups, slots, first)
    with spinning:
        feeding.pump(count, echo.make, echo.check, spinning, SEED)
    assert [ring.state(group) for group in range(groups)] == echo.digests.tolist()
    assert spinning.launch > 1
    return spinning


@pytest.mark.parametrize(
    "count",
    [100_000, pytest.param(10_000_000, marks=(pytest.mark.soak, pytest.mark.timeout(3600)))],
)
def test_each_message_is_answered_once_though_its_kernel_ends_is_stopped_and_dies(
    count: int,
) -> None:
    echoing(device("plain").kernel_of(text(deaths=997), "ring_echo"), count)


def test_the_kernel_as_it_is_answers_each_message_once() -> None:
    echoing(device("plain").kernel("ring.cu", "ring_echo"), 20_000)


def test_a_ring_is_in_bounds_and_ordered() -> None:
    """The traced build stops at an access outside the ring and at a data race."""
    kernel = device("traced").kernel_of(text(deaths=29), "ring_echo")
    echoing(kernel, 400, build="traced", first=0)


#: What is altered, and the harm that it has to do.
MUTATIONS = {
    "a count that is not taken up": (
        r"number = load_relaxed\(tail \+ ACKNOWLEDGED\);",
        "number = 0;",
    ),
    "two acknowledged at a time": (r"\+\+number;", "number += 2;"),
    "an answer that is not waited for": (r"__syncthreads\(\);\n(?= +\+\+number)", ""),
    "one state for both": (r"STATE \+ (number|\(number \+ 1\)) % 2", "STATE"),
    "a message that is not waited for": (r"if \(found == number \+ 1\)", "if (found != number)"),
    "another message's slot": (r"\(number & slot_mask\)", "(number + 1 & slot_mask)"),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_what_is_altered_in_the_ring_is_seen(
    mutation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spinning.PATIENCE_S", 1.0)
    # Where a block may die it meets a barrier, which would stand in for the one that is gone.
    deaths = 0 if mutation == "an answer that is not waited for" else 97
    altered, count = re.subn(*MUTATIONS[mutation], text(deaths))
    assert count > 0
    kernel = device("plain").kernel_of(altered, "ring_echo")
    with pytest.raises((AssertionError, RuntimeError)):
        echoing(kernel, 100_000, first=0)


def one_launch(slice_ns: int, polls: int, stop: int | None = None) -> float:
    """Seconds that a launch takes in which nobody sends a message."""
    groups, slots, _ = SIZES
    ring = ring_in(device("plain"), groups=groups, slots=slots, answer_lines=1)
    kernel = device("plain").kernel("ring.cu", "ring_echo")
    spinning = Spinning(device("plain"), kernel, ring, SIZES, 32)
    if stop is not None:
        ring.stop(stop)
    assert ring.progress(1) == "serving"
    began = time.monotonic()
    spinning.once(slice_ns, polls)
    assert ring.progress(1) == "ended"
    return time.monotonic() - began


def test_a_launch_ends_by_its_slice_its_looks_and_the_stop_word() -> None:
    one_launch(HOUR_NS, 1000)
    one_launch(HOUR_NS, 1 << 40, stop=1)
    one_launch(HOUR_NS, 1 << 40, stop=9)
    # Blocks run one after the other here, each for its own slice.
    assert one_launch(20_000_000, 1 << 40) >= 0.06
    assert one_launch(20_000_000, 1 << 40, stop=0) >= 0.06


def test_a_feeder_that_takes_over_finds_what_was_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    groups, slots, _ = SIZES
    ring = ring_in(device("plain"), groups=groups, slots=slots, answer_lines=1, first=FIRST)
    kernel = device("plain").kernel("ring.cu", "ring_echo")
    spinning = Spinning(device("plain"), kernel, ring, SIZES, 32)
    echo, feeding = Echo(SIZES, SEED), Feeding(ring, groups, slots, FIRST)
    feeding.push(echo.make(40))
    feeding.ring = type(ring)(ring.memory, groups=groups, slots=slots, answer_lines=1, resumed=True)
    assert feeding.ring.in_flight == 40
    spinning.once(HOUR_NS, 1)
    for group, (payloads, answers) in feeding.collect().items():
        echo.check(group, payloads, answers)
    assert feeding.ring.in_flight == 0
    monkeypatch.setattr("spinning.PATIENCE_S", 0.1)
    with pytest.raises(LostError, match="0 of 1 came back"):
        feeding.pump(1, echo.make, echo.check, spinning, SEED)


def test_what_is_no_ring_is_refused_in_one_line() -> None:
    ring = ring_in(device("plain"), groups=1, slots=2, answer_lines=1)
    with pytest.raises(ValueError, match="a ring of 1 groups of 3 slots"):
        type(ring).words(groups=1, slots=3, answer_lines=1)
    with pytest.raises(ValueError, match="a ring needs 1152 bytes"):
        type(ring)(ring.memory, groups=1, slots=2, answer_lines=2)
    with pytest.raises(ValueError, match="a payload of 14 words: there are 15"):
        ring.push(np.zeros((1, 14), np.uint64))
    with pytest.raises(ValueError, match="there is no group 1"):
        ring.state(1)
    device("plain").mapped(ring.memory).array[16 + 16] = 5
    ring.push(np.zeros((1, 15), np.uint64))
    with pytest.raises(RuntimeError, match="group 0 of the ring acknowledged up to 5, and 1 was"):
        ring.poll()
