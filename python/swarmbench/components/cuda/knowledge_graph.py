"""The knowledge graph on a device: lookups, traversals and searches, one lane after the other."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from swarmbench import _native
from swarmbench.components.base import Arrays, Component
from swarmbench.components.cuda.base import Cost, CudaComponent, CudaOperation, Done
from swarmbench.components.cuda.knowledge_graph_corpus import Corpus
from swarmbench.components.cuda.knowledge_graph_distances import Distances
from swarmbench.components.cuda.knowledge_graph_lookup import Lookup
from swarmbench.components.cuda.knowledge_graph_path import Path
from swarmbench.components.cuda.knowledge_graph_search import Kind, SearchOp, Slots
from swarmbench.components.cuda.knowledge_graph_tables import (
    GraphTables,
    Lane,
    OpSide,
    Scratch,
    Shape,
)
from swarmbench.components.cuda.knowledge_graph_tree import Tree
from swarmbench.components.embeddings import OPS as SEARCH_OPS
from swarmbench.components.knowledge_graph import KnowledgeGraph
from swarmbench.components.prepared import Progress
from swarmbench.gpu.device import Device

_MASK = (1 << 64) - 1


class CudaKnowledgeGraph(CudaComponent):
    """The graph, the records of its nodes and the embeddings on a device.

    The graph and the lists of the approximate search are the native component's; records, keys and
    vectors are made on the device, with the same bits. `shape` is that of its launches.
    """

    name: ClassVar[str] = "knowledge_graph"
    #: Of a tree nothing comes to the host but its size, and of several shortest paths any may be
    #: found.
    repeatable: ClassVar[frozenset[str]] = frozenset(
        op.name for op in KnowledgeGraph.ops if op.name not in ("bfs", "path_finding")
    )

    def __init__(
        self,
        component: Component,
        native: _native.Component,
        device: Device,
        seed: int,
        progress: Progress | None = None,
        *,
        shape: Shape | None = None,
    ) -> None:
        super().__init__(component, native, device, seed, progress)
        graph = cast(KnowledgeGraph, component)
        self.shape = shape or Shape()
        self.progress("uploading the graph", 0.0)
        self.tables = GraphTables.build(graph, native, device, seed)
        self.progress("embedding on the device", 0.5)
        self.corpus = Corpus.build(graph.search, native, device, seed)
        self.progress("embedding on the device", 1.0)

    def operation(self) -> KnowledgeGraphOperation:
        """One lane: a stream, scratch for traversals, room for a batch of queries."""
        return KnowledgeGraphOperation(self)

    @classmethod
    def device_bytes(cls, component: Component, lanes: int) -> int:
        """Tables and vectors once; scratch, lookups and queries of each lane."""
        graph = cast(KnowledgeGraph, component)
        shared = GraphTables.bytes(graph) + Corpus.bytes(graph.search)
        lane = Scratch.bytes(graph.nodes, graph.edge_count()) + Slots.bytes(graph.search)
        return shared + lanes * (lane + Lookup.bytes(graph.lookup_batch))

    @classmethod
    def host_bytes(cls, component: Component, lanes: int) -> int:
        graph = cast(KnowledgeGraph, component)
        lane = Scratch.host_bytes() + Tree.HOST_BYTES + Distances.HOST_BYTES
        lane += Path.host_bytes(graph.nodes) + Slots.host_bytes(graph.search)
        return lanes * (lane + Lookup.host_bytes(graph.lookup_batch))

    def describe(self) -> dict[str, Any]:
        """Rows that are dealt to warps in pieces, and how many pieces there are."""
        return {"long_rows": self.tables.hubs, "row_pieces": self.tables.piece_total}


class KnowledgeGraphOperation(CudaOperation):
    """One lane's lookups, traversals and searches."""

    def __init__(self, component: CudaKnowledgeGraph) -> None:
        super().__init__(component.device)
        graph, tables = cast(KnowledgeGraph, component.component), component.tables
        scratch = Scratch.build(self.device, tables.nodes, tables.edges)
        lane = Lane(self.device, self.stream, tables, component.native, component.shape, scratch)
        slots = Slots(self.device, graph.search)
        self.sides: dict[str, OpSide] = {
            "node_lookup": Lookup(lane, graph.lookup_batch),
            "path_finding": Path(lane),
            "bfs": Tree(lane),
            "path_batch": Distances(lane),
        }
        for kind in SEARCH_OPS:
            self.sides[kind] = SearchOp(lane, component.corpus, slots, cast(Kind, kind))
        self._last: tuple[OpSide, int] | None = None
        self._planted = 0

    def run(self, op: str, key: int) -> Done:
        """Runs the operation `key`; its answer, but for a tree, has come back."""
        side = self.sides[op]
        self._last = (side, key)
        return Done(side.run(key))

    def verify(self) -> tuple[int, int]:
        """Checks the last answer; see the op types for what is checked when."""
        if self._last is None:
            return 0, 0
        side, key = self._last
        side.looks_closely = self.looks_closely
        return side.verify(key)

    def plant(self, fault: str) -> bool:
        """Damages the last answer, each time at another place."""
        if self._last is None:
            return False
        self._planted += 1
        return self._last[0].damage(fault, self._planted * 0x9E3779B97F4A7C15 & _MASK)

    def evaluate(self, op: str, inputs: Arrays) -> Arrays:
        """The answers for given inputs; takes device memory where `vectors` are given."""
        return self.sides[op].evaluate(inputs)

    def cost(self, op: str) -> Cost:
        """What the kernels of the last operation `op` had to move."""
        return self.sides[op].cost()
