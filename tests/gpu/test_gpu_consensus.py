"""Consensus on a card at the sizes that only a card makes quick, each batch held by the oracle."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from swarmbench.components.consensus import Consensus
from swarmbench.components.cuda.consensus import ConsensusOperation, CudaConsensus
from swarmbench.components.cuda.consensus_tables import MIXES
from swarmbench.gpu.found import open_device

pytestmark = pytest.mark.gpu

#: Inputs change with every run; a failure says which they were.
SEED = secrets.randbits(32)
#: Cells in shared memory, split among all blocks; in device memory; in a table.
LARGE: dict[str, dict[str, Any]] = {
    "shared": {"batch": 1 << 20},
    "dense": {"batch": 1 << 20, "agents": 4096, "proposals": 256, "values": 9},
    "hashed": {"batch": 1 << 18, "agents": 1 << 20, "proposals": 512, "values": 9},
}
KEYS = 3


def operation(component: Consensus) -> ConsensusOperation:
    native = component.prepare(seed=SEED, threads=8).native
    return CudaConsensus(component, native, open_device(0), SEED).operation()


@pytest.mark.parametrize("size", LARGE)
@pytest.mark.parametrize("mix", MIXES)
def test_large_batches_are_those_of_the_oracle(mix: Any, size: str) -> None:
    component = Consensus(mix=mix, stored_votes=1 << 20, oracle_every=1, **LARGE[size])
    lane = operation(component)
    for key in range(KEYS):
        for op in ("decide", "tally", "generate", "elect"):
            lane.run(op, key)
            assert lane.verify() == (1, 0), f"seed {SEED}, {op}, key {key}"


@pytest.mark.parametrize("mix", MIXES)
def test_a_thousand_batches_in_one_launch_are_those_of_the_oracle(mix: Any) -> None:
    lane = operation(Consensus(mix=mix, oracle_every=1))
    count = lane.lane.together
    assert count >= 1000
    for key in range(0, 4 * count, count):
        lane.run_together("decide", key, count)
        assert lane.verify() == (count, 0), f"seed {SEED}, key {key}"
