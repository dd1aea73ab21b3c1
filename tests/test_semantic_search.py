"""Native semantic search against plain NumPy in float64, bit for bit."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from swarmbench import _native
from swarmbench.components import embeddings
from swarmbench.components.base import same_arrays
from swarmbench.components.embeddings import OPS, SearchParameters
from swarmbench.components.knowledge_graph import KnowledgeGraph

SEED = 5


def parameters(**changes: Any) -> SearchParameters:
    sizes = {
        "vectors": 5000,
        "dims": 48,
        "clusters": 40,
        "lists": 32,
        "probes": 32,
        "batch": 19,
        "full_check_one_in": 1,
    }
    return SearchParameters(**{**sizes, **changes})


def built(search: SearchParameters) -> tuple[KnowledgeGraph, _native.Component]:
    graph = KnowledgeGraph(nodes=64, search=search)
    return graph, graph.prepare(seed=SEED, threads=2).native


@pytest.fixture(scope="module", params=["fp32", "fp16", "int8"])
def subject(request: pytest.FixtureRequest) -> tuple[KnowledgeGraph, _native.Component]:
    return built(parameters(storage=request.param))


def test_vectors_have_the_bits_of_the_numpy_generator(
    subject: tuple[KnowledgeGraph, _native.Component],
) -> None:
    graph, component = subject
    asked = {"range": np.array([17, 4000], dtype=np.uint32)}
    rows = component.evaluate("embeddings", asked)["vectors"]
    wanted = embeddings.vectors(graph.search, SEED, 17, 4000)
    assert np.array_equal(rows, wanted.reshape(-1))


@pytest.mark.parametrize("op", OPS)
def test_answers_equal_the_reference_in_every_bit(
    subject: tuple[KnowledgeGraph, _native.Component], op: str
) -> None:
    graph, component = subject
    for key in (0, 1, 1 << 48 | 77):
        inputs = graph.inputs(op, SEED, key)
        answers = component.evaluate(op, inputs)
        assert same_arrays(answers, graph.reference(op, inputs))
        assert len(answers["ids"]) == graph.search.top * (19 if "batch" in op else 1)


@pytest.mark.parametrize("op", OPS)
def test_all_answers_of_a_run_pass_the_full_check_on_two_threads(
    subject: tuple[KnowledgeGraph, _native.Component], op: str
) -> None:
    _, component = subject
    tally = component.run(op, count=5, threads=2)
    queries = 19 if "batch" in op else 1
    assert tally["ok"] == 10
    assert tally["units"] == tally["verified"] == 10 * queries
    assert tally["violations"] == 0


def awkward_rows(draw: st.DrawFn, count: int, dims: int) -> Any:
    """Rows of few distinct values, with copies, zeros, huge and tiny ones."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = generator.integers(-2, 3, (count, dims)).astype(np.float32)
    kinds = generator.integers(0, 5, count)
    rows[kinds == 0] = 0
    rows[kinds == 1] = rows[generator.integers(0, count)]
    rows[kinds == 2] *= np.float32(2.0**20)
    rows[kinds == 3] *= np.float32(2.0**-20)
    return rows


@settings(max_examples=40, deadline=None)
@given(drawn=st.data())
def test_ties_copies_and_zero_vectors_come_in_the_reference_order(
    drawn: st.DataObject, subject: tuple[KnowledgeGraph, _native.Component]
) -> None:
    graph, component = subject
    dims = graph.search.dims
    rows = drawn.draw(st.composite(awkward_rows)(count=drawn.draw(st.integers(5, 200)), dims=dims))
    given_rows = {"queries": rows[:4].reshape(-1), "vectors": rows.reshape(-1)}
    answers = component.evaluate("semantic_search", given_rows)
    assert same_arrays(answers, graph.reference("semantic_search", given_rows))


def test_a_reference_over_other_vectors_differs(
    subject: tuple[KnowledgeGraph, _native.Component],
) -> None:
    graph, component = subject
    inputs = graph.inputs("semantic_search", SEED, 3)
    answers = component.evaluate("semantic_search", inputs)
    inputs["seed"] = np.array([SEED + 1], dtype=np.uint64)
    assert not same_arrays(answers, graph.reference("semantic_search", inputs))


def test_few_probes_lose_results_and_the_stated_recall_says_how_many() -> None:
    graph, component = built(parameters(probes=1))
    stated = json.loads(component.describe())["search"]["approximate_recall_at_top"]
    found = []
    for key in range(64):
        inputs = graph.inputs("approximate_search", SEED, key)
        ids = component.evaluate("approximate_search", inputs)["ids"]
        exact = graph.reference("approximate_search", inputs)["ids"]
        found.append(len(np.intersect1d(ids, exact)) / len(exact))
    assert 0.2 < stated < 1.0
    assert abs(np.mean(found) - stated) < 0.15


def test_the_memory_formula_equals_the_native_one() -> None:
    few = {"vectors": 777, "lists": 5, "probes": 2}
    for changes in ({}, {"storage": "int8"}, {"storage": "fp16"}, few):
        graph, component = built(parameters(**changes))
        for workers in (1, 7):
            assert component.resident_bytes(workers) == graph.resident_bytes(workers)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"dims": 12}, "dims"),
        ({"lists": 6000}, "lists"),
        ({"probes": 33}, "probes"),
        ({"top": 0}, "top"),
        ({"storage": "fp8"}, "storage"),
    ],
)
def test_a_wrong_size_is_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        parameters(**changes)


def test_embeddings_shrink_with_the_graph_that_is_fitted() -> None:
    graph = KnowledgeGraph(nodes=100_000)
    assert graph.search.vectors == 100_000
    budget = graph.resident_bytes(2) // 2
    fitted, lines = graph.fitted(budget, 2)
    assert fitted.resident_bytes(2) <= budget
    assert fitted.search.vectors < 100_000
    assert any("embeddings" in line for line in lines)
