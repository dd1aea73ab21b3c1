"""Many requests of the assistant answered together on a device: commands, answers, checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from swarmbench.components import intents
from swarmbench.components.assistant import Assistant, joined
from swarmbench.components.base import Arrays
from swarmbench.components.cuda.assistant_batch import BatchSpeech
from swarmbench.components.cuda.assistant_tables import (
    ANSWER_WORDS,
    KINDS,
    TEXT_BYTES,
    accepted,
    records,
    understood,
)
from swarmbench.components.cuda.base import Cost
from swarmbench.components.decoder import BEGIN, PROMPT_MAX, Shape
from swarmbench.gpu.device import Argument, Array, Buffer, Stream

if TYPE_CHECKING:
    from swarmbench.components.cuda.assistant import CudaAssistant

_FILE = "assistant.cu"
#: In one batch of so many, one answer is held against the processor's logits.
_BATCHES_PER_CHECK = 16
#: By how much an argmax of floats may be below the top, in sizes of the largest logit, which both
#: sides have with `Assistant.tolerance`.
_TIE = 2 * Assistant.tolerance


def digests_of(tokens: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint64]:
    """The digests that the kernel keeps of rows of tokens as it chooses them."""
    digests = np.zeros(len(tokens), np.uint64)
    for column in tokens.T.astype(np.uint64):
        turned = digests << np.uint64(7) | digests >> np.uint64(57)
        digests = (turned ^ column) * np.uint64(0x9E3779B97F4A7C15)
    return digests


class Chorus:
    """One lane's batches of `prompts` requests: a warp each writes commands and prompts, and
    `BatchSpeech` answers all of them in step."""

    #: The host's memory for each request.
    HOST_BYTES = 8 + 2 * ANSWER_WORDS + TEXT_BYTES + BatchSpeech.HOST_BYTES

    def __init__(self, cuda: CudaAssistant, stream: Stream) -> None:
        self._cuda, self._stream = cuda, stream
        self._count, self._tokens = cuda.assistant.prompts, cuda.assistant.tokens
        device, count = cuda.device, self._count
        self._kernels = {name: device.kernel(_FILE, name) for name in ("parse", "command")}
        self._keys = device.pinned(count, np.uint64)
        self._parsed = device.pinned(count * ANSWER_WORDS, np.uint16)
        self._views = (device.mapped(self._keys), device.mapped(self._parsed))
        self._commands = device.empty(count * TEXT_BYTES, np.uint8)
        self._written = device.pinned(count * TEXT_BYTES, np.uint8)
        # Texts that are given, and their truths.
        self._given = device.empty(count * TEXT_BYTES, np.uint8)
        self._truths = device.empty(count * ANSWER_WORDS, np.uint16)
        self._speech = BatchSpeech(cuda.speaking, cuda.matrices, stream, count)
        self._spoken = np.zeros((0, 0), np.uint32)

    @staticmethod
    def nbytes(assistant: Assistant, shape: Shape) -> int:
        """Device memory of one lane's."""
        count = assistant.prompts
        texts = count * (2 * TEXT_BYTES + 2 * ANSWER_WORDS)
        return texts + BatchSpeech.nbytes(shape, count)

    def run(self, key: int) -> None:
        """Answers the requests of the batch of `key`; waits for it."""
        cuda, keys = self._cuda, self._cuda.assistant.keys_of(key)
        self._keys[:] = keys
        self._ask(cuda.records, cuda.truths, len(cuda.requests))
        lengths = [cuda.prompted[cuda.request(each)] for each in keys]
        self._spoken = self._speech.speak(lengths, self._tokens)

    def is_right(self, key: int) -> bool:
        """Whether every command says what was asked and is parsed back to it, and the tokens are
        those that were chosen, each the likeliest; of one answer, at times, by the processor."""
        cuda, tokens = self._cuda, self._spoken
        if not np.array_equal(digests_of(tokens), self._speech.digests):
            return False
        numbers = [cuda.number("generate", each) for each in cuda.assistant.keys_of(key)]
        commands = self._commands_found()
        if commands != [cuda.written(number) for number in numbers]:
            return False
        if not self._asks_the_same(commands, numbers):
            return False
        turn, sampled = divmod(key, _BATCHES_PER_CHECK)
        if sampled:
            return True
        place = turn % self._count
        return self._is_likeliest(commands[place], tokens[place])

    def damage(self, fault: str, key: int) -> bool:
        """Damages an answer of the last batch; False where nothing changed."""
        before, spoken = self._spoken, self._spoken.copy()
        row = spoken[key % self._count]
        match fault:
            case "flipped_bit":
                row[len(row) // 2] ^= 1
            case "lost_result":
                spoken = spoken[:-1]
            case _:
                row[1:] = row[:-1].copy()
        self._spoken = spoken
        return not np.array_equal(before, spoken)

    def answers(self, texts: list[bytes], labels: list[int], slots: list[Array]) -> Arrays:
        """Answers to given texts, of which all values were found, as the reference has them."""
        if len(texts) != self._count:
            raise ValueError(f"text: give {self._count} texts, not {len(texts)}")
        truths = [accepted(each, label) for each, label in zip(slots, labels, strict=True)]
        self._stream.upload(self._given, records(texts))
        self._stream.upload(self._truths, np.concatenate(truths))
        self._number_texts()
        self._ask(self._given, self._truths, 0)
        commands = self._commands_found()
        found: list[Arrays] = [
            {"command": np.frombuffer(each, np.uint8).copy()} for each in commands
        ]

        def heard(sequence: int, logits: npt.NDArray[np.float32]) -> None:
            found[sequence]["logits"] = logits.copy()

        lengths = [len(self._prompt(each)) for each in commands]
        for each, tokens in zip(
            found, self._speech.speak(lengths, self._tokens, heard), strict=True
        ):
            each["tokens"] = tokens.copy()
        return joined(found)

    def cost(self, key: int) -> Cost:
        """What the kernels of the batch of `key` must do, without what a command reads of its text
        and the grammar, and without the products, which are a library's."""
        cuda = self._cuda
        lengths = [cuda.prompted[cuda.request(each)] for each in cuda.assistant.keys_of(key)]
        asked = sum(TEXT_BYTES + 4 * (1 + length) for length in lengths)
        return BatchSpeech.cost(cuda.speaking.shape, lengths, self._tokens) + Cost(0, asked)

    def _number_texts(self) -> None:
        self._keys[:] = np.arange(self._count, dtype=np.uint64)

    def _ask(self, texts: Buffer, known: Buffer, pool: int) -> None:
        """Enqueues the commands of requests from a pool, or of the given texts, and prompts."""
        cuda = self._cuda
        buffers = [texts, known, cuda.grammar, cuda.asking, self._views[0]]
        numbers = [np.uint32(pool), np.uint32(cuda.speaking.shape.vocabulary)]
        written = [self._commands, self._speech.asked]
        self._stream.launch(
            self._kernels["command"], self._count, 32, [*buffers, *numbers, *written]
        )

    def _commands_found(self) -> list[bytes]:
        self._stream.download(self._written, self._commands)
        self._stream.synchronize()
        rows = self._written.reshape(self._count, TEXT_BYTES)
        return [row[: row[-1]].tobytes() for row in rows]

    def _asks_the_same(self, commands: list[bytes], numbers: list[int]) -> bool:
        """Whether the commands are parsed to the intents and the values of utterances."""
        cuda, count = self._cuda, np.uint32(self._count)
        self._number_texts()
        buffers = [self._commands, cuda.weights, cuda.grammar, self._views[0]]
        arguments: list[Argument] = [*buffers, count, np.uint32(0), self._views[1]]
        self._stream.launch(self._kernels["parse"], self._count, 32, arguments)
        self._stream.synchronize()
        found = understood(self._parsed)
        slots = found["slots"].reshape(self._count, KINDS, 2).tolist()
        for written, number, row in zip(commands, numbers, slots, strict=True):
            text = cuda.texts[number]
            values = [text[at : at + size] for at, size in cuda.slots[number].tolist()]
            if [written[at : at + size] for at, size in row] != values:
                return False
        return np.array_equal(found["label"], cuda.labels[numbers])

    def _is_likeliest(self, command: bytes, tokens: npt.NDArray[np.uint32]) -> bool:
        """Whether by the processor each token is the likeliest after those before it, or so near
        to it that sums of floats in another order may choose it."""
        prompt = self._prompt(command)
        taken = np.array([*prompt, *tokens[:-1].tolist()], np.uint32)
        found = self._cuda.native.evaluate("logits", {"tokens": taken})["logits"]
        logits = found.reshape(len(taken), -1)[len(prompt) - 1 :]
        chosen = logits[np.arange(len(tokens)), tokens]
        near = _TIE * np.maximum(1.0, np.abs(logits).max(axis=1))
        return bool((chosen >= logits.max(axis=1) - near).all())

    def _prompt(self, command: bytes) -> list[int]:
        words = intents.words_of(command)[: PROMPT_MAX - 1]
        vocabulary = self._cuda.speaking.shape.vocabulary
        return [BEGIN, *(intents.fnv1a(word) % vocabulary for _, word in words)]
