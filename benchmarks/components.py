"""Each component's kernels beside the best library for the same job, same inputs, same answer.

Every module in `cases/` offers `cases(large: bool) -> list[Case]`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

from paired import Case, main


def collect(large: bool) -> Iterator[Case]:
    """The cases of all modules, in the order of their names."""
    for path in sorted((Path(__file__).parent / "cases").glob("[a-z]*.py")):
        yield from importlib.import_module(f"cases.{path.stem}").cases(large)


if __name__ == "__main__":
    sys.exit(main(collect, __doc__))
