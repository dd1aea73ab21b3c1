"""Semantic searches on a device: exact ones by bounds, approximate ones in the nearest lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from swarmbench.components import embeddings
from swarmbench.components.base import Arrays
from swarmbench.components.cuda.base import Cost
from swarmbench.components.cuda.knowledge_graph_corpus import (
    CENTRES,
    GROUP,
    QUERIES,
    STORAGE,
    Corpus,
    group_count,
)
from swarmbench.components.cuda.knowledge_graph_search_cost import ASK_BLOCK, cost_of_pass
from swarmbench.components.cuda.knowledge_graph_tables import Lane, OpSide, Step
from swarmbench.components.embeddings import SearchParameters
from swarmbench.gpu.device import Argument, Buffer, Device

#: Where the vectors of a `score_vectors` launch come from.
NEAREST, CHOSEN, CANDIDATES, ALL = range(4)
#: Most blocks that score one query's vectors; candidates of a query that are kept.
SCORE_BLOCKS, CAPACITY = 32, 4096
#: Results that a block takes in before it keeps the best, as in `knowledge_graph_score.cu`.
_ROUND = 256
#: Queries that one pass over the codes can share, and shared memory that their codes may take.
_PASSES, _PASS_BYTES = (16, 4, 1), 48 << 10
#: Vectors regenerated and scored with every exact answer.
_SLICE = 64
_NONE = 0xFFFFFFFF

U32 = npt.NDArray[np.uint32]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Kind = Literal["semantic_search", "semantic_search_batch", "approximate_search"]

HEAD = np.dtype(
    [
        *(("norm", "<f8"), ("floor", "<u8"), ("nearest", "<u8"), ("done", "<u8")),
        *(("candidates", "<u4"), ("refined", "<u4"), ("chosen", "<u4"), ("scanned", "<u4")),
        *(("residual", "<f4"), ("inverse_scale", "<f4"), ("sum", "<i4"), ("unused", "<u4")),
    ]
)
_HEAD_WORDS = HEAD.itemsize // 8


class Slots:
    """Room for the queries of one operation, their ways and their answers."""

    def __init__(self, device: Device, parameters: SearchParameters) -> None:
        count, dims, top = parameters.batch, parameters.dims, parameters.top
        words = group_count(dims) * GROUP // 4
        self.asked = device.empty(count * dims, np.float32)
        self.codes = device.empty(count * words, np.int32)
        self.heads = device.empty(count * _HEAD_WORDS, np.uint64)
        self.nearness = device.empty(count * parameters.lists, np.int32)
        self.chosen = device.empty(count * parameters.lists, np.uint32)
        self.candidates = device.empty(count * CAPACITY, np.uint32)
        self.found_keys = device.empty(_PASSES[0] * SCORE_BLOCKS * top, np.uint64)
        self.found_ids = device.empty(_PASSES[0] * SCORE_BLOCKS * top, np.uint32)
        self.best_keys = device.empty(count * top, np.uint64)
        self.best_ids = device.empty(count * top, np.uint32)
        self.scores = device.empty(count * top, np.float64)
        self.host_ids = device.pinned(count * top, np.uint32)
        self.host_scores = device.pinned(count * top, np.float64)
        self.host_heads = device.pinned(count * _HEAD_WORDS, np.uint64)

    @classmethod
    def bytes(cls, parameters: SearchParameters) -> int:
        """Device memory of one lane's queries."""
        dims, top = parameters.dims, parameters.top
        query = 4 * dims + group_count(dims) * GROUP + HEAD.itemsize + 8 * parameters.lists
        query += 4 * CAPACITY + 20 * top
        return parameters.batch * query + 12 * _PASSES[0] * SCORE_BLOCKS * top

    @classmethod
    def host_bytes(cls, parameters: SearchParameters) -> int:
        """Pinned memory of their answers."""
        return parameters.batch * (12 * parameters.top + HEAD.itemsize)


class Search:
    """Searches of one lane over a corpus, of so many queries of one kind; launches and kernels are
    ready when it is made. The lane's searches share `slots`, so the last one has its answers there.
    """

    def __init__(
        self,
        lane: Lane,
        slots: Slots,
        corpus: Corpus,
        kind: Kind,
        count: int,
        *,
        is_given: bool = False,
        capacity: int = CAPACITY,
    ) -> None:
        assert capacity <= CAPACITY
        self.lane, self.slots, self.corpus = lane, slots, corpus
        self.count, self.capacity = count, capacity
        #: Blocks that score one query's vectors: a few for each multiprocessor of a small device.
        self.blocks = min(SCORE_BLOCKS, 4 * lane.device.multiprocessors)
        self.asks: list[Step] = []
        self.steps: list[Step] = []
        for first, size, width in passes(corpus.parameters.dims, count):
            self.asks.append(self._ask(first, size, is_given))
            self.steps += [self.asks[-1], *self._rest(kind, first, size, width)]

    def answer(self, key: int) -> None:
        """Answers the queries of a request, or those that were uploaded."""
        for step in self.asks:
            step.arguments[0] = np.uint64(key)
        for step in self.steps:
            self.lane.launch(step)
        slots, stream, top = self.slots, self.lane.stream, self.corpus.parameters.top
        filled, words = self.count * top, self.count * _HEAD_WORDS
        stream.download(slots.host_ids[:filled], slots.best_ids.part(0, filled))
        stream.download(slots.host_scores[:filled], slots.scores.part(0, filled))
        stream.download(slots.host_heads[:words], slots.heads.part(0, words))
        stream.synchronize()

    def answers(self) -> Iterator[tuple[Any, Any]]:
        """Ids and scores of each query, without the places that nothing filled."""
        top = self.corpus.parameters.top
        for query in range(self.count):
            ids = self.slots.host_ids[query * top : (query + 1) * top]
            filled = ids != _NONE
            yield ids[filled], self.slots.host_scores[query * top : (query + 1) * top][filled]

    def heads(self) -> npt.NDArray[Any]:
        """What the device kept of each query."""
        heads: npt.NDArray[Any] = self.slots.host_heads[: self.count * _HEAD_WORDS].view(HEAD)
        return heads

    def candidates(self, first: int, size: int) -> list[U32]:
        """The places that each of some queries of the last answer kept for scoring."""
        rows = np.empty(size * CAPACITY, np.uint32)
        self.lane.stream.download(rows, self._candidates(first, size))
        self.lane.stream.synchronize()
        kept = np.minimum(self.heads()["candidates"][first : first + size], self.capacity)
        return [row[:count] for row, count in zip(rows.reshape(size, -1), kept, strict=True)]

    def _rest(self, kind: Kind, first: int, size: int, width: int) -> Iterator[Step]:
        """The launches after the queries of a pass are there."""
        lane, corpus, parameters = self.lane, self.corpus, self.corpus.parameters
        if kind == "approximate_search" and parameters.probes >= corpus.lists:
            yield self._score(ALL, first, size)
            return
        _, codes, heads, nearness, chosen = self._parts(first, size)
        lists = np.uint32(corpus.lists)
        rank: list[Argument] = [
            corpus.centroids,
            lists,
            np.uint32(parameters.dims),
            codes,
            np.uint32(size),
        ]
        rank += [nearness, heads]
        yield lane.step("_search", "rank_lists", rank, threads=32 * corpus.lists)
        if kind == "approximate_search":
            choose: list[Argument] = [nearness, lists, np.uint32(parameters.probes), heads, chosen]
            grid = size * -(-corpus.lists // lane.shape.block)
            yield lane.step("_search", "choose_lists", choose, grid=grid)
            yield self._score(CHOSEN, first, size)
            return
        yield self._score(NEAREST, first, size)
        yield self._scan(first, size, width)
        yield self._score(CANDIDATES, first, size)

    def _ask(self, first: int, size: int, is_given: bool) -> Step:
        corpus, parameters = self.corpus, self.corpus.parameters
        asked, codes, heads, _, _ = self._parts(first, size)
        ask: list[Argument] = [np.uint64(0), np.uint32(first), np.uint32(parameters.dims)]
        ask += [np.uint32(parameters.clusters), *corpus.kernel_words(QUERIES, CENTRES)]
        ask += [np.uint32(is_given), np.uint32(parameters.top), asked, codes, heads]
        ask += self._best(first, size)
        return self.lane.step("_search", "ask_queries", ask, grid=size, block=ASK_BLOCK)

    def _parts(self, first: int, size: int) -> tuple[Buffer, ...]:
        slots, corpus = self.slots, self.corpus
        dims, words = corpus.parameters.dims, corpus.groups * GROUP // 4
        return (
            slots.asked.part(first * dims, size * dims),
            slots.codes.part(first * words, size * words),
            slots.heads.part(first * _HEAD_WORDS, size * _HEAD_WORDS),
            slots.nearness.part(first * corpus.lists, size * corpus.lists),
            slots.chosen.part(first * corpus.lists, size * corpus.lists),
        )

    def _best(self, first: int, size: int) -> tuple[Buffer, Buffer]:
        top = self.corpus.parameters.top
        best = (self.slots.best_keys, self.slots.best_ids)
        return best[0].part(first * top, size * top), best[1].part(first * top, size * top)

    def _scan(self, first: int, size: int, width: int) -> Step:
        corpus = self.corpus
        _, codes, heads, _, _ = self._parts(first, size)
        scan: list[Argument] = [corpus.high, corpus.low, corpus.spans, np.uint32(corpus.vectors)]
        scan += [np.uint32(corpus.groups), codes, np.uint32(size), corpus.starts, heads]
        scan += [self._candidates(first, size), np.uint32(self.capacity)]
        return self.lane.step(
            "_search",
            "scan_codes",
            scan,
            threads=corpus.ids.count,
            shared_bytes=corpus.groups * width * GROUP,
            defines={"QUERIES": width},
        )

    def _candidates(self, first: int, size: int) -> Buffer:
        return self.slots.candidates.part(first * CAPACITY, size * CAPACITY)

    def _score(self, source: int, first: int, size: int) -> Step:
        corpus, slots, parameters = self.corpus, self.slots, self.corpus.parameters
        top = parameters.top
        asked, _, heads, _, chosen = self._parts(first, size)
        score: list[Argument] = [np.uint32(source), corpus.scored, corpus.low, corpus.ids]
        score += [np.uint32(corpus.vectors), np.uint32(parameters.dims), asked, corpus.starts]
        score += [np.uint32(corpus.lists), chosen, self._candidates(first, size)]
        score += [np.uint32(self.capacity), np.uint32(self.blocks), np.uint32(top), heads]
        score += [slots.found_keys, slots.found_ids, *self._best(first, size)]
        score.append(slots.scores.part(first * top, size * top))
        return self.lane.step(
            "_score",
            "score_vectors",
            score,
            grid=size * self.blocks,
            block=min(self.lane.shape.block, _ROUND),
            shared_bytes=24 * (top + _ROUND),
            defines={"STORAGE": STORAGE[parameters.storage]},
        )


def passes(dims: int, count: int) -> Iterator[tuple[int, int, int]]:
    """First query, queries, and the width of the kernel of each pass over the codes."""
    widest = next(width for width in _PASSES if width * group_count(dims) * GROUP <= _PASS_BYTES)
    first = 0
    while first < count:
        left = count - first
        width = min((each for each in _PASSES if each >= min(left, widest)), default=widest)
        yield first, min(left, width), width
        first += width


class SearchOp(OpSide):
    """One of the three ways to search, of one lane."""

    def __init__(self, lane: Lane, corpus: Corpus, slots: Slots, kind: Kind) -> None:
        super().__init__(lane)
        self.corpus, self.slots, self.kind = corpus, slots, kind
        self.count = corpus.parameters.batch if kind == "semantic_search_batch" else 1
        self.search = Search(lane, slots, corpus, kind, self.count)
        self.found: list[tuple[Any, Any]] = []

    def run(self, key: int) -> int:
        """Answers the queries of a request; units are queries."""
        self.search.answer(key)
        self.found = list(self.search.answers())
        return self.count

    def evaluate(self, inputs: Arrays) -> Arrays:
        """`ids` and `scores` of `queries`, over `vectors` where they are given."""
        corpus, slots, dims = self.corpus, self.slots, self.corpus.parameters.dims
        if "vectors" in inputs:
            device = self.lane.device
            rows = device.uploaded(inputs["vectors"])
            given = {"vectors": inputs["vectors"]}
            corpus = Corpus.build(
                corpus.parameters, self.lane.native, device, corpus.seed, rows, given
            )
        asked, found = inputs["queries"], []
        room = corpus.parameters.batch * dims
        for first in range(0, len(asked), room):
            part = np.ascontiguousarray(asked[first : first + room])
            self.lane.stream.upload(slots.asked.part(0, len(part)), part)
            search = Search(
                *(self.lane, slots, corpus, self.kind, len(part) // dims),
                is_given=True,
                capacity=self.search.capacity,
            )
            search.answer(0)
            found += [(ids.copy(), scores.copy()) for ids, scores in search.answers()]
        return {
            "ids": np.concatenate([ids for ids, _ in found]),
            "scores": np.concatenate([scores for _, scores in found]),
        }

    def verify(self, key: int) -> tuple[int, int]:
        """Every answer: as many results as there are, distinct, in order, each score recomputed
        from the vector's seed; of one exact answer a slice of other vectors, which must hold
        nothing better; one in `full_check_one_in` is held against the native search."""
        parameters, native = self.corpus.parameters, self.lane.native
        rows = native.evaluate("requested_queries", {"key": np.array([key], np.uint64)})["queries"]
        rows, heads, wrong = rows.reshape(-1, parameters.dims), self.search.heads(), 0
        for member, (ids, scores) in enumerate(self.found):
            draw = (key + member) * 0x9E3779B9 % (1 << 32)
            is_full = self.looks_closely or draw % parameters.full_check_one_in == 0
            is_right = self._is_sound(ids, scores, rows[member], int(heads[member]["scanned"]))
            if is_right and member == key % self.count and self.kind != "approximate_search":
                is_right = self._slice_holds_none(ids, scores, rows[member], key)
            if is_right and is_full:
                right = native.evaluate(self.kind, {"queries": rows[member].copy()})
                is_right = np.array_equal(right["ids"], ids)
                is_right = is_right and np.array_equal(right["scores"], scores)
            wrong += not is_right
        return self.count, wrong

    def _is_sound(self, ids: U32, scores: F64, query: F32, scanned: int) -> bool:
        """As many results as there are, distinct, in order, each with the score of its vector."""
        parameters = self.corpus.parameters
        is_exact = self.kind != "approximate_search"
        present = self.corpus.vectors if is_exact else scanned
        if len(ids) != min(parameters.top, present) or (ids >= parameters.vectors).any():
            return False
        order = np.lexsort((ids, -scores))
        if len(np.unique(ids)) != len(ids) or not np.array_equal(order, np.arange(len(ids))):
            return False
        return np.array_equal(embeddings.cosines(self._vectors(ids), query), scores)

    def _slice_holds_none(self, ids: U32, scores: F64, query: F32, turn: int) -> bool:
        """None of a slice of vectors, another one each time, is better than the last result."""
        vectors = self.corpus.vectors
        first = turn * 0x9E3779B97F4A7C15 % (1 << 64) % vectors
        others = np.arange(first, min(first + _SLICE, vectors), dtype=np.uint32)
        others = others[~np.isin(others, ids)]
        given = embeddings.cosines(self._vectors(others), query)
        beaten = (given < scores[-1]) | ((given == scores[-1]) & (others > ids[-1]))
        return bool(beaten.all())

    def _vectors(self, ids: U32) -> F32:
        """Vectors as the native side makes them from the seed."""
        rows = self.lane.native.evaluate("embeddings", {"ids": ids})["vectors"]
        found: F32 = rows.reshape(-1, self.corpus.parameters.dims)
        return found

    def damage(self, fault: str, draw: int) -> bool:
        """A bit of a result's id or score; the result missing, or in the next one's place too."""
        member = draw % self.count
        ids, scores = (values.copy() for values in self.found[member])
        if len(ids) < (2 if fault == "doubled_result" else 1):
            return False
        place = (draw >> 16) % len(ids)
        other = (place + 1) % len(ids)
        if fault == "lost_result":
            ids, scores = np.delete(ids, place), np.delete(scores, place)
        elif fault == "doubled_result":
            ids[other], scores[other] = ids[place], scores[place]
        elif draw >> 32 & 1:
            ids[place] ^= np.uint32(1 << (draw >> 33 & 31))
        else:
            scores.view(np.uint64)[place] ^= np.uint64(1 << (draw >> 33 & 63))
        self.found[member] = (ids, scores)
        return True

    def cost(self) -> Cost:
        """What the passes over the codes had to do."""
        whole = Cost(0, 0)
        for first, size, width in passes(self.corpus.parameters.dims, self.count):
            whole += cost_of_pass(self.search, self.kind, first, size, width)
        return whole
