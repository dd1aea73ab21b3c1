"""Measurements of single parts, for use from Python."""

from __future__ import annotations

from swarmbench.experiments.callback import hold_callable, measure_callable
from swarmbench.scenarios.steady import Rule, Steady

__all__ = ["Rule", "Steady", "hold_callable", "measure_callable"]
