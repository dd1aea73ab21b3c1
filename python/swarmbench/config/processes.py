"""Arrival processes from their configuration, a trace read from its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from swarmbench.config.load import Override, place
from swarmbench.config.models import Distribution
from swarmbench.config.types import shown
from swarmbench.errors import ConfigurationError
from swarmbench.plan import Process

TRACE_ARRIVALS_MAX = 10_000_000


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


def _trace(path: Path, at: tuple[str, ...], source: Source) -> tuple[int, ...]:
    right = "give seconds, one a line, ascending"
    times: list[int] = []
    try:
        with path.open(encoding="ascii") as file:
            for number, line in enumerate(file, start=1):
                time_ns = float(line) * 1e9
                last_ns = times[-1] if times else 0
                if not last_ns <= time_ns < 2**63 or number > TRACE_ARRIVALS_MAX:
                    raise source.error(at, f"line {number} of {shown(path)} is wrong; {right}")
                times.append(round(time_ns))
    except OSError as error:
        problem = f"{shown(str(path))} cannot be read ({error.strerror})"
        raise source.error(at, f"{problem}; name a file that can be read") from None
    except ValueError as error:
        problem = f"{shown(str(path))} is no list of numbers ({error})"
        raise source.error(at, f"{problem}; {right}") from None
    if not times:
        raise source.error(at, f"{shown(str(path))} is empty; {right}")
    return tuple(times)
