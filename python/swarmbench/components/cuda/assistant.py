"""The assistant on a device: a warp reads a text, one block says an answer."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import numpy as np

from swarmbench.components import intents
from swarmbench.components.assistant import Assistant, command_of, pick
from swarmbench.components.base import Arrays, Component
from swarmbench.components.cuda.assistant_batch import as_floats
from swarmbench.components.cuda.assistant_chorus import Chorus
from swarmbench.components.cuda.assistant_learner import Learner
from swarmbench.components.cuda.assistant_speech import SmallSpeech, Speech, Weights, digest_of
from swarmbench.components.cuda.assistant_stages import StagedSpeech
from swarmbench.components.cuda.assistant_tables import (
    ANSWER_WORDS,
    GRAMMAR_BYTES,
    KINDS,
    TEXT_BYTES,
    accepted,
    packed_grammar,
    records,
    table_bytes,
    texts_of,
    truths,
    understood,
)
from swarmbench.components.cuda.base import Cost, CudaComponent, CudaOperation, Done
from swarmbench.components.decoder import SHAPES, Model
from swarmbench.components.utterances import UNKNOWN, grammar
from swarmbench.gpu.device import Buffer

_FILE = "assistant.cu"
#: One parse in so many is held against the processor's, and one answer in so many said by it.
_PARSES_PER_CHECK, _ANSWERS_PER_CHECK = 16, 64
_NOTHING = 0xFFFF
_HELD_OUT = 1
#: Words of a prompt are cut off behind so many tokens.
_PROMPT_MAX = 32
#: How each model's answers are said.
SPEECHES: dict[Model, type[SmallSpeech | StagedSpeech]] = {
    "small": SmallSpeech,
    "base": StagedSpeech,
}


class CudaAssistant(CudaComponent):
    """Texts, their truths, the served weights, the grammar and the decoder on a device."""

    name: ClassVar[str] = "assistant"
    repeatable: ClassVar[frozenset[str]] = frozenset({"parse", "generate"})

    def build(self) -> None:
        self.assistant = cast(Assistant, self.component)
        self.progress("texts", 0.0)
        count = self.assistant.utterances
        drawn = self.native.evaluate(
            "utterances", {"range": np.array([_HELD_OUT, 0, count], np.uint64)}
        )
        self.texts = texts_of(drawn)
        self.slots = drawn["slots"].reshape(count, KINDS, 2)
        self.labels = drawn["label"]
        self.requests = np.flatnonzero(self.labels != UNKNOWN).astype(np.uint32)
        self.trained = self.native.evaluate("weights", {})["weights"].astype(np.int16)
        self.records = self.device.uploaded(records(self.texts))
        self.truths = self.device.uploaded(truths(self.slots, self.labels))
        # As long as the pool whatever the seed, so that memory is a formula.
        numbers = np.zeros(count, np.uint32)
        numbers[: len(self.requests)] = self.requests
        self.asking = self.device.uploaded(numbers)
        self.weights = self.device.uploaded(self.trained)
        self.grammar = self.device.uploaded(packed_grammar())
        self.progress("weights", 0.5)
        self.prompted = [_prompted(self.written(number)) for number in self.requests.tolist()]
        self.speaking = Weights.drawn(self.assistant.model, self.device, self.seed)
        self.matrices = as_floats(self.speaking, self.device.stream())
        self.progress("weights", 1.0)

    def operation(
        self,
        *,
        warps: int = 1,
        block: int | None = None,
        speech: type[SmallSpeech | StagedSpeech] | None = None,
    ) -> AssistantOperation:
        kind = speech or SPEECHES[self.assistant.model]
        return AssistantOperation(self, warps, block, kind)

    @classmethod
    def device_bytes(cls, component: Component, lanes: int) -> int:
        assistant = cast(Assistant, component)
        text = TEXT_BYTES + 2 * ANSWER_WORDS
        shared = assistant.utterances * (text + 4) + 2 * intents.BUCKETS * intents.LANES
        shared += GRAMMAR_BYTES + Weights.nbytes(assistant.model)
        shape = SHAPES[assistant.model]
        shared += 4 * shape.parameters
        lane = SPEECHES[assistant.model].nbytes(shape) + Learner.nbytes(assistant.feedback_max)
        lane += 2 * text + 4 * intents.LANES + Chorus.nbytes(assistant, shape)
        return shared + lanes * lane

    @classmethod
    def host_bytes(cls, component: Component, lanes: int) -> int:
        lane = 8 + 2 * ANSWER_WORDS + Learner.HOST_BYTES + Speech.HOST_BYTES
        return lanes * (lane + cast(Assistant, component).prompts * Chorus.HOST_BYTES)

    def describe(self) -> dict[str, Any]:
        return {"decoder": SPEECHES[self.assistant.model].__name__, "texts": len(self.texts)}

    def number(self, op: str, key: int) -> int:
        """The utterance of the operation `key`."""
        if op == "generate":
            return int(self.requests[self.request(key)])
        return pick(key, len(self.texts))

    def request(self, key: int) -> int:
        """Which of the requests `generate` of `key` is about."""
        return pick(key, len(self.requests))

    def written(self, number: int) -> bytes:
        """The command of an utterance, by Python."""
        return command_of(self.texts[number], int(self.labels[number]), self.slots[number])


def _prompted(written: bytes) -> int:
    """Tokens of the prompt of a command."""
    return 1 + min(_PROMPT_MAX - 1, len(intents.words_of(written)))


class AssistantOperation(CudaOperation):
    """One lane of the assistant; `warps` of a block that reads texts, threads of one that speaks.

    What comes back is small and written straight to memory of the host.
    """

    def __init__(
        self,
        cuda: CudaAssistant,
        warps: int,
        block: int | None,
        speech: type[SmallSpeech | StagedSpeech],
    ) -> None:
        super().__init__(cuda.device)
        device, self.cuda, self.assistant = cuda.device, cuda, cuda.assistant
        self._warps = warps
        self._kernels = {name: device.kernel(_FILE, name) for name in ("parse", "score", "command")}
        self._keys = device.pinned(1, np.uint64)
        self._answer = device.pinned(ANSWER_WORDS, np.uint16)
        self._views = [device.mapped(self._keys), device.mapped(self._answer)]
        self._before = np.full(ANSWER_WORDS, _NOTHING, np.uint16)
        # One text that is given, its truth, and one command.
        self._given = device.empty(TEXT_BYTES, np.uint8)
        self._truth = device.empty(ANSWER_WORDS, np.uint16)
        self._command = device.empty(TEXT_BYTES, np.uint8)
        self._slots = device.empty(ANSWER_WORDS, np.uint16)
        self._scores = device.empty(intents.LANES, np.int32)
        self._learner = Learner(device, self.stream, cuda.weights, self.assistant.feedback_max)
        self._speech = speech(cuda.speaking, self.stream, block)
        self._chorus = Chorus(cuda, self.stream)
        self._last: tuple[str, int] | None = None
        self._answered: dict[str, int] = {}
        self._tokens = self.assistant.tokens
        self._spoken = np.zeros(0, np.uint32)

    def run(self, op: str, key: int) -> Done:
        cuda = self.cuda
        self._keys[0] = key
        match op:
            case "parse":
                self._before[:] = self._answer
                self._parse(cuda.records, len(cuda.texts))
            case "generate":
                self._ask(cuda.records, cuda.truths, len(cuda.requests))
                self._speech.speak(cuda.prompted[cuda.request(key)], self._tokens)
            case "learn":
                self._learner.learn(
                    cuda.records, cuda.truths, cuda.grammar, self._views[0], len(cuda.texts)
                )
            case "generate_batch":
                self._chorus.run(key)
            case _:
                raise ValueError(f"op: there is no op `{op}`")
        self.stream.synchronize()
        if op == "generate":
            self._spoken = self._speech.tokens[: self._tokens].copy()
        self._last = (op, key)
        self._answered[op] = key
        return Done(self.assistant.prompts if op == "generate_batch" else 1)

    def _parse(self, texts: Buffer, pool: int) -> None:
        """Enqueues the parse of the text that the key picks from a pool, or of text 0."""
        cuda = self.cuda
        buffers = [texts, cuda.weights, cuda.grammar, self._views[0]]
        numbers = [np.uint32(1), np.uint32(pool)]
        self.stream.launch(
            self._kernels["parse"], 1, 32 * self._warps, [*buffers, *numbers, self._views[1]]
        )

    def _ask(self, texts: Buffer, known: Buffer, pool: int) -> None:
        """Enqueues the command of a request from a pool, or of text 0, and its prompt."""
        cuda = self.cuda
        buffers = [texts, known, cuda.grammar, cuda.asking, self._views[0]]
        numbers = [np.uint32(pool), np.uint32(cuda.speaking.shape.vocabulary)]
        self.stream.launch(
            self._kernels["command"],
            1,
            32,
            [*buffers, *numbers, self._command, self._speech.asked],
        )

    def verify(self) -> tuple[int, int]:
        if self._last is None:
            return 0, 0
        (op, key), self._last = self._last, None
        if op == "parse" and key % _PARSES_PER_CHECK and not self.looks_closely:
            return 0, 0
        right = {
            "parse": self._parse_is_right,
            "generate": self._answer_is_right,
            "learn": self._learner.is_right,
            "generate_batch": self._chorus.is_right,
        }[op](key)
        return 1, int(not right)

    def _parse_is_right(self, key: int) -> bool:
        text = self.cuda.texts[self.cuda.number("parse", key)]
        right = self.cuda.native.evaluate("parse", {"text": np.frombuffer(text, np.uint8).copy()})
        found = understood(self._answer)
        return all(np.array_equal(found[name], right[name]) for name in right)

    def _answer_is_right(self, key: int) -> bool:
        """Whether the command says what was asked and is parsed back to it, the tokens are those
        that were chosen, and one of them, at times all, is said again."""
        cuda, number = self.cuda, self.cuda.number("generate", key)
        tokens, written = self._spoken, self._command_text()
        if len(tokens) != self._tokens or digest_of(tokens) != int(self._speech.digest[0]):
            return False
        if written != cuda.written(number) or not self._asks_the_same(written, number):
            return False
        place = key % self._tokens
        prompted = cuda.prompted[cuda.request(key)]
        if self._speech.says_again(prompted, place) != int(tokens[place]):
            return False
        if key % _ANSWERS_PER_CHECK:
            return True
        text = np.frombuffer(cuda.texts[number], np.uint8).copy()
        right = cuda.native.evaluate("generate", {"text": text, "label": cuda.labels[[number]]})
        return np.array_equal(tokens, right["tokens"])

    def _command_text(self) -> bytes:
        record = np.empty(TEXT_BYTES, np.uint8)
        self.stream.download(record, self._command)
        self.stream.synchronize()
        return record[: record[-1]].tobytes()

    def _asks_the_same(self, written: bytes, number: int) -> bool:
        """Whether the command is parsed to the intent and the values of an utterance."""
        kept = self._answer.copy()
        self._keys[0] = 0
        self._parse(self._command, 0)
        self.stream.synchronize()
        found = understood(self._answer)
        self._answer[:] = kept
        text = self.cuda.texts[number]
        values = [text[at : at + size] for at, size in self.cuda.slots[number].tolist()]
        slots = found["slots"].reshape(KINDS, 2).tolist()
        same = [written[at : at + size] for at, size in slots] == values
        return same and int(found["label"][0]) == int(self.cuda.labels[number])

    def plant(self, fault: str) -> bool:
        if self._last is None:
            return False
        op, key = self._last
        if op == "parse" and key % _PARSES_PER_CHECK:
            return False
        if op == "learn":
            return self._learner.damage(fault)
        if op == "generate_batch":
            return self._chorus.damage(fault, key)
        if op == "parse":
            before = self._answer.copy()
            match fault:
                case "flipped_bit":
                    self._answer[KINDS] ^= 1
                case "lost_result":
                    self._answer[:] = _NOTHING
                case _:
                    self._answer[:] = self._before
            return not np.array_equal(before, self._answer)
        spoken = self._spoken.copy()
        match fault:
            case "flipped_bit":
                spoken[len(spoken) // 2] ^= 1
            case "lost_result":
                spoken = spoken[:-1]
            case _:
                spoken[1:] = spoken[:-1].copy()
        changed = not np.array_equal(spoken, self._spoken)
        self._spoken = spoken
        return changed

    def evaluate(self, op: str, inputs: Arrays) -> Arrays:
        self._last = None
        self._keys[0] = 0
        texts = texts_of(inputs)
        match op:
            case "parse":
                found = [self._understood(text) for text in texts]
                return {name: np.concatenate([each[name] for each in found]) for name in found[0]}
            case "generate":
                return self._generated(texts[0], int(inputs["label"][0]))
            case "learn":
                return self._learned(texts, inputs["label"].tolist())
            case "generate_batch":
                slots = [self._scored(text, self.cuda.weights)[1] for text in texts]
                return self._chorus.answers(texts, inputs["label"].tolist(), slots)
        raise ValueError(f"op: there is no op `{op}`")

    def _understood(self, text: bytes) -> Arrays:
        self.stream.upload(self._given, records([text]))
        self._parse(self._given, 0)
        self.stream.synchronize()
        return understood(self._answer)

    def _scored(self, text: bytes, weights: Buffer) -> tuple[Any, Any]:
        """The scores of a text, and its slots of every kind."""
        scores, slots = np.empty(intents.LANES, np.int32), np.empty(ANSWER_WORDS, np.uint16)
        self.stream.upload(self._given, records([text]))
        buffers = [self._given, weights, self.cuda.grammar]
        answers = [self._scores, self._slots]
        self.stream.launch(
            self._kernels["score"], 1, 32 * self._warps, [*buffers, np.uint32(1), *answers]
        )
        self.stream.download(scores, self._scores)
        self.stream.download(slots, self._slots)
        self.stream.synchronize()
        return scores, slots

    def _generated(self, text: bytes, label: int) -> Arrays:
        _, slots = self._scored(text, self.cuda.weights)
        self.stream.upload(self._truth, accepted(slots, label))
        self._ask(self._given, self._truth, 0)
        command = self._command_text()
        self._speech.speak(_prompted(command), self._tokens)
        logits = np.empty(self._speech.logits.count, np.float32)
        self.stream.download(logits, self._speech.logits)
        self.stream.synchronize()
        written = np.frombuffer(command, np.uint8).copy()
        tokens = self._speech.tokens[: self._tokens].copy()
        return {"command": written, "tokens": tokens, "logits": logits}

    def _learned(self, texts: list[bytes], labels: list[int]) -> Arrays:
        learner, before, after = self._learner, [], []
        learner.forget(self.cuda.weights)
        for text, label in zip(texts, labels, strict=True):
            before.append(self._scored(text, learner.weights)[0])
            truth = np.zeros(ANSWER_WORDS, np.uint16)
            truth[KINDS] = label
            self.stream.upload(self._truth, truth)
            learner.learn(self._given, self._truth, self.cuda.grammar, self._views[0], 0)
            after.append(self._scored(text, learner.weights)[0])
        digest = intents.checksum(learner.downloaded())
        learner.forget(self.cuda.weights)
        return {
            "before": np.concatenate(before),
            "after": np.concatenate(after),
            "checksum": np.array([digest], np.uint64),
        }

    def cost(self, op: str) -> Cost:
        cuda, key = self.cuda, self._answered[op]
        if op == "generate_batch":
            asked = [cuda.number("generate", each) for each in self.assistant.keys_of(key)]
            return self._chorus.cost(key) + Cost(sum(map(self._named_bytes, asked)), 0)
        text = cuda.texts[cuda.number(op, key)]
        record = 8 + TEXT_BYTES
        if op == "generate":
            prompted = cuda.prompted[cuda.request(key)]
            shape = cuda.speaking.shape
            read, kept = self._speech.moved_bytes(shape, prompted, self._tokens)
            return Cost(
                read + self._named_bytes(cuda.number(op, key)),
                kept + TEXT_BYTES + 4 * (1 + prompted),
                multiply_adds=self._speech.multiply_adds(prompted, self._tokens),
            )
        features = intents.features_of(text, intents.tokens_of(text))
        rows = 2 * intents.LANES * len(np.unique(features))
        read = record + rows + table_bytes(text)
        if op == "parse":
            return Cost(read, 2 * ANSWER_WORDS)
        return Cost(read + 10, rows + Learner.kept_bytes(len(features)))

    def _named_bytes(self, number: int) -> int:
        """What the command of an utterance reads of it and of the grammar."""
        return len(self.cuda.written(number)) + 24 + len(grammar().kinds)
