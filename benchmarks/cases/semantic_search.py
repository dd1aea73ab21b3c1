"""Exact and approximate search by cosine beside faiss and NumPy, on the same vectors.

Single queries: as many in flight as threads, on both sides. Batches: the peer takes the batch size
and threading that its documentation recommends. The approximate peer probes as few lists as reach
our recall.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from time import perf_counter
from typing import Any

import numpy as np

from paired import Case, PeerMissing
from swarmbench import _native
from swarmbench.components import embeddings
from swarmbench.components.embeddings import SearchParameters
from swarmbench.components.knowledge_graph import KnowledgeGraph

SEED = 7
THREADS = 2
BATCH = 64
TOP = 10
#: Queries on which answers are compared, and in a round of the slow and of the fast searches.
COMPARED, FEW, MANY = 256, 64, 8192
#: Queries from which faiss multiplies matrices; its default on some builds is six times slower.
BLAS_QUERIES = 20
#: Shares of equal results: a float32 peer may order near ties otherwise.
SAME_SHARE = 0.99

VECTORS, VECTORS_LARGE = 200_000, 1_000_000


class Subject:
    """The component and what its peers search, made when first asked for."""

    def __init__(self, large: bool) -> None:
        self.parameters = SearchParameters(
            vectors=VECTORS_LARGE if large else VECTORS,
            batch=BATCH,
            top=TOP,
        )
        self.next_key = 0

    @cached_property
    def component(self) -> _native.Component:
        graph = KnowledgeGraph(nodes=64, search=self.parameters)
        return graph.prepare(seed=SEED, threads=THREADS).native

    @cached_property
    def units(self) -> Any:
        """All vectors at length 1, shape (vectors, dims)."""
        asked = {"range": np.array([0, self.parameters.vectors], dtype=np.uint32)}
        rows = self.component.evaluate("embeddings", asked)["vectors"]
        rows = rows.reshape(-1, self.parameters.dims)
        rows /= np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, np.newaxis]
        return rows

    @cached_property
    def queries(self) -> Any:
        """Held-out queries at length 1, shape (MANY, dims)."""
        made = embeddings.queries(self.parameters, SEED, 1, MANY)
        return made / np.sqrt(np.einsum("ij,ij->i", made, made))[:, np.newaxis]

    def rate(self, op: str, count: int) -> float:
        """Queries per second of `count` operations on each thread, none asked before."""
        self.next_key += THREADS * count
        tally = self.component.run(
            op, first_key=self.next_key, count=count, threads=THREADS, verify=False
        )
        return tally["units"] / (tally["elapsed_ns"] * 1e-9)

    def ids(self, op: str) -> Any:
        asked = {"queries": self.queries[:COMPARED].reshape(-1)}
        return self.component.evaluate(op, asked)["ids"].reshape(COMPARED, TOP)


def faiss_library() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise PeerMissing("faiss is not installed: pip install faiss-cpu") from error
    faiss.cvar.distance_compute_blas_threshold = BLAS_QUERIES
    return faiss


class Flat:
    """faiss IndexFlatIP over all vectors."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    @cached_property
    def index(self) -> Any:
        index = faiss_library().IndexFlatIP(self.subject.parameters.dims)
        index.add(self.subject.units)
        return index

    def single(self) -> float:
        faiss_library().omp_set_num_threads(1)
        index, queries = self.index, self.subject.queries

        def ask(number: int) -> None:
            index.search(queries[number : number + 1], TOP)

        return timed_pool(ask)

    def batched(self) -> float:
        faiss_library().omp_set_num_threads(THREADS)
        index, queries = self.index, self.subject.queries
        began = perf_counter()
        for start in range(0, 4 * BATCH, BATCH):
            index.search(queries[start : start + BATCH], TOP)
        return 4 * BATCH / (perf_counter() - began)

    def same(self) -> bool:
        faiss_library().omp_set_num_threads(THREADS)
        _, ids = self.index.search(self.subject.queries[:COMPARED], TOP)
        return share(self.subject.ids("semantic_search"), ids) >= SAME_SHARE


class Inverted:
    """faiss IndexIVFFlat that probes just enough lists for our recall."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    @cached_property
    def index(self) -> Any:
        faiss = faiss_library()
        faiss.omp_set_num_threads(THREADS)
        dims, lists = self.subject.parameters.dims, self.subject.parameters.lists
        quantizer = faiss.IndexFlatIP(dims)
        index = faiss.IndexIVFFlat(quantizer, dims, lists, faiss.METRIC_INNER_PRODUCT)
        index.train(self.subject.units)
        index.add(self.subject.units)
        exact = self.subject.ids("semantic_search")
        wanted = share(self.subject.ids("approximate_search"), exact)
        for probes in range(1, lists + 1):
            index.nprobe = probes
            if share(index.search(self.subject.queries[:COMPARED], TOP)[1], exact) >= wanted:
                break
        return index

    def rate(self) -> float:
        index, queries = self.index, self.subject.queries
        faiss_library().omp_set_num_threads(THREADS)
        began = perf_counter()
        for start in range(0, MANY, 1024):
            index.search(queries[start : start + 1024], TOP)
        return MANY / (perf_counter() - began)

    def same(self) -> bool:
        """Both find nearly all exact results, and the peer no fewer than ours."""
        exact = self.subject.ids("semantic_search")
        ours = share(self.subject.ids("approximate_search"), exact)
        _, ids = self.index.search(self.subject.queries[:COMPARED], TOP)
        return share(ids, exact) >= ours >= SAME_SHARE


class Numpy:
    """One matrix-vector product and a partial sort a query."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    def best(self, query: Any) -> Any:
        scores = self.subject.units @ query
        best = np.argpartition(scores, -TOP)[-TOP:]
        return best[np.argsort(-scores[best])]

    def single(self) -> float:
        queries = self.subject.queries[:FEW]
        began = perf_counter()
        for query in queries:
            self.best(query)
        return FEW / (perf_counter() - began)

    def same(self) -> bool:
        ids = np.array([self.best(query) for query in self.subject.queries[:COMPARED]])
        return share(self.subject.ids("semantic_search"), ids) >= SAME_SHARE


def timed_pool(ask: Any) -> float:
    """Queries per second of FEW single queries, THREADS of them in flight."""
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(ask, range(THREADS)))
        began = perf_counter()
        list(pool.map(ask, range(FEW)))
        return FEW / (perf_counter() - began)


def share(ours: Any, theirs: Any) -> float:
    """Share of the results that both found, query by query."""
    both = sum(len(set(one) & set(other)) for one, other in zip(ours, theirs, strict=True))
    return both / ours.size


def cases(large: bool) -> list[Case]:
    """Exact single and batched, and approximate; goals are those for 1 M vectors of 128."""
    subject = Subject(large)
    flat, inverted, plain = Flat(subject), Inverted(subject), Numpy(subject)
    size = f"{subject.parameters.vectors}x{subject.parameters.dims}"

    def case(name: str, goal: float | None, peer_name: str, ours: Any, peer: Any) -> Case:
        return Case(
            "semantic_search",
            f"{name}/{size}",
            "queries/s",
            goal,
            peer_name,
            ours,
            peer,
            check=peer.__self__.same,
            threads=THREADS,
        )

    def single() -> float:
        return subject.rate("semantic_search", FEW)

    return [
        case("exact_single", 3.2, "faiss Flat", single, flat.single),
        case("exact_single_numpy", 6.4, "numpy", single, plain.single),
        case(
            f"exact_batch_{BATCH}",
            2.1,
            "faiss Flat",
            lambda: subject.rate("semantic_search_batch", 4),
            flat.batched,
        ),
        case(
            "approximate",
            2.0,
            "faiss IVF",
            lambda: subject.rate("approximate_search", MANY // THREADS),
            inverted.rate,
        ),
    ]
