"""No vector instruction is compiled as a call: kernels are one function each, as written."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from swarmbench import _native


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm is not installed")
def test_no_vector_instruction_is_a_function_of_its_own() -> None:
    # A closure that goes through a function of the library may be compiled for any machine, and
    # each of its instructions then is a call: whether it is, is decided anew by every build.
    listed = subprocess.run(
        ["nm", "--demangle", _native.__file__], capture_output=True, text=True, check=True
    ).stdout
    assert "swarmbench_core::" in listed, "the extension has no symbols to look at"

    called = re.findall(r"core_arch::\S*::(_mm\w+)", listed)

    assert called == []
