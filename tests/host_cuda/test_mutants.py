"""Kernels with a barrier or an atomic taken away: each has to be seen by what the tests look at."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import demanding
from swarmbench.components import COMPONENTS
from swarmbench.components.base import agree
from swarmbench.components.cuda import CUDA
from swarmbench.gpu import source
from swarmbench.gpu.emulated import EmulatedDevice, EmulationError

SEED, KEY = 20_240_607, 12_345
TESTS = Path(__file__).parent.parent
RUN = Path(__file__).parent / "mutated_run.py"
#: What is taken away, and what stands in its place.
MUTATIONS = {
    "barrier": (r"__syncthreads\(\);", ";"),
    "warp barrier": (r"__syncwarp\([^;]*\);", ";"),
    "atomicity": (
        r"(?m)^( +(?:if \([^;{]*\) )?)atomicAdd\(([^;]+?), ([^;,]+)\);",
        r"\1*(\2) += \3;",
    ),
}


def mutants() -> Iterator[tuple[str, str, str, int]]:
    """(component, file, mutation, position) of every place that something can be taken from."""
    for name in CUDA:
        for file in (each for each in source.files() if each.startswith(name)):
            for mutation, (pattern, _) in MUTATIONS.items():
                for found in re.finditer(pattern, source.text_of(file)):
                    yield name, file, mutation, found.start()


def is_seen(name: str) -> bool:
    """Whether a run of every op stops, answers wrongly or is found wrong by its own check."""
    component = COMPONENTS[name].small()
    native = component.prepare(backend="cpu", seed=SEED).native
    try:
        device = EmulatedDevice(seed=SEED, build="traced", is_random=True)
        lane = CUDA[name](component, native, device, SEED).operation()
        for op in component.ops:
            for key in (KEY, KEY + 1):
                done = lane.run(op.name, key)
                if done.status != "ok" or lane.verify()[1]:
                    return True
            inputs = component.inputs(op.name, SEED, KEY)
            found = lane.evaluate(op.name, dict(inputs))
            if not agree(found, component.reference(op.name, inputs), component.tolerance):
                return True
        for asked, inputs in demanding.inputs_of(name, SEED):
            found = lane.evaluate(asked, inputs)
            if not agree(found, component.reference(asked, inputs), component.tolerance):
                return True
    except (EmulationError, AssertionError):
        return True
    return False


def fails_its_own_tests(name: str, file: str, first: int, last: int, replacement: str) -> bool:
    """Whether the component's own tests of its kernels fail, which go more ways than `small`."""
    tests = TESTS / f"test_cuda_{name}.py"
    command = [sys.executable, RUN, file, str(first), str(last), replacement, tests]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED), ended.stdout
    return ended.returncode == pytest.ExitCode.TESTS_FAILED


@pytest.mark.soak
@pytest.mark.parametrize(("name", "file", "mutation", "at"), list(mutants()))
def test_what_is_taken_away_is_seen(
    name: str, file: str, mutation: str, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, (pattern, replacement) = source.text_of, MUTATIONS[mutation]
    found = re.compile(pattern).search(whole(file), at)
    assert found is not None
    replaced = found.expand(replacement)

    def mutated(asked: str) -> str:
        text = whole(asked)
        return text[:at] + replaced + text[found.end() :] if asked == file else text

    monkeypatch.setattr(source, "text_of", mutated)
    source.kernels.cache_clear()
    try:
        seen = is_seen(name)
    finally:
        source.kernels.cache_clear()
    line = whole(file)[:at].count("\n") + 1
    assert seen or fails_its_own_tests(name, file, at, found.end(), replaced), (
        f"{file}:{line}: without this {mutation} every check still passes"
    )
