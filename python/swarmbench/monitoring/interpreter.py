"""How much of a stretch of time the interpreter's lock was held, at most.

Who holds it runs: the processor time of all threads that ever enter Python, over wall time, is an
upper bound. Threads of the extension that never do are not among them.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from swarmbench.monitoring.procfs import running_ns


class InterpreterMeter:
    """Counts from when it is made; the threads that matter live from then to `share`."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self._began_ns, self._ran_ns = time.monotonic_ns(), self._running()

    def share(self) -> float | None:
        """Processor time of Python's threads over wall time since; None where it is not known."""
        ran_ns, elapsed_ns = self._running(), time.monotonic_ns() - self._began_ns
        if ran_ns is None or self._ran_ns is None or not elapsed_ns:
            return None
        return max(0, ran_ns - self._ran_ns) / elapsed_ns

    def _running(self) -> int | None:
        threads = (each.native_id for each in threading.enumerate())
        return running_ns(self._root, (each for each in threads if each is not None))
