"""The synthesis kernels on given inputs, with device memory of their own for each call."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from swarmbench.components.base import Arrays
from swarmbench.components.cuda import synthesis_tables as tables
from swarmbench.components.cuda.synthesis_launches import (
    ANSWER,
    GRID_MAX,
    NO_PROBLEM,
    PROBLEM,
    REWRITES,
    TOTAL,
    Instances,
    Launcher,
    Linearised,
    Nodes,
    Shape,
    Text,
    Trees,
    writing_bytes,
)
from swarmbench.components.cuda.synthesis_requests import Requests, tile_nodes
from swarmbench.components.synthesis_words import TOKENS, UNBOUND, VARIABLES
from swarmbench.gpu.device import Buffer

#: Room where only the size of an answer is asked for.
_NO_ROOM = 0


class Given:
    """One evaluation: the inputs' tables, then the launches, the second once there is room."""

    def __init__(self, requests: Requests, shape: Shape) -> None:
        self._requests, self._device = requests, requests.device
        self._stream = self._device.stream()
        self._starts = self._empty(GRID_MAX, np.uint64)
        self._answer = self._device.uploaded(ANSWER)
        self._launcher = Launcher(self._device, self._starts, self._answer, shape)

    def answer(self, op: str, inputs: Arrays) -> Arrays:
        """The arrays that the reference answers with; raises `ValueError` for what is no input."""
        if op == "expand":
            return self._expand(inputs)
        if op == "transform":
            return self._transform(inputs)
        if op == "match":
            return self._match(inputs)
        return self._compare(inputs) if op == "template_compare" else self._match_bytes(inputs)

    def _uploaded(self, array: npt.NDArray[Any]) -> Buffer:
        """A copy on the device; of an empty array an element that nobody reads."""
        return self._device.uploaded(array if len(array) else np.zeros(1, array.dtype))

    def _empty(self, count: int, dtype: type[np.generic]) -> Buffer:
        return self._device.empty(max(count, 1), dtype)

    def _read(self, buffer: Buffer, count: int) -> npt.NDArray[Any]:
        array = np.zeros(count, buffer.dtype)
        if count:
            self._stream.download(array, buffer.part(0, count))
            self._stream.synchronize()
        return array

    def _sized(self) -> npt.NDArray[np.uint64]:
        """The answer's words after the first launch."""
        found: npt.NDArray[np.uint64] = self._read(self._answer, len(ANSWER))
        return found

    def _pairs(self, steps_for: Any, place: str, number: str) -> Arrays:
        """Both launches of an operation that answers with pairs."""
        steps = steps_for(self._empty(2, np.uint32), _NO_ROOM)
        steps.enqueue(self._stream, steps.count)
        total = int(self._sized()[TOTAL])
        pairs = self._empty(2 * total, np.uint32)
        steps = steps_for(pairs, total)
        steps.enqueue(self._stream, steps.write)
        found = self._read(pairs, 2 * total).reshape(-1, 2)
        return {place: found[:, 0].copy(), number: found[:, 1].copy()}

    def _match(self, inputs: Arrays) -> Arrays:
        tables.preorder(inputs)
        length, patterns = len(inputs["type"]), len(inputs["pattern_first"]) - 1
        program = self._requests.program("match", inputs)
        is_few = patterns <= tables.FEW_PATTERNS_MAX
        nodes = Nodes(
            self._uploaded(tables.looks(inputs)),
            self._uploaded(tables.records(inputs)),
            length,
            self._uploaded(program),
            self._uploaded(tables.few_tables(inputs)) if is_few else None,
        )
        kept = self._empty(-(-length // 32), np.uint32)
        return self._pairs(
            lambda pairs, room: self._launcher.match(nodes, kept, pairs, room), "node", "pattern"
        )

    def _compare(self, inputs: Arrays) -> Arrays:
        length = len(inputs["trees"]) // TOKENS
        numbers, rows, words = tables.template_rows(
            inputs["template_tokens"], inputs["template_flags"]
        )
        trees = Linearised(
            self._uploaded(inputs["trees"]),
            length,
            self._uploaded(numbers),
            self._uploaded(rows),
            words,
        )
        found = self._empty(length, np.uint32)
        return self._pairs(
            lambda pairs, room: self._launcher.compare(trees, found, pairs, room),
            "tree",
            "template",
        )

    def _match_bytes(self, inputs: Arrays) -> Arrays:
        length, patterns = len(inputs["text"]), len(inputs["pattern_first"]) - 1
        text = Text(
            self._uploaded(tables.text_words(inputs["text"])),
            length,
            self._uploaded(tables.byte_program(inputs)),
            tables.byte_tables_words(patterns),
        )
        kept = self._empty(-(-length // 32), np.uint32)
        return self._pairs(
            lambda pairs, room: self._launcher.match_bytes(text, kept, pairs, room),
            "position",
            "pattern",
        )

    def _expand(self, inputs: Arrays) -> Arrays:
        length = len(inputs["template"])
        given = Instances(
            self._uploaded(inputs["template"]),
            self._uploaded(inputs["binding"]),
            length,
            self._uploaded(tables.shapes(inputs)),
            len(inputs["template_first"]) - 1,
            self._uploaded(tables.parts(inputs)),
            self._uploaded(inputs["literal"]),
            self._uploaded(tables.spans(inputs["text_first"])),
            len(inputs["text_first"]) - 1,
            self._uploaded(inputs["text"]),
        )
        offsets = self._empty(length + 1, np.uint32)
        steps = self._launcher.expand(given, self._empty(16, np.uint8), offsets, _NO_ROOM)
        steps.enqueue(self._stream, steps.count)
        sized = self._sized()
        if int(sized[PROBLEM]) != NO_PROBLEM:
            raise ValueError(_problem(inputs, int(sized[PROBLEM])))
        total = int(sized[TOTAL])
        most = min(int(inputs["bytes_max"][0]) if "bytes_max" in inputs else 0xFFFFFFFF, 0xFFFFFFFF)
        if total > most:
            raise ValueError(f"the expansion has {total} bytes, above {most}")
        written = self._empty(total, np.uint8)
        steps = self._launcher.expand(given, written, offsets, total)
        steps.enqueue(self._stream, steps.write)
        return {"bytes": self._read(written, total), "offset": self._read(offsets, length + 1)}

    def _transform(self, inputs: Arrays) -> Arrays:
        forest = tables.preorder(inputs)
        nodes, roots = len(forest["type"]), len(forest["roots"])
        cut, capacity = tables.tiles(forest["roots"], nodes, tile_nodes(nodes, self._device))
        if capacity > tables.TILE_NODES_MAX or (
            writing_bytes(capacity) > self._device.shared_bytes_max
        ):
            raise ValueError(f"roots: a tree of {capacity} nodes is more than a block can hold")
        trees = Trees(
            self._uploaded(tables.records(forest)),
            self._uploaded(cut),
            len(cut) // 2 - 1,
            capacity,
            self._uploaded(forest["roots"]),
            self._uploaded(self._requests.program("transform", inputs)),
        )
        fates, made_roots = self._empty(nodes, np.uint16), self._empty(roots, np.uint32)
        steps = self._launcher.transform(
            trees, fates, self._empty(4, np.uint32), made_roots, _NO_ROOM
        )
        steps.enqueue(self._stream, steps.count)
        sized = self._sized()
        total = int(sized[TOTAL])
        made = self._empty(4 * total, np.uint32)
        steps = self._launcher.transform(trees, fates, made, made_roots, total)
        steps.enqueue(self._stream, steps.write)
        found = tables.forest_of(self._read(made, 4 * total), self._read(made_roots, roots))
        return found | {"rewrites": np.array([sized[REWRITES]], dtype=np.uint64)}


def _problem(inputs: Arrays, instance: int) -> str:
    """What is wrong with an instance of which the kernel found that something is."""
    template = int(inputs["template"][instance])
    templates, texts = len(inputs["template_first"]) - 1, len(inputs["text_first"]) - 1
    if template >= templates:
        return f"instance {instance}: there is no template {template}"
    own = slice(*inputs["template_first"][template : template + 2].tolist())
    bound = inputs["binding"].reshape(-1, VARIABLES)[instance].tolist()
    used = sorted(set(inputs["part_variable"][own].tolist()) & set(range(VARIABLES)))
    variable = next(each for each in used if bound[each] >= texts)
    if bound[variable] != UNBOUND:
        text = bound[variable]
        return (
            f"instance {instance}: variable {variable} is bound to text {text}, which there is not"
        )
    return f"instance {instance}: template {template} uses variable {variable}, which is unbound"
