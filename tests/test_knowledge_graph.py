"""The knowledge graph: the native backend against the NumPy reference, property by property."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from swarmbench import _native
from swarmbench.components import graphs
from swarmbench.components.base import same_arrays
from swarmbench.components.knowledge_graph import NONE, KnowledgeGraph

SEED = 20240607
KEYS = (0, 1, 12_345, 7 << 48 | 1_234_567, (1 << 64) - 1)
SHAPES: dict[str, dict[str, Any]] = {
    "rmat": {"nodes": 3000, "lookup_batch": 300},
    "sparse rmat": {"nodes": 700, "edges_per_node": 1, "lookup_batch": 64},
    "grid": {"nodes": 2500, "graph": "grid", "lookup_batch": 64},
    "smallest": {"nodes": 64, "lookup_batch": 1},
}
EVALUATED = ("node_lookup", "path_finding", "bfs", "path_batch")

shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def built(shape: dict[str, Any]) -> tuple[KnowledgeGraph, _native.Component]:
    component = KnowledgeGraph(**shape)
    return component, component.prepare(seed=SEED, threads=2).native


def word(value: int) -> np.ndarray[Any, Any]:
    return np.array([value], dtype=np.uint64)


@shapes
def test_the_graph_is_that_of_the_numpy_generator(shape: dict[str, Any]) -> None:
    component, native = built(shape)
    expected = component.rows(SEED)._asdict()
    found = native.evaluate("graph", {})
    assert same_arrays(found, expected)
    other = component.rows(SEED + 1)._asdict()
    assert component.graph == "grid" or not same_arrays(found, other)


@shapes
@pytest.mark.parametrize("op", EVALUATED)
def test_answers_are_those_of_the_reference(op: str, shape: dict[str, Any]) -> None:
    component, native = built(shape)
    for key in KEYS:
        inputs = component.inputs(op, SEED, key)
        expected = component.reference(op, inputs)
        found = native.evaluate(op, inputs)
        assert same_arrays(found, expected)
        for name in expected:
            assert not same_arrays(found, expected | {name: expected[name] ^ 1})


@shapes
def test_operations_ask_for_what_inputs_says(shape: dict[str, Any]) -> None:
    component, native = built(shape)
    for key in KEYS:
        keys = native.evaluate("requested_keys", {"key": word(key)})
        assert np.array_equal(keys["keys"], component.inputs("node_lookup", SEED, key)["keys"])
        pairs = native.evaluate("requested_pairs", {"key": word(key)})
        expected = component.inputs("path_batch", SEED, key)
        assert all(np.array_equal(pairs[name], expected[name]) for name in pairs)
        one = component.inputs("path_finding", SEED, key)
        assert all(np.array_equal(pairs[name][:1], one[name]) for name in pairs)
        assert component.inputs("bfs", SEED, key)["root"] == pairs["sources"][:1]


@shapes
def test_every_edge_of_a_path_exists_and_both_ends_are_those_asked_for(shape: Any) -> None:
    component, native = built(shape)
    inputs = component.inputs("path_batch", SEED, 5)
    offsets, neighbours = component.rows(SEED)
    lengths = native.evaluate("path_finding", inputs)["lengths"]
    found = native.evaluate("path_nodes", inputs)
    paths = np.split(found["nodes"], found["offsets"][1:-1])
    for source, target, length, path in zip(
        inputs["sources"], inputs["targets"], lengths, paths, strict=True
    ):
        assert len(path) == (0 if length == NONE else length + 1)
        for one, other in pairwise(path):
            assert other in neighbours[offsets[one] : offsets[one + 1]]
        assert length == NONE or (path[0], path[-1]) == (source, target)


@shapes
def test_parents_are_neighbours_one_level_up(shape: dict[str, Any]) -> None:
    component, native = built(shape)
    inputs = component.inputs("bfs", SEED, 5)
    offsets, neighbours = component.rows(SEED)
    parents = native.evaluate("bfs_parents", inputs)["parents"]
    levels = graphs.levels(component.rows(SEED), int(inputs["root"][0]))
    assert np.array_equal(parents == NONE, levels == graphs.NO_LEVEL)
    for node in np.flatnonzero((parents != NONE) & (levels != 0)):
        assert parents[node] in neighbours[offsets[node] : offsets[node + 1]]
        assert levels[parents[node]] == levels[node] - 1


@shapes
@pytest.mark.parametrize("op", EVALUATED)
def test_a_run_on_two_threads_is_right_in_full(op: str, shape: dict[str, Any]) -> None:
    _, native = built(shape)
    tally = native.run(op, count=20, threads=2)
    #: The first, the 64th and so on of each worker, where a full check is dear.
    checked = {"node_lookup": 1, "bfs": 1}.get(op, 20)
    assert (tally["ok"], tally["verified"], tally["violations"]) == (40, 2 * checked, 0)


def test_lookups_hit_and_miss_in_both_distributions() -> None:
    component, native = built({"nodes": 3000, "lookup_batch": 1024})
    shares, hottest = [], []
    for key in range(40):
        nodes = native.evaluate("node_lookup", component.inputs("node_lookup", SEED, key))["nodes"]
        shares.append(np.mean(nodes == NONE))
        hottest.append(np.max(np.bincount(nodes[nodes != NONE])))
    assert 0.11 < np.mean(shares) < 0.14
    assert min(hottest) < 10
    assert max(hottest) > 60


def test_the_r_mat_graph_is_skewed_as_its_quadrants_say() -> None:
    sources, targets = graphs.rmat_edges(1 << 12, 8, SEED)
    half = 1 << 11
    shares = [
        np.mean((sources >= half) == high_source)
        if high_target is None
        else np.mean(((sources >= half) == high_source) & ((targets >= half) == high_target))
        for high_source, high_target in [(0, 0), (0, 1), (1, 0), (1, 1), (0, None)]
    ]
    assert np.allclose(shares, [0.57, 0.19, 0.19, 0.05, 0.76], atol=0.01)


@pytest.mark.parametrize("workers", [1, 7])
@shapes
def test_both_sides_plan_the_same_memory(shape: dict[str, Any], workers: int) -> None:
    component, native = built(shape)
    assert component.resident_bytes(workers) == native.resident_bytes(workers)


def test_fitting_keeps_the_budget_and_says_what_it_changed() -> None:
    component = KnowledgeGraph.for_profile("full")
    assert component.fitted(component.resident_bytes(2), 2) == (component, [])
    budget = component.resident_bytes(2) // 3
    fitted, lines = component.fitted(budget, 2)
    assert fitted.resident_bytes(2) <= budget
    larger = component._with_nodes(fitted.nodes + 1)
    assert larger.resident_bytes(2) > budget
    assert lines == [
        f"knowledge_graph: 10000000 nodes fitted to {fitted.nodes}",
        f"knowledge_graph: 1000000 embeddings fitted to {fitted.search.vectors}",
    ]


def test_an_edge_list_gives_the_rows_numpy_gives() -> None:
    _, native = built(SHAPES["smallest"])
    generator = np.random.default_rng(3)
    sources, targets = generator.integers(0, 900, (2, 5000), dtype=np.uint32)
    size = np.array([900, 3], dtype=np.uint32)
    given = {"size": size, "sources": sources, "targets": targets}
    expected = graphs.rows(900, sources, targets)._asdict()
    assert same_arrays(native.evaluate("assemble", given), expected)
    assert native.evaluate("assemble_ns", given)["elapsed_ns"][0] > 0


@pytest.mark.parametrize(
    "wrong",
    [{"nodes": 63}, {"nodes": 16_000_001}, {"edges_per_node": 0}, {"graph": "ring"}, {"edges": 8}],
)
def test_parameters_out_of_bounds_are_refused_on_both_sides(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        KnowledgeGraph(**wrong)
    parameters = json.loads(KnowledgeGraph(nodes=64).model_dump_json()) | wrong
    with pytest.raises(ValueError, match=r"nodes|edges|ring"):
        _native.Component("knowledge_graph", json.dumps(parameters), seed=SEED)


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        ("bfs", {}),
        ("bfs", {"root": np.array([64], dtype=np.uint32)}),
        ("path_finding", {"sources": np.zeros(2, dtype=np.uint32)}),
        ("node_lookup", {"keys": np.zeros(2, dtype=np.uint32)}),
        ("assemble", {"size": np.array([4, 1], dtype=np.uint32)}),
        ("walk", {}),
    ],
)
def test_inputs_that_do_not_fit_are_refused(op: str, inputs: dict[str, Any]) -> None:
    _, native = built(SHAPES["smallest"])
    with pytest.raises(ValueError, match=r"expected|not below|no op"):
        native.evaluate(op, inputs)


def test_building_gives_up_when_its_progress_does() -> None:
    def fail(stage: str, fraction: float) -> None:
        raise RuntimeError(stage)

    with pytest.raises(KeyboardInterrupt):
        KnowledgeGraph(nodes=100_000).prepare(seed=SEED, threads=2, progress=fail)


def test_a_search_costs_what_its_own_sizes_make_it_read() -> None:
    default, small = KnowledgeGraph(), KnowledgeGraph(nodes=10_000)
    for op in KnowledgeGraph.ops:
        assert default.cost(op) == pytest.approx(op.cost)
    ops = {op.name: op for op in KnowledgeGraph.ops}
    assert small.cost(ops["semantic_search"]) == 10_000 * 128 / 2
    assert small.cost(ops["node_lookup"]) == 1.0
