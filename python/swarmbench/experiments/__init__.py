"""Measurements of single parts, for use from Python."""

from __future__ import annotations

from swarmbench.experiments.callback import hold_callable

__all__ = ["hold_callable"]
