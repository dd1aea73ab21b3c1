"""The `knowledge_graph` component: node lookups, shortest paths and searches of a graph."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from swarmbench import _native
from swarmbench.components import embeddings, graphs
from swarmbench.components.base import Arrays, Component, Op, Profile
from swarmbench.components.embeddings import SearchParameters

#: What stands for "no such node" and "no path".
NONE = 0xFFFFFFFF

#: Pairs of nodes in one `path_batch`.
LANES = 64

_PROFILE_NODES: dict[Profile, int] = {
    "quick": 1_000_000,
    "standard": 4_000_000,
    "full": 10_000_000,
}
_NODES_MIN, _NODES_MAX = 64, 16_000_000


@lru_cache(maxsize=2)
def _rows(graph: str, nodes: int, edges_per_node: int, seed: int, file: str) -> graphs.Rows:
    if file:
        return graphs.rows(nodes, *graphs.file_edges(file))
    if graph == "grid":
        return graphs.rows(nodes, *graphs.grid_edges(nodes, seed))
    return graphs.rows(nodes, *graphs.rmat_edges(nodes, edges_per_node, seed))


@lru_cache(maxsize=8)
def _file_size(path: str, changed_ns: int) -> tuple[int, int]:
    """Nodes and edges of the graph in a file, read anew where it has changed."""
    try:
        return _native.graph_file_size(path)
    except ValueError as error:
        raise ValueError(str(error).removeprefix("file: ")) from None


def _size_of(path: str) -> tuple[int, int]:
    found = Path(path)
    return _file_size(path, found.stat().st_mtime_ns if found.exists() else 0)


class KnowledgeGraph(Component):
    """A synthetic graph, the records of its nodes by key, and questions about both.

    Nodes are numbered from 0; node i has the key number i of a bijection of 64-bit words, so keys
    of larger numbers are missing. The graph is undirected: every generated edge can be walked both
    ways, self-loops are dropped, repeated edges kept. `rmat` has the quadrants .57, .19, .19, .05
    of Graph500; `grid` is a square lattice with one random shortcut per 1024 nodes. A `file` has
    two node numbers on a line, or is a square matrix of coordinates in MatrixMarket's format.
    """

    name: ClassVar[str] = "knowledge_graph"
    unit: ClassVar[str] = "queries"
    #: Floors: a lookup reads its 64-byte record; a path the offsets and the first row line of both
    #: ends; a search 4 bytes per edge and 12 per node (at eight edges per node). A semantic search
    #: reads half a byte per component of the default 1 M × 128, shared by a batch; an approximate
    #: one whole bytes, of one list at the least.
    ops: ClassVar[tuple[Op, ...]] = (
        Op("node_lookup", "queries", "random_64b_s", 1.0),
        Op("path_finding", "queries", "random_64b_s", 4.0),
        Op("bfs", "edges", "read_bytes_s", 4.0 + 12.0 / 8.0),
        Op("path_batch", "queries", "random_64b_s", 4.0),
        Op("semantic_search", "queries", "read_bytes_s", 64e6),
        Op("semantic_search_batch", "queries", "read_bytes_s", 64e6 / 16),
        Op("approximate_search", "queries", "cache_read_bytes_s", 64e6 * 2 / 1024),
    )
    weights: ClassVar[dict[str, float]] = {
        "node_lookup": 1.0,
        "path_finding": 1.0,
        "semantic_search": 1.0,
    }
    production_rate_s: ClassVar[float | None] = 100.0
    stress_in_flight: ClassVar[int] = 1000

    nodes: int = Field(default=1_000_000, ge=_NODES_MIN, le=_NODES_MAX)
    edges_per_node: int = Field(default=8, ge=1, le=64)
    graph: Literal["rmat", "grid"] = "rmat"
    #: A graph to read instead: its nodes count, `graph` and `edges_per_node` do not matter.
    file: str = ""
    lookup_batch: int = Field(default=1024, ge=1, le=65_536)
    search: SearchParameters = SearchParameters()

    @model_validator(mode="before")
    @classmethod
    def _no_more_embeddings_than_nodes(cls, given: Any) -> Any:
        """Where nothing is said, every node up to the default number has one embedding."""
        if not isinstance(given, dict):
            return given
        if given.get("file") and "nodes" not in given and isinstance(given["file"], str):
            with suppress(ValueError):  # which the check of `file` will report
                given = {**given, "nodes": _size_of(given["file"])[0]}
        nodes = given.get("nodes", _PROFILE_NODES["quick"])
        if not isinstance(nodes, int) or nodes < _NODES_MIN or "search" in given:
            return given
        default = SearchParameters()
        return {**given, "search": default.with_vectors(min(default.vectors, nodes))}

    @field_validator("file")
    @classmethod
    def _holds_a_graph(cls, file: str) -> str:
        if file:
            _size_of(file)
        return file

    @model_validator(mode="after")
    def _nodes_are_those_of_the_file(self) -> Self:
        if self.file and self.nodes != (found := _size_of(self.file)[0]):
            raise ValueError(f"nodes: {self.file} has {found}; leave `nodes` out")
        return self

    @classmethod
    def for_profile(cls, profile: Profile, **parameters: Any) -> Self:
        """1, 4 or 10 million nodes, or those of a file; given parameters win."""
        sizes = {} if parameters.get("file") else {"nodes": _PROFILE_NODES[profile]}
        return cls(**{**sizes, **parameters})

    @classmethod
    def small(cls) -> Self:
        """A few thousand nodes; the approximate search looks everywhere, so that it is exact."""
        search = SearchParameters(
            vectors=3000, dims=48, clusters=40, lists=32, probes=32, batch=19, full_check_one_in=1
        )
        return cls(nodes=3000, lookup_batch=300, search=search)

    def resident_bytes(self, workers: int) -> int:
        """Rows and both numberings; slots and records; the pool of keys; traversal scratch."""
        nodes = self.nodes
        graph = 4 * (nodes + 1) + 8 * self.edge_count() + 12 * nodes
        table = 4 * graphs.slot_count(nodes) + 64 * nodes
        scratch = 32 * nodes + 8 * (3 * -(-nodes // 64) + -(-nodes // 32))
        shared = graph + table + 8 * graphs.POOL_KEYS
        graph_part = shared + workers * (scratch + 12 * self.lookup_batch)
        return graph_part + self.search.resident_bytes(workers)

    def build_bytes(self) -> int:
        """An edge is listed (8 bytes), dealt as two arcs (16) and written as neighbours (8).

        The list is gone when the neighbours come; degrees and both numberings are there too, and a
        file's edges as they were read (up to 16, as their array grows by doubling).
        """
        listed = 16 if self.file else 0
        return (24 + listed) * self.edge_count() + 12 * self.nodes

    def cost(self, op: Op) -> float:
        """A search's cost follows from its own vectors, dimensions, batch and lists."""
        share = {
            "semantic_search": 1.0,
            "semantic_search_batch": 1.0 / self.search.batch,
            "approximate_search": 2.0 / self.search.lists,
        }.get(op.name)
        return op.cost if share is None else self.search.scanned_bytes * share

    def fitted(self, budget_bytes: int, workers: int) -> tuple[Self, list[str]]:
        """Fewer nodes and embeddings where the budget asks for it; a file's graph stays whole."""
        if self.peak_bytes(workers) <= budget_bytes:
            return self, []
        low, high = _NODES_MIN, self.nodes
        while high - low > 1:
            middle = (low + high) // 2
            sized = self._with_nodes(middle)
            fits = sized.peak_bytes(workers) <= budget_bytes
            low, high = (middle, high) if fits else (low, middle)
        fitted = self._with_nodes(low)
        lines = []
        if fitted.nodes < self.nodes:
            lines.append(f"knowledge_graph: {self.nodes} nodes fitted to {fitted.nodes}")
        if fitted.search.vectors < self.search.vectors:
            vectors = f"{self.search.vectors} embeddings fitted to {fitted.search.vectors}"
            lines.append(f"knowledge_graph: {vectors}")
        return fitted, lines

    def _with_nodes(self, nodes: int) -> Self:
        """Fewer nodes, but for a file's, and embeddings in proportion."""
        vectors = max(_NODES_MIN, self.search.vectors * nodes // self.nodes)
        sizes = {
            "nodes": self.nodes if self.file else nodes,
            "search": self.search.with_vectors(min(vectors, self.search.vectors)),
        }
        return self.model_copy(update=sizes)

    def edge_count(self) -> int:
        """Edges that are listed, self-loops and repeats included."""
        if self.file:
            return _size_of(self.file)[1]
        if self.graph == "grid":
            return 2 * self.nodes + self.nodes // graphs.NODES_PER_SHORTCUT
        return self.nodes * self.edges_per_node

    def rows(self, seed: int) -> graphs.Rows:
        """The graph as NumPy generates it: (offsets, neighbours), each row rising."""
        return _rows(self.graph, self.nodes, self.edges_per_node, seed, self.file)

    def inputs(self, op: str, seed: int, key: int) -> Arrays:
        """Keys; or sources and targets; or the root; and the seed that the graph came from."""
        if op in embeddings.OPS:
            return embeddings.inputs(self.search, op, seed, key)
        given = {"seed": np.array([seed], dtype=np.uint64)}
        if op == "node_lookup":
            return given | {"keys": graphs.lookup_keys(self.nodes, self.lookup_batch, seed, key)}
        degrees = np.diff(self.rows(seed).offsets)
        pairs = graphs.pairs(degrees, LANES if op == "path_batch" else 1, seed, key)
        if op == "bfs":
            return given | {"root": pairs[:1, 0].copy()}
        return given | {"sources": pairs[:, 0].copy(), "targets": pairs[:, 1].copy()}

    def reference(self, op: str, inputs: Arrays) -> Arrays:
        """The right answers: a dict of the keys, and a plain level-by-level search per source."""
        if op in embeddings.OPS:
            return embeddings.reference(self.search, inputs)
        seed = int(inputs["seed"][0])
        if op == "node_lookup":
            return self._records(seed, inputs["keys"])
        rows = self.rows(seed)
        if op == "bfs":
            return {"levels": graphs.levels(rows, int(inputs["root"][0]))}
        found = [
            graphs.levels(rows, int(source))[target]
            for source, target in zip(inputs["sources"], inputs["targets"], strict=True)
        ]
        return {"lengths": np.array(found, dtype=np.uint32)}

    def _records(self, seed: int, keys: npt.NDArray[np.uint64]) -> Arrays:
        node_of = {int(key): node for node, key in enumerate(graphs.node_keys(self.nodes, seed))}
        nodes = np.array([node_of.get(int(key), NONE) for key in keys], dtype=np.uint32)
        degrees = np.diff(self.rows(seed).offsets)
        digests = np.zeros(len(keys), dtype=np.uint64)
        hits = nodes != NONE
        digests[hits] = graphs.record_digests(nodes[hits], degrees[nodes[hits]], keys[hits])
        return {"nodes": nodes, "digests": digests}
