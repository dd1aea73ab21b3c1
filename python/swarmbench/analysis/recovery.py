"""How long after the load fell back the responses stayed outside their baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swarmbench.estimates import binomial_tail
from swarmbench.outcome import Limit, Trace

#: Completions that a window needs before it is judged.
WINDOW_MIN = 20
#: Chance that a component which is back is called out somewhere in the phase.
ALPHA = 0.01
#: How long the windows must be inside before a component counts as settled, as a share of the
#: phase and in seconds at most.
SETTLED_SHARE, SETTLED_MAX_S = 0.1, 10.0


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds until every component was back to stay; None where one was not (`censored`).

    `components` has each one's own, `phase_s` is how long was watched.
    """

    seconds: float | None
    censored: bool
    components: Mapping[str, float | None]
    phase_s: float


@dataclass(frozen=True, slots=True)
class Window:
    """Successive intervals with enough completions: its end, its counts, and the verdict."""

    start_s: float
    end_s: float
    completed: int
    over: int


def recovery(calm: Mapping[str, Trace], limits: Mapping[str, Limit], phase_s: float) -> Recovery:
    """The recovery of every component that has a baseline to return to.

    `calm` traces the phase against the upper end of each baseline's interval.
    """
    judged = {
        name: returned_s(trace, 1.0 - limit.baseline.percentile / 100.0, phase_s)
        for name, trace in calm.items()
        if (limit := limits[name]).baseline is not None
    }
    times = list(judged.values())
    late = not times or any(t is None for t in times)
    seconds = None if late else max(t for t in times if t is not None)
    return Recovery(seconds, late, judged, phase_s)


def returned_s(trace: Trace, allowed: float, phase_s: float) -> float | None:
    """When the component's percentile was back inside its baseline interval to stay, or None.

    A window is out when it has more responses over the interval's upper end than chance allows
    (binomial, shared among all windows). The component is back at the end of an out window when
    the windows that follow for the settling time are in and all that follows, pooled, is in.
    """
    windows = _windows(trace)
    if not windows:
        return None
    out = [binomial_tail(w.over, w.completed, allowed) < ALPHA / len(windows) for w in windows]
    if _stalled(trace):
        return None
    settle_s = min(SETTLED_MAX_S, SETTLED_SHARE * phase_s)
    candidates = [-1, *(i for i, is_out in enumerate(out) if is_out)]
    for last_out in candidates:
        start_s = 0.0 if last_out < 0 else windows[last_out].end_s
        rest = windows[last_out + 1 :]
        if rest and _settled(windows, out, last_out, start_s + settle_s) and _pooled(rest, allowed):
            return start_s
    return None


def _settled(windows: Sequence[Window], out: Sequence[bool], last_out: int, until_s: float) -> bool:
    soon = [i for i in range(last_out + 1, len(windows)) if windows[i].start_s < until_s]
    return bool(soon) and not any(out[i] for i in soon)


def _pooled(windows: Sequence[Window], allowed: float) -> bool:
    over = sum(w.over for w in windows)
    return binomial_tail(over, sum(w.completed for w in windows), allowed) >= ALPHA


def _stalled(trace: Trace) -> bool:
    """Whether the phase ends with arrivals and nothing completed since."""
    waiting = 0
    for scheduled, completed in zip(trace.scheduled, trace.completed, strict=True):
        waiting = 0 if completed else waiting + scheduled
    return waiting >= WINDOW_MIN


def _windows(trace: Trace) -> list[Window]:
    found: list[Window] = []
    start_s, completed, over = 0.0, 0, 0
    for end_s, done, beyond in zip(trace.ends_s, trace.completed, trace.over, strict=True):
        completed += done
        over += beyond
        if completed >= WINDOW_MIN:
            found.append(Window(start_s, end_s, completed, over))
            start_s, completed, over = end_s, 0, 0
    return found
