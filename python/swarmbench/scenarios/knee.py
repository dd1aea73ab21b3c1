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
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Grid = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

#: Share of probes that say nothing of the load they were taken at.
LAPSE_SHARE = 0.02
#: What the two-parameter curve may miss, near its knee and per unit of distance from it.
MISFIT_NEAR, MISFIT_FAR = 0.01, 0.1
#: Noise of a reading beyond the cap, where only "far above" is known.
CAPPED_SIGMA = 0.1
STEEPNESSES: Grid = np.geomspace(0.5, 3e4, 20)


@dataclass(frozen=True, slots=True)
class Reading:
    """One component in one probe: x, y = ln(ratio) and its sigma; y is None where overloaded."""

    x: float
    y: float | None
    sigma: float


@dataclass(frozen=True, slots=True)
class Readings:
    """All readings of one component, and the noise of the baseline that they share."""

    readings: tuple[Reading, ...]
    baseline_sigma: float


@dataclass(frozen=True, slots=True)
class Posterior:
    """Probability mass over ln(knee / reference) for each component and for the lowest of all."""

    grid: Grid
    masses: Mapping[str, Grid]
    lowest: Mapping[str, float]
    joint: Grid

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
    coarse = np.linspace(0.004, x_max + math.log(2.0), 120)
    rough = _joint(coarse, components, limit)
    low, high = rough.quantile(0.0005), rough.quantile(0.9995)
    step = float(coarse[1] - coarse[0])
    fine = np.linspace(max(0.002, low - step), min(coarse[-1], high + step), 160)
    return _joint(np.union1d(coarse, fine), components, limit)


def _joint(grid: Grid, components: Mapping[str, Readings], limit: float) -> Posterior:
    widths = np.diff(_edges(grid))
    masses = {}
    for name, readings in components.items():
        density = _likelihood(grid, readings, limit)
        mass = density * widths
        masses[name] = mass / mass.sum()
    above = {n: np.clip(1.0 - np.cumsum(m) + 0.5 * m, 1e-12, 1.0) for n, m in masses.items()}
    survival = np.prod(list(above.values()), axis=0)
    first = {name: mass * survival / above[name] for name, mass in masses.items()}
    joint = np.sum(list(first.values()), axis=0)
    total = joint.sum()
    lowest = {name: float(share.sum() / total) for name, share in first.items()}
    return Posterior(grid, masses, lowest, joint / total)


def _edges(grid: Grid) -> Grid:
    middle = 0.5 * (grid[1:] + grid[:-1])
    return np.concatenate(([grid[0]], middle, [grid[-1]]))


def _likelihood(grid: Grid, measured: Readings, limit: float) -> Grid:
    """The likelihood of a knee at each point of the grid, summed over steepness; 1 at most."""
    if not measured.readings:
        return np.ones_like(grid)
    cap = 2.0 * limit
    x = np.array([r.x for r in measured.readings])
    y = np.array([cap if r.y is None else min(r.y, cap) for r in measured.readings])
    capped = y >= cap
    sigma = np.array([r.sigma for r in measured.readings])
    sigma = np.where(capped, CAPPED_SIGMA, sigma + MISFIT_NEAR + MISFIT_FAR * np.abs(y - limit))
    curve = _curve(grid, x, limit, cap)
    scale = _excess_noise(y, sigma, capped, curve, measured.baseline_sigma)
    logs = _log_likelihood(y, sigma * np.where(capped, 1.0, scale), capped, curve, measured, cap)
    per_knee = np.exp(logs - logs.max()).sum(axis=1)
    return np.asarray(per_knee / per_knee.max())


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


def _excess_noise(y: Grid, sigma: Grid, capped: Flags, curve: Grid, baseline_sigma: float) -> float:
    """How many times their stated noise the readings scatter about the best curve; 1 to 5."""
    free = ~capped
    if free.sum() < 5:
        return 1.0
    residuals = (y - curve) / np.hypot(sigma, np.where(free, baseline_sigma, 0.0))
    best = np.unravel_index(np.argmin(np.minimum(residuals**2, 9.0).sum(axis=2)), curve.shape[:2])
    typical = float(np.median(np.abs(residuals[best][free]))) / 0.6745
    return min(5.0, max(1.0, typical))


def _log_likelihood(
    y: Grid, sigma: Grid, capped: Flags, curve: Grid, measured: Readings, cap: float
) -> Grid:
    """Shape (knees, steepnesses); the baseline's shared error is taken at its best value.

    For Gaussian errors that equals integrating it out, but for a constant.
    """
    residual = y - curve
    weight = np.where(capped | (curve >= cap), 0.0, sigma**-2.0)
    precision = max(measured.baseline_sigma, 1e-4) ** -2.0
    shift = -(weight * residual).sum(axis=2) / (weight.sum(axis=2) + precision)
    shift = np.clip(shift, -3.0 * measured.baseline_sigma, 3.0 * measured.baseline_sigma)
    score = (residual + np.where(weight > 0.0, shift[:, :, None], 0.0)) / sigma
    normal = np.exp(-0.5 * score**2) / (sigma * math.sqrt(2.0 * math.pi))
    mixed = np.log((1.0 - LAPSE_SHARE) * normal + LAPSE_SHARE / (cap + 1.0)).sum(axis=2)
    return np.asarray(mixed - 0.5 * shift**2 * precision)
