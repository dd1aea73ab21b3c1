"""What the kernels of a semantic search must do for the queries of one pass over the codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from swarmbench.components.cuda.base import Cost
from swarmbench.components.cuda.knowledge_graph_corpus import GROUP, ROW_BYTES, TILE

if TYPE_CHECKING:
    from swarmbench.components.cuda.knowledge_graph_search import Kind, Search

#: Threads of the block that asks a query, each of which draws its cluster.
ASK_BLOCK = 128
#: What a launch that scores leaves in a query's head: how far it is, how many there were, a floor.
_SCORED_BYTES = 8 + 4 + 8


def cost_of_pass(search: Search, kind: Kind, first: int, size: int, width: int) -> Cost:
    """The queries themselves, the lists' centroids, then what a search of that kind looks at:
    `size` queries from `first` on, whose codes a kernel for `width` of them scans."""
    corpus, parameters = search.corpus, search.corpus.parameters
    heads = search.heads()[first : first + size]
    dims, lists, padded = parameters.dims, corpus.lists, corpus.groups * GROUP
    cost = Cost(
        bytes_read=size * 4 * dims,
        bytes_written=size * (4 * dims + padded + 12 * parameters.top + heads.itemsize),
        random_draws=size * (ASK_BLOCK + 2 * dims // 4),
    )
    if kind == "approximate_search" and parameters.probes >= lists:
        return cost + _scored(search, size, corpus.vectors, size * corpus.vectors)
    cost += Cost(lists * dims + size * dims, size * (4 * lists + 8), size * lists * dims)
    if kind == "approximate_search":
        scanned = int(heads["scanned"].sum())
        chosen = 4 * int(heads["chosen"].sum()) + 4 * size
        return cost + Cost(size * 4 * lists, chosen) + _scored(search, size, scanned, scanned)
    starts = np.empty(lists + 1, np.uint32)
    search.lane.stream.download(starts, corpus.starts)
    search.lane.stream.synchronize()
    nearest = ~(heads["nearest"].astype(np.uint32))
    lengths = starts[nearest + 1] - starts[nearest]
    own = np.unique(nearest)
    cost += _scored(search, size, int((starts[own + 1] - starts[own]).sum()), int(lengths.sum()))
    tiles = corpus.ids.count // TILE
    refined = int(heads["refined"][0])
    cost += Cost(
        bytes_read=tiles * (512 * corpus.groups + 16)
        + size * padded
        + refined * corpus.groups * 16,
        bytes_written=0,
        # A tile for all queries that the kernel has room for; high and low halves once more.
        multiply_adds=int(
            (tiles * TILE * width + 2 * _passed(refined, corpus.vectors, size)) * padded
        ),
    )
    kept = search.candidates(first, size)
    listed = sum(map(len, kept))
    cost += Cost(bytes_read=4 * listed, bytes_written=4 * listed)
    # Where more passed the bound than are kept, all but the nearest list is scored.
    passed = np.where(
        heads["candidates"] > search.capacity, corpus.vectors - lengths, heads["candidates"]
    )
    return cost + _scored(search, size, len(np.unique(np.concatenate(kept))), int(passed.sum()))


def _passed(refined: int, vectors: int, queries: int) -> float:
    """Expected pairs of vector and query that the high halves do not rule out, where so many
    vectors pass for any query: as if each query had its own share of them by chance."""
    share = min(refined, vectors - 0.5) / vectors
    return float(queries * vectors * (1.0 - (1.0 - share) ** (1.0 / queries)))


def _scored(search: Search, size: int, places: int, times: int) -> Cost:
    """Different places that are scored, each some times; what blocks keep is merged."""
    parameters = search.corpus.parameters
    dims, top = parameters.dims, parameters.top
    row = max(1, ROW_BYTES[parameters.storage]) * dims
    merged = size * top * (12 * search.blocks + 12)
    return Cost(
        bytes_read=places * (row + 4) + size * 4 * dims + merged,
        bytes_written=merged + size * (8 * top + _SCORED_BYTES),
        multiply_adds=2 * dims * times,
    )
