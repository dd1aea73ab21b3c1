"""Consensus on the emulated device: every way of keeping cells, every mix, any order and split."""

from __future__ import annotations

import secrets
from functools import cache
from typing import Any, get_args

import numpy as np
import pytest

import costs
from swarmbench.components.base import Arrays, same_arrays
from swarmbench.components.consensus import Consensus, Mix
from swarmbench.components.cuda.consensus import ConsensusOperation, CudaConsensus
from swarmbench.components.cuda.consensus_boxes import SHARED_WORDS, Answer, Box, Kind, Shape
from swarmbench.components.cuda.consensus_tables import MIXES
from swarmbench.gpu.emulated import EmulatedDevice
from swarmbench.gpu.host_compiler import Build

#: Inputs change with every run; a failure says which they were.
SEED = secrets.randbits(32)
KINDS: tuple[Kind, ...] = get_args(Kind)
SHAPES = (None, Shape(1, 32), Shape(3, 96), Shape(5, 256))
FIELDS = ("agent", "proposal", "value", "flags", "round")
#: Cells that many votes meet in, many cells, many counters, one of everything.
SIZES: dict[str, dict[str, Any]] = {
    "few cells": {"batch": 1500, "agents": 16, "proposals": 4},
    "many cells": {"batch": 1000, "agents": 301, "proposals": 23, "values": 7},
    "many counters": {"batch": 700, "agents": 9, "proposals": 40, "values": 97},
    "one vote": {"batch": 1, "agents": 1, "proposals": 1, "values": 1},
}

every_kind = pytest.mark.parametrize("kind", KINDS)
every_size = pytest.mark.parametrize("size", SIZES)
every_mix = pytest.mark.parametrize("mix", MIXES)


def generator() -> np.random.Generator:
    return np.random.default_rng(SEED)


@cache
def consensus(size: str, mix: Mix = "byzantine") -> Consensus:
    return Consensus(mix=mix, stored_votes=900, oracle_every=1, groups=3, **SIZES[size])


@cache
def device(build: Build) -> EmulatedDevice:
    return EmulatedDevice(seed=SEED, build=build, is_random=build == "plain")


def built(component: Consensus, build: Build = "plain") -> CudaConsensus:
    native = component.prepare(seed=SEED).native
    return CudaConsensus(component, native, device(build), SEED)


@cache
def cuda(size: str, mix: Mix) -> CudaConsensus:
    return built(consensus(size, mix))


def struck(votes: Arrays, share: int) -> Arrays:
    """Votes of which some have random bits of each field flipped."""
    draw, altered = generator(), dict(votes)
    for name in FIELDS:
        altered[name] = votes[name].copy()
        places = draw.integers(0, len(votes[name]), len(votes[name]) // share)
        bits = draw.integers(0, 1 << 16, len(places)).astype(votes[name].dtype)
        altered[name][places] ^= bits
    return altered


def order_of(votes: Arrays, order: Any) -> Arrays:
    return votes | {name: votes[name][order] for name in FIELDS}


@every_kind
@every_size
@every_mix
def test_batches_drawn_and_decided_on_a_device_are_those_of_the_reference(
    mix: Mix, size: str, kind: Kind
) -> None:
    component = consensus(size, mix)
    for shape in SHAPES:
        lane = cuda(size, mix).operation(kind, shape)
        for key in (int(generator().integers(1 << 63)), 5):
            inputs = component.inputs("decide", SEED, key)
            assert lane.run("decide", key).units == component.batch
            found, right = lane.lane.answer().arrays(), component.reference("decide", inputs)
            assert same_arrays(found, right), f"seed {SEED}, key {key}, {shape}"
            for name in right:
                assert not same_arrays(found, right | {name: right[name] ^ 1})
            assert lane.verify() == (1, 0), f"seed {SEED}, key {key}, {shape}"


@every_kind
@every_size
def test_no_order_and_no_split_changes_an_answer(size: str, kind: Kind) -> None:
    component = consensus(size)
    for op in ("decide", "tally"):
        votes = struck(component.inputs(op, SEED, 3), 8)
        right = component.reference(op, votes)
        for shape in SHAPES:
            lane = cuda(size, component.mix).operation(kind, shape)
            order = generator().permutation(len(votes["agent"]))
            found = lane.evaluate(op, order_of(votes, order))
            assert same_arrays(found, right), f"seed {SEED}, {op}, {shape}"
        assert found["classes"].sum() == len(order)


@pytest.mark.parametrize("turn", range(30))
def test_any_sizes_shares_and_shapes_give_the_answer_of_the_reference(turn: int) -> None:
    draw = np.random.default_rng([SEED, turn])

    def up_to(most: int) -> int:
        return round(float(np.exp(draw.uniform(0.0, np.log(most)))))

    component = Consensus(
        batch=up_to(3000),
        agents=up_to(700),
        proposals=up_to(60),
        values=up_to(400),
        groups=up_to(20),
        mix=MIXES[draw.integers(len(MIXES))],  # type: ignore[arg-type]
        agreement=float(draw.uniform()),
        byzantine=float(draw.uniform()),
        duplicates=float(draw.uniform(0.0, 0.99)),
        stored_votes=up_to(2000),
        oracle_every=1,
    )
    fits = Box.of(component, 1).kind == "shared"
    kind = KINDS[turn % len(KINDS)] if fits else KINDS[1 + turn % 2]
    shape = Shape(int(draw.integers(1, 7)), 32 * int(draw.integers(1, 9)))
    lane, where = built(component).operation(kind, shape), f"seed {SEED}, turn {turn}, {shape}"
    key = int(draw.integers(1 << 63))
    for op in ("decide", "tally", "generate", "elect"):
        lane.run(op, key)
        assert lane.verify() == (1, 0), f"{where}, {op}"
        inputs = component.inputs(op, SEED, key)
        found = lane.evaluate(op, dict(inputs))
        assert same_arrays(found, component.reference(op, inputs)), f"{where}, {op}"


@every_kind
def test_votes_of_one_agent_leave_its_first_one_and_evidence_in_any_order(kind: Kind) -> None:
    """Threads that alter one cell at once, in many orders: no rank and no evidence is lost."""
    component = Consensus(batch=64, agents=4, proposals=1, values=3, stored_votes=64)
    lane, draw = built(component).operation(kind, Shape(2, 64)), generator()
    for turn in range(60):
        values = draw.integers(0, 1 + turn % 3, 64).astype(np.uint16)
        votes: Arrays = {
            "key": np.zeros(1, np.uint64),
            "agent": draw.integers(0, 2, 64).astype(np.uint32),
            "proposal": np.zeros(64, np.uint32),
            "value": values,
            "flags": draw.integers(0, 6, 64).astype(np.uint16),
            "round": np.zeros(64, np.uint32),
        }
        right = component.reference("decide", votes)
        assert same_arrays(lane.evaluate("decide", votes), right), f"seed {SEED}, turn {turn}"
        assert right["evidence"][0] > 0 or turn % 3 == 0


@every_kind
@pytest.mark.parametrize("agents", [1, 2, 4, 5, 8, 30])
def test_a_quorum_decides_and_one_vote_less_does_not(agents: int, kind: Kind) -> None:
    """Nor does a quorum among more equivocating agents than are tolerated."""
    component = Consensus(batch=64, agents=agents, proposals=2, stored_votes=64)
    lane, quorum, tolerated = (
        built(component).operation(kind),
        component.quorum,
        component.tolerated,
    )

    def decision(voters: int, equivocators: int) -> int:
        agent = np.concatenate([np.arange(voters), np.arange(equivocators)]).astype(np.uint32)
        votes: Arrays = {
            "key": np.zeros(1, np.uint64),
            "agent": agent,
            "proposal": np.ones(len(agent), np.uint32),
            "value": np.repeat([2, 3], [voters, equivocators]).astype(np.uint16),
            "flags": np.repeat([0, 1], [voters, equivocators]).astype(np.uint16),
            "round": np.zeros(len(agent), np.uint32),
        }
        found = lane.evaluate("decide", votes)
        assert same_arrays(found, component.reference("decide", votes))
        return int(found["decision"][1])

    assert decision(quorum, 0) == decision(quorum, tolerated) == 2
    assert decision(quorum - 1, 0) == -1
    assert decision(quorum, tolerated + 1) == -1


@every_mix
def test_one_launch_decides_the_batches_of_many_keys(mix: Mix) -> None:
    component = Consensus(mix=mix, groups=5, oracle_every=1)
    lane, count = built(component).operation(), 12
    first = int(generator().integers(1 << 30)) | 9 << 48
    before = device("plain").counts.launches
    assert lane.run_together("decide", first, count).units == count * component.batch
    assert device("plain").counts.launches == before + 1
    for place in range(count):
        inputs = component.inputs("decide", SEED, first + place)
        right = component.reference("decide", inputs)
        assert same_arrays(lane.lane.answer(place).arrays(), right), f"seed {SEED}, key {first}"
    assert lane.verify() == (count, 0)
    lane.run_together("decide", first, count)
    assert lane.plant("flipped_bit")
    assert lane.verify() == (count, 1)


@every_kind
@pytest.mark.parametrize("fault", ["flipped_bit", "lost_result", "doubled_result"])
@pytest.mark.parametrize("op", ["decide", "tally"])
def test_damage_is_seen_without_the_oracle(op: str, fault: str, kind: Kind) -> None:
    component = consensus("many cells").model_copy(update={"oracle_every": 1 << 16})
    lane = built(component).operation(kind)
    for key in range(8):
        lane.run(op, key)
        assert lane.plant(fault)
        assert lane.verify() == (1, 1), f"seed {SEED}, key {key}"
        assert lane.verify() == (0, 0)
        assert not lane.plant(fault)


def test_a_box_goes_where_its_cells_fit() -> None:
    small = Consensus()
    assert Box.of(small, 100).kind == Box.of(small, 1 << 24).kind == "shared"
    wide = Consensus(agents=4096, proposals=2048)
    assert Box.of(wide, 1 << 24) == Box("dense", 1 << 23)
    assert Box.of(wide, 1000) == Box("hashed", 1 << 23, 2048)
    most = Consensus(agents=SHARED_WORDS - 6, proposals=1)
    assert Box.of(most, 1).kind == "shared"
    more = Consensus(agents=SHARED_WORDS - 5, proposals=1)
    assert Box.of(more, 1).kind == "hashed"
    utmost = Consensus(agents=1 << 20, proposals=1 << 16, values=256)
    assert Box.of(utmost, 1 << 26).slots == 1 << 27


#: Sizes of every kind, left to choose it.
ODD_SIZES = (
    Consensus(stored_votes=70_000),
    Consensus(batch=3000, agents=150_001, proposals=3, values=65_535, stored_votes=1),
    Consensus(batch=4000, agents=9, proposals=1000, values=300, stored_votes=10),
    Consensus(batch=5000, agents=2000, proposals=8, stored_votes=300, mix="zipf"),
    Consensus(batch=40, agents=1 << 20, proposals=1 << 16, values=9, stored_votes=9),
    Consensus(batch=30_000, agents=5, proposals=3, stored_votes=1, mix="duplicates"),
)


@pytest.mark.parametrize("component", ODD_SIZES, ids=lambda each: str(each.agents))
def test_sizes_of_every_kind_are_decided_and_take_the_memory_of_the_formula(
    component: Consensus,
) -> None:
    device = EmulatedDevice(seed=SEED)
    native = component.prepare(seed=SEED).native
    cuda = CudaConsensus(component.model_copy(update={"oracle_every": 1}), native, device, SEED)
    for lanes in (1, 2):
        lane = cuda.operation()
        assert device.allocated_bytes == CudaConsensus.device_bytes(component, lanes)
    for op in ("decide", "tally", "generate", "elect"):
        lane.run(op, 77)
        assert lane.verify() == (1, 0), f"seed {SEED}, {op}"
    assert device.allocated_bytes == CudaConsensus.device_bytes(component, lanes)


@pytest.mark.parametrize("agents", [1, 4, 1001, 3000])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_leader_is_the_candidate_with_the_highest_score(
    agents: int, shape: Shape | None
) -> None:
    component = Consensus(agents=agents, stored_votes=1)
    lane = built(component).operation(None, shape)
    key = int(generator().integers(1 << 63))
    candidates = component.inputs("elect", SEED, key)
    right = component.reference("elect", candidates)
    lane.run("elect", key)
    elected = int(lane.lane.leader[0])
    assert elected == int(right["score"][0]) << 32 | int(right["leader"][0]), f"seed {SEED}"
    assert lane.verify() == (1, 0)
    order = generator().permutation(agents)
    mixed = {name: array[order] for name, array in candidates.items()}
    assert same_arrays(lane.evaluate("elect", mixed), right), f"seed {SEED}"
    tied = {"agent": mixed["agent"], "score": np.full(agents, 9, np.uint32)}
    assert lane.evaluate("elect", tied)["leader"][0] == candidates["agent"].max()


def test_an_election_among_many_is_checked_by_the_leader_alone() -> None:
    component = Consensus(agents=5000, stored_votes=1, oracle_every=1 << 16)
    lane = built(component).operation()
    for key in range(1, 4):
        lane.run("elect", key)
        assert lane.verify() == (1, 0)
        for fault in ("flipped_bit", "lost_result"):
            lane.run("elect", key)
            assert lane.plant(fault)
            assert lane.verify() == (1, 1), f"seed {SEED}, {fault}, key {key}"


def traced(component: Consensus, kind: Kind | None, shape: Shape | None) -> ConsensusOperation:
    return built(component, "traced").operation(kind, shape)


@pytest.mark.parametrize("op", ["decide", "tally", "elect", "generate"])
@pytest.mark.parametrize(
    ("kind", "shape"),
    [("shared", Shape(3, 64)), ("dense", Shape(2, 64)), ("hashed", Shape(2, 64)), (None, None)],
)
def test_the_declared_cost_is_what_is_counted_and_nothing_races(
    kind: Kind | None, shape: Shape | None, op: str
) -> None:
    sizes: dict[str, Any] = {"agents": 61, "proposals": 7, "mix": "zipf"}
    component = Consensus(batch=400, stored_votes=300, **sizes)
    lane = traced(component, kind, shape)
    with costs.followed(lane) as done:
        lane.run(op, 3)
    costs.check(done, lane.cost(op), f"seed {SEED}")
    assert lane.verify()[1] == 0


def test_what_cannot_be_evaluated_is_refused_in_one_line() -> None:
    component = Consensus(batch=10, agents=5000, proposals=9, stored_votes=10)
    lane = built(component).operation()
    inputs = component.inputs("generate", SEED + 1, 0)
    with pytest.raises(ValueError, match="seed: the component was built for seed"):
        lane.evaluate("generate", inputs)
    many = {"key": np.zeros(1, np.uint64)} | component.votes(SEED, 0, 25)
    with pytest.raises(ValueError, match="agent: 25 votes are too many for 32 slots"):
        lane.evaluate("decide", many)
    none = {"agent": np.zeros(0, np.uint32), "score": np.zeros(0, np.uint32)}
    with pytest.raises(ValueError, match="agent: needs one candidate or more"):
        lane.evaluate("elect", none)
    for ask in (lane.run, lambda op, _: lane.evaluate(op, {})):
        with pytest.raises(ValueError, match="op: there is no op `vote`"):
            ask("vote", 0)


def test_a_batch_of_no_votes_decides_nothing() -> None:
    for kind in KINDS:
        lane = cuda("few cells", "uniform").operation(kind)
        component = consensus("few cells", "uniform")
        votes = {"key": np.zeros(1, np.uint64)} | component.votes(SEED, 0, 0)
        found = lane.evaluate("decide", votes)
        assert same_arrays(found, component.reference("decide", votes))
        assert (found["decision"] == -1).all()


def test_an_answer_that_contradicts_itself_is_not_consistent() -> None:
    component = consensus("many cells", "uniform")
    lane = cuda("many cells", "uniform").operation("dense")
    lane.run("decide", 1)
    whole = lane.lane.answer().words.copy()
    assert Answer(component, whole.copy()).is_consistent(component.batch)
    assert not Answer(component, whole.copy()).is_consistent(component.batch + 1)
    used = 16 + component.proposals * (component.values + 2)
    for place in generator().integers(0, used, 200):
        altered = whole.copy()
        altered[place] ^= np.uint32(1 << int(generator().integers(32)))
        assert not Answer(component, altered).is_consistent(component.batch), f"seed {SEED}"


@every_kind
@pytest.mark.parametrize("size", ["few cells", "many counters"])
def test_every_way_of_keeping_cells_is_in_bounds_and_ordered(size: str, kind: Kind) -> None:
    """The traced build stops at an access outside the buffers and at a data race."""
    cuda_side = built(consensus(size), "traced")
    for shape in (Shape(2, 64), Shape(3, 96)):
        lane = cuda_side.operation(kind, shape)
        for op in ("decide", "tally"):
            lane.run(op, 11)
            assert lane.verify() == (1, 0), f"seed {SEED}, {op}, {shape}"
