"""Follows the kernels' way through nodes and the index of patterns, to count what they read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from swarmbench.components.base import Arrays
from swarmbench.components.cuda import synthesis_tables as tables

#: As in `kernels/synthesis_patterns.cuh`.
_CLASSES, _BY_FIRST = 8, 1
#: The words of a record.
_VALUE, _FIRST, _NEXT, _TOKEN = range(4)
_ODD = (
    0x9E3779B97F4A7C15,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0xD6E8FEB86659FD93,
    0xA0761D6478BD642F,
)
_MASK64 = (1 << 64) - 1


@dataclass(slots=True)
class Touched:
    """Words of the nodes' records and of the program, places that passed the first look, nodes
    that were compared with a pattern's, and patterns that match somewhere."""

    fields: set[int] = field(default_factory=set)
    words: set[int] = field(default_factory=set)
    places: int = 0
    compared: int = 0
    found: set[int] = field(default_factory=set)

    def add(self, other: Touched) -> None:
        """What the other read too."""
        self.fields |= other.fields
        self.words |= other.words
        self.places += other.places
        self.compared += other.compared
        self.found |= other.found


class Walk:
    """Nodes of a forest and a program of patterns, as `Requests` puts them on a device."""

    def __init__(self, forest: Arrays, program: tables.Words) -> None:
        rows = tables.records(forest).reshape(-1, 4).tolist()
        self._nodes: list[list[int]] = rows
        self._program: list[int] = program.tolist()
        header = self._program[:16]
        self._first, self._rows, self._listed, self._places, self._cells = header[:5]
        self._shapes, self._values, self._slots, self._probes, self._kinds = header[5:10]
        self._touched = Touched()

    def many(self, length: int) -> tuple[Touched, Touched]:
        """What the two launches of `match_many` read for the first nodes."""
        counted, written = Touched(), Touched()
        for number in range(length):
            value, _, _, token = self._nodes[number]
            kind, count = token & 0xFF, min(token >> 8 & 0xFF, _CLASSES - 1)
            shape = self._program[self._shapes + kind] >> count
            kinds = shape & self._program[self._values + (value & 0xFF)] >> (value >> 8 & 7)
            if kinds & 0x01010101 == 0:
                continue
            fields = {4 * number + _VALUE, 4 * number + _FIRST, 4 * number + _TOKEN}
            self._touched = Touched(fields, places=1)
            for kind_of_root in range(4):
                if kinds >> 8 * kind_of_root & 1:
                    self._look(number, kind_of_root)
            counted.add(self._touched)
            if self._touched.found:
                written.add(self._touched)
        return counted, written

    def few(self, first_look: tables.Words, length: int) -> tuple[Touched, Touched]:
        """The same of `match_few`, by the tables of its first look."""
        bits = first_look.tolist()
        counted, written = Touched(), Touched()
        for number in range(length):
            value, _, _, token = self._nodes[number]
            left = bits[token & 0xFF] & bits[256 + (token >> 8 & 0xFF)] & bits[512 + (value & 0xFF)]
            if left == 0:
                continue
            self._touched = Touched(places=1)
            is_found = left & bits[768] != 0
            for pattern in range(32):
                if left & ~bits[768] & 1 << pattern:
                    is_found |= self._fits(pattern, number)
            counted.add(self._touched)
            if is_found:
                written.add(self._touched)
        return counted, written

    def _word(self, at: int) -> int:
        self._touched.words.add(at)
        return self._program[at]

    def _field(self, number: int, place: int) -> int:
        self._touched.fields.add(4 * number + place)
        return self._nodes[number][place]

    def _listed_from(self, start: int, end: int) -> Iterator[int]:
        return (self._word(self._listed + at) for at in range(start, end))

    def _look(self, number: int, kind: int) -> None:
        """Looks for the patterns of a kind of roots that match at a node."""
        token = self._nodes[number][3]
        row = self._word(self._rows + 256 * kind + (token & 0xFF))
        count = min(token >> 8 & 0xFF, _CLASSES - 1)
        cell = self._cells + 8 * (row * _CLASSES + count)
        certain, certain_end, linear, linear_end, probe, probe_end = (
            self._word(cell + at) for at in range(6)
        )
        self._touched.found.update(self._listed_from(certain, certain_end))
        self._compare(number, linear, linear_end)
        for table in range(probe, probe_end):
            fields, shift, slots = (self._word(self._probes + 4 * table + at) for at in range(3))
            slot = self._slots + 2 * (slots + (self._key(number, fields) >> shift))
            self._compare(number, self._word(slot), self._word(slot + 1))

    def _compare(self, number: int, start: int, end: int) -> None:
        listed = self._listed_from(start, end)
        self._touched.found.update(each for each in listed if self._fits(each, number))

    def _key(self, number: int, fields: int) -> int:
        tokens = [self._field(number, _VALUE) if fields & 1 else 0, 0, 0, 0, 0]
        for at, is_asked in enumerate((fields & (2 | 4 | 8 | 16), fields & (4 | 16)), 1):
            if is_asked:
                number = self._field(number, _FIRST if at == 1 else _NEXT)
                tokens[at] = self._field(number, _TOKEN) & 0xFF if fields >> at & 1 else 0
                tokens[at + 2] = self._field(number, _VALUE) if fields >> at + 2 & 1 else 0
        total = sum(token * odd for token, odd in zip(tokens, _ODD, strict=True)) & _MASK64
        return (total ^ total >> 32) * _ODD[0] & _MASK64

    def _fits(self, pattern: int, number: int) -> bool:
        at, end = self._word(self._first + pattern), self._word(self._first + pattern + 1)
        path = [number, number, number]
        for place in range(self._places + 4 * at, self._places + 4 * end, 4):
            self._touched.compared += 1
            how = self._word(place + 3)
            level = how >> 8 & 0xFF
            if place > self._places + 4 * at:
                is_first = how & 0xFF == _BY_FIRST
                path[level] = self._field(path[level - is_first], _FIRST if is_first else _NEXT)
            # Places and records come whole, whatever decides; a root's next one is of no use.
            value, mask, tokens = (self._word(place + at) for at in range(3))
            node = path[level]
            fields = (_VALUE, _FIRST, _NEXT, _TOKEN) if node != number else (_VALUE, _FIRST, _TOKEN)
            hashed, *_, token = (self._field(node, each) for each in fields)
            if (token ^ tokens) & tokens >> 16 or (hashed ^ value) & mask:
                return False
        return True
