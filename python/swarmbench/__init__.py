"""Concurrent stress tests and benchmarks whose numbers can be checked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarmbench.schema import Result

__all__ = ["run"]


def run(
    scenario: str = "max-throughput",
    *,
    components: Iterable[str] | None = None,
    config: Path | None = None,
    out: Path | str = Path("runs"),
    name: str | None = None,
    allow_concurrent: bool = False,
    **options: object,
) -> Result:
    """Runs a scenario and returns its result; its record is a new folder in `out`.

    `options` are those of the command line by the same names (`profile="quick"`, `seed=7`,
    `duration="90s"`). Raises the errors of `swarmbench.errors`; `Interrupted` where the run was
    cut off before a result could be judged.
    """
    from swarmbench import config as configuration
    from swarmbench.errors import Interrupted
    from swarmbench.run import execute

    overrides = configuration.overrides_of(options)
    place = Path(out)
    plan = configuration.make_plan(
        scenario, file=config, overrides=overrides, components=components, out=place, name=name
    )
    finished = execute(plan, out=place, allow_concurrent=allow_concurrent)
    if finished.result is None:
        raise Interrupted(f"the run was interrupted; its record is `{finished.directory}`")
    return finished.result
