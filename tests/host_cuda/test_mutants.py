"""Kernels with a barrier, fence or atomic taken away: each is seen by what the tests look at."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mutated_run import altered

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
    "fence": (r"__threadfence\(\);", ";"),
    "atomicity": (
        r"(?m)^( +(?:if \([^;{]*\) )?)atomicAdd\(([^;]+?), ([^;,]+)\);",
        r"\1*(\2) += \3;",
    ),
}
NUMBA_MUTATIONS = {
    "barrier": (r"cuda\.syncthreads\(\)", "None"),
    "atomicity": (r"cuda\.atomic\.(?=add|or_|xor|min|exch)", "plain_"),
}
#: What the emulator never misses and a card may, by how it begins: it stands between two atomics,
#: what blocks found and the count of blocks. In the emulator the last block is the last at both.
UNSEEN = {
    "assistant_stages.cu": "__threadfence();",
    "consensus.cu": "__syncthreads();\n    if (threadIdx.x == 0) *is_last",
    "consensus_elect.cu": "__threadfence();",
}
#: Files in Numba whose kernels wait for each other; the agents' own tests run them.
NUMBA_FILES = ("agents.py", "births.py", "slab.py", "turnover.py")


def mutations(file: str) -> dict[str, tuple[str, str]]:
    """What can be taken from a file."""
    return NUMBA_MUTATIONS if source.is_numba(file) else MUTATIONS


def files_of(name: str) -> list[str]:
    """The kernel files of a component and their headers."""
    if name == "agents":
        return list(NUMBA_FILES)
    found = [path.name for path in source.DIRECTORY.iterdir() if path.suffix in (".cu", ".cuh")]
    return sorted(file for file in found if file.startswith(name))


def mutants() -> Iterator[tuple[str, str, str, int]]:
    """(component, file, mutation, position) of every place that something can be taken from."""
    for name in CUDA:
        for file in files_of(name):
            text, unseen = source.text_of(file), UNSEEN.get(file, "nothing")
            for mutation, (pattern, _) in mutations(file).items():
                for found in re.finditer(pattern, text):
                    if not text.startswith(unseen, found.start()):
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
    text, (pattern, replacement) = source.text_of(file), mutations(file)[mutation]
    found = re.compile(pattern).search(text, at)
    assert found is not None
    replaced = found.expand(replacement)
    with monkeypatch.context() as changed:
        changed.setattr(source, "text_of", altered(file, at, found.end(), replaced))
        source.kernels.cache_clear()
        try:
            # Numba's modules are loaded once: they are altered in a process of their own.
            seen = not source.is_numba(file) and is_seen(name)
        finally:
            source.kernels.cache_clear()
    line = text[:at].count("\n") + 1
    assert seen or fails_its_own_tests(name, file, at, found.end(), replaced), (
        f"{file}:{line}: without this {mutation} every check still passes"
    )
