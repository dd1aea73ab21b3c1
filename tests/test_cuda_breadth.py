"""Which rows of a graph a breadth-first search on a device looks at."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from swarmbench.components.cuda.knowledge_graph import CudaKnowledgeGraph
from swarmbench.components.cuda.knowledge_graph_tree import Tree
from swarmbench.components.embeddings import SearchParameters
from swarmbench.components.knowledge_graph import KnowledgeGraph
from swarmbench.gpu.emulated import EmulatedDevice

SEARCH = SearchParameters(vectors=64, dims=8, clusters=3, lists=4, probes=2, batch=2)
SEED = 7


def test_nobody_is_visited_from_above_whose_neighbours_were_found_from_below(
    tmp_path: Path,
) -> None:
    # A hub of 300 nodes, from the last of which a line goes on.
    edges = [(0, node) for node in range(1, 301)] + [(node, node + 1) for node in range(300, 340)]
    file = tmp_path / "comet.txt"
    file.write_text("".join(f"{one} {other}\n" for one, other in edges))
    component = KnowledgeGraph(file=str(file), search=SEARCH)
    native = component.prepare(seed=SEED).native
    lane = CudaKnowledgeGraph(component, native, EmulatedDevice(), SEED).operation()
    levels = lane.evaluate("bfs", {"root": np.array([1], np.uint32)})["levels"]
    side = lane.sides["bfs"]
    assert isinstance(side, Tree)
    found = side.found
    assert levels.max() == 42
    assert found["passes"] > 0
    assert found["listings"] > 0
    above = [hop for hop in range(found["hops"]) if not found["ways"] >> hop & 1]
    assert found["seen_above"] == np.bincount(np.ravel(edges))[np.isin(levels, above)].sum()
