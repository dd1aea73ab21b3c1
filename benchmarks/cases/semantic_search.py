"""Exact and approximate search by cosine beside faiss and NumPy, on the same vectors.

Single queries: as many in flight as threads, on both sides. Batches: the peer takes the batch size
and threading that its documentation recommends. The approximate peer probes as few lists as reach
our recall. Half precision: both keep the vectors so, the peer those of length 1, for it has no
cosine of its own.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
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
BATCH, BATCH_SMALL = 64, 16
TOP = 10
#: Queries on which answers are compared, and in a round of the slow and of the fast searches.
COMPARED, FEW, MANY = 256, 64, 8192
#: Queries from which faiss multiplies matrices; its default on some builds is six times slower.
BLAS_QUERIES = 20
#: Shares of equal results: a float32 peer may order near ties otherwise.
SAME_SHARE = 0.99

VECTORS, VECTORS_LARGE = 200_000, 1_000_000
#: Vectors and components of the half-precision rows, and what a round asks there.
HALVES, HALVES_LARGE = ((50_000, 768),), ((1_000_000, 768), (10_000_000, 128))
HALF_FEW, HALF_COMPARED = 16, 128
#: Vectors handed to a peer at a time: its index is never beside a float32 copy of them all.
CHUNK = 100_000
#: Vectors that torch turns into float32 at a time, as fast as smaller ones and with fewer waits.
BLOCK = 32_768


class Subject:
    """The component and what its peers search, made when first asked for."""

    def __init__(self, parameters: SearchParameters) -> None:
        self.parameters = parameters
        self.next_key = 0

    @cached_property
    def component(self) -> _native.Component:
        graph = KnowledgeGraph(nodes=64, search=self.parameters)
        return graph.prepare(seed=SEED, threads=THREADS).native

    @cached_property
    def units(self) -> Any:
        """All vectors at length 1, shape (vectors, dims)."""
        return self.units_of(0, self.parameters.vectors)

    def units_of(self, first: int, count: int) -> Any:
        """Some vectors as they are stored, at length 1, shape (count, dims)."""
        asked = {"range": np.array([first, count], dtype=np.uint32)}
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

    def ids(self, op: str, count: int = COMPARED) -> Any:
        asked = {"queries": self.queries[:count].reshape(-1)}
        return self.component.evaluate(op, asked)["ids"].reshape(count, TOP)


def faiss_library() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise PeerMissing("faiss is not installed: pip install faiss-cpu") from error
    faiss.cvar.distance_compute_blas_threshold = BLAS_QUERIES
    return faiss


class Flat:
    """faiss IndexFlatIP over all vectors."""

    #: Queries of a round asked one by one, batches of a round, and queries whose answers count.
    few, batches, compared = FEW, 4, COMPARED

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

        return timed_pool(ask, self.few)

    def batched(self) -> float:
        faiss_library().omp_set_num_threads(THREADS)
        index, queries = self.index, self.subject.queries
        batch = self.subject.parameters.batch
        began = perf_counter()
        for start in range(0, self.batches * batch, batch):
            index.search(queries[start : start + batch], TOP)
        return self.batches * batch / (perf_counter() - began)

    def same(self) -> bool:
        faiss_library().omp_set_num_threads(THREADS)
        _, ids = self.index.search(self.subject.queries[: self.compared], TOP)
        return share(self.subject.ids("semantic_search", self.compared), ids) >= SAME_SHARE


class Halves(Flat):
    """faiss IndexScalarQuantizer of half precision over all vectors."""

    few, batches, compared = HALF_FEW, 1, HALF_COMPARED

    @cached_property
    def index(self) -> Any:
        faiss = faiss_library()
        parameters = self.subject.parameters
        kind = faiss.ScalarQuantizer.QT_fp16
        index = faiss.IndexScalarQuantizer(parameters.dims, kind, faiss.METRIC_INNER_PRODUCT)
        for first in range(0, parameters.vectors, CHUNK):
            index.add(self.subject.units_of(first, min(CHUNK, parameters.vectors - first)))
        return index


class TorchHalves:
    """torch over half precision, a block at a time multiplied as float32.

    For batches the fastest of what torch has: its product of half-precision matrices took half as
    long again on a processor without instructions for it.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    @cached_property
    def rows(self) -> Any:
        torch = importlib.import_module("torch")
        parameters = self.subject.parameters
        rows = torch.empty((parameters.vectors, parameters.dims), dtype=torch.float16)
        for first in range(0, parameters.vectors, CHUNK):
            count = min(CHUNK, parameters.vectors - first)
            rows[first : first + count] = torch.from_numpy(self.subject.units_of(first, count))
        return rows

    def found(self, queries: Any) -> Any:
        """Ids of the best, shape (queries, TOP)."""
        torch = importlib.import_module("torch")
        torch.set_num_threads(THREADS)
        asked, rows = torch.from_numpy(queries), self.rows
        wide = torch.empty((BLOCK, queries.shape[1]))
        scores, ids = [], []
        with torch.inference_mode():
            for first in range(0, len(rows), BLOCK):
                block = rows[first : first + BLOCK]
                products = asked @ wide[: len(block)].copy_(block).T
                best = products.topk(min(TOP, len(block)), dim=1)
                scores.append(best.values)
                ids.append(best.indices + first)
            best = torch.cat(scores, dim=1).topk(TOP, dim=1).indices
            return torch.cat(ids, dim=1).gather(1, best).numpy()

    def batched(self) -> float:
        queries, batch = self.subject.queries, self.subject.parameters.batch
        began = perf_counter()
        self.found(queries[:batch])
        return batch / (perf_counter() - began)

    def same(self) -> bool:
        ids = self.found(self.subject.queries[:HALF_COMPARED])
        return share(self.subject.ids("semantic_search", HALF_COMPARED), ids) >= SAME_SHARE


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


def timed_pool(ask: Any, count: int) -> float:
    """Queries per second of `count` single queries, THREADS of them in flight."""
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(ask, range(THREADS)))
        began = perf_counter()
        list(pool.map(ask, range(count)))
        return count / (perf_counter() - began)


def share(ours: Any, theirs: Any) -> float:
    """Share of the results that both found, query by query."""
    both = sum(len(set(one) & set(other)) for one, other in zip(ours, theirs, strict=True))
    return both / ours.size


def case_of(
    subject: Subject, name: str, goal: float | None, peer_name: str, ours: Any, peer: Any
) -> Case:
    size = f"{subject.parameters.vectors}x{subject.parameters.dims}"
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


def single_precision(vectors: int) -> list[Case]:
    """Exact single and batched, and approximate; goals are those for 1 M vectors of 128."""
    subject = Subject(SearchParameters(vectors=vectors, batch=BATCH, top=TOP))
    flat, inverted, plain = Flat(subject), Inverted(subject), Numpy(subject)

    def single() -> float:
        return subject.rate("semantic_search", FEW)

    def approximate() -> float:
        return subject.rate("approximate_search", MANY // THREADS)

    return [
        case_of(subject, "exact_single", 3.2, "faiss Flat", single, flat.single),
        case_of(subject, "exact_single_numpy", 6.4, "numpy", single, plain.single),
        batched(subject, flat),
        case_of(subject, "approximate", 2.0, "faiss IVF", approximate, inverted.rate),
    ]


def batched(subject: Subject, flat: Flat) -> Case:
    """Batches beside faiss Flat."""
    return case_of(
        subject,
        f"exact_batch_{subject.parameters.batch}",
        2.1,
        "faiss Flat",
        lambda: subject.rate("semantic_search_batch", 4),
        flat.batched,
    )


def half_precision(vectors: int, dims: int) -> list[Case]:
    """Exact single and batched over vectors kept in half precision; no goal was set for it."""
    subject = Subject(
        SearchParameters(vectors=vectors, dims=dims, storage="fp16", batch=BATCH, top=TOP)
    )
    halves, peer_name = Halves(subject), "faiss SQ fp16"
    torch, torch_name = TorchHalves(subject), "torch, blocks to float32"

    def single() -> float:
        return subject.rate("semantic_search", HALF_FEW)

    def in_batches() -> float:
        return subject.rate("semantic_search_batch", 1)

    return [
        case_of(subject, "exact_single_fp16", None, peer_name, single, halves.single),
        case_of(subject, f"exact_batch_{BATCH}_fp16", None, peer_name, in_batches, halves.batched),
        case_of(subject, f"exact_batch_{BATCH}_fp16", None, torch_name, in_batches, torch.batched),
    ]


def cases(large: bool) -> Iterator[Case]:
    """200 000 vectors and 50 000 in half precision; 1 and 10 million if `large`, one by one."""
    vectors = VECTORS_LARGE if large else VECTORS
    yield from single_precision(vectors)
    few = Subject(SearchParameters(vectors=vectors, batch=BATCH_SMALL, top=TOP))
    yield batched(few, Flat(few))
    del few
    for sizes in HALVES_LARGE if large else HALVES:
        yield from half_precision(*sizes)
