"""The knowledge graph on a device, against the reference and the native side, at random."""

from __future__ import annotations

import json
import secrets
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import costs
from swarmbench import _native
from swarmbench.components import embeddings, graphs
from swarmbench.components.base import Arrays, same_arrays
from swarmbench.components.cuda.knowledge_graph import CudaKnowledgeGraph, KnowledgeGraphOperation
from swarmbench.components.cuda.knowledge_graph_path import Path as PathSide
from swarmbench.components.cuda.knowledge_graph_search import SearchOp, passes
from swarmbench.components.cuda.knowledge_graph_tables import PIECE_ARCS, Shape, long_rows
from swarmbench.components.cuda.knowledge_graph_tree import Tree, depths_of
from swarmbench.components.embeddings import OPS, SearchParameters
from swarmbench.components.knowledge_graph import NONE, KnowledgeGraph
from swarmbench.gpu.emulated import Build, EmulatedDevice

#: Inputs change with every run; a failure says which they were.
SEED = secrets.randbits(32)
FEW = {"vectors": 64, "dims": 8, "clusters": 3, "lists": 4, "probes": 2, "batch": 2}
GRAPHS: dict[str, dict[str, Any]] = {
    "rmat": {"nodes": 1500, "lookup_batch": 77},
    "sparse rmat": {"nodes": 700, "edges_per_node": 1, "lookup_batch": 64},
    "rmat of long rows": {"nodes": 300, "edges_per_node": 64, "lookup_batch": 300},
    "grid": {"nodes": 900, "graph": "grid", "lookup_batch": 13},
    "smallest": {"nodes": 64, "lookup_batch": 1},
}
SHAPES = (Shape(), Shape(block=32, blocks_per_multiprocessor=1), Shape(64, 3))
TRAVERSALS = ("node_lookup", "path_finding", "bfs", "path_batch")


def lane_of(
    component: KnowledgeGraph, shape: Shape = SHAPES[0], build: Build = "plain"
) -> tuple[KnowledgeGraphOperation, _native.Component]:
    native = component.prepare(seed=SEED, threads=2).native
    device = EmulatedDevice(seed=SEED, build=build, is_random=build == "plain")
    return CudaKnowledgeGraph(component, native, device, SEED, shape=shape).operation(), native


def graph_of(name: str) -> KnowledgeGraph:
    return KnowledgeGraph(**GRAPHS[name], search=SearchParameters(**FEW))


def searching(**changes: Any) -> KnowledgeGraph:
    sizes = {"vectors": 700, "dims": 40, "clusters": 9, "lists": 12, "probes": 3, "batch": 6}
    return KnowledgeGraph(nodes=64, search=SearchParameters(**{**sizes, **changes}))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.block} threads")
@pytest.mark.parametrize("name", GRAPHS)
def test_lookups_and_traversals_are_those_of_the_reference(name: str, shape: Shape) -> None:
    component = graph_of(name)
    lane, _ = lane_of(component, shape)
    for op in TRAVERSALS:
        key = secrets.randbits(64)
        inputs = component.inputs(op, SEED, key)
        right = component.reference(op, inputs)
        found = lane.evaluate(op, inputs)
        assert same_arrays(found, right), f"{op}, seed {SEED}, key {key}"
        assert lane.run(op, key).status == "ok"
        assert lane.verify() in ((1, 0), (0, 0)), f"{op}, seed {SEED}, key {key}"


@pytest.mark.parametrize("name", ["rmat", "sparse rmat", "grid"])
def test_any_nodes_may_be_asked_for_even_those_without_an_edge(name: str) -> None:
    component = graph_of(name)
    lane, _ = lane_of(component)
    drawn = np.random.default_rng(SEED).integers(0, component.nodes, (2, 70), dtype=np.uint32)
    drawn[1, :5] = drawn[0, :5]
    pairs = {"sources": drawn[0], "targets": drawn[1], "seed": np.array([SEED], np.uint64)}
    right = component.reference("path_batch", pairs)
    for op in ("path_finding", "path_batch"):
        assert same_arrays(lane.evaluate(op, pairs), right), f"{op}, seed {SEED}"
    for root in drawn[0, :3]:
        inputs = {"root": np.array([root]), "seed": pairs["seed"]}
        right = component.reference("bfs", inputs)
        assert same_arrays(lane.evaluate("bfs", inputs), right), f"root {root}, seed {SEED}"


def test_a_search_from_above_alone_finds_the_same_levels_in_other_ways() -> None:
    component = graph_of("rmat")
    lane, _ = lane_of(component)
    side = lane.sides["bfs"]
    assert isinstance(side, Tree)
    inputs = component.inputs("bfs", SEED, 3)
    both = lane.evaluate("bfs", inputs)
    assert side.found["passes"] > 0, f"seed {SEED}"
    control = Tree(side.lane, is_top_down=True)
    assert same_arrays(control.evaluate(inputs), both), f"seed {SEED}"
    assert control.found["passes"] == 0
    assert control.found["seen_above"] == control.found["arcs"] > side.found["seen_above"]


def test_a_path_of_many_levels_comes_back_whole(tmp_path: Path) -> None:
    # A line of 1101 nodes, and two nodes apart from it.
    file = tmp_path / "line.txt"
    along = [f"{node} {node + 1}\n" for node in range(1100)]
    file.write_text("".join([*along, "1101 1102\n"]))
    component = KnowledgeGraph(file=str(file), search=SearchParameters(**FEW))
    lane, _ = lane_of(component, Shape(block=32, blocks_per_multiprocessor=1))
    asked = {"sources": np.array([0, 700, 0], np.uint32)}
    asked["targets"] = np.array([1100, 700, 1102], np.uint32)
    assert lane.evaluate("path_finding", asked)["lengths"].tolist() == [1100, 0, NONE]
    side = lane.sides["path_finding"]
    assert isinstance(side, PathSide)
    lane.evaluate("path_finding", {name: asked[name][:1] for name in ("sources", "targets")})
    assert side.path == list(range(1101))


def test_every_edge_of_a_path_is_one_of_the_graph() -> None:
    component = graph_of("grid")
    lane, _ = lane_of(component)
    offsets, neighbours = component.rows(SEED)
    side = lane.sides["path_finding"]
    assert isinstance(side, PathSide)
    for key in range(8):
        lane.run("path_finding", key)
        assert side.path is not None
        for one, other in pairwise(side.path):
            assert other in neighbours[offsets[one] : offsets[one + 1]], f"seed {SEED}, key {key}"


def test_both_sides_of_a_path_go_and_look_at_a_part_of_the_graph() -> None:
    component = KnowledgeGraph(nodes=3000, search=SearchParameters(**FEW))
    lane, _ = lane_of(component)
    side = lane.sides["path_finding"]
    assert isinstance(side, PathSide)
    there = back = looked_at = 0
    for key in range(12):
        lane.run("path_finding", key)
        there, back = there + side.found["there_hops"], back + side.found["back_hops"]
        looked_at += side.found["looked_at"]
    assert there > 0, f"seed {SEED}"
    assert back > 0, f"seed {SEED}"
    assert looked_at < 12 * 0.1 * side.lane.tables.arcs, f"seed {SEED}"


def test_long_rows_are_dealt_in_pieces_that_hold_every_arc_once() -> None:
    generator = np.random.default_rng(SEED)
    degrees = np.sort(generator.integers(0, 3 * PIECE_ARCS, 400))[::-1]
    degrees[:3] = (300 * PIECE_ARCS * 2, 256 * PIECE_ARCS, PIECE_ARCS + 1)
    degrees = np.sort(degrees)[::-1]
    pieces, hubs = long_rows(np.append(0, np.cumsum(degrees)).astype(np.uint32))
    assert hubs == (degrees > PIECE_ARCS).sum(), f"seed {SEED}"
    for node in range(hubs):
        length = max(PIECE_ARCS, -(-degrees[node] // 256))
        numbers = pieces[pieces & 0xFFFFFF == node] >> 24
        assert np.array_equal(numbers, np.arange(-(-degrees[node] // length))), f"seed {SEED}"


def test_depths_need_parents_that_lead_to_the_root() -> None:
    parents = np.array([0, 0, 1, 2, 9, 4], np.uint32)
    visited = np.array([True, True, True, True, False, False])
    depths = depths_of(parents, visited, 0)
    assert depths is not None
    assert depths[visited].tolist() == [0, 1, 2, 3]
    for wrong in (4, 3, 99):  # not visited, a cycle, no node at all
        broken = parents.copy()
        broken[2] = wrong
        assert depths_of(broken, visited, 0) is None


def test_keys_of_no_node_are_misses_and_all_others_are_hits() -> None:
    component = graph_of("rmat")
    lane, _ = lane_of(component)
    numbers = np.random.default_rng(SEED).integers(0, 1 << 63, 500, dtype=np.uint64)
    numbers[::2] %= np.uint64(component.nodes)
    keys = {"keys": graphs.keys_of(numbers, SEED), "seed": np.array([SEED], np.uint64)}
    found = lane.evaluate("node_lookup", keys)
    expected = np.where(numbers < component.nodes, numbers, NONE).astype(np.uint32)
    assert np.array_equal(found["nodes"], expected), f"seed {SEED}"
    assert same_arrays(found, component.reference("node_lookup", keys)), f"seed {SEED}"


SEARCHES = (
    {},
    {"storage": "fp16", "dims": 72, "top": 1},
    {"storage": "int8", "batch": 5},
    {"storage": "int8", "dims": 8, "batch": 1, "clusters": 1},
    {"dims": 256, "batch": 17, "vectors": 333, "lists": 5},
    {"top": 400, "batch": 3},
    {"vectors": 20, "lists": 3, "top": 30, "probes": 3},
)


@pytest.mark.parametrize("changes", SEARCHES, ids=str)
def test_searches_answer_as_the_reference_and_the_native_side(changes: dict[str, Any]) -> None:
    component = searching(**changes)
    lane, native = lane_of(component, SHAPES[secrets.randbelow(len(SHAPES))])
    for op in OPS:
        key = secrets.randbits(64)
        inputs = component.inputs(op, SEED, key)
        found = lane.evaluate(op, inputs)
        right = native.evaluate(op, inputs)
        assert same_arrays(found, right), f"{op}, seed {SEED}, key {key}"
        if op != "approximate_search":
            assert same_arrays(found, component.reference(op, inputs)), f"seed {SEED}, key {key}"
        assert lane.run(op, key).units == (component.search.batch if "batch" in op else 1)
        assert lane.verify()[1] == 0, f"{op}, seed {SEED}, key {key}"
        side = lane.sides[op]
        assert isinstance(side, SearchOp)
        ids = np.concatenate([ids for ids, _ in side.found])
        assert np.array_equal(ids, right["ids"]), f"{op}, seed {SEED}, key {key}"


def awkward(generator: np.random.Generator, count: int, dims: int) -> Any:
    """Rows of few distinct values, with copies, zeros, huge and tiny ones."""
    rows = generator.integers(-2, 3, (count, dims)).astype(np.float32)
    kinds = generator.integers(0, 5, count)
    rows[kinds == 0] = 0
    rows[kinds == 1] = rows[generator.integers(0, count)]
    rows[kinds == 2] *= np.float32(2.0**20)
    rows[kinds == 3] *= np.float32(2.0**-20)
    return rows


@pytest.mark.parametrize("storage", ["fp32", "fp16", "int8"])
def test_ties_copies_and_zero_vectors_come_in_the_reference_order(storage: str) -> None:
    component = searching(storage=storage, batch=3)
    lane, _ = lane_of(component)
    for seed in (SEED, SEED + 1, SEED + 2):
        generator = np.random.default_rng(seed)
        rows = awkward(generator, int(generator.integers(5, 200)), component.search.dims)
        given: Arrays = {"queries": rows[:4].reshape(-1), "vectors": rows.reshape(-1)}
        found = lane.evaluate("semantic_search", given)
        assert same_arrays(found, component.reference("semantic_search", given)), f"seed {seed}"


def test_equal_scores_of_unequal_vectors_come_by_their_ids() -> None:
    # As near to the query as one another, and in many lists.
    component = searching(batch=1)
    lane, _ = lane_of(component)
    dims = component.search.dims
    rows = np.zeros((3 * (dims - 1), dims), np.float32)
    rows[:, 0] = 1
    others = 1 + np.random.default_rng(SEED).permutation(len(rows)) % (dims - 1)
    rows[np.arange(len(rows)), others] = 1
    given: Arrays = {"queries": np.eye(1, dims, dtype=np.float32)[0], "vectors": rows.reshape(-1)}
    found = lane.evaluate("semantic_search", given)
    assert found["ids"].tolist() == list(range(component.search.top)), f"seed {SEED}"
    assert same_arrays(found, component.reference("semantic_search", given)), f"seed {SEED}"


@pytest.mark.parametrize("storage", ["fp32", "fp16", "int8"])
def test_no_vector_is_further_from_its_codes_than_the_spans_say(storage: str) -> None:
    component = searching(storage=storage)
    lane, native = lane_of(component)
    side = lane.sides["semantic_search"]
    assert isinstance(side, SearchOp)
    corpus, dims = side.corpus, component.search.dims
    planes = [np.empty(corpus.high.count, np.uint32) for _ in range(2)]
    spans, ids = np.empty(corpus.spans.count, np.float32), np.empty(corpus.ids.count, np.uint32)
    for array, buffer in zip(
        (*planes, spans, ids), (corpus.high, corpus.low, corpus.spans, corpus.ids), strict=True
    ):
        lane.stream.download(array, buffer)
    lane.stream.synchronize()
    # Tile, group, lane, word: the low halves of a word's bytes are four dimensions, then the high.
    halves = [plane.reshape(-1, corpus.groups, 32, 4, 1) for plane in planes]
    shifts = np.array([0, 8, 16, 24, 4, 12, 20, 28], np.uint32)
    high, low = ((each >> shifts & 15).transpose(0, 2, 1, 3, 4) for each in halves)
    codes = (high * 16 + low).reshape(len(ids), -1)[: corpus.vectors, :dims].astype(np.float64)
    rows = native.evaluate("embeddings", {"ids": ids[: corpus.vectors]})["vectors"]
    wide = rows.reshape(-1, dims).astype(np.float64)
    units = wide / np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    span = np.repeat(spans.reshape(-1, 4).astype(np.float64), 32, axis=0)[: corpus.vectors]
    scale = span[:, 3:]
    upper = np.floor(codes / 16) * 16 - 120.5
    assert (np.linalg.norm(units - scale * upper, axis=1) <= span[:, 1]).all(), f"seed {SEED}"
    lost = np.linalg.norm(units - scale * (codes - 128), axis=1)
    assert (lost <= span[:, 2]).all(), f"seed {SEED}"
    assert (span[:, 2] <= 1.001 * lost.max() + 1e-6).all(), f"seed {SEED}"


def test_more_candidates_than_are_kept_still_give_the_exact_answer() -> None:
    component = searching(clusters=1)
    lane, _ = lane_of(component)
    side = lane.sides["semantic_search_batch"]
    assert isinstance(side, SearchOp)
    side.search.capacity = 2
    inputs = component.inputs("semantic_search_batch", SEED, 1)
    found = lane.evaluate("semantic_search_batch", inputs)
    assert (side.search.heads()["candidates"] > 2).any(), f"seed {SEED}"
    assert same_arrays(found, component.reference("semantic_search_batch", inputs)), f"seed {SEED}"


def test_few_probes_lose_results_and_the_stated_recall_says_how_many() -> None:
    component = searching(clusters=2, probes=1, vectors=1500)
    lane, native = lane_of(component)
    stated = json.loads(native.describe())["search"]["approximate_recall_at_top"]
    shares = []
    for key in range(40):
        inputs = component.inputs("approximate_search", SEED, key)
        ids = lane.evaluate("approximate_search", inputs)["ids"]
        exact = component.reference("approximate_search", inputs)["ids"]
        shares.append(len(np.intersect1d(ids, exact)) / len(exact))
    assert 0.0 < stated < 1.0
    assert abs(np.mean(shares) - stated) < 0.25, f"seed {SEED}"


@pytest.mark.parametrize(
    ("component", "ops"),
    [
        (searching(), OPS),
        (searching(storage="fp16", top=3), OPS),
        (searching(storage="int8", clusters=2), OPS),
        (graph_of("grid"), TRAVERSALS),
        (graph_of("rmat of long rows"), TRAVERSALS),
        (graph_of("sparse rmat"), TRAVERSALS),
    ],
    ids=["fp32", "fp16", "int8", "grid", "long rows", "sparse"],
)
def test_accesses_are_ordered_and_as_declared_at_other_sizes(
    component: KnowledgeGraph, ops: tuple[str, ...]
) -> None:
    lane, _ = lane_of(component, build="traced")
    device = lane.device
    assert isinstance(device, EmulatedDevice)
    for op in ops:
        with costs.followed(lane) as done:
            lane.run(op, secrets.randbits(32))
        # What the requests of a batch have in common is estimated.
        tolerance = 0.1 if op.endswith("_batch") else costs.TOLERANCE
        costs.check(done, lane.cost(op), f"{op}, seed {SEED}", tolerance)
        assert lane.verify()[1] == 0


@pytest.mark.parametrize(
    ("dims", "count", "widths"),
    [
        (128, 1, [1]),
        (128, 3, [4]),
        (128, 19, [16, 4]),
        (128, 33, [16, 16, 1]),
        (4096, 9, [4, 4, 1]),
    ],
)
def test_passes_are_as_wide_as_their_queries_and_the_shared_memory(
    dims: int, count: int, widths: list[int]
) -> None:
    found = list(passes(dims, count))
    assert [width for _, _, width in found] == widths
    assert [first for first, _, _ in found] == [sum(widths[:place]) for place in range(len(widths))]
    assert sum(size for _, size, _ in found) == count


def test_the_device_holds_what_the_formula_says_in_every_storage() -> None:
    for changes in SEARCHES:
        component = searching(**changes)
        native = component.prepare(seed=SEED).native
        device = EmulatedDevice(seed=SEED)
        cuda = CudaKnowledgeGraph(component, native, device, SEED)
        cuda.operation()
        assert device.allocated_bytes == CudaKnowledgeGraph.device_bytes(component, 1)


def test_the_native_side_hands_out_its_graph_its_edges_and_its_lists() -> None:
    component = searching()
    native = component.prepare(seed=SEED).native
    rows, inner = component.rows(SEED), native.evaluate("inner_graph", {})
    assert (np.diff(np.diff(inner["offsets"]).astype(np.int64)) <= 0).all()
    first = inner["offsets"][: len(inner["biggest"])]
    assert np.array_equal(inner["neighbours"][first], inner["biggest"])
    assert np.array_equal(inner["outer"][inner["inner"]], np.arange(component.nodes))
    nodes = np.repeat(np.arange(component.nodes, dtype=np.uint32), np.diff(rows.offsets))
    pairs = {"sources": nodes, "targets": rows.neighbours}
    assert native.evaluate("edges", pairs)["edges"].all()
    assert not native.evaluate("edges", {"sources": nodes, "targets": nodes})["edges"].any()
    lists = native.evaluate("lists", {})
    assert np.array_equal(np.sort(lists["ids"]), np.arange(component.search.vectors))
    assert lists["starts"][-1] == component.search.vectors
    assert len(lists["centroids"]) == component.search.lists * component.search.dims // 4
    ids = np.array([3, 700 - 1, 3], np.uint32)
    rows = embeddings.vectors(component.search, SEED, 0, component.search.vectors)[ids]
    found = native.evaluate("embeddings", {"ids": ids})["vectors"]
    assert np.array_equal(found, rows.reshape(-1))
    asked = native.evaluate("requested_queries", {"key": np.array([1 << 40], np.uint64)})
    wanted = component.inputs("semantic_search_batch", SEED, 1 << 40)["queries"]
    assert np.array_equal(asked["queries"], wanted)
    for op, wrong in (("embeddings", {}), ("embeddings", {"ids": ids + np.uint32(697)})):
        with pytest.raises(ValueError, match="range"):
            native.evaluate(op, wrong)
