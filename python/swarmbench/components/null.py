"""The `null` component: what is measured with it is swarmbench itself."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from swarmbench.components.base import Arrays, Component, Op


class Null(Component):
    """Does nothing and is always right."""

    name: ClassVar[str] = "null"
    unit: ClassVar[str] = "ops"
    ops: ClassVar[tuple[Op, ...]] = (Op("nothing", "ops", "cache_read_bytes_s", 0.0),)
    weights: ClassVar[dict[str, float]] = {"nothing": 1.0}
    production_rate_s: ClassVar[float | None] = 1000.0
    stress_in_flight: ClassVar[int] = 64

    #: Operations done in one go.
    batch: int = Field(default=1, ge=1, le=1024)

    def resident_bytes(self, workers: int) -> int:
        return 0

    def inputs(self, op: str, seed: int, key: int) -> Arrays:
        return {}

    def reference(self, op: str, inputs: Arrays) -> Arrays:
        return {}
