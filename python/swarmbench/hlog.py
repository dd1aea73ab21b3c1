"""`latency.hlog`: one histogram per component, phase and kind of time, in HdrHistogram's log."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from swarmbench import _native
from swarmbench.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Entry:
    """One histogram of a log; `tag` is `component.phase.response`, `.service` or `.lateness`.

    `start_s` counts from the log's start time.
    """

    tag: str
    start_s: float
    duration_s: float
    histogram: _native.Histogram


@dataclass(frozen=True, slots=True)
class Log:
    """A log that was read; `torn` where its last line had no end and was dropped."""

    start_time_s: float
    entries: tuple[Entry, ...]
    torn: bool


def header(start_time_s: float) -> str:
    """The lines that open a log started `start_time_s` seconds after the Unix epoch."""
    return _native.hlog_header(start_time_s)


def line(entry: Entry) -> str:
    """The line of one histogram, with its end. ValueError if the tag has a comma or a space."""
    return _native.hlog_line(entry.tag, entry.start_s, entry.duration_s, entry.histogram)


def read(path: Path) -> Log:
    """Reads a whole log of this or another tool; ConfigurationError where it is damaged."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        start_time_s, entries, torn = _native.hlog_read(text)
    except ValueError as error:
        raise ConfigurationError(str(path), str(error)) from error
    return Log(start_time_s, tuple(Entry(*fields) for fields in entries), torn)
