"""Runs a component's own tests with one kernel file altered; started by `test_mutants.py`.

Arguments: the file, the first and the last character that are replaced, what stands there instead,
and the test file.
"""

from __future__ import annotations

import sys

import pytest

from swarmbench.gpu import source


def main(file: str, first: str, last: str, replacement: str, tests: str) -> int:
    whole = source.text_of

    def mutated(asked: str) -> str:
        text = whole(asked)
        return text[: int(first)] + replacement + text[int(last) :] if asked == file else text

    source.text_of = mutated
    return pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-m", "not soak and not gpu", tests])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
