"""The options of a run that are keys of its configuration, for the command line and for Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from swarmbench.config.host import read_host
from swarmbench.config.load import Override, load
from swarmbench.config.models import right_name
from swarmbench.config.resolve import resolve
from swarmbench.errors import ConfigurationError
from swarmbench.plan import Plan

#: The name of each option in Python (with dashes and `--` on the command line), and its key.
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "profile": ("profile",),
    "duration": ("settings", "duration"),
    "backend": ("backend",),
    "device": ("device",),
    "seed": ("seed",),
    "threads": ("settings", "threads"),
    "cpus": ("settings", "cpus"),
    "sample_interval": ("settings", "sample_interval"),
    "memory_budget": ("memory_budget",),
    "disk_write_budget": ("disk_write_budget",),
    "max_multiplier": ("settings", "max_multiplier"),
    "slo_degradation": ("settings", "slo_degradation"),
    "simulate": ("settings", "simulate"),
}


def overrides_of(given: Mapping[str, object], label: Callable[[str], str] = str) -> list[Override]:
    """The options in `given` that are not None; `label` is what an error calls each.

    Raises `ConfigurationError` for a name that is no option.
    """
    for name in given:
        if name not in OPTIONS:
            raise ConfigurationError(label(name), f"is no option; {right_name(name, OPTIONS)}")
    return [
        Override(path, given[name], label(name))
        for name, path in OPTIONS.items()
        if given.get(name) is not None
    ]


def make_plan(
    scenario: str,
    *,
    file: Path | None = None,
    overrides: Sequence[Override] = (),
    components: Iterable[str] | None = None,
    out: Path = Path("runs"),
    name: str | None = None,
) -> Plan:
    """The plan of a scenario on this machine, for a run that writes under `out`.

    Raises `ConfigurationError` and `MachineError`; see `load` and `resolve`.
    """
    config = load(scenario, file=file, overrides=overrides, components=components)
    return resolve(config, read_host(out), name=name, file=file, overrides=overrides)
