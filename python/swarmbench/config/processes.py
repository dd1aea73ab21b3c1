"""Arrival processes from their configuration, a trace read from its file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from swarmbench.config.load import Override, place
from swarmbench.config.models import Distribution
from swarmbench.config.types import shown
from swarmbench.errors import ConfigurationError
from swarmbench.plan import Process

TRACE_LINES_MAX = 10_000_000
TRACE_LINE_BYTES_MAX = 1000
_RIGHT = "give seconds from the start, one a line, ascending"
_SHORTER = "give a shorter trace"
#: Decimal numbers alone: `float` would also take `nan`, `inf` and `1_000`.
_SECONDS = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True, slots=True)
class Source:
    """Where the configuration came from, for the errors that only resolving can find."""

    where: str
    overrides: Sequence[Override]

    def error(self, path: tuple[str, ...], problem: str) -> ConfigurationError:
        """An error at a key path, blamed on the option that set it if one did."""
        return ConfigurationError(place(self.where, path, self.overrides), problem)


def process_of(part: Distribution, at: tuple[str, ...], source: Source) -> Process:
    """The process that `part`, at the key `at`, describes; `ConfigurationError` for a bad trace."""
    if part.kind == "gamma":
        return Process("gamma", shape=part.shape)
    if part.kind == "onoff":
        return Process("onoff", on_s=part.on, off_s=part.off)
    if part.kind == "trace":
        if part.file is None:
            raise source.error((*at, "file"), "is missing; name a file of intended starts")
        return Process("trace", times_ns=_trace(Path(part.file), (*at, "file"), source))
    return Process(part.kind)


def starts_of(lines: Iterable[bytes]) -> tuple[int, ...]:
    """The intended starts, in nanoseconds, that the lines of a trace give.

    A line is a number of seconds from the run's start, not before the line above. Empty lines and
    what follows a `#` are skipped. ValueError, with the number of the line, where one is not so.
    """
    times: list[int] = []
    last_ns = 0.0
    for number, line in enumerate(lines, start=1):
        if number > TRACE_LINES_MAX:
            raise ValueError(f"has more than {TRACE_LINES_MAX} lines; {_SHORTER}")
        text = line.partition(b"#")[0].strip()
        if len(line) > TRACE_LINE_BYTES_MAX:
            raise ValueError(f"line {number} has over {TRACE_LINE_BYTES_MAX} bytes; {_RIGHT}")
        if not text:
            continue
        problem = None
        if not _SECONDS.fullmatch(text):
            problem = "is no number of seconds"
        elif (time_ns := float(text) * 1e9) < 0:
            problem = "is before the start"
        elif time_ns < last_ns:
            problem = "is before the line above"
        elif time_ns >= 2**63:
            problem = "is later than 292 years"
        if problem is not None:
            quoted = shown(text.decode("ascii", "backslashreplace"))
            raise ValueError(f"line {number}: {quoted} {problem}; {_RIGHT}")
        last_ns = time_ns
        times.append(round(time_ns))
    if not times:
        raise ValueError(f"has no start in it; {_RIGHT}")
    return tuple(times)


def _trace(path: Path, at: tuple[str, ...], source: Source) -> tuple[int, ...]:
    named = f"`{' '.join(str(path).split())}`"
    try:
        file = path.open("rb")
    except (OSError, ValueError) as error:
        # A name that no file can have is no OSError.
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        problem = f"{named} cannot be read ({reason}); name a file that can be read"
        raise source.error(at, problem) from None
    with file:
        try:
            # In pieces, so that a file without line ends is not read as a whole.
            return starts_of(iter(lambda: file.readline(TRACE_LINE_BYTES_MAX + 1), b""))
        except OSError as error:
            problem = f"{named} cannot be read ({error.strerror}); name a file that can be read"
            raise source.error(at, problem) from None
        except ValueError as error:
            raise source.error(at, f"{named}: {error}") from None
