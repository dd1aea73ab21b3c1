"""A busy neighbour: a program of its own that takes one core for as long as a case runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: Says that it runs on its core, and keeps it busy until it is ended.
SPIN = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
print(flush=True)
while True:
    pass
"""


@contextmanager
def busy_neighbour(core: int) -> Iterator[None]:
    """A process that keeps `core` busy as long as the context lasts."""
    command = [sys.executable, "-c", SPIN, str(core)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()
