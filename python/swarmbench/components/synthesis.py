"""The `synthesis` component: patterns matched in trees, templates expanded, trees rewritten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

from pydantic import Field

from swarmbench.components import forests, synthesis_reference, synthesis_words
from swarmbench.components.base import Arrays, Component, Op, Profile

_NODE_BYTES = 16
_PAIRS_ROOM = 4096


class Synthesis(Component):
    """Requests of `nodes` nodes (or instances) against fixed patterns, rules and templates.

    A forest is arrays over its nodes: `type` (u8), `value` (hash, u32), `count` of children (u8),
    `first` child and `next` sibling (u32, `forests.NONE` for none), and its `roots`. A pattern is
    a tree of at most three levels whose places demand a type, a value, a number of children, or
    nothing. `match` finds all (node, pattern) pairs; `transform` replaces outermost matches of
    rules; `expand` writes templates of literals and variables to bytes.

    `template_compare` (masked templates of 64 tokens against linearised trees; unit: comparisons
    of a tree with a template) and `byte_match` (byte patterns with wildcards in a text) are the
    same questions in the forms that libraries answer, for benchmarks; they are no part of the
    production mix.
    """

    name: ClassVar[str] = "synthesis"
    unit: ClassVar[str] = "nodes"
    #: Floors. `match` looks at type, count and eleven bits of the value of every node; of those
    #: that match it reads the record (16 B) and writes a pair (8 B). `expand` writes the text of
    #: one node per instance: it reads and writes each of its 105 bytes (the mean) and reads 20 B of
    #: bindings. `transform` reads and writes every record. `template_compare` reads a tree's 64 B
    #: once for all templates; `byte_match` reads every byte. A default request stays in the
    #: second-level caches, hence that roof.
    ops: ClassVar[tuple[Op, ...]] = (
        Op("match", "nodes", "cache_read_bytes_s", 4.0 + 0.1 * 24.0),
        Op("expand", "nodes", "cache_read_bytes_s", 2.0 * 105.0 + 20.0),
        Op("transform", "nodes", "cache_read_bytes_s", 32.0),
        Op("template_compare", "comparisons", "cache_read_bytes_s", 64.0 / 1000.0),
        Op("byte_match", "bytes", "cache_read_bytes_s", 1.0),
    )
    weights: ClassVar[Mapping[str, float]] = {"match": 1.0, "expand": 1.0, "transform": 1.0}
    production_rate_s: ClassVar[float | None] = 10.0
    stress_in_flight: ClassVar[int] = 32
    claim: ClassVar[str] = "2.6 G ops/s"

    #: Nodes of a forest, and instances of an expansion.
    nodes: int = Field(default=10_000, ge=1, le=1 << 26)
    #: Different requests of each op type, served in turn.
    pool: int = Field(default=32, ge=1, le=1 << 12)
    patterns: int = Field(default=256, ge=1, le=1 << 16)
    #: Share of the nodes that some pattern matches.
    selectivity: float = Field(default=0.1, ge=0.0, le=1.0)
    #: Different value hashes of ordinary nodes.
    values: int = Field(default=4096, ge=1, le=1 << 20)
    templates: int = Field(default=256, ge=1, le=1 << 16)
    texts: int = Field(default=4096, ge=1, le=1 << 20)
    rules: int = Field(default=32, ge=1, le=1 << 12)
    #: Linearised trees of `template_compare`, 64 tokens each.
    trees: int = Field(default=4096, ge=1, le=1 << 22)
    tree_templates: int = Field(default=1000, ge=1, le=1 << 17)
    #: Length of the text of `byte_match`.
    text_bytes: int = Field(default=1 << 18, ge=1, le=1 << 30)
    byte_patterns: int = Field(default=1000, ge=1, le=1 << 17)
    #: Share of the bytes of a byte pattern that match anything.
    byte_wildcards: float = Field(default=0.3, ge=0.0, le=0.9)

    @classmethod
    def for_profile(cls, profile: Profile, **parameters: object) -> Self:
        """32 different requests in the quick profile, else 256 (beyond most caches)."""
        return cls.model_validate({"pool": 32 if profile == "quick" else 256, **parameters})

    @property
    def hot_types(self) -> int:
        """Node types of which some pattern matches every node."""
        return min(max(self.patterns // 2, 1), forests.HOT_TYPES_MAX)

    def resident_bytes(self, workers: int) -> int:
        """Upper bound: the pool of requests, what they are held against, the workers' answers."""
        nodes = self.nodes
        roots = -(-nodes // forests.TREE_NODES)
        forest = nodes * (_NODE_BYTES + 4) + 4 * roots
        programs = 512 * (self.patterns + self.rules) + (1 << 17)
        wording = 512 * self.templates + 64 * self.texts
        compared = 64 * self.trees + 256 * self.tree_templates
        scanned = self.text_bytes + 96 * self.byte_patterns + (1 << 17)
        shared = self.pool * (forest + 20 * nodes + 64) + programs + wording + compared + scanned
        return shared + workers * self._worker_bytes()

    def _worker_bytes(self) -> int:
        pairs = max(
            self.nodes * min(self.patterns, 4),
            16 * self.tree_templates + self.trees,
            16 * self.byte_patterns + self.text_bytes // 16,
        )
        roots = -(-self.nodes // forests.TREE_NODES)
        return (
            8 * (pairs + _PAIRS_ROOM)
            + (160 * self.nodes + (64 << 10))
            + 4 * (self.nodes + 1)
            + (2 * self.nodes * _NODE_BYTES + 4 * roots)
            + (1 << 17)
        )

    def fitted(self, budget_bytes: int, workers: int) -> tuple[Self, list[str]]:
        """Fewer requests in the pool where that suffices, then smaller ones and a shorter text."""
        if self.resident_bytes(workers) <= budget_bytes:
            return self, []
        found = self.model_copy(update={"pool": 1})
        if found.resident_bytes(workers) <= budget_bytes:
            one = found.resident_bytes(workers)
            more = self.model_copy(update={"pool": 2}).resident_bytes(workers) - one
            found = self.model_copy(update={"pool": 1 + (budget_bytes - one) // more})
        for name in ("text_bytes", "trees", "nodes", "byte_patterns", "tree_templates"):
            while found.resident_bytes(workers) > budget_bytes and getattr(found, name) > 1:
                found = found.model_copy(update={name: max(1, getattr(found, name) // 2)})
        named = [name for name in type(self).model_fields if name != "name"]
        changed = [name for name in named if getattr(self, name) != getattr(found, name)]
        return found, [
            f"synthesis.{name}: {getattr(self, name)} -> {getattr(found, name)}" for name in changed
        ]

    def cost(self, op: Op) -> float:
        """`match` by the share that matches, `template_compare` by its number of templates."""
        if op.name == "match":
            return 4.0 + 24.0 * self.selectivity
        if op.name == "template_compare":
            return 64.0 / self.tree_templates
        return op.cost

    def index_of(self, key: int) -> int:
        """Which request of the pool the operation `key` is."""
        return ((key & ((1 << 48) - 1)) + (key >> 48) * 7) % self.pool

    def inputs(self, op: str, seed: int, key: int) -> Arrays:
        """The arrays of `reference`; of `match` and `transform` the forest's and the patterns'."""
        index = self.index_of(key)
        if op == "expand":
            return synthesis_words.expansion(seed, index, self.nodes, self.templates, self.texts)
        if op == "template_compare":
            return synthesis_words.tree_templates(seed, self.trees, self.tree_templates)
        if op == "byte_match":
            return synthesis_words.byte_patterns(
                seed, self.text_bytes, self.byte_patterns, self.byte_wildcards
            )
        recipe = forests.Recipe(
            seed, self.nodes, self.hot_types, self.values, int(self.selectivity * 4294967296.0)
        )
        sampled = forests.forest(recipe, 0)
        arrays = sampled if index == 0 else forests.forest(recipe, index)
        if op == "match":
            return {**arrays, **forests.patterns(recipe, sampled, self.patterns)}
        return {**arrays, **forests.rules(recipe, sampled, self.rules)}

    def reference(self, op: str, inputs: Arrays) -> Arrays:
        """`match`: `node` and `pattern` (u32) of every pair, by node, then pattern.
        `expand`: `bytes` (u8) and where each instance's start, and the end (`offset`, u32).
        `transform`: the new forest in preorder and `rewrites` (u64, one).
        `template_compare`: `tree` and `template`; `byte_match`: `position` and `pattern` (u32).
        """
        answers: Arrays = getattr(synthesis_reference, op.replace("match", "matches"))(inputs)
        return answers
