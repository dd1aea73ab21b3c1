"""Consensus through a ring: the answers of the reference, whatever ends the kernel."""

from __future__ import annotations

import re
import secrets
from typing import Any

import pytest

from deciding import Deciding
from spinning import DEATH
from swarmbench.components.consensus import Consensus, Mix
from swarmbench.components.cuda.consensus_ring import ConsensusRing
from swarmbench.components.cuda.consensus_tables import MIXES, Tables
from swarmbench.gpu import source
from swarmbench.gpu.emulated import EmulatedDevice
from swarmbench.gpu.host_compiler import Build

SEED = secrets.randbits(32)
SIZES: dict[str, dict[str, Any]] = {
    "a hundred votes": {"batch": 100, "agents": 16, "proposals": 4},
    "many cells": {"batch": 300, "agents": 61, "proposals": 23, "values": 7},
    "one vote": {"batch": 1, "agents": 1, "proposals": 1, "values": 1},
}


def deciding(mix: Mix, size: str, build: Build) -> Deciding:
    component = Consensus(mix=mix, stored_votes=10, groups=3, **SIZES[size])
    return Deciding(component, EmulatedDevice(seed=SEED, build=build, is_random=True), SEED)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mix", MIXES)
def test_batches_that_come_by_a_ring_are_decided_as_the_reference_decides_them(
    mix: Mix, size: str
) -> None:
    assert deciding(mix, size, "plain").run(60).launch > 1


def test_a_block_that_dies_leaves_no_batch_out_and_decides_none_otherwise() -> None:
    text, count = re.subn(
        r"(?=group\.acknowledge\(\);|close_box\(box)", DEATH.format(7),
        source.text_of("consensus_ring.cu"),
    )  # fmt: skip
    assert count == 2
    deciding("byzantine", "a hundred votes", "plain").run(400, text)


@pytest.mark.parametrize("size", SIZES)
def test_a_ring_of_batches_is_in_bounds_and_ordered(size: str) -> None:
    """The traced build stops at an access outside the buffers and at a data race."""
    deciding("zipf", size, "traced").run(6)


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r"u32\(batch >> 32\)", "u32(batch >> 32) - 1"),
        (r"agents, u32\(batch\), proposals", "agents - 1, u32(batch), proposals"),
        (r"Drawn\(source, ballot, key\)", "Drawn(source, ballot, key + 1)"),
        (r"group\.acknowledge\(\);", "group.acknowledge(); group.acknowledge();"),
    ],
)
def test_a_batch_that_is_decided_otherwise_is_seen(
    pattern: str, replacement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spinning.PATIENCE_S", 1.0)
    altered, count = re.subn(pattern, replacement, source.text_of("consensus_ring.cu"))
    assert count == 1
    with pytest.raises((AssertionError, RuntimeError)):
        deciding("uniform", "a hundred votes", "plain").run(60, altered)


def test_cells_that_fit_no_block_are_refused() -> None:
    wide = Consensus(agents=4096, proposals=2048, stored_votes=10)
    with pytest.raises(ValueError, match="agents: the cells of a batch do not fit"):
        ConsensusRing(Tables(wide, EmulatedDevice(), SEED))
