"""What the golden files must hold; `python tests/goldens.py` writes them anew, for review."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from configuration_page import configuration_page
from figures import result
from swarmbench import _native
from swarmbench.cli import main
from swarmbench.components import COMPONENTS
from swarmbench.report.text import summary

GOLDEN = Path(__file__).parent / "golden"
PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"

#: Command lines whose `--help` is kept.
HELP = (
    (),
    ("max-throughput",),
    ("calibrate",),
    ("scale",),
    ("doctor",),
    ("config",),
    ("config", "show"),
    ("config", "schema"),
    ("kernel",),
    ("kernel", "list"),
    ("kernel", "show"),
    ("list",),
)

#: Command lines that are refused before anything starts, in a folder with `bad.yaml` in it.
REFUSED = (
    "",
    "max-throughputt",
    "max-throughput extra",
    "max-throughput --sed 7",
    "max-throughput --seed",
    "max-throughput --seed seven",
    "max-throughput --duration 5",
    "max-throughput --duration 1s",
    "max-throughput --components nul",
    "max-throughput --components null --backend gpu",
    "max-throughput --profile qick",
    "max-throughput --threads 0",
    "max-throughput --memory-budget 60",
    "max-throughput --simulate mm1",
    "max-throughput --set workloads.null.rate=-5/s",
    "max-throughput --set seed",
    "max-throughput --set workloads.consensus.ops.vote=1",
    "max-throughput --set workloads.consensus.ops.decide=0.7 "
    "--set workloads.consensus.ops.tally=0.2",
    "max-throughput --set workloads.consensus.ops.decide=0",
    "max-throughput --set workloads.consensus.params.batch=0",
    "max-throughput --set workloads.consensus.params.values=65535 "
    "--set workloads.consensus.params.proposals=1000",
    "max-throughput --set workloads.consensus.params.batches=5",
    "max-throughput --set workloads.consensus.sizes=1MB",
    "max-throughput --set workloads.streaming.params.blend=zeroes",
    "max-throughput --components null --memory-budget 1MB",
    "max-throughput --config absent.yaml",
    "max-throughput --config list.yaml",
    "max-throughput --config typo.yaml",
    "max-throughput --components null --out bad.yaml/runs",
    "calibrate --duration 5",
    "calibrate --duration 11s",
    "calibrate --out absent",
    "scale",
    "scale --axis gpus=1",
    "scale --axis threads=1,0",
    "scale --axis threads=1 --duration 2",
    "scale --axis threads=1 --components nul",
    "doctor --out absent",
    "config show mixd",
    "list --out bad.yaml",
)
FILES = {"bad.yaml": "", "list.yaml": "- 1\n", "typo.yaml": "settings: {sustaned: 20m}\n"}


class Ended(NamedTuple):
    """What a command line left: its status and what it wrote."""

    status: int
    stdout: str
    stderr: str


def swarmbench(*arguments: str) -> Ended:
    """Runs a command line in this process, at 80 columns."""
    out, err = StringIO(), StringIO()
    with (
        redirect_stdout(out),
        redirect_stderr(err),
        patch.dict(os.environ, {"COLUMNS": "80"}),
    ):
        status = main(arguments)
    return Ended(status, out.getvalue(), err.getvalue())


def help_texts() -> str:
    """The help of every command, each under its command line."""
    lines: list[str] = []
    for words in HELP:
        lines += [" ".join(("$ swarmbench", *words, "--help")), swarmbench(*words, "--help").stdout]
    return "\n".join(lines)


def refusals(folder: Path) -> str:
    """What each refused command line says in `folder`, with its status."""
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    lines: list[str] = []
    with chdir(folder):
        for command in REFUSED:
            ended = swarmbench(*command.split())
            lines.append(f"$ swarmbench {command}".rstrip() + f"  # {ended.status}")
            lines.append(ended.stderr + ended.stdout)
    return "\n".join(lines)


def small_components() -> str:
    """What a test of the native core needs to build every component at a small size."""
    described = {
        name: {
            "parameters": json.loads(kind.small().model_dump_json()),
            "allocating_ops": sorted(kind.allocating_ops),
        }
        for name, kind in COMPONENTS.items()
        if name in _native.component_names()
    }
    return json.dumps(described, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as _folder:
        _texts = {
            "summary.txt": summary(result()),
            "help.txt": help_texts(),
            "refusals.txt": refusals(Path(_folder)),
            "small.json": small_components(),
        }
    for _name, _text in _texts.items():
        (GOLDEN / _name).write_text(_text, encoding="utf-8")
    PAGE.write_text(configuration_page(), encoding="utf-8")
