"""Searches, paths and lookups in a graph beside SciPy, GraphBLAS, NetworKit and pandas."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np

from paired import Case
from swarmbench import _native
from swarmbench.components.knowledge_graph import LANES, NONE, KnowledgeGraph

THREADS = 2
SEED = 20240607
EDGES_PER_NODE = 8
NODES, NODES_LARGE = 1_000_000, 10_000_000
#: Queries of one round on each thread.
PATHS = 4000
SEARCHES = 4
LOOKUP_BATCHES = 2048
#: GraphBLAS pulls where the frontier holds more than 1 / this of the nodes: its best of 2 to 200.
PULL_FACTOR = 50

#: Ratios that the figures of PEERS.md come to, by job, at 1 and at 10 million nodes.
GOALS = {
    "bfs": (4.2, 8.6),
    "path": (1.8, 5.2),
    "lookup": (5.0, None),
}


def rate(count: float, work: Callable[[], object]) -> float:
    """Millions per second."""
    began = time.perf_counter_ns()
    work()
    return count * 1e3 / (time.perf_counter_ns() - began)


class Jobs:
    """One graph, as the native component and as every peer wants it."""

    def __init__(self, nodes: int) -> None:
        self.component = KnowledgeGraph(nodes=nodes, edges_per_node=EDGES_PER_NODE)
        self.nodes = nodes

    @cached_property
    def native(self) -> _native.Component:
        return self.component.prepare(seed=SEED, threads=THREADS).native

    @cached_property
    def threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(THREADS)

    @cached_property
    def matrix(self) -> Any:
        """The adjacency as SciPy's CSR, repeated edges merged."""
        rows = self.native.evaluate("graph", {})
        ones = np.ones(len(rows["neighbours"]), dtype=np.float64)
        sparse = importlib.import_module("scipy.sparse")
        matrix = sparse.csr_matrix(
            (ones, rows["neighbours"].astype(np.int32), rows["offsets"].astype(np.int32)),
            shape=(self.nodes, self.nodes),
        )
        matrix.sum_duplicates()
        return matrix

    @cached_property
    def networkit(self) -> tuple[Any, Any]:
        """NetworKit and its graph, repeated edges merged."""
        networkit = importlib.import_module("networkit")
        networkit.setNumberOfThreads(THREADS)
        triangle = importlib.import_module("scipy.sparse").triu(self.matrix, format="coo")
        ends = triangle.row.astype(np.uint64), triangle.col.astype(np.uint64)
        return networkit, networkit.GraphFromCoo(ends, n=self.nodes)

    def pairs(self, first_key: int, count: int) -> list[tuple[int, int]]:
        """The sources and targets that the native queries of these keys ask for."""
        return [self._pair(key) for key in range(first_key, first_key + count)]

    def _pair(self, key: int) -> tuple[int, int]:
        drawn = self.native.evaluate("requested_pairs", {"key": np.array([key], dtype=np.uint64)})
        return int(drawn["sources"][0]), int(drawn["targets"][0])

    def ran(self, op: str, count: int, threads: int) -> float:
        """Millions of units per second over a round of the native op."""
        tally = self.native.run(op, count=count, threads=threads, verify=False)
        return tally["units"] * 1e3 / tally["elapsed_ns"]

    def is_right(self, op: str, count: int) -> bool:
        tally = self.native.run(op, count=count, threads=THREADS)
        return tally["violations"] == tally["errors"] == 0 < tally["verified"]

    def component_edges(self, levels: Any) -> float:
        """Undirected edges, repeated ones included, of the nodes with a level."""
        offsets = self.native.evaluate("graph", {})["offsets"]
        return float(np.diff(offsets)[levels != NONE].sum()) / 2


class Search:
    """Breadth-first search with parents from the roots of the first keys."""

    def __init__(self, jobs: Jobs, threads: int) -> None:
        self.jobs = jobs
        self.threads = threads

    def ours(self) -> float:
        return self.jobs.ran("bfs", SEARCHES, self.threads)

    @cached_property
    def roots(self) -> list[tuple[int, float]]:
        """Each root and the edges of its component."""
        roots = [root for root, _ in self.jobs.pairs(0, SEARCHES)]
        return [(root, self.jobs.component_edges(self.levels(root))) for root in roots]

    def levels(self, root: int) -> Any:
        given = {"root": np.array([root], dtype=np.uint32)}
        return self.jobs.native.evaluate("bfs", given)["levels"]

    def peer_of(self, search: Callable[[int], object]) -> float:
        def all_roots() -> None:
            for root, _ in self.roots:
                search(root)

        return rate(sum(edges for _, edges in self.roots), all_roots)

    def scipy_peer(self) -> float:
        return self.peer_of(self.scipy_search)

    def scipy_search(self, root: int) -> Any:
        graphs = importlib.import_module("scipy.sparse.csgraph")
        return graphs.breadth_first_order(self.jobs.matrix, root, directed=True)

    @cached_property
    def graphblas(self) -> tuple[Any, Any]:
        graphblas = importlib.import_module("graphblas")
        adjacency = graphblas.io.from_scipy_sparse(self.jobs.matrix).dup(dtype=bool)
        graphblas.ss.config["nthreads"] = self.threads
        return graphblas, adjacency

    def graphblas_peer(self) -> float:
        return self.peer_of(self.graphblas_search)

    def graphblas_search(self, root: int) -> Any:
        """LAGraph's parents: pushes a sparse frontier, pulls a dense one."""
        graphblas, adjacency = self.graphblas
        parents_of = graphblas.semiring.any_secondi
        parents = graphblas.Vector(int, size=self.jobs.nodes)
        parents[root] = root
        frontier = parents.dup()
        while frontier.nvals:
            if frontier.nvals > self.jobs.nodes // PULL_FACTOR:
                found = parents_of(adjacency @ frontier)
            else:
                found = parents_of(frontier @ adjacency)
            frontier(~parents.S, replace=True) << found
            parents(frontier.S) << frontier
        return parents

    def networkit_peer(self) -> float:
        return self.peer_of(self.networkit_search)

    def networkit_search(self, root: int) -> Any:
        """Distances alone, one thread: NetworKit keeps all parents of a node or none."""
        networkit, graph = self.jobs.networkit
        found = networkit.distance.BFS(graph, root, storePaths=False)
        found.run()
        return found

    def check_scipy(self) -> bool:
        root = self.roots[0][0]
        order, _ = self.scipy_search(root)
        return self.same_reach(order, root)

    def check_graphblas(self) -> bool:
        root = self.roots[0][0]
        reached, parents = self.graphblas_search(root).to_coo()
        levels = self.levels(root).astype(np.int64)
        proper = reached != root
        steps = levels[reached[proper]] - levels[parents[proper]]
        return self.same_reach(reached, root) and bool((steps == 1).all())

    def check_networkit(self) -> bool:
        root = self.roots[0][0]
        distances = np.array(self.networkit_search(root).getDistances())
        levels = self.levels(root)
        reached = levels != NONE
        return bool((distances[reached] == levels[reached]).all()) and self.same_reach(
            np.flatnonzero(distances < self.jobs.nodes), root
        )

    def same_reach(self, reached: Any, root: int) -> bool:
        ours = np.flatnonzero(self.levels(root) != NONE)
        return bool(np.array_equal(np.sort(reached), ours)) and self.jobs.is_right("bfs", SEARCHES)


class Paths:
    """Shortest paths between two nodes, one query a call, queries spread over the threads."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs

    def ours(self) -> float:
        return self.jobs.ran("path_finding", PATHS, THREADS) * 1e3

    @cached_property
    def shares(self) -> list[list[tuple[int, int]]]:
        return [self.jobs.pairs(thread * PATHS, PATHS) for thread in range(THREADS)]

    def search(self, pair: tuple[int, int]) -> Any:
        """Distances alone, which NetworKit finds several times faster than paths."""
        networkit, graph = self.jobs.networkit
        found = networkit.distance.BidirectionalBFS(graph, *pair, storePred=False)
        found.run()
        return found

    def search_share(self, share: list[tuple[int, int]]) -> None:
        for pair in share:
            self.search(pair)

    @cached_property
    def ways(self) -> list[Callable[[], object]]:
        """All queries on one thread, and shared by the threads."""
        return [
            lambda: [self.search_share(share) for share in self.shares],
            lambda: list(self.jobs.threads.map(self.search_share, self.shares)),
        ]

    @cached_property
    def faster(self) -> Callable[[], object]:
        """The faster way, by the better of two trials each."""
        self.search(self.shares[0][0])
        best = [max(rate(1, way) for _ in range(2)) for way in self.ways]
        return self.ways[int(np.argmax(best))]

    def peer(self) -> float:
        way = self.faster
        return rate(THREADS * PATHS, way) * 1e3

    def check(self) -> bool:
        asked = self.shares[0][:LANES]
        sources, targets = (np.array(ends, dtype=np.uint32) for ends in zip(*asked, strict=True))
        given = {"sources": sources, "targets": targets}
        ours = self.jobs.native.evaluate("path_finding", given)["lengths"]
        theirs = [min(self.search(pair).getDistance(), NONE) for pair in asked]
        return ours.tolist() == theirs and self.jobs.is_right("path_finding", LANES)


class Lookups:
    """Batches of keys to nodes; ours reads the nodes' records too."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs

    def ours(self) -> float:
        return self.jobs.ran("node_lookup", LOOKUP_BATCHES, THREADS)

    @cached_property
    def index(self) -> Any:
        numbers = np.arange(self.jobs.nodes, dtype=np.uint64)
        keys = importlib.import_module("swarmbench.components.graphs").keys_of(numbers, SEED)
        index = importlib.import_module("pandas").Index(keys)
        index.get_indexer(keys[:1])
        return index

    @cached_property
    def shares(self) -> list[Any]:
        """The keys of the native round, one array per thread."""
        keys = [
            self.jobs.native.evaluate("requested_keys", {"key": np.array([key], dtype=np.uint64)})
            for key in range(THREADS * LOOKUP_BATCHES)
        ]
        return np.split(np.concatenate([batch["keys"] for batch in keys]), THREADS)

    def peer(self) -> float:
        index, shares = self.index, self.shares
        count = sum(len(share) for share in shares)
        return rate(count, lambda: list(self.jobs.threads.map(index.get_indexer, shares)))

    def check(self) -> bool:
        keys = self.shares[0]
        ours = self.jobs.native.evaluate("node_lookup", {"keys": keys})["nodes"].astype(np.int64)
        ours[ours == NONE] = -1
        right = self.jobs.is_right("node_lookup", LOOKUP_BATCHES)
        return bool(np.array_equal(ours, self.index.get_indexer(keys))) and right


def cases_of(jobs: Jobs, label: str, size: int) -> list[Case]:
    """The rows of one graph; `size` picks the goals."""
    alone, shared = Search(jobs, 1), Search(jobs, THREADS)
    paths, lookups = Paths(jobs), Lookups(jobs)

    def row(job: str, peer_name: str, unit: str, threads: int, *calls: Any) -> Case:
        ours, peer, check = calls
        name = f"{job} beside {peer_name}, {label}"
        goal = GOALS[job][size]
        return Case(
            "knowledge_graph", name, unit, goal, peer_name, ours, peer, check, threads=threads
        )

    found = [
        row("bfs", "scipy", "MTEPS", 1, alone.ours, alone.scipy_peer, alone.check_scipy),
        row(
            "bfs",
            "graphblas",
            "MTEPS",
            THREADS,
            shared.ours,
            shared.graphblas_peer,
            shared.check_graphblas,
        ),
        row(
            "bfs", "networkit", "MTEPS", 1, alone.ours, alone.networkit_peer, alone.check_networkit
        ),
        row("path", "networkit", "kqueries/s", THREADS, paths.ours, paths.peer, paths.check),
    ]
    if GOALS["lookup"][size] is not None:
        found.append(
            row(
                "lookup", "pandas", "Mlookups/s", THREADS, lookups.ours, lookups.peer, lookups.check
            )
        )
    return found


def cases(large: bool) -> list[Case]:
    """Rows of R-MAT graphs with 8 edges per node: 1 million nodes, and 10 million if `large`."""
    found = cases_of(Jobs(NODES), "1M", 0)
    return found + cases_of(Jobs(NODES_LARGE), "10M", 1) if large else found
