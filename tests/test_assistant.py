"""The assistant against its NumPy reference, and what holds of it for any text and any budget."""

from __future__ import annotations

import json
import re
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from swarmbench import _native
from swarmbench.components import intents
from swarmbench.components.assistant import Assistant, learned
from swarmbench.components.assistant import joined as answers_joined
from swarmbench.components.base import Arrays, agree, same_arrays
from swarmbench.components.decoder import SHAPES, decoder
from swarmbench.components.utterances import UNKNOWN, command, grammar, utterances

SEED = 20240607
KINDS = len(grammar().kinds)


@cache
def native() -> _native.Component:
    return Assistant.small().prepare(seed=SEED, threads=2).native


def text_of(text: bytes) -> np.ndarray:
    return np.frombuffer(text, dtype=np.uint8).copy()


def joined(texts: list[bytes]) -> Arrays:
    ends = np.cumsum([len(text) for text in texts]).astype(np.uint32)
    return {"text": text_of(b"".join(texts)), "ends": ends}


@pytest.mark.parametrize(("number", "split"), [(0, "train"), (1, "held_out")])
def test_native_utterances_are_those_of_the_numpy_generator(number: int, split: str) -> None:
    for first in (0, (1 << 40) + 3):
        drawn = utterances(split, SEED, first, 500)  # type: ignore[arg-type]
        asked = np.array([number, first, 500], dtype=np.uint64)
        made = native().evaluate("utterances", {"range": asked})
        slots = np.zeros((500, KINDS, 2), dtype=np.uint8)
        for row, each in zip(slots, drawn, strict=True):
            for kind, place in each.slots.items():
                row[kind] = place
        right = joined([each.text for each in drawn])
        right["label"] = np.array([each.label for each in drawn], dtype=np.uint8)
        right["slots"] = slots.reshape(-1)
        assert same_arrays(made, right)
        assert all(20 <= len(each.text) <= 120 for each in drawn)


def test_trained_weights_are_those_of_the_numpy_training_bit_for_bit() -> None:
    made = native().evaluate("weights", {})["weights"].reshape(intents.BUCKETS, intents.LANES)
    assert np.array_equal(made, intents.trained(SEED))
    assert np.abs(made).max() <= intents.WEIGHT_MAX
    assert not np.array_equal(made, intents.trained(SEED + 1))


def test_held_out_utterances_are_understood_and_none_of_their_templates_was_trained_on() -> None:
    facts = json.loads(native().describe())
    assert facts["templates"] == grammar().templates() > 1000
    assert facts["accuracy"] >= 0.95
    assert facts["unknown_recall"] >= 0.90
    assert facts["slot_accuracy"] >= 0.95
    assert facts["command_round_trip"] == 1.0

    # The same figure from other utterances of the held-out templates, by the reference.
    drawn = utterances("held_out", SEED, 1 << 30, 1500)
    weights = intents.trained(SEED)
    found = [intents.parse(weights, each.text)[0] for each in drawn]
    right = [label == each.label for label, each in zip(found, drawn, strict=True)]
    assert np.mean(right) >= 0.95
    assert np.mean([ok for ok, each in zip(right, drawn, strict=True) if not each.label]) >= 0.90

    # A classifier that has learned nothing would not pass.
    nothing = np.zeros_like(weights)
    guesses = [intents.parse(nothing, each.text)[0] == each.label for each in drawn[:300]]
    assert np.mean(guesses) < 0.5


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_as_the_reference_parses_them(text: bytes) -> None:
    found = native().evaluate("parse", {"text": text_of(text)})
    label, slots = intents.parse(intents.trained(SEED), text)
    assert found["label"].tolist() == [label]
    assert found["slots"].tolist() == slots.reshape(-1).tolist()


_WORDS = (
    "deploy ledger v1.2. v1..2 7 7% 07:15 7:1 5 days minutes INC-12 inc-1x node-7 agent-7: don't "
    "us-east-1 . : a production, 123:45 99: 12% 12%% error; (cpu) 1 weeks 2"
)
_words = st.sampled_from(_WORDS.split())


@settings(max_examples=300, deadline=None)
@given(st.lists(_words, max_size=40))
def test_words_that_look_like_entities_are_tagged_as_the_reference_tags_them(
    words: list[str],
) -> None:
    text = " ".join(words).encode()
    found = native().evaluate("parse", {"text": text_of(text)})
    label, slots = intents.parse(intents.trained(SEED), text)
    assert found["label"].tolist() == [label]
    assert found["slots"].tolist() == slots.reshape(-1).tolist()


def test_a_command_is_parsed_back_to_its_intent_and_values_whatever_they_are() -> None:
    texts, labels, wanted = [], [], []
    for each in utterances("train", SEED, 0, 3000) + utterances("held_out", SEED, 0, 1000):
        if each.label != UNKNOWN:
            values = {k: each.text[s : s + length] for k, (s, length) in each.slots.items()}
            texts.append(command(each.label, values))
            labels.append(each.label)
            wanted.append(values)
    found = native().evaluate("parse", joined(texts))
    assert found["label"].tolist() == labels
    for text, slots, values in zip(
        texts, found["slots"].reshape(-1, KINDS, 2), wanted, strict=True
    ):
        assert {k: text[s : s + n] for k, (s, n) in enumerate(slots.tolist()) if n} == values


def test_a_batch_gives_what_each_text_alone_gives() -> None:
    texts = [each.text for each in utterances("held_out", SEED, 0, 50)]
    batch = native().evaluate("parse", joined(texts))
    alone = [native().evaluate("parse", {"text": text_of(text)}) for text in texts]
    for part in ("label", "slots"):
        assert np.array_equal(batch[part], np.concatenate([each[part] for each in alone]))
    wrong = joined(texts) | {"ends": np.array([9, 5], dtype=np.uint32)}
    with pytest.raises(ValueError, match="ends: does not ascend"):
        native().evaluate("parse", wrong)


@pytest.mark.parametrize("model", SHAPES)
def test_logits_are_near_float64_at_every_position(model: str) -> None:
    component = Assistant(model=model, utterances=64)
    tokens = [0, 5, 5, 895, 17, 400, 3]
    right = decoder(component.model, SEED).logits(tokens).reshape(-1)
    made = component.prepare(seed=SEED, threads=2).native
    found = made.evaluate("logits", {"tokens": np.array(tokens, dtype=np.uint32)})
    expected = {"logits": right.astype(np.float32)}
    assert agree(found, expected, Assistant.tolerance)
    assert not agree({"logits": found["logits"] + np.float32(1e-4)}, expected, Assistant.tolerance)
    assert np.std(right) > 0.5


def test_full_answers_are_the_references_tokens_and_say_more_than_one_thing() -> None:
    component = Assistant(utterances=64)
    made = component.prepare(seed=SEED).native
    for key in range(4):
        inputs = component.inputs("generate", SEED, key)
        found, right = made.evaluate("generate", inputs), component.reference("generate", inputs)
        assert agree(found, right, component.tolerance)
        assert len(found["tokens"]) == 64
        assert len(set(found["tokens"].tolist())) > 5


@pytest.mark.parametrize("prompts", [2, 7, 32])
def test_a_batch_of_requests_is_answered_as_each_is_alone_bit_for_bit(prompts: int) -> None:
    component = Assistant(utterances=256, tokens=6, prompts=prompts)
    made = component.prepare(seed=SEED).native
    for key in (0, 9, (1 << 64) - 1):
        inputs = component.inputs("generate_batch", SEED, key)
        starts = [0, *inputs["ends"].tolist()]
        alone = []
        for place, each in enumerate(component.keys_of(key)):
            single = component.inputs("generate", SEED, each)
            text = inputs["text"][starts[place] : starts[place + 1]]
            assert np.array_equal(text, single["text"])
            alone.append(made.evaluate("generate", single))
        assert same_arrays(made.evaluate("generate_batch", inputs), answers_joined(alone))
    wrong = inputs | {"label": np.zeros(prompts, np.uint8)}
    with pytest.raises(ValueError, match="label: must be one that has an intent for every text"):
        made.evaluate("generate_batch", wrong)


def test_learning_in_a_row_is_the_references_bit_for_bit_and_lowers_the_loss() -> None:
    drawn = utterances("held_out", SEED, 0, 200)
    texts, labels = [each.text for each in drawn], [each.label for each in drawn]
    inputs = joined(texts) | {"label": np.array(labels, dtype=np.uint8)}
    right = learned(intents.trained(SEED), texts, labels)
    found = native().evaluate("learn", inputs)
    assert same_arrays(found, right)

    def losses(scores: np.ndarray) -> np.ndarray:
        signs = np.where(np.arange(intents.LANES) == np.array(labels)[:, None], 1, -1)
        margins = signs * scores.reshape(-1, intents.LANES)
        return np.maximum(0, intents.MARGIN - margins)[:, : intents.classes()].sum(axis=1)

    before, after = losses(found["before"]), losses(found["after"])
    assert (after <= before).all()
    assert (after < before).any()
    wrong = inputs | {"label": np.full(200, intents.classes(), dtype=np.uint8)}
    with pytest.raises(ValueError, match="label: must be one of a class"):
        native().evaluate("learn", wrong)


def test_feedback_is_conserved_over_threads_and_memory_is_bounded() -> None:
    made = Assistant(utterances=64, feedback_max=10).prepare(seed=SEED).native
    made.run("learn", count=500, threads=2)
    totals = dict(made.counters())
    assert totals["feedback_received"] == 1000
    assert totals["feedback_stored"] + totals["feedback_forgotten"] == 1000
    assert totals["feedback_corrections"] <= 1000
    made.run("parse", count=640, threads=2)
    totals = dict(made.counters())
    assert totals["checked_parses"] == 1280 / 16
    assert totals["checked_parses_right"] >= 0.9 * totals["checked_parses"]


def test_what_is_parsed_does_not_depend_on_what_was_learned() -> None:
    component = Assistant.small()
    made = component.prepare(seed=SEED).native
    inputs = component.inputs("parse", SEED, 7)
    before = made.evaluate("parse", inputs)
    made.run("learn", count=2000)
    assert same_arrays(made.evaluate("parse", inputs), before)


@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize("model", SHAPES)
def test_the_formula_counts_the_native_bytes(workers: int, model: str) -> None:
    component = Assistant(utterances=100, feedback_max=77, model=model)
    made = component.prepare(seed=SEED, threads=2).native
    assert made.resident_bytes(workers) == component.resident_bytes(workers)


@example(budget=7_133_536, workers=3)
@given(st.integers(min_value=1 << 20, max_value=64 << 20), st.integers(1, 8))
def test_a_budget_is_kept_or_the_smallest_version_is_left(budget: int, workers: int) -> None:
    fitted, lines = Assistant().fitted(budget, workers)
    if fitted.peak_bytes(workers) > budget:
        assert (fitted.utterances, fitted.feedback_max) == (64, 1)
    assert bool(lines) == (fitted != Assistant())
    assert all(re.fullmatch(r"assistant\.\w+: \d+ -> \d+", line) for line in lines)


@pytest.mark.parametrize(
    "wrong",
    [{"utterances": 63}, {"feedback_max": 0}, {"tokens": 65}, {"prompts": 1}, {"model": "huge"}],
)
def test_parameters_out_of_bounds_are_refused_on_both_sides(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Assistant(**wrong)
    parameters = json.loads(Assistant().model_dump_json()) | wrong
    with pytest.raises(
        ValueError, match=str(next(iter(wrong if "model" not in wrong else ["huge"])))
    ):
        _native.Component("assistant", json.dumps(parameters), seed=1)


def test_another_seed_than_the_builds_is_refused() -> None:
    inputs = Assistant.small().inputs("parse", SEED, 0) | {"seed": np.array([1], np.uint64)}
    with pytest.raises(ValueError, match=f"seed: the component was built for {SEED}"):
        native().evaluate("parse", inputs)
