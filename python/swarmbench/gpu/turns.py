"""What lanes take turns at: memory of a device that several change, and places to be had."""

from __future__ import annotations

import threading


class Turns:
    """At most `places` at a time; a `with` block waits for its turn."""

    def __init__(self, places: int = 1) -> None:
        self._places = threading.BoundedSemaphore(places)

    def __enter__(self) -> None:
        self._places.acquire()

    def __exit__(self, *problem: object) -> None:
        self._places.release()

    def try_enter(self) -> bool:
        """Takes a place if there is one; who got it gives it back by `leave`."""
        return self._places.acquire(blocking=False)

    def leave(self) -> None:
        """Gives a place back."""
        self._places.release()
