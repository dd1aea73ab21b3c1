"""The assistant's kernels on the emulated device: any text, any shape of launch, both models."""

from __future__ import annotations

import secrets
from functools import cache

import numpy as np
import pytest

import costs
from swarmbench.components import intents
from swarmbench.components.assistant import Assistant, learned
from swarmbench.components.base import agree, same_arrays
from swarmbench.components.cuda.assistant import AssistantOperation, CudaAssistant
from swarmbench.components.cuda.assistant_batch import BatchSpeech
from swarmbench.components.cuda.assistant_chorus import digests_of
from swarmbench.components.cuda.assistant_speech import ASKED_WORDS, SmallSpeech, digest_of, sizes
from swarmbench.components.cuda.assistant_stages import StagedSpeech
from swarmbench.components.decoder import SHAPES, Model, drawn
from swarmbench.components.utterances import utterances
from swarmbench.gpu.emulated import EmulatedDevice

#: Inputs change with every run; a failure says which they were.
SEED = secrets.randbits(32)
_WORDS = (
    b"deploy ledger v1.2. v1..2 7 7% 07:15 7:1 5 days minutes INC-12 inc-1x node-7 agent-7: don't "
    b"us-east-1 . : a production, 123:45 99: 12% 12%% error; (cpu) 1 weeks 2 node- % v v1x \xc3\xa9"
).split()


@cache
def cuda(model: Model = "small", tokens: int = 8) -> CudaAssistant:
    component = Assistant(utterances=64, feedback_max=5, tokens=tokens, model=model, prompts=3)
    native = component.prepare(seed=SEED, threads=2).native
    return CudaAssistant(component, native, EmulatedDevice(seed=SEED, is_random=True), SEED)


@cache
def lane() -> AssistantOperation:
    return cuda().operation()


def texts(count: int) -> list[bytes]:
    """Arbitrary bytes and words that look like entities, empty and overlong ones among them."""
    random = np.random.default_rng(SEED)
    made = [b"", b"a" * 300, b"a " * 150, b"7 " * 150, b"5 days " * 40]
    for number in range(count):
        if number % 2:
            made.append(random.bytes(int(random.integers(300))))
        else:
            picked = random.integers(len(_WORDS), size=int(random.integers(60)))
            made.append(b" ".join(_WORDS[word] for word in picked))
    return made


def given(text: bytes) -> dict[str, np.ndarray]:
    return {"text": np.frombuffer(text, np.uint8).copy()}


@pytest.mark.parametrize("warps", [1, 3, 8])
def test_any_bytes_are_parsed_as_the_reference_parses_them(warps: int) -> None:
    reading = lane() if warps == 1 else cuda().operation(warps=warps)
    for text in texts(60):
        label, slots = intents.parse(cuda().trained.reshape(-1, intents.LANES), text)
        found = reading.evaluate("parse", given(text))
        assert found["label"].tolist() == [label], f"seed {SEED}, text {text!r}"
        assert found["slots"].tolist() == slots.reshape(-1).tolist(), f"seed {SEED}, text {text!r}"


def test_learning_any_texts_in_a_row_is_the_references_bit_for_bit() -> None:
    several = texts(20)
    labels = np.random.default_rng(SEED).integers(intents.classes(), size=len(several))
    ends = np.cumsum([len(text) for text in several]).astype(np.uint32)
    inputs = given(b"".join(several)) | {"ends": ends, "label": labels.astype(np.uint8)}
    weights = cuda().trained.reshape(-1, intents.LANES)
    right = learned(weights, several, labels.tolist())
    assert same_arrays(lane().evaluate("learn", inputs), right), f"seed {SEED}"


@pytest.mark.parametrize("model", SHAPES)
def test_weights_are_drawn_on_the_device_as_the_reference_draws_them(model: Model) -> None:
    weights, first = cuda(model, 2).speaking.bytes.array, 0  # type: ignore[attr-defined]
    for number, (outputs, inputs) in enumerate(sizes(SHAPES[model])):
        found = weights[first : first + outputs * inputs].reshape(outputs, inputs)
        assert np.array_equal(found, drawn(SEED, number, outputs, inputs)), f"matrix {number}"
        first += outputs * inputs


SPOKEN = [
    ("small", SmallSpeech, 192),
    ("small", SmallSpeech, 768),
    ("small", StagedSpeech, 64),
    ("small", StagedSpeech, 512),
    ("base", StagedSpeech, 128),
]


@pytest.mark.parametrize(("model", "speech", "block"), SPOKEN)
def test_an_answer_depends_neither_on_the_block_nor_on_how_it_is_launched(
    model: Model, speech: type[SmallSpeech | StagedSpeech], block: int
) -> None:
    component = cuda(model, 2)
    inputs = component.assistant.inputs("generate", SEED, SEED)
    right = component.native.evaluate("generate", inputs)
    speaking = component.operation(block=block, speech=speech)
    found = speaking.evaluate("generate", dict(inputs))
    assert agree(found, right, Assistant.tolerance), f"seed {SEED}, {model}, block {block}"
    other = found | {"logits": found["logits"] + np.float32(1e-4)}
    assert not agree(other, right, Assistant.tolerance)


def test_an_answer_in_stages_is_checked_and_its_damage_seen() -> None:
    speaking = cuda("small", 2).operation(block=64, speech=StagedSpeech)
    speaking.run("generate", 0)
    assert speaking.verify() == (1, 0), f"seed {SEED}"
    for fault in ("flipped_bit", "lost_result"):
        speaking.run("generate", 5)
        assert speaking.plant(fault)
        assert speaking.verify() == (1, 1), f"seed {SEED}, {fault}"


@pytest.mark.parametrize(("model", "sequences", "tokens"), [("small", 6, 3), ("base", 2, 2)])
def test_many_answers_at_once_are_those_of_each_alone(
    model: Model, sequences: int, tokens: int
) -> None:
    component = cuda(model, tokens)
    given_keys = [component.assistant.inputs("generate", SEED, key) for key in range(sequences)]
    right = [component.native.evaluate("generate", inputs) for inputs in given_keys]
    vocabulary = SHAPES[model].vocabulary
    asked = np.zeros((sequences, ASKED_WORDS), np.uint32)
    lengths = []
    for row, each in zip(asked, right, strict=True):
        words = intents.words_of(each["command"].tobytes())[:31]
        prompt = [0, *(intents.fnv1a(word) % vocabulary for _, word in words)]
        row[0], row[1 : 1 + len(prompt)] = len(prompt), prompt
        lengths.append(len(prompt))
    stream = component.device.stream()
    batch = BatchSpeech(component.speaking, component.matrices, stream, sequences)
    stream.upload(batch.asked, asked.reshape(-1))
    logits = np.zeros((sequences, vocabulary), np.float32)

    def heard(sequence: int, last: np.ndarray) -> None:
        logits[sequence] = last

    found = batch.speak(lengths, tokens, heard)
    assert np.array_equal(found, [each["tokens"] for each in right]), f"seed {SEED}"
    assert batch.digests.tolist() == [digest_of(each) for each in found]
    assert np.array_equal(batch.digests, digests_of(found))
    expected = {"logits": np.stack([each["logits"] for each in right])}
    assert agree({"logits": logits}, expected, Assistant.tolerance), f"seed {SEED}"


def test_a_token_that_is_not_the_likeliest_is_seen_by_the_processor_in_one_batch_of_16() -> None:
    chorus = cuda("small", 2).operation()._chorus
    prompts = cuda("small", 2).assistant.prompts
    for turn in (0, prompts - 1):
        key = 16 * turn
        chorus.run(key)
        assert chorus.is_right(key), f"seed {SEED}"
        for place in range(prompts):
            kept = chorus._spoken.copy()
            chorus._spoken[place, 1] += 1
            # As if it had been chosen so.
            chorus._speech.digests[:] = digests_of(chorus._spoken)
            assert chorus.is_right(key) == (place != turn), f"seed {SEED}, answer {place}"
            chorus._spoken = kept
            chorus._speech.digests[:] = digests_of(kept)
    chorus.run(17)
    chorus._spoken[0, 0] += 1
    chorus._speech.digests[:] = digests_of(chorus._spoken)
    assert chorus.is_right(17)


def test_a_command_that_asks_for_something_else_is_seen_in_every_batch() -> None:
    chorus = cuda("small", 2).operation()._chorus
    chorus.run(5)
    assert chorus.is_right(5), f"seed {SEED}"
    chorus.run(6)
    assert not chorus.is_right(5), f"seed {SEED}"


def test_a_batch_of_given_texts_has_as_many_as_it_has_room_for() -> None:
    inputs = cuda().assistant.inputs("generate_batch", SEED, 3)
    with pytest.raises(ValueError, match="text: give 3 texts, not 1"):
        lane().evaluate("generate_batch", inputs | {"ends": inputs["ends"][:1]})


@pytest.mark.parametrize("adds", [False, True])
def test_a_product_on_the_device_is_that_of_float64(adds: bool) -> None:
    random = np.random.default_rng(SEED)
    device = EmulatedDevice(seed=SEED)
    rows, columns, inner = (int(each) for each in random.integers(1, 40, 3))
    left, right, before = (
        random.standard_normal(size).astype(np.float32)
        for size in ((rows, inner), (columns, inner), (rows, columns))
    )
    buffers = [device.uploaded(each.reshape(-1)) for each in (before, left, right)]
    device.stream().matmul(*buffers, (rows, columns, inner), scale=0.5, adds=adds)
    expected = 0.5 * left.astype(np.float64) @ right.T + (before if adds else 0.0)
    assert np.allclose(buffers[0].array.reshape(rows, columns), expected, atol=1e-4), SEED


@pytest.mark.parametrize("speech", [SmallSpeech, StagedSpeech])
def test_an_answer_moves_what_it_declares_and_no_access_races(
    speech: type[SmallSpeech | StagedSpeech],
) -> None:
    component, device = (
        Assistant(utterances=64, tokens=3),
        EmulatedDevice(seed=SEED, build="traced"),
    )
    native = component.prepare(seed=SEED, threads=2).native
    lane = CudaAssistant(component, native, device, SEED).operation(block=64, speech=speech)
    with costs.followed(lane) as done:
        lane.run("generate", SEED)
    costs.check(done, lane.cost("generate"), f"seed {SEED}")


@pytest.mark.parametrize("model", SHAPES)
def test_the_device_holds_what_the_formula_says_with_either_model(model: Model) -> None:
    device, base = EmulatedDevice(seed=SEED), cuda(model, 2)
    made = CudaAssistant(base.assistant, base.native, device, SEED)
    for lanes in (1, 2):
        made.operation()
        assert device.allocated_bytes == CudaAssistant.device_bytes(base.assistant, lanes)


def test_a_full_answer_is_that_of_the_native_decoder() -> None:
    speaking = cuda("small", 64)
    inputs = speaking.assistant.inputs("generate", SEED, 3)
    found = speaking.operation().evaluate("generate", dict(inputs))
    right = speaking.native.evaluate("generate", inputs)
    assert agree(found, right, Assistant.tolerance), f"seed {SEED}"
    assert len(set(found["tokens"].tolist())) > 5


def test_the_store_of_feedback_is_a_ring_and_counts_what_it_took() -> None:
    learning = cuda().operation()
    for key in range(12):
        learning.run("learn", key)
        assert learning.verify() == (1, 0), f"seed {SEED}, key {key}"
    store = learning._learner._store.array.reshape(-1, 2)  # type: ignore[attr-defined]
    assert sorted(store[:, 0].tolist()) == [7, 8, 9, 10, 11]
    assert store[11 % 5, 0] == 11


def test_what_is_parsed_does_not_depend_on_what_was_learned() -> None:
    learning, text = cuda().operation(), given(b"deploy ledger v1.2.3 to production")
    before = learning.evaluate("parse", text)
    for key in range(20):
        learning.run("learn", key)
    assert same_arrays(learning.evaluate("parse", text), before)


def test_held_out_utterances_are_understood_on_the_device() -> None:
    drawn_texts = utterances("held_out", SEED, 1 << 30, 200)
    found = [lane().evaluate("parse", given(each.text))["label"][0] for each in drawn_texts]
    right = [int(label) == each.label for label, each in zip(found, drawn_texts, strict=True)]
    assert np.mean(right) >= 0.9, f"seed {SEED}"


def test_a_digest_sees_two_tokens_change_places() -> None:
    tokens = np.array([3, 1, 4, 1, 5], np.uint32)
    assert digest_of(tokens) != digest_of(tokens[::-1])
    assert digest_of(tokens) != digest_of(tokens[:-1])
