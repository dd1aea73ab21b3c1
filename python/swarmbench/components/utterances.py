"""Utterances of the `assistant`: drawn from a seeded grammar, with their intents and slots."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np

from swarmbench.components.philox import philox, stream_key

Split = Literal["train", "held_out"]

#: The label of what is none of the intents; intent i of the grammar has the label i + 1.
UNKNOWN = 0
LENGTH_MIN, LENGTH_MAX = 20, 120
#: Tails of each head, and topics of each four, that training never sees.
HELD_TAILS, TOPIC_STRIDE = 2, 4
#: One utterance in so many is about something else.
UNKNOWN_ONE_IN = 6
DRAWS = 32
DOMAIN_SPLIT, DOMAIN_TRAIN, DOMAIN_HELD_OUT = 0xA551_0001, 0xA551_0002, 0xA551_0003

_LITERAL = -1
_PADDING = b" as soon as possible"
_PLACE = re.compile(rb"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Frame:
    """An intent or a topic: every head goes with every tail."""

    heads: tuple[bytes, ...]
    tails: tuple[bytes, ...]
    name: str = "unknown"
    command: bytes = b""
    #: Kinds of the slots that it takes, in the order in which a command names them.
    slots: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Grammar:
    """The tables of `assistant_grammar.json`, which the native backend reads too."""

    kinds: tuple[str, ...]
    values: tuple[tuple[bytes, ...], ...]
    units: tuple[bytes, ...]
    openings: tuple[bytes, ...]
    closings: tuple[bytes, ...]
    intents: tuple[Frame, ...]
    topics: tuple[Frame, ...]

    def kind(self, name: str) -> int:
        """The number of a kind of slot."""
        return self.kinds.index(name)

    def templates(self) -> int:
        """Pairs of head and tail, over all intents and topics."""
        return sum(len(each.heads) * len(each.tails) for each in self.intents + self.topics)


@dataclass(frozen=True, slots=True)
class Utterance:
    """Text, its label, and (start, length) in bytes of each slot by its kind."""

    text: bytes
    label: int
    slots: dict[int, tuple[int, int]]


def _texts(lines: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(line.encode("ascii") for line in lines)


@cache
def grammar() -> Grammar:
    """The grammar, read once."""
    path = files("swarmbench.components").joinpath("assistant_grammar.json")
    tables: dict[str, Any] = json.loads(path.read_text(encoding="ascii"))
    kinds = tuple(tables["kinds"])
    intents = tuple(
        Frame(
            _texts(each["heads"]),
            _texts(each["tails"]),
            each["name"],
            each["command"].encode("ascii"),
            tuple(map(kinds.index, each["slots"])),
        )
        for each in tables["intents"]
    )
    return Grammar(
        kinds=kinds,
        values=tuple(_texts(tables["values"].get(kind, ())) for kind in kinds),
        units=_texts(tables["units"]),
        openings=_texts(tables["openings"]),
        closings=_texts(tables["closings"]),
        intents=intents,
        topics=tuple(
            Frame(_texts(each["heads"]), _texts(each["tails"])) for each in tables["topics"]
        ),
    )


class Draws:
    """The draws of one stream, read one after the other as `Stream::next_below` does."""

    def __init__(self, words: Sequence[int]) -> None:
        self._words = words
        self._next = 0

    def below(self, bound: int) -> int:
        """Uniform in [0, bound)."""
        word = self._words[self._next]
        self._next += 1
        return (word * bound) >> 64

    def choice(self, texts: Sequence[bytes]) -> bytes:
        """One of some texts."""
        return texts[self.below(len(texts))]


def streams(key: tuple[int, int], first: int, count: int) -> list[Draws]:
    """The streams (`key`, high) for `count` values of high from `first` on, `DRAWS` draws each."""
    counters = np.empty((count, DRAWS // 2, 4), dtype=np.uint32)
    highs = np.arange(first, first + count, dtype=np.uint64)[:, None]
    counters[..., 0] = np.arange(DRAWS // 2, dtype=np.uint32)
    counters[..., 1] = 0
    counters[..., 2] = highs & np.uint64(0xFFFFFFFF)
    counters[..., 3] = highs >> np.uint64(32)
    words = philox(counters.reshape(-1, 4), key).astype(np.uint64).reshape(count, DRAWS, 2)
    draws = words[..., 0] | words[..., 1] << np.uint64(32)
    return [Draws(row) for row in draws.tolist()]


def split_shift(seed: int) -> int:
    """What decides which templates are held out: the same for all frames of a seed."""
    (draws,) = streams(stream_key(seed, DOMAIN_SPLIT), 0, 1)
    return draws.below(1 << 16)


def held_topics(shift: int) -> list[int]:
    """The topics that training never sees."""
    return [t for t in range(len(grammar().topics)) if (t + shift) % TOPIC_STRIDE == 0]


def tail_of(intent: int, head: int, rank: int, tails: int, shift: int) -> int:
    """The tail of a rank for a head; ranks below `HELD_TAILS` are held out."""
    return (rank + 3 * head + intent + shift) % tails


def _value(kind: int, draws: Draws) -> bytes:
    tables = grammar()
    name, below = tables.kinds[kind], draws.below
    if tables.values[kind]:
        return draws.choice(tables.values[kind])
    if name == "number":
        return b"%d" % (2 + below(98))
    if name == "percent":
        return b"%d%%" % (1 + below(99))
    if name == "version":
        return b"v%d.%d.%d" % (below(10), below(20), below(10))
    if name == "duration":
        return b"%d %s" % (2 + below(58), draws.choice(tables.units))
    if name == "time":
        return b"%02d:%02d" % (below(24), below(60))
    if name == "node":
        return b"node-%d" % (1 + below(999))
    if name == "agent":
        return b"agent-%d" % (1 + below(9999))
    return b"INC-%d" % (1000 + below(9000))


def _template(split: Split, shift: int, draws: Draws) -> tuple[int, bytes, bytes]:
    """Label, head and tail."""
    tables = grammar()
    if draws.below(UNKNOWN_ONE_IN) == 0:
        held = held_topics(shift)
        train = [t for t in range(len(tables.topics)) if t not in held]
        chosen = held if split == "held_out" else train
        topic = tables.topics[chosen[draws.below(len(chosen))]]
        return UNKNOWN, draws.choice(topic.heads), draws.choice(topic.tails)
    intent = draws.below(len(tables.intents))
    frame = tables.intents[intent]
    head = draws.below(len(frame.heads))
    if split == "held_out":
        rank = draws.below(HELD_TAILS)
    else:
        rank = HELD_TAILS + draws.below(len(frame.tails) - HELD_TAILS)
    tail = tail_of(intent, head, rank, len(frame.tails), shift)
    return intent + 1, frame.heads[head], frame.tails[tail]


def _filled(tail: bytes, draws: Draws) -> tuple[bytearray, list[int], list[int]]:
    """The tail with values: bytes, the slot that owns each of them, the slots' kinds."""
    text, owners, kinds, at = bytearray(), list[int](), list[int](), 0
    for place in _PLACE.finditer(tail):
        text += tail[at : place.start()]
        owners += [_LITERAL] * (place.start() - at)
        kind = grammar().kind(place[1].decode())
        value = _value(kind, draws)
        text += value
        owners += [len(kinds)] * len(value)
        kinds.append(kind)
        at = place.end()
    return text + tail[at:], owners + [_LITERAL] * (len(tail) - at), kinds


def _is_letter(byte: int) -> bool:
    return 97 <= byte | 32 <= 122


def _mistype(text: bytearray, owners: list[int], draws: Draws) -> None:
    """One typing error inside a word that is no value: swapped, left out, doubled or wrong."""
    places = [
        at
        for at in range(1, len(text) - 1)
        if 97 <= text[at] <= 122
        and owners[at - 1] == owners[at] == owners[at + 1] == _LITERAL
        and _is_letter(text[at - 1])
        and _is_letter(text[at + 1])
    ]
    at, error, letter = places[draws.below(len(places))], draws.below(4), 97 + draws.below(26)
    if error == 0:
        text[at], text[at + 1] = text[at + 1], text[at]
    elif error == 1:
        del text[at], owners[at]
    elif error == 2:
        text.insert(at, text[at])
        owners.insert(at, _LITERAL)
    else:
        text[at] = letter


def drawn(split: Split, shift: int, draws: Draws) -> Utterance:
    """One utterance of 20 to 120 bytes: held-out ones have one or two typing errors each, those
    for training none to two."""
    tables = grammar()
    label, head, tail = _template(split, shift, draws)
    opening, closing = draws.choice(tables.openings), draws.choice(tables.closings)
    body, body_owners, kinds = _filled(tail, draws)
    core = len(head) + 1 + len(body)
    # Three bytes are kept for a full stop and two doubled letters, two for letters left out.
    if len(opening) + core + len(closing) > LENGTH_MAX - 3:
        closing = b""
    if len(opening) + core + len(closing) > LENGTH_MAX - 3:
        opening = b""
    if len(opening) + core + len(closing) < LENGTH_MIN + 2:
        closing += _PADDING
    front = opening + head + b" "
    text = bytearray(front) + body + closing
    owners = [_LITERAL] * len(front) + body_owners + [_LITERAL] * len(closing)
    if draws.below(2) == 0:
        text[0] &= ~32
    end = (b"", b".", b"?")[draws.below(3)]
    text += end
    owners += [_LITERAL] * len(end)
    errors = 1 + draws.below(2) if split == "held_out" else draws.below(3)
    for _ in range(errors):
        _mistype(text, owners, draws)
    slots = {kind: (owners.index(slot), owners.count(slot)) for slot, kind in enumerate(kinds)}
    return Utterance(bytes(text), label, slots)


def utterances(split: Split, seed: int, first: int, count: int) -> list[Utterance]:
    """Utterances number `first` to `first + count` of a split."""
    domain = DOMAIN_TRAIN if split == "train" else DOMAIN_HELD_OUT
    shift = split_shift(seed)
    return [drawn(split, shift, draws) for draws in streams(stream_key(seed, domain), first, count)]


#: Some value of every kind that is recognised by its form.
_EXAMPLES = {
    "number": b"7",
    "percent": b"25%",
    "version": b"v1.2.3",
    "duration": b"5 minutes",
    "time": b"10:20",
    "node": b"node-1",
    "agent": b"agent-1",
    "ticket": b"INC-1000",
}


def kinds_of(tail: bytes) -> list[int]:
    """Kinds of the values in a tail."""
    return [grammar().kind(name.decode()) for name in _PLACE.findall(tail)]


def example(kind: int) -> bytes:
    """Some value of a kind."""
    values = grammar().values[kind]
    return values[0] if values else _EXAMPLES[grammar().kinds[kind]]


def command(label: int, values: Mapping[int, bytes]) -> bytes:
    """The sentence for an intent and the values of some kinds, which is parsed back to them."""
    frame = grammar().intents[label - 1]
    named = [
        grammar().kinds[kind].encode("ascii") + b" " + values[kind]
        for kind in frame.slots
        if kind in values
    ]
    return frame.command + (b" with " + b", ".join(named) if named else b"")
