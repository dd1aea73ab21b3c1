"""Building a graph from a shuffled list of edges beside SciPy, GraphBLAS and NetworKit."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from cases.knowledge_graph import NODES, NODES_LARGE, SEED, THREADS, Jobs, rate
from paired import Case

#: Ratio to each peer: SciPy's own time is what the published goal comes to.
GOAL = 1.0
#: Nodes whose neighbours are compared where comparing all would take longer than the build.
COMPARED = 20_000


class Build:
    """Edge list in memory to rows of both directions; each peer's own form of it is made before."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs

    @cached_property
    def edges(self) -> tuple[Any, Any]:
        """Sources and targets of the undirected edges, repeated ones included, shuffled."""
        rows = self.jobs.native.evaluate("graph", {})
        sources = np.repeat(np.arange(self.jobs.nodes, dtype=np.uint32), np.diff(rows["offsets"]))
        once = sources < rows["neighbours"]
        order = np.random.default_rng(SEED).permutation(int(once.sum()))
        return sources[once][order], rows["neighbours"][once][order]

    @cached_property
    def given(self) -> dict[str, Any]:
        sources, targets = self.edges
        size = np.array([self.jobs.nodes, THREADS], dtype=np.uint32)
        return {"size": size, "sources": sources, "targets": targets}

    def ours(self) -> float:
        elapsed = self.jobs.native.evaluate("assemble_ns", self.given)["elapsed_ns"][0]
        return len(self.edges[0]) * 1e3 / float(elapsed)

    def rows(self) -> tuple[Any, Any]:
        """Offsets and neighbours as ours builds them, repeated edges included."""
        built = self.jobs.native.evaluate("assemble", self.given)
        return built["offsets"], built["neighbours"]

    def same_once(self, indices: Any) -> bool:
        """Whether these are our rows with repeated edges merged."""
        offsets, neighbours = self.rows()
        repeats = np.diff(neighbours.astype(np.int64), prepend=-1) == 0
        repeats[offsets[:-1][np.diff(offsets) > 0]] = False
        return bool(np.array_equal(neighbours[~repeats], indices))


class Scipy(Build):
    """SciPy's coordinates of both directions to compressed rows."""

    @cached_property
    def both_ways(self) -> Any:
        sources, targets = (ends.astype(np.int32) for ends in self.edges)
        sparse = importlib.import_module("scipy.sparse")
        ones = np.ones(2 * len(sources), dtype=np.int8)
        ends = np.concatenate([sources, targets]), np.concatenate([targets, sources])
        return sparse.coo_matrix((ones, ends), shape=(self.jobs.nodes, self.jobs.nodes))

    def peer(self) -> float:
        return rate(len(self.edges[0]), self.both_ways.tocsr)

    def check(self) -> bool:
        return self.same_once(self.both_ways.tocsr().indices)


class Graphblas(Build):
    """GraphBLAS's build of a matrix with one value, which merges repeated edges by itself."""

    @cached_property
    def both_ways(self) -> tuple[Any, Any]:
        sources, targets = (ends.astype(np.uint64) for ends in self.edges)
        return np.concatenate([sources, targets]), np.concatenate([targets, sources])

    def made(self) -> Any:
        graphblas = importlib.import_module("graphblas")
        graphblas.ss.config["nthreads"] = THREADS
        nodes = self.jobs.nodes
        matrix = graphblas.Matrix.from_coo(*self.both_ways, True, nrows=nodes, ncols=nodes)
        return matrix.wait()

    def peer(self) -> float:
        ends = self.both_ways
        return rate(len(ends[0]) / 2, self.made)

    def check(self) -> bool:
        return self.same_once(self.made().to_coo(rows=False, values=False)[1])


class Networkit(Build):
    """NetworKit's bulk constructor, given each edge once, repeated ones kept as ours does."""

    @cached_property
    def ends(self) -> tuple[Any, Any]:
        sources, targets = (ends.astype(np.uint64) for ends in self.edges)
        return sources, targets

    def made(self) -> Any:
        networkit = importlib.import_module("networkit")
        networkit.setNumberOfThreads(THREADS)
        return networkit.GraphFromCoo(self.ends, n=self.jobs.nodes)

    def peer(self) -> float:
        return rate(len(self.ends[0]), self.made)

    def check(self) -> bool:
        """The same number of edges, and the same neighbours of evenly spread nodes."""
        offsets, neighbours = self.rows()
        graph = self.made()
        asked = np.linspace(0, self.jobs.nodes - 1, COMPARED).astype(np.int64)
        return graph.numberOfEdges() == len(self.edges[0]) and all(
            sorted(graph.iterNeighbors(node)) == neighbours[first:end].tolist()
            for node, first, end in zip(asked, offsets[asked], offsets[asked + 1], strict=True)
        )


def cases(large: bool) -> Iterator[Case]:
    """8 edges a node at 1 million nodes, and at 10 million if `large`, one graph at a time."""
    for nodes in (NODES, NODES_LARGE) if large else (NODES,):
        jobs = Jobs(nodes)
        for name, kind in (("scipy", Scipy), ("graphblas", Graphblas), ("networkit", Networkit)):
            job = kind(jobs)
            yield Case(
                benchmark="knowledge_graph",
                case=f"build beside {name}, {nodes // 1_000_000}M",
                unit="Medges/s",
                goal=GOAL,
                peer_name=name,
                ours=job.ours,
                peer=job.peer,
                check=job.check,
                threads=THREADS,
            )
