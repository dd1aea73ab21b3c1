"""The requests of the synthesis component on a device, and what their answers must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from swarmbench import _native
from swarmbench.components import forests
from swarmbench.components.base import Arrays
from swarmbench.components.cuda import synthesis_tables as tables
from swarmbench.components.cuda.synthesis_launches import (
    ANSWER,
    GRID_MAX,
    Instances,
    Linearised,
    Nodes,
    Text,
    Trees,
)
from swarmbench.components.prepared import Progress
from swarmbench.components.synthesis import Synthesis
from swarmbench.components.synthesis_words import TOKENS, VARIABLES
from swarmbench.gpu.device import Device

#: Nodes of a tile of `transform`: four for each thread of a block, and no less than a tree.
_TILE_NODES = 1024
#: Words of a generated pattern's or rule's program, and of what all have (see `tables_layout`).
_PATTERN_WORDS, _RULE_WORDS, _PROGRAM_WORDS = 176, 240, 12_288
#: Letters of texts: 16 on average, 256 at most.
_TEXT_LETTERS, _LETTERS = 32, 4096
_PARTS_MAX, _LITERAL_MAX, _BYTE_PATTERN_MAX = 6, 31, 16
#: Generated tokens are below this; a row of bits for each at most, and one for all others.
_TOKEN_KINDS = 64

#: Elements and type of each buffer by its name.
Layout = dict[str, tuple[int, type[np.generic]]]


def tables_layout(component: Synthesis) -> Layout:
    """What all lanes read, by bounds that hold for every generated input.

    A pattern has at most 17 places of 16 bytes, its number stands in eight lists and in tables of
    at most 32 slots of 8 bytes, which eight probes of 16 bytes lead to; a rule has 14 items of 16
    bytes more.
    """
    nodes, pool = component.nodes, component.pool
    stride, roots = -(-nodes // 4) * 4, -(-nodes // forests.TREE_NODES)
    row_words = -(-component.tree_templates // 32)
    rows = TOKENS * (1 + min(_TOKEN_KINDS, component.tree_templates))
    patterns = component.byte_patterns
    return {
        "looks": (pool * stride, np.uint32),
        "records": (pool * 4 * nodes, np.uint32),
        "patterns": (_PATTERN_WORDS * component.patterns + _PROGRAM_WORDS, np.uint32),
        "few": (tables.FEW_TABLES_WORDS, np.uint32),
        "rules": (_RULE_WORDS * component.rules + _PROGRAM_WORDS, np.uint32),
        "tiles": (2 * (roots + 1), np.uint32),
        "roots": (roots, np.uint32),
        "templates": (pool * nodes, np.uint32),
        "bindings": (pool * VARIABLES * nodes, np.uint32),
        "shapes": (4 * component.templates, np.uint32),
        "parts": (2 * _PARTS_MAX * component.templates, np.uint32),
        "literals": (_PARTS_MAX * _LITERAL_MAX * component.templates, np.uint8),
        "texts": (2 * component.texts, np.uint32),
        "letters": (_TEXT_LETTERS * component.texts + _LETTERS, np.uint8),
        "trees": (TOKENS * component.trees, np.uint8),
        "numbers": (256 * TOKENS, np.uint32),
        "rows": (rows * row_words, np.uint32),
        "text": (component.text_bytes // 4 + 2, np.uint32),
        "bytes": (tables.byte_program_words_max(patterns, _BYTE_PATTERN_MAX), np.uint32),
    }


def lane_layout(component: Synthesis) -> Layout:
    """What a lane writes; the rooms for answers are those of a worker of the native backend."""
    nodes = component.nodes
    places = max(nodes, component.text_bytes)
    return {
        "starts": (GRID_MAX, np.uint64),
        "answer": (len(ANSWER), np.uint64),
        "digests": (2, np.uint64),
        "kept": (-(-places // 32), np.uint32),
        "found": (component.trees, np.uint32),
        "pairs": (2 * pairs_room(component), np.uint32),
        "written": (expansion_room(component), np.uint8),
        "offsets": (nodes + 1, np.uint32),
        "fates": (nodes, np.uint16),
        "made": (4 * made_room(component), np.uint32),
        "made_roots": (-(-nodes // forests.TREE_NODES), np.uint32),
    }


def pairs_room(component: Synthesis) -> int:
    """Pairs that a lane has room for."""
    found = (
        component.nodes * min(component.patterns, 4),
        16 * component.tree_templates + component.trees,
        16 * component.byte_patterns + component.text_bytes // 16,
    )
    return max(found) + 4096


def expansion_room(component: Synthesis) -> int:
    """Bytes of an expansion: instances have 105 on average."""
    return int(component.nodes) * 160 + (64 << 10)


def made_room(component: Synthesis) -> int:
    """Nodes of a rewritten forest: a rewrite adds one at most."""
    return 2 * int(component.nodes)


def nbytes(layout: Layout) -> int:
    return sum(count * np.dtype(dtype).itemsize for count, dtype in layout.values())


def tile_nodes(nodes: int, device: Device) -> int:
    """Nodes of a tile of `transform`; fewer where multiprocessors would be without one."""
    return min(max(nodes // (2 * device.multiprocessors), 4 * forests.TREE_NODES), _TILE_NODES)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of an answer: how much it is, rewrites in it, and digests of its parts."""

    total: int
    rewrites: int
    digests: tuple[int, ...] = ()


class Requests:
    """The pool of requests on a device, with what they are held against.

    Patterns and rules come with the index that the native backend makes of them.
    """

    def __init__(
        self,
        component: Synthesis,
        native: _native.Component,
        device: Device,
        seed: int,
        progress: Progress,
    ) -> None:
        self.component, self.native, self.device, self.seed = component, native, device, seed
        layout = tables_layout(component)
        self.buffers = {name: device.empty(*each) for name, each in layout.items()}
        self.used: dict[str, int] = {}
        self.expected: dict[tuple[str, int], Answer] = {}
        self._stream = device.stream()
        self._build_tables()
        for index in range(component.pool):
            self._build_request(index)
            progress("requests", (index + 1) / component.pool)

    def inputs(self, op: str, index: int) -> Arrays:
        """The inputs of a request as the native backend generated them."""
        asked = {"key": np.array([index], np.uint64), "seed": np.array([self.seed], np.uint64)}
        return self.native.evaluate(f"{op}_inputs", asked)

    def program(self, op: str, inputs: Arrays) -> tables.Words:
        """The patterns' or rules' program; raises `ValueError` for those that are refused."""
        names = ("pattern_", "item_")
        given = {name: array for name, array in inputs.items() if name.startswith(names)}
        found: tables.Words = self.native.evaluate(f"{op}_tables", given)["program"]
        return found

    def upload(self, name: str, array: npt.NDArray[Any], first: int = 0) -> None:
        """Copies an array to its place in a buffer."""
        if len(array):
            self._stream.upload(self.buffers[name].part(first, len(array)), array)
        self.used[name] = first + len(array)

    def _build_tables(self) -> None:
        component = self.component
        matched, rewritten = self.inputs("match", 0), self.inputs("transform", 0)
        expanded, compared = self.inputs("expand", 0), self.inputs("template_compare", 0)
        scanned = self.inputs("byte_match", 0)
        self.upload("patterns", self.program("match", matched))
        if component.patterns <= tables.FEW_PATTERNS_MAX:
            self.upload("few", tables.few_tables(matched))
        self.upload("rules", self.program("transform", rewritten))
        cut, self.tile_capacity = tables.tiles(
            matched["roots"], component.nodes, tile_nodes(component.nodes, self.device)
        )
        self.upload("tiles", cut)
        self.upload("roots", matched["roots"])
        self.upload("shapes", tables.shapes(expanded))
        self.upload("parts", tables.parts(expanded))
        self.upload("literals", expanded["literal"])
        self.upload("texts", tables.spans(expanded["text_first"]))
        self.upload("letters", expanded["text"])
        self.upload("trees", compared["trees"])
        numbers, rows, self.row_words = tables.template_rows(
            compared["template_tokens"], compared["template_flags"]
        )
        self.upload("numbers", numbers)
        self.upload("rows", rows)
        self.upload("text", tables.text_words(scanned["text"]))
        self.upload("bytes", tables.byte_program(scanned))
        for op, inputs in (("template_compare", compared), ("byte_match", scanned)):
            self.expected[op, 0] = _expected(self.native.evaluate(op, inputs))
        self._stream.synchronize()

    def _build_request(self, index: int) -> None:
        nodes = self.component.nodes
        matched, expanded = self.inputs("match", index), self.inputs("expand", index)
        rewritten = self.inputs("transform", index)
        self.upload("looks", tables.looks(matched), index * (-(-nodes // 4) * 4))
        self.upload("records", tables.records(matched), index * 4 * nodes)
        self.upload("templates", expanded["template"], index * nodes)
        self.upload("bindings", expanded["binding"], index * VARIABLES * nodes)
        for op, inputs in (("match", matched), ("expand", expanded), ("transform", rewritten)):
            self.expected[op, index] = _expected(self.native.evaluate(op, inputs))
        self._stream.synchronize()

    def nodes(self, index: int) -> Nodes:
        """The forest of a request, for `match`."""
        nodes = self.component.nodes
        stride = -(-nodes // 4) * 4
        is_few = self.component.patterns <= tables.FEW_PATTERNS_MAX
        return Nodes(
            self.buffers["looks"].part(index * stride, nodes),
            self.buffers["records"].part(index * 4 * nodes, 4 * nodes),
            nodes,
            self.buffers["patterns"],
            self.buffers["few"] if is_few else None,
        )

    def trees(self, index: int) -> Trees:
        """The same for `transform`."""
        return Trees(
            self.nodes(index).records,
            self.buffers["tiles"],
            self.used["tiles"] // 2 - 1,
            self.tile_capacity,
            self.buffers["roots"],
            self.buffers["rules"],
        )

    def instances(self, index: int) -> Instances:
        """What a request expands."""
        component, buffers = self.component, self.buffers
        nodes = component.nodes
        return Instances(
            buffers["templates"].part(index * nodes, nodes),
            buffers["bindings"].part(index * VARIABLES * nodes, VARIABLES * nodes),
            nodes,
            buffers["shapes"],
            component.templates,
            buffers["parts"],
            buffers["literals"],
            buffers["texts"],
            component.texts,
            buffers["letters"],
        )

    def linearised(self) -> Linearised:
        """The trees of `template_compare`."""
        buffers = self.buffers
        trees = self.component.trees
        return Linearised(
            buffers["trees"], trees, buffers["numbers"], buffers["rows"], self.row_words
        )

    def text(self) -> Text:
        """The text of `byte_match`."""
        words = tables.byte_tables_words(self.component.byte_patterns)
        return Text(self.buffers["text"], self.component.text_bytes, self.buffers["bytes"], words)


def _expected(answers: Arrays) -> Answer:
    """The digests of an answer by the native backend."""
    rewrites = answers.get("rewrites")
    if rewrites is not None:
        made = tables.records(answers)
        found: Sequence[npt.NDArray[Any]] = (made, answers["roots"])
        return Answer(len(made) // 4, int(rewrites[0]), tuple(map(tables.digest, found)))
    if "offset" in answers:
        found = (answers["bytes"], answers["offset"])
        return Answer(len(answers["bytes"]), 0, tuple(map(tables.digest, found)))
    number = "template" if "template" in answers else "pattern"
    (place,) = answers.keys() - {number}
    pairs = np.stack((answers[place], answers[number]), axis=1).reshape(-1)
    return Answer(len(pairs) // 2, 0, (tables.digest(pairs),))
