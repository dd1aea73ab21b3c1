"""The command line: what it says, where it says it, and the status that it ends with."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from figures import result, result_json
from goldens import GOLDEN, REFUSED, help_texts, refusals, swarmbench
from swarmbench.ceilings import MEANINGS, Calibration
from swarmbench.config import Config
from swarmbench.errors import PRECEDENCE, MachineError, SafetyStop, Status, final_status
from swarmbench.plan import Plan
from swarmbench.report.machine import ceilings_text
from swarmbench.rundir import RunDirectory
from swarmbench.schema import Result

NULL = ("max-throughput", "--components", "null")


def test_every_help_is_the_golden_one() -> None:
    assert help_texts() == (GOLDEN / "help.txt").read_text(encoding="utf-8")


def test_every_command_has_an_example() -> None:
    texts = help_texts().split("\n$ swarmbench")
    shown = [text for text in texts if "Commands:" not in text]
    assert len(shown) >= 4
    assert all("Example: swarmbench" in text for text in shown)


def test_every_refusal_is_the_golden_one(tmp_path: Path) -> None:
    assert refusals(tmp_path) == (GOLDEN / "refusals.txt").read_text(encoding="utf-8")


def test_every_refusal_is_one_line_with_status_2_and_makes_nothing(tmp_path: Path) -> None:
    said = refusals(tmp_path).split("$ swarmbench")[1:]
    assert len(said) == len(REFUSED)
    for each in said:
        head, line, *rest = each.splitlines()
        assert head.endswith("# 2")
        assert line.startswith("error: ")
        assert not "".join(rest)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bad.yaml",
        "list.yaml",
        "typo.yaml",
    ]


def test_a_machine_that_cannot_is_status_3_with_a_hint(tmp_path: Path) -> None:
    ended = swarmbench(*NULL, "--backend", "cuda", "--out", str(tmp_path / "runs"))
    assert ended.status == 3
    assert ended.stdout == ""
    error, hint = ended.stderr.splitlines()
    assert error.startswith("error: backend `cuda` cannot run null: ")
    assert hint == "hint: run `swarmbench doctor`, or choose `--backend cpu`"
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_says_what_it_costs_and_makes_nothing(tmp_path: Path) -> None:
    ended = swarmbench(*NULL, "--dry-run", "--out", str(tmp_path / "runs"))
    assert ended.status == 0
    assert "time      1.0 minutes" in ended.stdout
    assert "writes    " in ended.stdout
    assert "memory    140 MB of " in ended.stdout
    planned = json.loads(swarmbench(*NULL, "--dry-run", "--json", "--seed", "5").stdout)
    assert planned["seed"] == 5
    assert list(tmp_path.iterdir()) == []


@dataclass
class Finished:
    """What a run leaves to the command line."""

    result: Result | None
    directory: Path
    statuses: set[Status] = field(default_factory=set)


Execute = Callable[..., Finished]


@contextmanager
def executed(execute: Execute) -> Iterator[None]:
    """Puts `execute` where the command line looks for the run."""
    module = ModuleType("swarmbench.run")
    module.execute = execute  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "swarmbench.run", module)
        yield


def test_a_run_gets_the_resolved_plan_and_its_result_is_shown(tmp_path: Path) -> None:
    plans: list[Plan] = []

    def execute(plan: Plan, *, out: Path, allow_concurrent: bool, progress: object) -> Finished:
        plans.append(plan)
        assert callable(progress)
        assert allow_concurrent
        return Finished(result(), out / "run", result().statuses())

    options = "--seed 9 --duration 30s --name nightly --max-multiplier 8 --allow-concurrent"
    with executed(execute):
        ended = swarmbench(*NULL, *options.split(), "--out", str(tmp_path))
    assert ended.status == 0
    assert ended.stdout.startswith("max-throughput: WARN\n")
    assert ended.stdout.endswith(f"record: {tmp_path}/run\n")
    assert ended.stderr == ""
    assert (plans[0].seed, plans[0].name, plans[0].max_multiplier) == (9, "nightly", 8.0)
    assert plans[0].phases.total_s == pytest.approx(30)


def test_json_is_one_object_on_stdout_and_nothing_else(tmp_path: Path) -> None:
    def execute(plan: Plan, **_: Any) -> Finished:
        return Finished(result(), tmp_path, {Status.UNTRUSTED, Status.CRITERION_FAILED})

    with executed(execute):
        ended = swarmbench(*NULL, "--json", "--out", str(tmp_path))
    assert ended.status == 7
    assert Result.model_validate(json.loads(ended.stdout)) == result()
    assert ended.stderr == ""


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (SafetyStop("the disk is full", hint="make room"), 4, "error: the disk is full\nhint: "),
        (MachineError("another run is here"), 3, "error: another run is here\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_a_failure_ends_in_one_line_and_its_status(
    tmp_path: Path, raised: BaseException, status: int, said: str
) -> None:
    def execute(plan: Plan, **_: Any) -> Finished:
        raise raised

    with executed(execute):
        ended = swarmbench(*NULL, "--out", str(tmp_path))
    assert (ended.status, ended.stdout) == (status, "")
    assert ended.stderr.startswith(said)


def test_an_interrupted_run_without_a_result_still_names_its_record(tmp_path: Path) -> None:
    def execute(plan: Plan, **_: Any) -> Finished:
        return Finished(None, tmp_path / "run", {Status.INTERRUPTED, Status.CRITERION_FAILED})

    with executed(execute):
        ended = swarmbench(*NULL, "--out", str(tmp_path))
    assert ended.status == 130
    assert ended.stdout == f"record: {tmp_path}/run\n"


def test_of_several_statuses_the_one_of_the_contract_is_chosen() -> None:
    assert [int(status) for status in PRECEDENCE] == [2, 130, 4, 3, 5, 7, 1, 0]
    for first, second in itertools.combinations(PRECEDENCE, 2):
        assert final_status([second, first]) == final_status([first, second]) == first
    assert final_status([]) == 0
    assert set(PRECEDENCE) == set(Status)
    with pytest.raises(ValueError, match="6 is not a valid"):
        final_status([6])


def test_the_schema_of_configurations_is_json_schema_and_takes_the_defaults() -> None:
    schema = json.loads(swarmbench("config", "schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(Config.model_validate({}).model_dump(mode="json"), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"seed": "seven"}, schema)
    of_result = json.loads(swarmbench("config", "schema", "--result").stdout)
    jsonschema.validate(result_json(), of_result)


def test_config_show_prints_the_resolved_plan() -> None:
    words = "config show --components null --set seed=7 --set settings.duration=90s --json"
    shown = json.loads(swarmbench(*words.split()).stdout)
    assert shown["seed"] == 7
    assert sum(shown["phases"].values()) == pytest.approx(90)
    text = swarmbench(*words.split()[:-1])
    assert text.status == 0
    assert "\nseed: 7\n" in text.stdout


def test_doctor_gives_every_finding_as_text_and_as_json(tmp_path: Path) -> None:
    ended = swarmbench("doctor", "--out", str(tmp_path), "--json")
    findings = json.loads(ended.stdout)["findings"]
    assert {each["state"] for each in findings} <= {"ok", "warn", "missing"}
    text = swarmbench("doctor", "--out", str(tmp_path)).stdout
    assert all(f"{each['name']}:" in text for each in findings)
    assert max(map(len, text.splitlines())) <= 80
    assert list(tmp_path.iterdir()) == []


def test_calibrate_gives_every_ceiling_and_leaves_nothing(tmp_path: Path) -> None:
    words = "calibrate --duration 1s --json --allow-concurrent --threads 1 --out"
    ended = swarmbench(*words.split(), str(tmp_path))
    assert (ended.status, ended.stderr) == (0, "")
    found = Calibration.from_json(json.loads(ended.stdout))
    assert found.threads == 1
    assert found.ceilings["copy_bytes_s"].value > 0
    assert set(found.ceilings) | set(found.absent) == set(MEANINGS)
    text = ceilings_text(found)
    assert all(name in text for name in MEANINGS)
    assert list(tmp_path.iterdir()) == []


def test_list_tells_finished_runs_from_those_that_go_on_and_those_cut_off(tmp_path: Path) -> None:
    assert swarmbench("list", "--out", str(tmp_path / "absent")).stdout == "no runs\n"
    (tmp_path / "other").mkdir()
    for finished in (False, True):
        with RunDirectory.create(tmp_path, "max-throughput", started=result().started) as run:
            run.write_manifest({})
            going = json.loads(swarmbench("list", "--out", str(tmp_path), "--json").stdout)["runs"]
            assert {each["run"]: each["state"] for each in going}[run.run_id] == "running"
            if finished:
                run.write_result(result())
    listed = json.loads(swarmbench("list", "--out", str(tmp_path), "--json").stdout)["runs"]
    assert sorted((run["state"], run["verdict"], run["breaking_point"]) for run in listed) == [
        ("complete", "warn", 4.2),
        ("incomplete", None, None),
    ]
    assert "complete    warn     4.2x" in swarmbench("list", "--out", str(tmp_path)).stdout


options = some.sampled_from(
    [
        *("--profile", "--duration", "--components", "--backend", "--device", "--seed", "--cpus"),
        *("--threads", "--sample-interval", "--memory-budget", "--disk-write-budget", "--set"),
        *("--max-multiplier", "--slo-degradation", "--simulate", "--name", "--json", "--x"),
    ]
)
odd_values = some.sampled_from(
    [
        *("", "0", "-1", "7", "nan", "1e99", "50%", "9s", "64GB", "null", "full", "cuda", "auto"),
        *("mm1:knee=3", "seed=", "settings=7", "workloads.null=", "a.b=[1", "criteria=[7]"),
        *("workloads.null.params={x: 1}", "health.interval=1s", "\x00", "[", "{}", "!!x y", "*a"),
    ]
)


@settings(max_examples=100, deadline=None)
@given(some.lists(some.tuples(options, odd_values), max_size=3))
def test_whatever_is_typed_ends_in_a_plan_or_one_line(words: list[tuple[str, str]]) -> None:
    typed = [word for pair in words for word in pair]
    ended = swarmbench(*NULL, "--dry-run", *typed)
    assert ended.status in (0, 2, 3)
    assert bool(ended.stdout) == (ended.status == 0)
    lines = ended.stderr.splitlines()
    assert len(lines) == {0: 0, 2: 1, 3: 2}[ended.status]
    assert not lines or lines[0].startswith("error: ")


def test_the_module_is_a_program_that_is_quiet_when_its_reader_leaves() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "swarmbench", "config", "schema"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, b"")
