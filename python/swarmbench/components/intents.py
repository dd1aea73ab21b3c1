"""Parsing utterances in plain Python and NumPy: tokens, entities, features, a linear classifier.

One-against-all linear classifiers over hashed features, trained by stochastic gradient steps of the
hinge loss (Shalev-Shwartz et al., "Pegasos", ICML 2007, here without its regulariser; the hashing
of Weinberger et al., ICML 2009), in integers: the same weights on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from swarmbench.components.utterances import (
    UNKNOWN,
    command,
    example,
    grammar,
    kinds_of,
    utterances,
)

Weights = npt.NDArray[np.int16]
Features = npt.NDArray[np.int64]
Scores = npt.NDArray[np.int64]
Slots = npt.NDArray[np.uint8]

#: Classes, padded to a power of two: unknown, the intents, and lanes that are never used.
LANES = 32
BUCKET_BITS = 14
BUCKETS = 1 << BUCKET_BITS
#: The sum of so many weights of at most so much fits in 16 bits.
FEATURES_MAX, WEIGHT_MAX = 200, 160
MARGIN = 128
#: Utterances that training sees, and the step of each pass over them; passes over the commands.
EXAMPLES = 1 << 14
STEPS = (2, 1)
COMMAND_PASSES = 64
FEEDBACK_STEP = 1
#: Bytes of a text that are parsed.
TEXT_MAX = 255

_SEPARATORS = b"\0 ,!?;()\"'"
_WORD = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Token:
    """A word or an entity: where it is, its kind (None: a plain word) and its hash."""

    start: int
    length: int
    kind: int | None
    hash: int


def fnv1a(text: bytes) -> int:
    """32-bit FNV-1a."""
    value = 0x811C9DC5
    for byte in text:
        value = ((value ^ byte) * 0x01000193) & _WORD
    return value


def words_of(text: bytes) -> list[tuple[int, bytes]]:
    """(start, word) of every word, in lower case, without full stops and colons at its end."""
    words, start = [], 0
    lower = text[:TEXT_MAX].lower()
    for at, byte in enumerate(lower + b" "):
        if byte in _SEPARATORS:
            word = lower[start:at].rstrip(b".:")
            if word:
                words.append((start, word))
            start = at + 1
    return words


@lru_cache(maxsize=1)
def _gazetteer() -> dict[bytes, int]:
    return {value: kind for kind, texts in enumerate(grammar().values) for value in texts}


def kind_of(word: bytes) -> int | None:
    """The kind of entity that a single word is."""
    known = _gazetteer().get(word)
    if known is not None:
        return known
    kind = grammar().kind
    for prefix, name in ((b"node-", "node"), (b"agent-", "agent"), (b"inc-", "ticket")):
        if word.startswith(prefix) and word[len(prefix) :].isdigit():
            return kind(name)
    if word.isdigit():
        return kind("number")
    if word[-1:] == b"%" and word[:-1].isdigit():
        return kind("percent")
    if word[:1] == b"v" and word[1:2].isdigit() and word[1:].replace(b".", b"").isdigit():
        return kind("version")
    hours, colon, minutes = word.partition(b":")
    if colon and len(hours) <= 2 and len(minutes) == 2 and (hours + minutes).isdigit() and hours:
        return kind("time")
    return None


def tokens_of(text: bytes) -> list[Token]:
    """Words and entities; a number and a unit of time behind it are one entity."""
    words, tokens, at = words_of(text), list[Token](), 0
    number, duration = grammar().kind("number"), grammar().kind("duration")
    while at < len(words):
        start, word = words[at]
        length, kind = len(word), kind_of(word)
        if kind == number and at + 1 < len(words) and words[at + 1][1] in grammar().units:
            at += 1
            kind, length = duration, words[at][0] + len(words[at][1]) - start
        hashed = fnv1a(word) if kind is None else 0xE0000000 + kind
        tokens.append(Token(start, length, kind, hashed))
        at += 1
    return tokens


def bucket(hashed: int) -> int:
    """The bucket of a hash, by multiplication (Knuth, TAOCP 3, 6.4)."""
    return ((hashed * 0x9E3779B1) & _WORD) >> (32 - BUCKET_BITS)


def features_of(text: bytes, tokens: list[Token]) -> Features:
    """Buckets of all words, pairs of neighbours, and three letters in a row of plain words."""
    lower, buckets, before = text.lower(), list[int](), 0
    for token in tokens:
        buckets.append(bucket(token.hash))
        pair = ((before << 5 | before >> 27) & _WORD) ^ token.hash
        buckets.append(bucket(pair))
        before = token.hash
        if token.kind is None:
            word = b"^" + lower[token.start : token.start + token.length] + b"$"
            for a, b, c in zip(word, word[1:], word[2:], strict=False):
                buckets.append(bucket((a << 16 | b << 8 | c) ^ 0x5BD1E995))
    return np.array(buckets[:FEATURES_MAX], dtype=np.int64)


def scores_of(weights: Weights, features: Features) -> Scores:
    """The score of every class."""
    scores: Scores = weights[features].sum(axis=0, dtype=np.int64)
    return scores


def classes() -> int:
    """Unknown and the intents."""
    return 1 + len(grammar().intents)


def decided(scores: Scores) -> int:
    """The class of the largest score, the first of equals."""
    return int(np.argmax(scores[: classes()]))


def step(weights: Weights, features: Features, label: int, size: int) -> Scores:
    """One gradient step of the hinge loss of every class, in place; returns the scores before."""
    scores = scores_of(weights, features)
    signs = np.where(np.arange(LANES) == label, 1, -1)
    wrong = (signs * scores < MARGIN) & (np.arange(LANES) < classes())
    if wrong.any():
        buckets, times = np.unique(features, return_counts=True)
        rows = weights[buckets] + times[:, None] * (signs * wrong * size)
        weights[buckets] = np.clip(rows, -WEIGHT_MAX, WEIGHT_MAX)
    return scores


def _command_examples() -> list[tuple[Features, int]]:
    """The features of the command of every tail, which values do not change, and its label."""
    found = []
    for label, frame in enumerate(grammar().intents, 1):
        for tail in frame.tails:
            text = command(label, {kind: example(kind) for kind in kinds_of(tail)})
            found.append((features_of(text, tokens_of(text)), label))
    return found


@lru_cache(maxsize=2)
def trained(seed: int) -> Weights:
    """The weights after training, shape (`BUCKETS`, `LANES`)."""
    weights: Weights = np.zeros((BUCKETS, LANES), dtype=np.int16)
    examples = [
        (features_of(each.text, tokens_of(each.text)), each.label)
        for each in utterances("train", seed, 0, EXAMPLES)
    ]
    for size in STEPS:
        for features, label in examples:
            step(weights, features, label, size)
    commands = _command_examples()
    for _ in range(COMMAND_PASSES):
        before = weights.copy()
        for features, label in commands:
            step(weights, features, label, 1)
        if np.array_equal(before, weights):
            break
    weights.flags.writeable = False
    return weights


def parse(weights: Weights, text: bytes) -> tuple[int, Slots]:
    """The label of a text, and (start, length) of the first value of each kind that its intent
    takes, shape (kinds, 2)."""
    tokens = tokens_of(text)
    label = decided(scores_of(weights, features_of(text, tokens)))
    return label, slots_of(tokens, label)


def slots_of(tokens: list[Token], label: int) -> Slots:
    """The first value of each kind that the intent of `label` takes."""
    slots: Slots = np.zeros((len(grammar().kinds), 2), dtype=np.uint8)
    accepted = () if label == UNKNOWN else grammar().intents[label - 1].slots
    for token in reversed(tokens):
        if token.kind is not None and token.kind in accepted:
            slots[token.kind] = token.start, token.length
    return slots


def checksum(weights: Weights) -> int:
    """A digest of all weights, the same as the native one: exact in 64 bits."""
    flat = weights.reshape(-1).astype(np.int64)
    places = np.arange(1, len(flat) + 1, dtype=np.int64)
    return int((flat * places).sum()) & ((1 << 64) - 1)
