"""The `assistant` component: utterances parsed, commands and tokens generated, feedback learned."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar, Self

import numpy as np
from pydantic import Field

from swarmbench import _native
from swarmbench.components import decoder, intents
from swarmbench.components.base import Arrays, Component, Op, Question
from swarmbench.components.decoder import BEGIN, PROMPT_MAX, SHAPES, Model
from swarmbench.components.utterances import (
    UNKNOWN,
    Utterance,
    command,
    utterances,
)

_UTTERANCES_MIN, _FEEDBACK_MIN = 64, 1
#: Answers of a batch that are said in step, and what a worker keeps of each one of it: command,
#: prompt and tokens (`assistant/chorus.rs`).
_TOGETHER, _ANSWER_BYTES = 8, 676
#: Bytes of an utterance in the pool, and of its number among those with an intent.
_POOLED_BYTES = 152 + 4
_FEEDBACK_BYTES, _ROW_BYTES = 16, 2 * intents.LANES
_WEIGHTS_BYTES = intents.BUCKETS * _ROW_BYTES
#: Features of the examples while the classifier is trained, with what a growing array keeps.
_TRAINING_BYTES = intents.EXAMPLES * (2 * 128 + 2 * 16)
#: Features of an utterance, and tokens of a prompt, in the mean over held-out templates.
_FEATURES, _PROMPT = 55, 11


@lru_cache(maxsize=2)
def _pool(seed: int, count: int) -> tuple[list[Utterance], list[int]]:
    """The utterances, and the numbers of those that have an intent."""
    drawn = utterances("held_out", seed, 0, count)
    return drawn, [number for number, each in enumerate(drawn) if each.label != UNKNOWN]


def pick(key: int, count: int) -> int:
    """Which of `count` things the operation of `key` is about (Knuth's multiplicative hash)."""
    mixed = (key * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF) >> 32
    return mixed * count >> 32


def _bytes(text: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(text, dtype=np.uint8).copy()


def command_of(text: bytes, label: int, slots: intents.Slots) -> bytes:
    """The command that asks for what an utterance of these slots asks for."""
    values = {
        kind: text[start : start + length]
        for kind, (start, length) in enumerate(slots.tolist())
        if length
    }
    return command(label, values)


def _command(text: bytes, label: int) -> bytes:
    return command_of(text, label, intents.slots_of(intents.tokens_of(text), label))


class Assistant(Component):
    """Utterances of 20 to 120 bytes, of templates that the classifier was not trained on.

    `parse` finds intent and slots; `generate` writes the command of an utterance's intent and
    slots, which is parsed back to them, and lets a small decoder with seeded, meaningless weights
    say `tokens` tokens to it; `learn` takes one gradient step of the classifier, on a copy of the
    worker's own, and remembers the feedback in a bounded store. `generate_batch` is `prompts`
    requests of `generate` answered together, so that a weight is read once for a few of them; it
    is no part of the production mix, which has one request at a time.
    """

    name: ClassVar[str] = "assistant"
    unit: ClassVar[str] = "requests"
    #: A parse reads a line of weights per feature; `generate` every weight of the decoder once a
    #: token, less the half of a quarter of each layer's that a ReLU leaves out, and the
    #: embedding once for each token of the answer; `learn` reads a parse's lines twice and
    #: writes them. All of it is small enough for a cache. `generate_batch` multiplies and adds with
    #: every weight for every token, zeros too: that, not reading them, is what takes its time.
    ops: ClassVar[tuple[Op, ...]] = (
        Op("parse", "requests", "cache_read_bytes_s", float(_FEATURES * _ROW_BYTES)),
        Op("generate", "requests", "cache_read_bytes_s", 1e8),
        Op("learn", "requests", "cache_read_bytes_s", float(3 * _FEATURES * _ROW_BYTES)),
        Op("generate_batch", "requests", "fma_flop_s", 2.4e8),
    )
    weights: ClassVar[dict[str, float]] = {"parse": 1.0, "generate": 1.0, "learn": 1.0}
    production_rate_s: ClassVar[float | None] = 10.0
    stress_in_flight: ClassVar[int] = 32
    #: The decoder sums in single precision; its logits are of size 1 to 4.
    tolerance: ClassVar[float] = 2e-5
    endpoint_op: ClassVar[str | None] = "generate"
    claim: ClassVar[str] = "intent < 10 ms, generation < 50 ms, learning < 5 ms"

    #: Utterances kept and taken in turns.
    utterances: int = Field(default=8192, ge=_UTTERANCES_MIN, le=1 << 16)
    #: Pieces of feedback that a worker remembers; the oldest is forgotten.
    feedback_max: int = Field(default=4096, ge=_FEEDBACK_MIN, le=1 << 20)
    #: Tokens of an answer.
    tokens: int = Field(default=64, ge=1, le=64)
    #: Requests of one `generate_batch`.
    prompts: int = Field(default=32, ge=2, le=256)
    #: 1.5 or 25 million parameters.
    model: Model = "small"

    @classmethod
    def small(cls) -> Self:
        """Few utterances and short answers, in batches of no round number."""
        return cls(utterances=512, feedback_max=64, tokens=8, prompts=3)

    def resident_bytes(self, workers: int) -> int:
        """Classifier, decoder and pool; a copy of the classifier, the feedback and the decoder's
        keys, values and activations for every worker, for one answer and for those in step."""
        shape = SHAPES[self.model]
        shared = _WEIGHTS_BYTES + shape.shared_bytes() + self.utterances * _POOLED_BYTES
        learner = _WEIGHTS_BYTES + self.feedback_max * _FEEDBACK_BYTES
        learner += intents.FEATURES_MAX * _ROW_BYTES
        together = min(self.prompts, _TOGETHER) * shape.together_bytes()
        batch = together + self.prompts * _ANSWER_BYTES
        return shared + workers * (learner + shape.copy_bytes() + batch)

    def build_bytes(self) -> int:
        """What is shared, and the examples that the classifier is trained on."""
        return self.resident_bytes(0) + _TRAINING_BYTES

    def fitted(self, budget_bytes: int, workers: int) -> tuple[Self, list[str]]:
        """Fewer utterances, then less feedback; the classifier and the decoder keep their size."""
        sized, lines = self, list[str]()
        bounds = {
            "utterances": (_UTTERANCES_MIN, _POOLED_BYTES),
            "feedback_max": (_FEEDBACK_MIN, workers * _FEEDBACK_BYTES),
        }
        for field, (least, each_bytes) in bounds.items():
            before: int = getattr(sized, field)
            after = before
            # What one of them takes is rounded up by its containers, so once may not be enough.
            while after > least and (excess := sized.peak_bytes(workers) - budget_bytes) > 0:
                after = max(least, after - -(-excess // each_bytes))
                sized = sized.model_copy(update={field: after})
            if after != before:
                lines.append(f"assistant.{field}: {before} -> {after}")
        return sized, lines

    def cost(self, op: Op) -> float:
        """Of `generate` and its batches by the decoder's size and the tokens of an answer."""
        if op.name not in ("generate", "generate_batch"):
            return op.cost
        shape = SHAPES[self.model]
        positions = _PROMPT + self.tokens - 1
        embedding = shape.parameters - shape.layer_parameters
        if op.name == "generate_batch":
            return 2.0 * (positions * shape.layer_parameters + self.tokens * embedding)
        return positions * shape.layer_parameters * 5 / 6 + self.tokens * embedding

    def inputs(self, op: str, seed: int, key: int) -> Arrays:
        """`seed` (u64), `text` (u8), and but for `parse` its `label` (u8): 0 for unknown, else
        intent + 1. Of a batch there is one text after the other, which end at `ends` (u32)."""
        pool, requests = _pool(seed, self.utterances)
        if op == "generate_batch":
            asked = [pool[requests[pick(each, len(requests))]] for each in self.keys_of(key)]
            return {
                "seed": np.array([seed], dtype=np.uint64),
                "text": _bytes(b"".join(each.text for each in asked)),
                "ends": np.cumsum([len(each.text) for each in asked]).astype(np.uint32),
                "label": np.array([each.label for each in asked], dtype=np.uint8),
            }
        number = pick(key, len(pool))
        if op == "generate":
            number = requests[pick(key, len(requests))]
        given: Arrays = {
            "seed": np.array([seed], dtype=np.uint64),
            "text": _bytes(pool[number].text),
        }
        if op != "parse":
            given["label"] = np.array([pool[number].label], dtype=np.uint8)
        return given

    def keys_of(self, key: int) -> list[int]:
        """What the requests of the batch of `key` are drawn by."""
        first = key * self.prompts
        return [(first + number) & 0xFFFFFFFFFFFFFFFF for number in range(self.prompts)]

    def question(self, seed: int, key: int) -> Question:
        """The command of the operation `generate`."""
        inputs = self.inputs("generate", seed, key)
        label = int(inputs["label"][0])
        written = _command(inputs["text"].tobytes(), label)
        return Question(written.decode("ascii"), self.tokens, label)

    def is_understood(self, native: _native.Component, question: Question) -> bool:
        """Whether the command is parsed to its intent."""
        text = _bytes(question.text.encode("ascii"))
        return int(native.evaluate("parse", {"text": text})["label"][0]) == question.label

    def reference(self, op: str, inputs: Arrays) -> Arrays:
        """`label` and `slots` (u8: start and length by kind); or `command` (u8), `tokens` (u32)
        and the `logits` of the last (f32), of a batch one after the other with the `ends` (u32) of
        the commands; or the scores of all classes (i32) `before` and
        `after` the step, and a `checksum` (u64) of the weights."""
        seed, text = int(inputs["seed"][0]), inputs["text"].tobytes()
        if op == "generate":
            return self._generated(seed, text, int(inputs["label"][0]))
        if op == "generate_batch":
            starts = [0, *inputs["ends"].tolist()]
            texts = [text[start:end] for start, end in pairwise(starts)]
            labels = inputs["label"].tolist()
            several = zip(texts, labels, strict=True)
            return joined([self._generated(seed, each, label) for each, label in several])
        weights = intents.trained(seed)
        if op == "parse":
            label, slots = intents.parse(weights, text)
            return {"label": np.array([label], dtype=np.uint8), "slots": slots.reshape(-1)}
        return learned(weights, [text], [int(inputs["label"][0])])

    def _generated(self, seed: int, text: bytes, label: int) -> Arrays:
        written = _command(text, label)
        speaker = decoder.decoder(self.model, seed)
        vocabulary = speaker.shape.vocabulary
        words = intents.words_of(written)[: PROMPT_MAX - 1]
        prompt = [BEGIN, *(intents.fnv1a(word) % vocabulary for _, word in words)]
        tokens, logits = speaker.greedy(prompt, self.tokens)
        return {
            "command": _bytes(written),
            "tokens": np.array(tokens, dtype=np.uint32),
            "logits": logits.astype(np.float32),
        }


def joined(answers: list[Arrays]) -> Arrays:
    """Answers of `generate` as one of `generate_batch`."""
    found = {name: np.concatenate([each[name] for each in answers]) for name in answers[0]}
    ends = np.cumsum([len(each["command"]) for each in answers])
    return found | {"ends": ends.astype(np.uint32)}


def learned(served: intents.Weights, texts: list[bytes], labels: list[int]) -> Arrays:
    """The scores before and after the step on every text, one after the other, and the digest of
    the weights in the end."""
    weights = served.copy()
    before, after = [], []
    for text, label in zip(texts, labels, strict=True):
        features = intents.features_of(text, intents.tokens_of(text))
        before.append(intents.step(weights, features, label, intents.FEEDBACK_STEP))
        after.append(intents.scores_of(weights, features))
    return {
        "before": np.concatenate(before).astype(np.int32),
        "after": np.concatenate(after).astype(np.int32),
        "checksum": np.array([intents.checksum(weights)], dtype=np.uint64),
    }
