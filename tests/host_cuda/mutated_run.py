"""Runs a component's own tests with one kernel file altered; started by `test_mutants.py`.

Arguments: the file, the first and the last character that are replaced, what stands there instead,
and the test file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

import pytest

from swarmbench.gpu import source

#: Atomics of Numba, as anybody's reads and writes.
PLAIN_ATOMICS = """

def plain_add(array, index, value):
    before = array[index]
    array[index] = before + value
    return before


def plain_or_(array, index, value):
    array[index] = array[index] | value


def plain_xor(array, index, value):
    array[index] = array[index] ^ value


def plain_min(array, index, value):
    array[index] = min(array[index], value)


def plain_exch(array, index, value):
    before = array[index]
    array[index] = value
    return before
"""


def altered(file: str, first: int, last: int, replacement: str) -> Callable[[str], str]:
    """`source.text_of` where one file has other text in a place; a header's stands in the files
    that include it."""
    whole = source.text_of
    text = whole(file)
    text = text[:first] + replacement + text[last:]
    included = f'#include "{file}"'

    def text_of(asked: str) -> str:
        if asked == file:
            return text
        return whole(asked).replace(included, text.replace("#pragma once\n", ""))

    return text_of


class Altered(MetaPathFinder, Loader):
    """Loads a module of Numba kernels with other text."""

    def __init__(self, name: str, text: str) -> None:
        self._name, self._text = name, text

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return spec_from_loader(fullname, self) if fullname == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._text, self._name, "exec"), module.__dict__)


def main(file: str, first: str, last: str, replacement: str, tests: str) -> int:
    source.text_of = altered(file, int(first), int(last), replacement)
    if source.is_numba(file):
        name = f"swarmbench.gpu.numba.{file.removesuffix('.py')}"
        sys.meta_path.insert(0, Altered(name, source.text_of(file) + PLAIN_ATOMICS))
    return pytest.main(["-q", "-x", "-p", "no:cacheprovider", "-m", "not soak and not gpu", tests])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
