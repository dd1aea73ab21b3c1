"""What the synthesis kernels must move, from the inputs of a request: different bytes per launch.

What grows with a request is summed over its first nodes or trees and scaled up; of the tables that
all share, those bytes count that the sample leads to.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from swarmbench.components.base import Arrays
from swarmbench.components.cuda import synthesis_tables as tables
from swarmbench.components.cuda.base import Cost
from swarmbench.components.cuda.synthesis_requests import Requests
from swarmbench.components.cuda.synthesis_walk import Walk
from swarmbench.components.synthesis_words import TOKENS, VARIABLES

_SAMPLE = 1 << 14
_TEXT_SAMPLE = 1 << 18
#: What is read of a pair's slot, number, start and demands, and of the text there.
_OCCURRENCE_BYTES = 64
#: Bytes of a pattern that are compared where its first four are those of the text.
_ALIKE_BYTES = 6
#: Of a rule its start, its replacement and its items, of which few are read.
_RULE_BYTES = 64


def cost_of(requests: Requests, index: int, op: str, grid: int) -> Cost:
    """What both launches of an operation move; a number for each block is added up between them."""
    costs: dict[str, Callable[[Requests, int], Cost]] = {
        "match": _match,
        "expand": _expand,
        "transform": _transform,
        "template_compare": _compare,
        "byte_match": _match_bytes,
    }
    return costs[op](requests, index) + Cost(16 * grid + 16, 8 * grid + 16)


def _match(requests: Requests, index: int) -> Cost:
    component, inputs = requests.component, requests.inputs("match", index)
    nodes = component.nodes
    walk = Walk(inputs, requests.program("match", inputs))
    sample = min(nodes, _SAMPLE)
    if component.patterns <= tables.FEW_PATTERNS_MAX:
        shared = 4 * tables.FEW_TABLES_WORDS
        counted, written = walk.few(tables.few_tables(inputs), sample)
    else:
        shared = 4 * 2 * 256
        counted, written = walk.many(sample)
    kept, scale = -(-nodes // 32) * 4, nodes / sample
    pairs = requests.expected["match", index].total
    read = 4 * nodes + kept + 2 * shared
    for touched in (counted, written):
        read += int(4 * len(touched.fields) * scale) + 4 * len(touched.words)
    # Who passes the first look is looked at again; to write the pairs, twice more.
    looked_at = counted.places + counted.compared + 2 * (written.places + written.compared)
    return Cost(
        read + int(4 * written.places * scale),
        kept + 8 * pairs,
        comparisons=nodes + int(looked_at * scale),
    )


def _transform(requests: Requests, index: int) -> Cost:
    nodes, made = requests.component.nodes, requests.expected["transform", index].total
    roots, cut = requests.buffers["roots"].nbytes, 4 * requests.used["tiles"]
    inputs = requests.inputs("transform", index)
    sample = min(nodes, _SAMPLE)
    touched, _ = Walk(inputs, requests.program("transform", inputs)).many(sample)
    rules = 4 * len(touched.words) + 2 * _RULE_BYTES * len(touched.found)
    read = 2 * 16 * nodes + 2 * nodes + roots + 2 * cut + 4 * 2 * 256 + rules
    compared = nodes + touched.compared * nodes // sample
    return Cost(read, 2 * nodes + 16 * made + roots, comparisons=compared)


def _expand(requests: Requests, index: int) -> Cost:
    """Every instance is looked at: templates and texts are counted once, whoever uses them."""
    inputs = requests.inputs("expand", index)
    instances = len(inputs["template"])
    templates = np.unique(inputs["template"])
    variables = inputs["part_variable"]
    starts, ends = inputs["template_first"][:-1], inputs["template_first"][1:]
    uses = np.stack(
        [
            np.append(0, np.cumsum(variables == each))[ends]
            > np.append(0, np.cumsum(variables == each))[starts]
            for each in range(VARIABLES)
        ],
        axis=1,
    )
    bound = inputs["binding"].reshape(-1, VARIABLES)
    texts = np.unique(bound[uses[inputs["template"]]])
    part_counts = (ends - starts)[templates]
    is_used = np.repeat(np.isin(np.arange(len(starts)), templates), ends - starts)
    literals = int(inputs["part_length"][is_used].sum())
    letters = int(np.diff(inputs["text_first"])[texts].sum())
    measured = 20 * instances + 8 * len(templates) + 4 * len(texts)
    read = 20 * instances + 16 * len(templates) + 8 * len(texts)
    read += 8 * int(part_counts.sum()) + literals + letters
    total = requests.expected["expand", index].total
    return Cost(measured + read, total + 4 * (instances + 1))


def _compare(requests: Requests, index: int) -> Cost:
    """Rows are read until no template of their word is left."""
    inputs = requests.inputs("template_compare", index)
    numbers, rows, words = tables.template_rows(inputs["template_tokens"], inputs["template_flags"])
    count = len(inputs["trees"]) // TOKENS
    trees = inputs["trees"].reshape(-1, TOKENS)[:_SAMPLE]
    table = rows.reshape(-1, words)
    places = 256 * np.arange(TOKENS) + trees
    numbered = numbers[places]
    left, touched, compared = _descend(numbered, table, np.ones(len(trees), dtype=bool))
    found: npt.NDArray[np.bool_] = (left != 0).any(axis=1)
    _, again, compared_again = _descend(numbered, table, found)
    read = 64 * count + 4 * len(np.unique(places)) + 4 * touched
    read += 4 * count + 64 * int(found.sum() * count / len(trees))
    read += 4 * len(np.unique(places[found])) + 4 * again
    pairs = requests.expected["template_compare", index].total
    comparisons = (compared + compared_again) * count // len(trees)
    return Cost(read, 4 * count + 8 * pairs, comparisons=comparisons)


def _descend(
    numbered: npt.NDArray[np.uint32], table: tables.Words, taken: npt.NDArray[np.bool_]
) -> tuple[tables.Words, int, int]:
    """What is left of every word of the trees taken, how many different words of the rows were
    read, and how often any was."""
    numbered = numbered[taken]
    left = np.full((len(numbered), table.shape[1]), 0xFFFFFFFF, dtype=np.uint32)
    touched, times = np.zeros(table.shape, dtype=bool), 0
    for position in range(TOKENS):
        is_open = left != 0
        rows, at = numbered[:, position], np.nonzero(is_open)
        touched[rows[at[0]], at[1]] = True
        times += len(at[0])
        left &= table[rows]
    return left, int(touched.sum()), times


def _match_bytes(requests: Requests, index: int) -> Cost:
    component, inputs = requests.component, requests.inputs("byte_match", index)
    length = component.text_bytes
    program = tables.byte_program(inputs)
    shared = 4 * tables.byte_tables_words(component.byte_patterns) + 32
    kept = -(-length // 32) * 4
    pairs = requests.expected["byte_match", index].total
    read = length + _looked_up(inputs, program) + kept + 2 * shared + _OCCURRENCE_BYTES * pairs
    comparisons = int(_held_against(inputs, program, pairs / length) * length)
    return Cost(read, kept + 8 * pairs, comparisons=comparisons)


def _first_bytes(inputs: Arrays) -> tables.Words:
    """The four bytes from each position of a text on."""
    text = inputs["text"][:_TEXT_SAMPLE]
    words = np.append(text, np.zeros(4, np.uint8)).astype(np.uint32)
    here: tables.Words = words[: len(text)].copy()
    for at in range(1, 4):
        here |= words[at : at + len(text)] << np.uint32(8 * at)
    return here


def _held_against(inputs: Arrays, program: tables.Words, matching: float) -> float:
    """How often a position of a text is held against a family's filter or against a pattern, on
    average; at that share of them there is a match."""
    _, filter_shift, slot_shift, masks, slots_first, _, _, _ = program[:8].tolist()
    windows, families, kinds = tables.byte_windows(inputs)
    slots = tables.byte_hashes(windows, families) >> np.uint32(slot_shift)
    here, bits = _first_bytes(inputs), program[masks + tables.FAMILIES_MAX : slots_first]
    passes, compared = np.zeros(len(here), dtype=bool), 0
    for family, mask in enumerate(kinds):
        keys = tables.byte_hashes(here & mask, np.full(len(here), family, np.uint32))
        bit = keys >> np.uint32(filter_shift)
        is_let_through = bits[bit // 32] >> bit % 32 & 1 != 0
        passes |= is_let_through
        listed = np.bincount(slots[families == family], minlength=1 << 32 - slot_shift)
        compared += int(listed[keys[is_let_through] >> np.uint32(slot_shift)].sum())
    looked_at = len(kinds) * (1.0 + float(passes.mean()) + 2 * matching)
    return looked_at + compared / len(here) + 2 * matching


def _looked_up(inputs: Arrays, program: tables.Words) -> int:
    """Bytes of slots, numbers, starts and demands that the positions of a text lead to."""
    _, filter_shift, slot_shift, masks, slots_first, _, _, _ = program[:8].tolist()
    windows, families, kinds = tables.byte_windows(inputs)
    hashes = tables.byte_hashes(windows, families)
    here = _first_bytes(inputs)
    bits = program[masks + tables.FAMILIES_MAX : slots_first]
    slots = hashes >> np.uint32(slot_shift)
    seen = np.zeros((1 << 32 - slot_shift) + 1, dtype=bool)
    is_compared, is_alike = np.zeros((2, len(windows)), dtype=bool)
    for family, mask in enumerate(kinds):
        keys = tables.byte_hashes(np.unique(here & mask), np.full(1, family, np.uint32))
        bit = keys >> np.uint32(filter_shift)
        keys = keys[bits[bit // 32] >> bit % 32 & 1 != 0]
        reached = np.unique(keys >> np.uint32(slot_shift))
        seen[reached] = True
        is_compared |= (families == family) & np.isin(slots, reached)
        is_alike |= (families == family) & np.isin(hashes, keys)
    starts = np.count_nonzero(seen | np.append(False, seen[:-1]))
    listed = np.count_nonzero(seen[slots])
    patterns = np.count_nonzero(is_compared | np.append(False, is_compared[:-1]))
    lengths = np.diff(inputs["pattern_first"])
    demands = 2 * int(np.minimum(lengths, _ALIKE_BYTES)[is_alike].sum())
    return int(4 * (starts + listed + patterns) + demands + 2 * np.count_nonzero(is_compared))
