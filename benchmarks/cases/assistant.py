"""The assistant beside scikit-learn, regular expressions, PyTorch and NumPy.

Each side uses one thread but where PyTorch is left to itself. A round of ours runs operations back
to back as the pool does; parsing is also measured through Python, by text and by batch.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np

from harness.neighbour import busy_neighbour
from paired import Case
from peers.assistant_decoders import NumpyDecoder, TorchDecoder
from swarmbench.components import intents
from swarmbench.components.assistant import Assistant
from swarmbench.components.base import Arrays
from swarmbench.components.decoder import BEGIN, PROMPT_MAX, decoder
from swarmbench.components.utterances import UNKNOWN, grammar, utterances

SEED = 20240607
COMPONENT = Assistant()
TEXTS = 4096
ACCURACY_MIN, RECALL_MIN = 0.95, 0.90
#: Keys whose answers are compared with the peer's, token by token.
KEYS = range(6)


@cache
def native() -> Any:
    return COMPONENT.prepare(seed=SEED, threads=2).native


@cache
def held_out() -> tuple[list[bytes], list[int]]:
    """Utterances of templates that neither side was trained on, and their labels."""
    drawn = utterances("held_out", SEED, 0, TEXTS)
    return [each.text for each in drawn], [each.label for each in drawn]


@cache
def batch() -> Arrays:
    texts, _ = held_out()
    ends = np.cumsum([len(text) for text in texts]).astype(np.uint32)
    return {"text": np.frombuffer(b"".join(texts), np.uint8).copy(), "ends": ends}


def rate(work: Callable[[], int]) -> float:
    """Per second, of a call that returns how many it did."""
    began = time.perf_counter_ns()
    done = work()
    return done / (time.perf_counter_ns() - began) * 1e9


def ours(op: str, count: int, per_operation: int = 1) -> float:
    tally = native().run(op, count=count, verify=False)
    return float(tally["ok"] * per_operation / tally["elapsed_ns"] * 1e9)


def parse_from_python() -> float:
    evaluate = native().evaluate
    inputs = [{"text": np.frombuffer(text, np.uint8)} for text in held_out()[0]]

    def work() -> int:
        for each in inputs:
            evaluate("parse", each)
        return len(inputs)

    return rate(work)


def parse_batch() -> float:
    def work() -> int:
        return sum(len(native().evaluate("parse", batch())["label"]) for _ in range(8))

    return rate(work)


def parses_well() -> bool:
    """Accuracy on held-out templates with typing errors, and recall of what is no intent."""
    facts = json.loads(native().describe())
    labels = np.array(held_out()[1], dtype=np.uint8)
    found = native().evaluate("parse", batch())["label"]
    recall = float(np.mean(found[labels == UNKNOWN] == UNKNOWN))
    accurate = min(float(np.mean(found == labels)), facts["accuracy"]) >= ACCURACY_MIN
    return accurate and min(recall, facts["unknown_recall"]) >= RECALL_MIN


class Sklearn:
    """HashingVectorizer and SGDClassifier, trained on the same utterances as ours.

    Of words and pairs of words, and of three letters in a row, the first that is as accurate as is
    asked for, else the more accurate.
    """

    def __init__(self) -> None:
        from sklearn.feature_extraction.text import HashingVectorizer
        from sklearn.linear_model import SGDClassifier

        drawn = utterances("train", SEED, 0, intents.EXAMPLES)
        texts, labels = [each.text for each in drawn], [each.label for each in drawn]
        best = -1.0
        for analyzer, spans in (("word", (1, 2)), ("char_wb", (3, 3))):
            vectorizer = HashingVectorizer(
                analyzer=analyzer, ngram_range=spans, n_features=intents.BUCKETS, dtype=np.float32
            )
            model = SGDClassifier(random_state=7).fit(vectorizer.transform(texts), labels)
            self.features, right = vectorizer.transform, held_out()
            accuracy = float(np.mean(model.predict(self.features(right[0])) == right[1]))
            if accuracy > best:
                best, self.vectorizer, self.model = accuracy, vectorizer, model
            if best >= ACCURACY_MIN:
                break
        self.accuracy = best

    def one_by_one(self) -> float:
        texts = held_out()[0][:300]

        def work() -> int:
            for text in texts:
                self.model.predict(self.vectorizer.transform([text]))
            return len(texts)

        return rate(work)

    def batched(self) -> float:
        texts = held_out()[0]

        def work() -> int:
            return len(self.model.predict(self.vectorizer.transform(texts)))

        return rate(work)

    def learning(self) -> float:
        texts, labels = held_out()

        def work() -> int:
            for text, label in zip(texts[:100], labels, strict=False):
                self.model.partial_fit(self.vectorizer.transform([text]), [label])
            return 100

        return rate(work)


@cache
def sklearn() -> Sklearn:
    return Sklearn()


class Regexes:
    """Ten regular expressions, one for each of ten intents: the first that is found decides."""

    def __init__(self) -> None:
        self.patterns = [
            (label, re.compile(b"|".join(rb"\b%s\b" % re.escape(head) for head in frame.heads)))
            for label, frame in enumerate(grammar().intents[:10], 1)
        ]

    def __call__(self) -> float:
        texts = held_out()[0]

        def work() -> int:
            for text in texts:
                for _, pattern in self.patterns:
                    if pattern.search(text):
                        break
            return len(texts)

        return rate(work)


def prompt_of(key: int) -> list[int]:
    """The prompt of the operation `generate` of a key, as the component makes it."""
    answer = native().evaluate("generate", COMPONENT.inputs("generate", SEED, key))
    words = intents.words_of(answer["command"].tobytes())[: PROMPT_MAX - 1]
    vocabulary = decoder("small", SEED).shape.vocabulary
    return [BEGIN, *(intents.fnv1a(word) % vocabulary for _, word in words)]


class Speaker:
    """A peer's decoder, saying as much to the same prompts as ours."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make
        self.made: Any = None
        self.prompts: list[list[int]] = []

    def ready(self) -> Any:
        if self.made is None:
            self.made = self.make()
            self.prompts = [prompt_of(key) for key in KEYS]
        return self.made

    def __call__(self, answers: int = 3) -> float:
        peer = self.ready()

        def work() -> int:
            for prompt in self.prompts[:answers]:
                peer.greedy(prompt, COMPONENT.tokens)
            return answers * COMPONENT.tokens

        return rate(work)

    def says_the_same(self) -> bool:
        peer = self.ready()
        right: list[Sequence[int]] = [
            native()
            .evaluate("generate", COMPONENT.inputs("generate", SEED, key))["tokens"]
            .tolist()
            for key in KEYS
        ]
        return right == [peer.greedy(prompt, COMPONENT.tokens) for prompt in self.prompts]


def beside_a_neighbour(work: Callable[[], float]) -> float:
    """A round while another process takes one core; what is first used is made before."""
    with busy_neighbour(min(os.sched_getaffinity(0))):
        return work()


def parsing() -> Iterator[Case]:
    """500 k/s one at a time and 1 M/s batched, where scikit-learn did 1.9 k and 87 k, ten regular
    expressions 410 k."""
    row = partial(Case, "assistant", unit="utterances/s", check=parses_well)
    peer = "sklearn HashingVectorizer, SGDClassifier"
    one = partial(ours, "parse", 200_000)
    yield row(
        case="parse, one at a time", goal=263.0, peer_name=peer, ours=one,
        peer=lambda: sklearn().one_by_one(),
    )  # fmt: skip
    yield row(
        case="parse from Python, one at a time", goal=105.0, peer_name=peer,
        ours=parse_from_python, peer=lambda: sklearn().one_by_one(),
    )  # fmt: skip
    yield row(
        case="parse from Python, batched", goal=11.5, peer_name=peer, ours=parse_batch,
        peer=lambda: sklearn().batched(),
    )  # fmt: skip
    yield row(
        case="parse beside ten regexes", goal=1.22, peer_name="re, ten of the intents", ours=one,
        peer=Regexes(),
    )  # fmt: skip


def decoding() -> Iterator[Case]:
    """8 k tokens/s where PyTorch did 1451 and NumPy 1534; ten times PyTorch beside a neighbour."""
    weights = partial(decoder, "small", SEED)
    torch = Speaker(lambda: TorchDecoder(weights(), threads=1))
    torch_default = Speaker(lambda: TorchDecoder(weights(), threads=None))
    numpy = Speaker(lambda: NumpyDecoder(weights()))
    tokens = COMPONENT.tokens
    row = partial(Case, "assistant", unit="tokens/s")
    speak = partial(ours, "generate", 60, tokens)
    yield row(
        case="decode, 1.5 M parameters", goal=5.5, peer_name="torch, one thread", ours=speak,
        peer=torch, check=torch.says_the_same,
    )  # fmt: skip
    yield row(
        case="decode, 1.5 M parameters", goal=5.2, peer_name="numpy", ours=speak, peer=numpy,
        check=numpy.says_the_same,
    )  # fmt: skip
    yield row(
        case="decode with one busy neighbour", goal=10.0, peer_name="torch, its default threads",
        ours=partial(beside_a_neighbour, speak),
        peer=partial(beside_a_neighbour, partial(torch_default, 1)),
        check=torch_default.says_the_same,
    )  # fmt: skip


def batches() -> Iterator[Case]:
    """Requests answered in step beside the same ones alone: no slower, whatever their number."""
    for prompts in (2, 8, 32):
        component = COMPONENT.model_copy(update={"prompts": prompts})
        made = cache(lambda component=component: component.prepare(seed=SEED, threads=2).native)

        def rate_of(op: str, count: int, made: Callable[[], Any] = made) -> float:
            tally = made().run(op, count=count, verify=False)
            return float(tally["units"] / tally["elapsed_ns"] * 1e9)

        yield Case(
            "assistant", f"generate_batch, {prompts} prompts", "requests/s", 1.0, "generate",
            partial(rate_of, "generate_batch", 64 // prompts), partial(rate_of, "generate", 64),
            check=partial(says_the_same, component, made),
        )  # fmt: skip


def says_the_same(component: Assistant, made: Callable[[], Any]) -> bool:
    """Whether a batch has the tokens of each of its requests alone."""
    inputs = component.inputs("generate_batch", SEED, 1)
    found = made().evaluate("generate_batch", inputs)["tokens"].reshape(component.prompts, -1)
    starts = [0, *inputs["ends"].tolist()]
    return all(
        np.array_equal(row, made().evaluate("generate", {"text": text, "label": label})["tokens"])
        for row, text, label in zip(
            found,
            (inputs["text"][start:end] for start, end in pairwise(starts)),
            inputs["label"].reshape(-1, 1),
            strict=True,
        )
    )


def cases(large: bool) -> list[Case]:
    """Every size is the published one."""
    learn = Case(
        "assistant", "learn, one example a call", "examples/s", 184.0,
        "sklearn partial_fit", partial(ours, "learn", 200_000), lambda: sklearn().learning(),
        check=parses_well,
    )  # fmt: skip
    return [*parsing(), learn, *decoding(), *batches()]
