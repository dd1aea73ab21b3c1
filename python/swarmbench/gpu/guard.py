"""What must not be asked of a device while streams of it wait for words of the host.

An allocation, a module that is loaded or memory that is given back may wait for all streams, and
these for the host, which waits: nothing would ever end (CUDA programming guide, implicit
synchronization).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Guard:
    """Counts who holds a device still; any thread may ask."""

    def __init__(self) -> None:
        self._lock, self._holders = threading.Lock(), 0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing that waits for all streams is asked of the device in the block."""
        with self._lock:
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1

    def pass_by(self, what: str) -> None:
        """Raises `RuntimeError` where something that waits for all streams is asked now."""
        if self._holders:
            raise RuntimeError(f"{what} was asked of a device whose streams wait for the host")
