"""Progress while a run goes on: on standard error, and only where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

#: Takes what is going on and how much of it is done, 0..1.
Report = Callable[[str, float], None]


@contextmanager
def shown_progress(*, wanted: bool = True) -> Iterator[Report]:
    """Yields a function that shows progress, or does nothing where nobody would see it."""
    if not (wanted and sys.stderr.isatty()):
        yield _ignore
        return
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    # Drawing at 4 Hz costs the run less than its own sampling does.
    with Progress(
        *columns, console=Console(stderr=True), transient=True, refresh_per_second=4
    ) as progress:
        bar = progress.add_task("", total=1.0)

        def report(label: str, share: float) -> None:
            progress.update(bar, description=label, completed=share)

        yield report


def _ignore(label: str, share: float) -> None:
    """Shows nothing."""
