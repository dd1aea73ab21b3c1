"""The command line: one function per command, one place where expected failures end."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from swarmbench.config import (
    OPTIONS,
    SCENARIOS,
    Config,
    Override,
    chosen_cores,
    load,
    make_plan,
    overrides_of,
    read_host,
    scalar,
    set_override,
)
from swarmbench.errors import ConfigurationError, Status, SwarmbenchError, final_status
from swarmbench.lock import machine_lock
from swarmbench.plan import Plan
from swarmbench.report.kernels import kernel_text, kernels_table
from swarmbench.report.machine import ceilings_text, findings_text
from swarmbench.report.progress import shown_progress
from swarmbench.report.runs import runs_table
from swarmbench.report.scale import scaling_text
from swarmbench.report.text import summary
from swarmbench.rundir import check_folder, check_writable
from swarmbench.runrecord import list_runs
from swarmbench.schema import RESULT_SCHEMA, json_schema

#: The base of all usage errors; Typer carries its own copy of click and names only this heir.
_USAGE_ERROR: Any = typer.BadParameter.__mro__[2]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 90},
    help="What a machine does when everything runs on it at once, and where it breaks.",
)
config_app = typer.Typer(rich_markup_mode=None, help="Show what a configuration means.")
app.add_typer(config_app, name="config")

kernel_app = typer.Typer(rich_markup_mode=None, help="Look at the GPU kernels.")
app.add_typer(kernel_app, name="kernel")

#: Shortest and longest hold of `scale`.
SCALE_HOLD_S = (0.1, 60.0)

#: Options whose text is a number; the others are read by their key's own parser.
_NUMBERS = ("seed", "threads", "max_multiplier", "slo_degradation")


def _key(metavar: str, text: str) -> Any:
    return typer.Option(metavar=metavar, help=text, show_default=False)


_Components = Annotated[
    str | None, _key("A,B", "Components under load. Default: all that the scenario names.")
]
_File = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="A configuration.")]
_Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY.PATH=VALUE", help="Override one configuration key."),
]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
_Concurrent = Annotated[bool, typer.Option("--allow-concurrent", help="Run beside another run.")]
_DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what the run will do and cost; run nothing.")
]
_Out = Annotated[Path, typer.Option(metavar="DIR", help="Where run directories are.")]


@app.command("max-throughput", short_help="Push everything to its limit and find where it breaks.")
def max_throughput(
    context: typer.Context,
    profile: Annotated[
        str | None, _key("quick|standard|full", "Lengths of the phases. Default: quick, 60 s.")
    ] = None,
    duration: Annotated[
        str | None, _key("TIME", "All phases together, such as 90s, 20m or 72h.")
    ] = None,
    components: _Components = None,
    backend: Annotated[
        str | None, _key("auto|cpu|cuda", "auto takes cuda where a usable GPU is found.")
    ] = None,
    device: Annotated[str | None, _key("N,N|emulated", "GPUs by number.")] = None,
    config: _File = None,
    seed: Annotated[str | None, _key("N", "The same seed gives the same load.")] = None,
    out: _Out = Path("runs"),
    name: Annotated[str | None, _key("TEXT", "What to call the run in its record.")] = None,
    live: Annotated[bool, typer.Option(help="Show progress, on a terminal.")] = True,
    as_json: _Json = False,
    settings: _Set = None,
    threads: Annotated[str | None, _key("N", "Workers.")] = None,
    cpus: Annotated[str | None, _key("0,2-5", "Cores to use.")] = None,
    sample_interval: Annotated[str | None, _key("TIME", "Between two samples.")] = None,
    memory_budget: Annotated[
        str | None, _key("SIZE|SHARE", "Memory to keep at most, such as 60% of free.")
    ] = None,
    disk_write_budget: Annotated[str | None, _key("SIZE", "Bytes to write at most.")] = None,
    max_multiplier: Annotated[
        str | None, _key("N", "Where the search for the breaking point gives up.")
    ] = None,
    slo_degradation: Annotated[
        str | None, _key("N", "Broken: p99 above N times its value at 1x.")
    ] = None,
    simulate: Annotated[
        str | None, _key("SYSTEM", "Test a simulated system, such as mm1:knee=4.2.")
    ] = None,
    allow_concurrent: _Concurrent = False,
    dry_run: _DryRun = False,
) -> int:
    """Push all components at once until the machine breaks, and see it recover.

    Ramp-up, sustained maximum, search of the breaking point, recovery.

    Example: swarmbench max-throughput --components consensus,streaming --duration 90s
    """
    check_writable(out)
    overrides = [set_override(text) for text in settings or ()] + _overrides(context.params)
    plan = make_plan(
        "max-throughput",
        file=config,
        overrides=overrides,
        components=_names(components),
        out=out,
        name=name,
    )
    if dry_run:
        _say(json.dumps(plan.to_json(), indent=2) if as_json else plan.describe())
        return Status.OK
    return _run(plan, out, as_json=as_json, live=live, allow_concurrent=allow_concurrent)


@app.command("calibrate", short_help="Measure what the machine can do at best.")
def calibrate_command(
    duration: Annotated[str, _key("TIME", "To spend, 1s to 10s. Default: 8s.")] = "8s",
    threads: Annotated[str | None, _key("N", "Threads. Default: all that can run.")] = None,
    cpus: Annotated[str | None, _key("0,2-5", "Cores to use. Default: all allowed.")] = None,
    out: Annotated[Path, _key("DIR", "The disk to measure. Default: this one.")] = Path("."),
    as_json: _Json = False,
    allow_concurrent: _Concurrent = False,
) -> int:
    """Measure the machine's own ceilings: memory, cache, arithmetic, disk, timer, wake-up.

    They are what a result's percentages of the roof refer to. Writes and removes one file.

    Example: swarmbench calibrate --duration 4s --json
    """
    from swarmbench import calibrate

    check_folder(out)
    overrides = _overrides({"threads": threads, "cpus": cpus, "duration": duration})
    chosen = load("max-throughput", overrides=overrides).settings
    host = read_host(out)
    cores = chosen_cores(chosen, host, overrides)
    seconds = chosen.duration or calibrate.SECONDS_DEFAULT
    if not 1 <= seconds <= 10:
        raise ConfigurationError("--duration", f"`{duration}` is out of range; give `1s` to `10s`")
    with (
        machine_lock("calibrate", out, allow_concurrent=allow_concurrent),
        shown_progress(wanted=not as_json) as progress,
    ):
        found = calibrate.measure(
            chosen.threads or min(len(cores), host.threads_max),
            out,
            seconds=seconds,
            cpus=cores,
            progress=progress,
        )
    _say(json.dumps(found.to_json(), indent=2) if as_json else ceilings_text(found))
    return Status.OK


@app.command("scale", short_help="Throughput and p99 along the number of workers.")
def scale_command(
    axis: Annotated[str, _key("threads=N,N", "Points of the axis. Required.")],
    duration: Annotated[str, _key("TIME", "Of each hold, at most. Default: 2s.")] = "2s",
    rounds: Annotated[int, typer.Option(min=2, max=100, help="Holds at each point.")] = 5,
    components: _Components = None,
    config: _File = None,
    seed: Annotated[str | None, _key("N", "The same seed gives the same load.")] = None,
    cpus: Annotated[str | None, _key("0,2-5", "Cores to use.")] = None,
    settings: _Set = None,
    as_json: _Json = False,
    allow_concurrent: _Concurrent = False,
) -> int:
    """Measure each component alone along the number of workers, and fit how it scales.

    Closed loops in interleaved rounds; the Universal Scalability Law with its intervals.

    Example: swarmbench scale --axis threads=1,2 --components consensus
    """
    from swarmbench.experiments import scale

    threads = scale.threads_of(axis)
    given = {"seed": seed, "cpus": cpus, "duration": duration}
    overrides = [set_override(text) for text in settings or ()] + _overrides(given)
    overrides += overrides_of({"backend": "cpu"})
    hold_s = load("max-throughput", file=config, overrides=overrides).settings.duration
    if hold_s is None or not SCALE_HOLD_S[0] <= hold_s <= SCALE_HOLD_S[1]:
        raise ConfigurationError(
            "--duration", f"`{duration}` is out of range; give `0.1s` to `60s`"
        )
    plan = make_plan(
        "max-throughput",
        file=config,
        overrides=[each for each in overrides if each.label != "--duration"],
        components=_names(components),
    )
    with (
        machine_lock("scale", Path.cwd(), allow_concurrent=allow_concurrent),
        shown_progress(wanted=not as_json) as progress,
    ):
        found = scale.along_threads(plan, threads, hold_s, rounds=rounds, progress=progress)
    content = {"axis": "threads", "components": [each.to_json() for each in found]}
    _say(json.dumps(content, indent=2) if as_json else scaling_text(found))
    return Status.OK


@app.command("doctor", short_help="Say what would disturb a measurement here.")
def doctor_command(
    out: Annotated[Path, _key("DIR", "Where runs will be. Default: here.")] = Path("."),
    as_json: _Json = False,
) -> int:
    """Say what this machine can run, what is missing and what would disturb a measurement.

    Changes nothing; every remedy is yours to apply or leave.

    Example: swarmbench doctor --json
    """
    from swarmbench import doctor

    check_folder(out)
    findings = doctor.examine(out)
    if as_json:
        _say(json.dumps({"findings": [asdict(each) for each in findings]}, indent=2))
    else:
        _say(findings_text(findings))
    return Status.OK


@config_app.command("show")
def config_show(
    scenario: Annotated[str, typer.Argument(metavar="[SCENARIO]")] = SCENARIOS[0],
    config: _File = None,
    components: _Components = None,
    out: _Out = Path("runs"),
    settings: _Set = None,
    as_json: _Json = False,
) -> int:
    """Print the plan that a configuration resolves to on this machine, and run nothing.

    Example: swarmbench config show --config configs/smoke.yaml --set seed=7
    """
    overrides = [
        Override(("scenario",), scenario, "SCENARIO"),
        *(set_override(text) for text in settings or ()),
    ]
    plan = make_plan(
        scenario, file=config, overrides=overrides, components=_names(components), out=out
    ).to_json()
    _say(json.dumps(plan, indent=2) if as_json else yaml.safe_dump(plan, sort_keys=False).rstrip())
    return Status.OK


@config_app.command("schema")
def config_schema(
    result: Annotated[bool, typer.Option("--result", help="That of result.json instead.")] = False,
) -> int:
    """Print the JSON Schema of configurations: every key, its default, its unit.

    Example: swarmbench config schema | python -m json.tool
    """
    schema = (
        json_schema(RESULT_SCHEMA) if result else Config.model_json_schema(mode="serialization")
    )
    _say(json.dumps(schema, indent=2))
    return Status.OK


@kernel_app.command("list")
def kernel_list(as_json: _Json = False) -> int:
    """List the kernels and what each computes.

    Example: swarmbench kernel list
    """
    from swarmbench.experiments import kernels

    found = kernels.catalogue()
    content = {"kernels": [{"name": each.name, "file": each.file} for each in found]}
    _say(json.dumps(content, indent=2) if as_json else kernels_table(found))
    return Status.OK


@kernel_app.command("show")
def kernel_show(
    name: Annotated[str, typer.Argument(metavar="NAME")], as_json: _Json = False
) -> int:
    """Show one kernel: its formula, what it moves and needs, and its registers by architecture.

    Example: swarmbench kernel show tally
    """
    from swarmbench.experiments import kernels

    found = kernels.entry(name)
    text = kernel_text(found.kernel, found.usage, found.problem)
    _say(json.dumps(found.to_json(), indent=2) if as_json else text)
    return Status.OK


@app.command("list")
def list_command(out: _Out = Path("runs"), as_json: _Json = False) -> int:
    """List the runs of a folder and their state.

    Example: swarmbench list --out runs
    """
    runs = list_runs(out)
    _say(json.dumps({"runs": runs}, indent=2) if as_json else runs_table(runs))
    return Status.OK


def _overrides(parameters: Mapping[str, str | None]) -> list[Override]:
    """The options that were given and are keys of the configuration."""
    given = {
        name: scalar(text) if name in _NUMBERS and text is not None else text
        for name, text in parameters.items()
        if name in OPTIONS
    }
    return overrides_of(given, lambda name: f"--{name.replace('_', '-')}")


def _names(components: str | None) -> list[str] | None:
    if components is None:
        return None
    return [part.strip() for part in components.split(",") if part.strip()]


def _run(plan: Plan, out: Path, *, as_json: bool, live: bool, allow_concurrent: bool) -> int:
    from swarmbench.run import execute

    with shown_progress(wanted=live and not as_json) as progress:
        finished = execute(plan, out=out, allow_concurrent=allow_concurrent, progress=progress)
    if finished.result is not None:
        if as_json:
            _say(json.dumps(finished.result.to_json(), indent=2))
        else:
            colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
            _say(summary(finished.result, colour=colour), end="")
    if not as_json:
        _say(f"record: {finished.directory}")
    return final_status(finished.statuses)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status; an expected failure is one line and a hint."""
    try:
        return int(app(arguments, prog_name="swarmbench", standalone_mode=False) or Status.OK)
    except SwarmbenchError as error:
        _complain(str(error), error.hint)
        return int(error.exit_code)
    except _USAGE_ERROR as error:
        usage = error.format_message().rstrip(".")
        _complain(f"{usage[:1].lower()}{usage[1:]}; see `swarmbench --help`", None)
        return Status.WRONG_ARGUMENTS
    except (KeyboardInterrupt, typer.Abort):
        return Status.INTERRUPTED


def _say(text: str, *, end: str = "\n") -> None:
    """Writes to standard output; a reader that has seen enough is no failure."""
    try:
        typer.echo(text + end, nl=False)
    except BrokenPipeError:
        # What is still buffered must not raise at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str, hint: str | None) -> None:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    if hint is not None:
        typer.echo(f"hint: {hint}", err=True)


def entry() -> None:
    """The console script."""
    sys.exit(main())
