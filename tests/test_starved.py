"""A generator that gets no processor time says so of its own run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmbench.errors import Status

SPIN = "import os; os.sched_setaffinity(0, [{}])\nwhile True: pass"


@pytest.fixture
def crowded_cpu() -> Iterator[int]:
    """A core on which four programs spin."""
    cpu = min(os.sched_getaffinity(0))
    command = [sys.executable, "-c", SPIN.format(cpu)]
    children = [subprocess.Popen(command) for _ in range(4)]
    yield cpu
    for child in children:
        child.kill()
        child.wait()


def test_a_generator_starved_of_its_core_is_not_to_be_trusted(
    crowded_cpu: int, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "swarmbench", "max-throughput", "--components", "null"]
    command += ["--threads", "1", "--cpus", str(crowded_cpu), "--duration", "10s"]
    command += ["--out", str(tmp_path), "--allow-concurrent", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    result = json.loads(ended.stdout)
    assert ended.returncode == Status.UNTRUSTED, ended.stderr
    assert result["verdict"] == "untrusted"
    assert result["trust"]["generator_limited"]
    assert any(r.startswith("generator-limited: null") for r in result["trust"]["reasons"])
