"""Embeddings by seed and exact search by cosine: the plain NumPy side of semantic search.

Vectors and queries have the bits of `rust/core/src/operations/knowledge_graph/search`. A component
is an integer times 2^-16, so every float64 dot product here is exact in any order of summation, and
scores equal the native ones bit for bit.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from swarmbench.components.philox import philox, stream_key

Vectors = npt.NDArray[np.float32]

#: Op types of the knowledge graph that search embeddings.
OPS = ("semantic_search", "semantic_search_batch", "approximate_search")

_CENTRES, _VECTORS, _QUERIES = 0x6B670101, 0x6B670102, 0x6B670103
_TILE = 16
#: Vectors generated at a time, so that the words of a chunk stay below 100 MB.
_CHUNK = 32768


class SearchParameters(BaseModel):
    """Sizes of the search part of the knowledge graph."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vectors: int = Field(default=1_000_000, ge=1, le=100_000_000, description="embeddings searched")
    dims: int = Field(
        default=128, ge=8, le=4096, multiple_of=8, description="components of a vector"
    )
    clusters: int = Field(default=1000, ge=1, le=1_000_000, description="clusters drawn around")
    storage: Literal["fp32", "fp16", "int8"] = Field(
        default="fp32", description="what a component is kept as"
    )
    lists: int = Field(default=1024, ge=1, le=65_536, description="inverted lists of the index")
    probes: int = Field(
        default=4, ge=1, description="lists that the approximate search looks into at most"
    )
    batch: int = Field(default=16, ge=1, le=1024, description="queries of a batched search")
    top: int = Field(default=10, ge=1, le=1024, description="results asked for")
    full_check_one_in: int = Field(
        default=4096, ge=1, le=2**32 - 1, description="operations to one check against all vectors"
    )

    @model_validator(mode="after")
    def _lists_fit(self) -> SearchParameters:
        if self.lists > self.vectors:
            raise ValueError(f"lists: {self.lists} is more than the {self.vectors} vectors")
        if self.probes > self.lists:
            raise ValueError(f"probes: {self.probes} is more than the {self.lists} lists")
        return self

    @property
    def scanned_bytes(self) -> int:
        """Bytes of 4-bit codes that one exact query must read."""
        return self.vectors * self.dims // 2

    def with_vectors(self, vectors: int) -> SearchParameters:
        """The same search over fewer (or more) vectors, with no more lists than fit them."""
        lists = max(1, min(self.lists, vectors // _TILE))
        sizes = {"vectors": vectors, "lists": lists, "probes": min(self.probes, lists)}
        return SearchParameters(**{**self.model_dump(), **sizes})

    def resident_bytes(self, workers: int) -> int:
        """Bytes kept resident (the native formula; an upper bound within a few percent)."""
        dims, lists = self.dims, self.lists
        tiled_lists = -(-lists // _TILE) * _TILE
        places = (-(-self.vectors // _TILE) + lists) * _TILE
        row_bytes = {"fp32": 4, "fp16": 2, "int8": 0}[self.storage] * dims
        centroids = lists * (dims + 4) + tiled_lists * dims
        slot = 5 * dims + 16 * self.top + 128
        worker = 128 * (4 * 8 + 4 * _TILE) + 16 * 1024 + 4 * (tiled_lists + lists + dims)
        worker += self.batch * slot + 8 * dims + 32 * self.top
        shared = places * (dims + row_bytes + 12) + 4 * self.clusters * dims
        return shared + centroids + lists * 48 + worker * workers


def _noise(items: npt.NDArray[np.uint32], key: tuple[int, int], dims: int) -> npt.NDArray[np.int32]:
    """Noise of items (n, 3), shape (n, dims), in units of 2^-16: two 16-bit draws minus 65535."""
    blocks = dims // 4
    counters = np.empty((len(items), blocks, 4), dtype=np.uint32)
    counters[:, :, 0] = np.arange(blocks, dtype=np.uint32)
    counters[:, :, 1:] = items[:, np.newaxis, :]
    words = philox(counters.reshape(-1, 4), key).reshape(len(items), dims)
    halves = (words & np.uint32(0xFFFF)) + (words >> np.uint32(16))
    return halves.astype(np.int32) - 65535


@lru_cache(maxsize=2)
def _centres(seed: int, clusters: int, dims: int) -> npt.NDArray[np.int32]:
    items = np.zeros((clusters, 3), dtype=np.uint32)
    items[:, 0] = np.arange(clusters)
    return _noise(items, stream_key(seed, _CENTRES), dims)


def _around_centres(
    parameters: SearchParameters, seed: int, domain: int, items: npt.NDArray[np.uint32]
) -> Vectors:
    key = stream_key(seed, domain)
    chosen = np.zeros((len(items), 4), dtype=np.uint32)
    chosen[:, 1:] = items
    chosen[:, 3] += 1
    draws = philox(chosen, key)[:, 0].astype(np.uint64)
    cluster = (draws * np.uint64(parameters.clusters)) >> np.uint64(32)
    centres = _centres(seed, parameters.clusters, parameters.dims)[cluster.astype(np.int64)]
    own = _noise(items, key, parameters.dims)
    return ((centres + own).astype(np.float32)) * np.float32(1 / 65536)


def stored(vectors: Vectors, storage: str) -> Vectors:
    """Vectors as they are searched: fp16 rounds each component, int8 the direction to 7 bits."""
    if storage == "fp32":
        return vectors
    if storage == "fp16":
        largest = np.float32(np.finfo(np.float16).max)
        return np.clip(vectors, -largest, largest).astype(np.float16).astype(np.float32)
    wide = vectors.astype(np.float64)
    norms = np.sqrt((wide * wide).sum(axis=1))
    factors = np.divide(
        32.0 * np.sqrt(np.float64(vectors.shape[1])),
        norms,
        out=np.zeros_like(norms),
        where=norms > 0,
    )
    steps = np.clip(np.rint(wide * factors[:, np.newaxis]), -127, 127)
    kept: Vectors = steps.astype(np.float32)
    return kept


def vectors(parameters: SearchParameters, seed: int, first: int, count: int) -> Vectors:
    """Vectors `first` to `first + count`, shape (count, dims), as they are searched."""
    out = np.empty((count, parameters.dims), dtype=np.float32)
    for start in range(0, count, _CHUNK):
        end = min(start + _CHUNK, count)
        items = np.zeros((end - start, 3), dtype=np.uint32)
        items[:, 0] = np.arange(first + start, first + end)
        made = _around_centres(parameters, seed, _VECTORS, items)
        out[start:end] = stored(made, parameters.storage)
    return out


def queries(parameters: SearchParameters, seed: int, key: int, count: int) -> Vectors:
    """The first `count` queries of request `key`, shape (count, dims); none is a vector."""
    items = np.empty((count, 3), dtype=np.uint32)
    items[:, 0] = key & 0xFFFFFFFF
    items[:, 1] = key >> 32
    items[:, 2] = 2 * np.arange(count)
    return _around_centres(parameters, seed, _QUERIES, items)


def cosines(rows: Vectors, query: Vectors) -> npt.NDArray[np.float64]:
    """Cosine of each row with a query in float64; 0 where one has no length."""
    wide, asked = rows.astype(np.float64), query.astype(np.float64)
    norms = np.sqrt((wide * wide).sum(axis=1))
    products = norms * np.sqrt((asked * asked).sum())
    found: npt.NDArray[np.float64] = np.divide(
        wide @ asked, products, out=np.zeros_like(norms), where=products > 0
    )
    return found


def search(corpus: Vectors, asked: Vectors, top: int) -> dict[str, npt.NDArray[Any]]:
    """Exact search in float64: `ids` (u32) and `scores` (f64), `top` a query, flat.

    Highest cosine first, of equal ones the lowest id first; a vector of length 0 scores 0.
    """
    top = min(top, len(corpus))
    ids = np.empty((len(asked), top), dtype=np.uint32)
    scores = np.empty((len(asked), top), dtype=np.float64)
    for number, query in enumerate(asked):
        given = cosines(corpus, query)
        best = np.lexsort((np.arange(len(corpus)), -given))[:top]
        ids[number], scores[number] = best, given[best]
    return {"ids": ids.reshape(-1), "scores": scores.reshape(-1)}


@lru_cache(maxsize=1)
def _corpus(parameters: SearchParameters, seed: int) -> Vectors:
    return vectors(parameters, seed, 0, parameters.vectors)


def inputs(parameters: SearchParameters, op: str, seed: int, key: int) -> dict[str, Any]:
    """The inputs of a search op: `queries` (flat f32) and the `seed` of the vectors."""
    count = parameters.batch if op == "semantic_search_batch" else 1
    made = queries(parameters, seed, key, count)
    return {"queries": made.reshape(-1), "seed": np.array([seed], dtype=np.uint64)}


def reference(parameters: SearchParameters, given: dict[str, Any]) -> dict[str, Any]:
    """The exact answers for `queries` over the seed's vectors, or over `vectors` where given.

    It is the reference of the approximate search too, which equals it where `probes` is `lists`
    and else is judged by its recall.
    """
    asked = given["queries"].reshape(-1, parameters.dims)
    if "vectors" in given:
        rows = given["vectors"].reshape(-1, parameters.dims)
        return search(stored(rows, parameters.storage), asked, parameters.top)
    return search(_corpus(parameters, int(given["seed"][0])), asked, parameters.top)
