"""The knowledge graph on a card at the sizes that only a card makes quick."""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
import pytest

from swarmbench.components.base import same_arrays
from swarmbench.components.cuda.knowledge_graph import CudaKnowledgeGraph
from swarmbench.components.cuda.knowledge_graph_tree import Tree
from swarmbench.components.embeddings import OPS, SearchParameters
from swarmbench.components.knowledge_graph import KnowledgeGraph
from swarmbench.gpu.found import open_device

pytestmark = pytest.mark.gpu

#: Inputs change with every run; a failure says which they were.
SEED = secrets.randbits(32)
LARGE: dict[str, dict[str, Any]] = {
    "rmat": {"nodes": 1_000_000, "lookup_batch": 65_536},
    "grid": {"nodes": 1_000_000, "graph": "grid"},
}
FEW = SearchParameters(vectors=1024, lists=16, probes=2)
KEYS = 4


@pytest.mark.parametrize("name", LARGE)
def test_large_graphs_are_walked_as_the_native_side_walks_them(name: str) -> None:
    component = KnowledgeGraph(**LARGE[name], search=FEW)
    native = component.prepare(seed=SEED, threads=8).native
    lane = CudaKnowledgeGraph(component, native, open_device(0), SEED).operation()
    for op in ("node_lookup", "path_finding", "bfs", "path_batch"):
        for key in range(KEYS):
            lane.run(op, key)
            assert lane.verify()[1] == 0, f"{name} {op}, seed {SEED}, key {key}"
            lane.sides[op].verified = 0  # so that the next answer is checked in full too
    side = lane.sides["bfs"]
    assert isinstance(side, Tree)
    control = Tree(side.lane, is_top_down=True)
    asked = native.evaluate("requested_pairs", {"key": np.array([7], np.uint64)})
    root = {"root": asked["sources"][:1]}
    assert same_arrays(control.evaluate(root), lane.evaluate("bfs", root)), f"seed {SEED}"


@pytest.mark.parametrize("storage", ["fp32", "fp16", "int8"])
def test_a_million_vectors_are_searched_as_the_native_side_searches_them(storage: Any) -> None:
    search = SearchParameters(storage=storage, full_check_one_in=1)
    component = KnowledgeGraph(nodes=1_000_000, edges_per_node=1, search=search)
    native = component.prepare(seed=SEED, threads=8).native
    lane = CudaKnowledgeGraph(component, native, open_device(0), SEED).operation()
    for op in OPS:
        for key in range(KEYS):
            lane.run(op, key)
            assert lane.verify()[1] == 0, f"{storage} {op}, seed {SEED}, key {key}"
        asked = native.evaluate("requested_queries", {"key": np.array([3], np.uint64)})
        assert same_arrays(lane.evaluate(op, asked), native.evaluate(op, asked)), f"seed {SEED}"
