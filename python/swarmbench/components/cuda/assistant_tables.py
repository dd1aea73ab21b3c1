"""What the assistant's kernels read: the grammar as one structure, texts and truths as records."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from swarmbench.components import intents
from swarmbench.components.base import Arrays
from swarmbench.components.utterances import grammar

Array = npt.NDArray[Any]

#: Bytes of a text's record and 16-bit words of an answer's, as `assistant_text.cuh` has them.
TEXT_BYTES, ANSWER_WORDS = 256, 16
KINDS, FEATURES_MAX = 15, intents.FEATURES_MAX
_KNOWN, _UNIT = 256, 254
_PATTERNS = ("number", "percent", "version", "duration", "time", "node", "agent", "ticket")
_KNOWN_ENTRY = np.dtype(
    [("hash", "<u4"), ("kind", "u1"), ("length", "u1"), ("text", "u1", 26)], align=True
)
_NAME = np.dtype([("length", "u1"), ("text", "u1", 15)])
_FRAME = np.dtype([("length", "u1"), ("slots", "u1"), ("kinds", "u1", 14), ("command", "u1", 48)])
_GRAMMAR = np.dtype(
    [
        ("known", _KNOWN_ENTRY, _KNOWN),
        ("patterns", "u1", len(_PATTERNS)),
        ("classes", "<u4"),
        ("unused", "<u4"),
        ("accepts", "<u2", intents.LANES),
        ("names", _NAME, 16),
        ("frames", _FRAME, intents.LANES),
    ]
)
GRAMMAR_BYTES = _GRAMMAR.itemsize


def _put(row: Any, field: str, text: bytes) -> None:
    assert len(text) <= row[field].shape[0], f"`{text.decode()}` is too long"
    row["length"] = len(text)
    row[field][: len(text)] = np.frombuffer(text, np.uint8)


def _index(known: Any) -> None:
    """Values and units in an open-addressing table; no two of them have one hash."""
    tables = grammar()
    entries = [(text, kind) for kind, texts in enumerate(tables.values) for text in texts]
    entries += [(unit, _UNIT) for unit in tables.units]
    hashes = [intents.fnv1a(text) for text, _ in entries]
    assert len(set(hashes)) == len(entries) <= _KNOWN // 2
    for (text, kind), hashed in zip(entries, hashes, strict=True):
        place = hashed % _KNOWN
        while known[place]["length"]:
            place = (place + 1) % _KNOWN
        known[place]["hash"], known[place]["kind"] = hashed, kind
        _put(known[place], "text", text)


@cache
def packed_grammar() -> npt.NDArray[np.uint8]:
    """The structure `Grammar` of `assistant_text.cuh`, as bytes."""
    tables, packed = grammar(), np.zeros(1, _GRAMMAR)
    row = packed[0]
    assert len(tables.kinds) == KINDS
    _index(row["known"])
    row["patterns"] = [tables.kind(name) for name in _PATTERNS]
    row["classes"] = intents.classes()
    for kind, name in enumerate(tables.kinds):
        _put(row["names"][kind], "text", name.encode("ascii"))
    for label, frame in enumerate(tables.intents, 1):
        row["accepts"][label] = sum(1 << kind for kind in frame.slots)
        row["frames"][label]["slots"] = len(frame.slots)
        row["frames"][label]["kinds"][: len(frame.slots)] = frame.slots
        _put(row["frames"][label], "command", frame.command)
    return packed.view(np.uint8)


def records(texts: Sequence[bytes]) -> npt.NDArray[np.uint8]:
    """Texts, cut off at 255 bytes, as records of `TEXT_BYTES`."""
    made = np.zeros((len(texts), TEXT_BYTES), np.uint8)
    for row, text in zip(made, texts, strict=True):
        kept = text[: intents.TEXT_MAX]
        row[: len(kept)] = np.frombuffer(kept, np.uint8)
        row[-1] = len(kept)
    return made.reshape(-1)


def truths(slots: Array, labels: Array) -> npt.NDArray[np.uint16]:
    """Slots, shape (n, `KINDS`, 2), and labels as the answers of a parse."""
    made = np.zeros((len(labels), ANSWER_WORDS), np.uint16)
    made[:, :KINDS] = slots[..., 0] | slots[..., 1].astype(np.uint16) << 8
    made[:, KINDS] = labels
    return made.reshape(-1)


def understood(answers: Array) -> Arrays:
    """Answers of a parse as `label` and `slots`."""
    rows = answers.reshape(-1, ANSWER_WORDS)
    slots = np.stack([rows[:, :KINDS] & 0xFF, rows[:, :KINDS] >> 8], axis=-1)
    return {"label": rows[:, KINDS].astype(np.uint8), "slots": slots.astype(np.uint8).reshape(-1)}


def accepted(answer: Array, label: int) -> npt.NDArray[np.uint16]:
    """An answer with the slots that the intent of `label` takes, and that label."""
    kept = np.zeros(ANSWER_WORDS, np.uint16)
    slots = list(grammar().intents[label - 1].slots)
    kept[slots] = answer[slots]
    kept[KINDS] = label
    return kept


def texts_of(inputs: Arrays) -> list[bytes]:
    """The texts of an input: one, or those that end where `ends` says."""
    whole = inputs["text"].tobytes()
    ends = inputs.get("ends", np.array([len(whole)]))
    starts = np.concatenate([[0], ends[:-1]]).tolist()
    return [whole[start:end] for start, end in zip(starts, ends.tolist(), strict=True)]


def table_bytes(text: bytes) -> int:
    """Bytes of the grammar that reading a text takes, with no probe behind the first counted."""
    words = len(intents.words_of(text))
    return 4 + 5 * words
