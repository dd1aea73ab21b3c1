"""The published result: its conservation law, its JSON Schema, the exit statuses it calls for."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from figures import result, result_json
from swarmbench.errors import Status
from swarmbench.schema import (
    BOTTLENECKS_SCHEMA,
    PUBLISHED,
    RESULT_SCHEMA,
    Bottlenecks,
    Result,
    json_schema,
    published_path,
    published_text,
)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_schema_is_the_one_of_the_models(name: str) -> None:
    assert published_path(name).read_text(encoding="utf-8") == published_text(name)


def test_a_result_is_valid_against_its_json_schema_and_reads_back() -> None:
    content = result().to_json()
    jsonschema.validate(content, json_schema(RESULT_SCHEMA))
    assert Result.model_validate_json(json.dumps(content)) == result()
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**content, "seed": "seven"}, json_schema(RESULT_SCHEMA))


def test_findings_are_valid_against_their_json_schema() -> None:
    finding = {
        "resource": "memory_bandwidth",
        "component": "streaming",
        "phase": "search",
        "start_s": 31.0,
        "duration_s": 2.0,
        "measured": 1.9,
        "threshold": 1.3,
        "unit": "x",
        "evidence": "the copy canary ran at 53 % of its idle speed",
    }
    found = Bottlenecks.model_validate({"run_id": "a", "bottlenecks": [finding]})
    jsonschema.validate(found.to_json(), json_schema(BOTTLENECKS_SCHEMA))


def objects(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Every object of the result that the law of conservation holds for."""
    components = [each for phase in content["phases"] for each in phase["components"].values()]
    components += content["components"].values()
    return components + [each for part in components for each in part["operations"].values()]


def test_an_operation_that_is_lost_in_any_object_is_refused() -> None:
    count = len(objects(result_json()))
    assert count == 5 * 3 * 2
    for position in range(count):
        content = json.loads(json.dumps(result_json()))
        objects(content)[position]["ok"] -= 1
        with pytest.raises(ValidationError, match="are accounted for"):
            Result.model_validate(content)


@pytest.mark.parametrize(
    ("key", "value"),
    [("seed", -1), ("verdict", "good"), ("started", "2026-01-02T03:04:05"), ("extra", 1)],
)
def test_a_result_outside_its_shape_is_refused(key: str, value: object) -> None:
    with pytest.raises(ValidationError):
        Result.model_validate({**result_json(), key: value})


def test_percentiles_that_descend_or_are_not_finite_are_refused() -> None:
    content = result_json()
    response = content["components"]["consensus"]["response_ns"]
    for change in ({"p90": response["p99"] + 1}, {"mean": float("nan")}):
        content["components"]["consensus"]["response_ns"] = response | change
        with pytest.raises(ValidationError):
            Result.model_validate(content)


def test_a_result_calls_for_the_statuses_that_its_content_deserves() -> None:
    content = result_json()
    assert Result.model_validate(content).statuses() == {Status.OK}
    content["criteria"][0]["verdict"] = "fail"
    content["verdict"] = "untrusted"
    content["phases"][2]["components"]["streaming"]["violations"] = 1
    assert Result.model_validate(content).statuses() == {
        Status.OK,
        Status.WRONG_RESULT,
        Status.UNTRUSTED,
        Status.CRITERION_FAILED,
    }


def test_an_unresolved_or_censored_criterion_calls_for_no_status() -> None:
    content = result_json()
    content["criteria"][0]["verdict"] = "unresolved"
    content["criteria"][1]["verdict"] = "censored"
    assert Result.model_validate(content).statuses() == {Status.OK}
