"""Where a monotone degradation crosses its limit: a Bayesian fit to all probes at once.

With x = ln(multiplier / reference), each component's ln(percentile / baseline) is taken to follow

    y(x) = ln(D) (e^(b x) - 1) / (e^(b k) - 1)

which is 0 at the baseline, ln(D) at the knee x = k, and as steep there as b says: a queue that
builds up slowly (b near 1), an M/M/1 (b near 2), a wall (b of 1000). The posterior of (k, b) is
summed on a grid, as the Psi method does for a psychometric function (Kontsevich and Tyler 1999),
with a lapse rate for probes that were disturbed (Wichmann and Hill 2001).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Grid = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

#: Share of probes that say nothing of the load they were taken at.
LAPSE_SHARE = 0.02
#: What the two-parameter curve may miss per unit of distance from the limit.
MISFIT_FAR = 0.1
#: Noise of a reading beyond the cap beside its own: there only "far above" is known.
CAPPED_SIGMA = 0.1
#: From a straight line to a wall, and how likely each is beforehand: one system in three is a wall.
STEEPNESSES: Grid = np.geomspace(0.05, 1e6, 28)
STEEPNESS_PRIOR: Grid = np.append(np.full(27, 2.0 / 3.0 / 27.0), 1.0 / 3.0)
#: How much the machine's speed may differ from stretch to stretch (one sigma), and how likely each
#: is before anything is measured: half-Cauchy of scale 2 % (Gelman 2006).
SPEED_SIGMAS: Grid = np.array([0.005, 0.01, 0.02, 0.04, 0.08])
SPEED_PRIOR: Grid = SPEED_SIGMAS / (1.0 + (SPEED_SIGMAS / 0.02) ** 2)
#: Shares of the mass at which the posterior's grid is refined, twice: a wall's knee is a spike.
REFINED: Grid = np.linspace(0.004, 0.996, 60)
#: Readings no further apart than this in y are taken to be as noisy as one another.
ALIKE = 0.25


@dataclass(frozen=True, slots=True)
class Reading:
    """One component in one stretch: x, y = ln(ratio) and its sigma; y is None where overloaded.

    `seconds` is the stretch's length.
    """

    x: float
    y: float | None
    sigma: float
    seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Readings:
    """All readings of one component, and those at the baseline, relative to all of it."""

    readings: tuple[Reading, ...]
    baselines: tuple[Reading, ...]


@dataclass(frozen=True, slots=True)
class Posterior:
    """Probability mass over ln(knee / reference) for each component and for the lowest of all.

    `speed_sigmas` is by how much each component's readings differ from stretch to stretch for no
    reason of their own.
    """

    grid: Grid
    masses: Mapping[str, Grid]
    lowest: Mapping[str, float]
    joint: Grid
    speed_sigmas: Mapping[str, float]

    def quantile(self, share: float, component: str | None = None) -> float:
        """The x below which `share` of the mass lies; of the lowest knee unless named."""
        mass = self.joint if component is None else self.masses[component]
        cumulated = np.concatenate(([0.0], np.cumsum(mass)))
        edges = _edges(self.grid)
        return float(np.interp(share * cumulated[-1], cumulated, edges))

    def beyond(self, x: float) -> float:
        """The probability that the lowest knee lies above x."""
        cumulated = np.concatenate(([0.0], np.cumsum(self.joint)))
        return float(1.0 - np.interp(x, _edges(self.grid), cumulated) / cumulated[-1])


def posterior(components: Mapping[str, Readings], degradation: float, x_max: float) -> Posterior:
    """The posterior over x in (0, x_max + ln 2); at least one component."""
    limit = math.log(degradation)
    grid = np.linspace(0.004, x_max + math.log(2.0), 80)
    logs = {name: _log_density(grid, own, limit) for name, own in components.items()}
    for _ in range(2):
        found = _joint(grid, logs)
        finer = np.unique([found.quantile(share) for share in REFINED])
        order = np.argsort(np.concatenate((grid, finer)), kind="stable")
        grid = np.concatenate((grid, finer))[order]
        logs = {
            name: np.hstack((logs[name], _log_density(finer, own, limit)))[:, order]
            for name, own in components.items()
        }
    return _joint(grid, logs)


def _joint(grid: Grid, logs: Mapping[str, Grid]) -> Posterior:
    widths = np.diff(_edges(grid))
    masses, speeds = {}, {}
    for name, log in logs.items():
        mass = np.exp(log - log.max()) * widths
        by_speed = mass.sum(axis=1)
        speeds[name] = math.sqrt(float(by_speed @ SPEED_SIGMAS**2 / by_speed.sum()))
        masses[name] = mass.sum(axis=0) / mass.sum()
    above = {n: np.clip(1.0 - np.cumsum(m) + 0.5 * m, 1e-12, 1.0) for n, m in masses.items()}
    survival = np.prod(list(above.values()), axis=0)
    first = {name: mass * survival / above[name] for name, mass in masses.items()}
    joint = np.sum(list(first.values()), axis=0)
    total = joint.sum()
    lowest = {name: float(share.sum() / total) for name, share in first.items()}
    return Posterior(grid, masses, lowest, joint / total, speeds)


def _edges(grid: Grid) -> Grid:
    middle = 0.5 * (grid[1:] + grid[:-1])
    return np.concatenate(([grid[0]], middle, [grid[-1]]))


def _log_density(grid: Grid, measured: Readings, limit: float) -> Grid:
    """The logarithm of the density of a knee at each point, but for a constant.

    Shape (speeds, knees): one row for each of `SPEED_SIGMAS`, of which the baseline's stretches
    tell as well; summed over the steepness.
    """
    if not measured.readings:
        return np.asarray(np.log(SPEED_PRIOR)[:, None] + np.zeros_like(grid)[None, :])
    cap = 2.0 * limit
    x = np.array([r.x for r in measured.readings])
    y = np.array([cap if r.y is None else min(r.y, cap) for r in measured.readings])
    capped = y >= cap
    curve = _curve(grid, x, limit, cap)
    far = np.where(capped, CAPPED_SIGMA, MISFIT_FAR * np.abs(y - limit))
    # An overload has no percentile, whose noise would make it less certain.
    overloaded = np.array([r.y is None for r in measured.readings])
    noise = np.hypot(np.where(overloaded, 0.0, steadied(measured.readings)), far)
    # The curve has no place for a system that answers faster under load, as one whose caches are
    # warm by then does: it stands where it was, but for chance.
    y = np.maximum(y, -noise)
    rows = []
    for speed, prior in zip(SPEED_SIGMAS, SPEED_PRIOR, strict=True):
        sigma = np.where(capped, noise, np.hypot(noise, speed))
        zero = _baseline(measured.baselines, float(speed))
        log = _log_likelihood(y, sigma, capped, curve, zero, cap) + np.log(STEEPNESS_PRIOR)
        top = log.max(axis=1)
        rows.append(math.log(prior) + top + np.log(np.exp(log - top[:, None]).sum(axis=1)))
    return np.array(rows)


def steadied(readings: Sequence[Reading]) -> Grid:
    """Each reading's sigma by the mean variance a second of those alike.

    A stretch's own estimate rests on few independent samples, and comes out small where the
    reading does: as weights, such sigmas would draw the fit to the lucky stretches.
    """
    y = np.array([np.inf if r.y is None else r.y for r in readings])
    seconds = np.array([r.seconds for r in readings])
    variance = np.array([r.sigma for r in readings]) ** 2 * seconds
    with np.errstate(invalid="ignore"):
        alike = (y[:, None] == y[None, :]) | (np.abs(y[:, None] - y[None, :]) <= ALIKE)
    return np.asarray(np.sqrt((alike @ variance) / alike.sum(axis=1) / seconds))


@dataclass(frozen=True, slots=True)
class _Zero:
    """Where y = 0 really lies: value and sigma, and how well one value fits the stretches."""

    value: float
    sigma: float
    log_evidence: float


def _baseline(baselines: Sequence[Reading], speed: float) -> _Zero:
    if not baselines:
        return _Zero(0.0, 1e-4, 0.0)
    y = np.array([r.y or 0.0 for r in baselines])
    variance = steadied(baselines) ** 2 + speed**2
    precision = float((1.0 / variance).sum())
    value = float((y / variance).sum()) / precision
    scatter = (y - value) ** 2 / variance + np.log(variance)
    return _Zero(value, precision**-0.5, -0.5 * (float(scatter.sum()) + math.log(precision)))


def _curve(grid: Grid, x: Grid, limit: float, cap: float) -> Grid:
    """y of the family, shape (knees, steepnesses, readings), cut at `cap`."""
    steep = STEEPNESSES[:, None]
    over = _log_expm1(steep * np.maximum(x, 1e-9)[None, :])
    under = _log_expm1(steep.T * grid[:, None])
    return np.asarray(
        limit * np.exp(np.minimum(over[None, :, :] - under[:, :, None], math.log(cap / limit)))
    )


def _log_expm1(value: Grid) -> Grid:
    return np.asarray(value + np.log(-np.expm1(-value)))


def _log_likelihood(
    y: Grid, sigma: Grid, capped: Flags, curve: Grid, zero: _Zero, cap: float
) -> Grid:
    """Shape (knees, steepnesses); the baseline's shared error is integrated out.

    That is exact for Gaussian errors; lapses are told first, by how far the reading lies off.
    """
    residual = y - curve - zero.value
    free = ~(capped | (curve >= cap))
    weight = np.where(
        free & (np.abs(residual) < 4.0 * np.hypot(sigma, zero.sigma)), sigma**-2.0, 0.0
    )
    precision = zero.sigma**-2.0
    total = weight.sum(axis=2) + precision
    shift = (weight * residual).sum(axis=2) / total
    score = (
        residual + np.where(free, 0.0, zero.value) - np.where(free, shift[:, :, None], 0.0)
    ) / sigma
    normal = np.exp(-0.5 * score**2) / (sigma * math.sqrt(2.0 * math.pi))
    mixed = np.log((1.0 - LAPSE_SHARE) * normal + LAPSE_SHARE / (cap + 1.0)).sum(axis=2)
    shared = shift**2 * precision + np.log(total / precision)
    return np.asarray(mixed - 0.5 * shared + zero.log_evidence)
