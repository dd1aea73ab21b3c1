"""Every kernel under AddressSanitizer: no access outside a buffer, and the sanitizer sees one."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from swarmbench.gpu.host_compiler import compiler

RUN = Path(__file__).parent / "address_run.py"
SEED = str(secrets.randbits(32))


def sanitized(what: str) -> subprocess.CompletedProcess[str]:
    """The run in a process whose first library is the sanitizer's."""
    library = subprocess.run(
        [compiler(), "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(library).is_absolute():
        pytest.skip("the compiler has no AddressSanitizer")
    # What Python and its libraries never give back is no matter of the kernels.
    environment = os.environ | {"LD_PRELOAD": library, "ASAN_OPTIONS": "detect_leaks=0"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    return subprocess.run(
        [sys.executable, RUN, what, SEED],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_kernel_touches_what_is_outside_its_buffers() -> None:
    ended = sanitized("kernels")
    assert (ended.returncode, ended.stdout) == (0, "\nwhole\n"), (
        f"seed {SEED}: {ended.stdout} {ended.stderr[-3000:]}"
    )


def test_an_element_past_the_end_is_seen() -> None:
    ended = sanitized("beyond")
    assert ended.returncode != 0
    assert "heap-buffer-overflow" in ended.stderr
    assert "beyond" in ended.stderr
