"""The Python examples of the README that need no minute of load: they run and say what is said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from swarmbench import components
from swarmbench.components.prepared import Prepared, Tally
from swarmbench.errors import ConfigurationError, MachineError

README = Path(__file__).resolve().parent.parent / "README.md"


def example(first_line: str) -> str:
    """The Python block of the README that begins with a line."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (found,) = [block for block in blocks if block.startswith(first_line)]
    return str(found)


def test_the_example_of_one_component_does_what_it_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names: dict[str, Any] = {}
    exec(example("from swarmbench import components"), names)
    votes, outcome = names["votes"], names["outcome"]
    assert isinstance(votes, Prepared)
    assert isinstance(outcome, Tally)
    assert votes.component == components.Consensus(batch=65536, byzantine=0.33, mix="byzantine")
    assert (outcome.ops, outcome.units, outcome.unit) == (100, 100 * 65536, "votes")
    assert outcome.bytes == 16 * outcome.units
    assert outcome.verified > 0
    assert outcome.violations == 0
    assert outcome.ns_per_op == pytest.approx((outcome.elapsed_ns - outcome.verify_ns) / 100)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"100 {outcome.ns_per_op} {16 * 100 * 65536}"
    assert lines[2] == f"{outcome.verified} 0"


def test_a_backend_that_is_not_there_is_one_clear_error() -> None:
    votes = components.Consensus()
    with pytest.raises(ConfigurationError) as unknown:
        votes.prepare(backend="gpu", seed=7)
    assert str(unknown.value) == "backend: there is no `gpu`; choose one of cpu, cuda"
    with pytest.raises(MachineError, match="backend `cuda` cannot run null: ") as absent:
        components.Null().prepare(backend="cuda", seed=7)
    assert absent.value.hint == "prepare it with backend='cpu'"


def test_an_op_or_a_number_that_is_not_there_is_refused_before_anything_runs() -> None:
    votes = components.Consensus().prepare(seed=7)
    with pytest.raises(ConfigurationError) as unknown:
        votes.run(op="vote")
    assert str(unknown.value) == (
        "op: `consensus` has no op `vote`; choose one of decide, tally, generate, elect"
    )
    for wrong in ({"batches": 0}, {"threads": -1}):
        with pytest.raises(ConfigurationError, match="is out of range; give at least 1"):
            votes.run(**wrong)


def test_threads_share_nothing_of_a_tally_and_unchecked_answers_are_said() -> None:
    votes = components.Consensus().prepare(seed=7)
    found = votes.run(batches=10, threads=2, op="elect", first_key=5)
    assert (found.ops, found.threads, found.op, found.unit) == (20, 2, "elect", "candidates")
    assert votes.run(verify=False).verified == 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"byzantine": 0.3, "duplicates": 0.5}, "give byzantine or duplicates"),
        ({"byzantine": 1.5}, "less than or equal to 1"),
    ],
)
def test_shares_of_a_mix_that_make_no_sense_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        components.Consensus(**wrong)
    assert components.Consensus(duplicates=0.2).mix == "duplicates"
