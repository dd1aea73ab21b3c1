"""Reading a run directory, finished or not: what is there, and a warning for what is not whole."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from swarmbench.errors import ConfigurationError
from swarmbench.rundir import (
    BOTTLENECKS,
    COMPONENTS_LOG,
    EVENTS,
    HISTOGRAMS,
    MANIFEST,
    RESULT,
    SYSTEM,
    is_open,
)
from swarmbench.schema import Bottlenecks, Record, Result

Sample = dict[str, float | str | None]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run as its directory has it; a run without a result was cut off, and `complete` says so.

    `histogram_lines` are the lines of `latency.hlog`. `warnings` name everything that was left
    out, each in one line.
    """

    path: Path
    manifest: dict[str, Any] | None
    events: list[dict[str, Any]]
    components: list[dict[str, Any]]
    system: list[Sample]
    histogram_lines: list[str]
    result: Result | None
    bottlenecks: Bottlenecks | None
    warnings: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether the run came to its end and its result could be read."""
        return self.result is not None


def read_run(path: Path) -> RunRecord:
    """The record in a run directory.

    A torn last line is dropped with a warning, and so is whatever cannot be read. Raises
    `ConfigurationError` only where there is nothing to read at all.
    """
    names = (MANIFEST, EVENTS, COMPONENTS_LOG, SYSTEM, HISTOGRAMS, RESULT, BOTTLENECKS)
    if not any((path / name).is_file() for name in names):
        raise ConfigurationError(
            str(path), "there is no run; name a folder with a `manifest.json` in it"
        )
    reader = _Reader(path)
    result = reader.model(RESULT, Result)
    if result is None:
        reader.warnings.append(f"{path.name}: the run did not end; this is what it left")
    return RunRecord(
        path=path,
        manifest=reader.mapping(MANIFEST),
        events=reader.json_lines(EVENTS),
        components=reader.json_lines(COMPONENTS_LOG),
        system=reader.samples(),
        histogram_lines=reader.lines(HISTOGRAMS),
        result=result,
        bottlenecks=reader.model(BOTTLENECKS, Bottlenecks),
        warnings=tuple(reader.warnings),
    )


_Model = TypeVar("_Model", bound=Record)


class _Reader:
    """Reads the files of one directory and collects what was wrong with them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.warnings: list[str] = []

    def lines(self, name: str) -> list[str]:
        """Whole lines, without their ends; a torn last one is dropped."""
        content = self._content(name) or ""
        whole, newline, torn = content.rpartition("\n")
        if torn:
            self.warnings.append(f"{name}: the torn last line is left out")
        return whole.split("\n") if newline else []

    def json_lines(self, name: str) -> list[dict[str, Any]]:
        records: list[dict[str, Any]] = []
        for number, line in enumerate(self.lines(name), start=1):
            record = _mapping(line)
            if record is None:
                self.warnings.append(f"{name}: line {number} is not a record and is left out")
            else:
                records.append(record)
        return records

    def samples(self) -> list[Sample]:
        """The rows of `system.csv`; a cell is a number where it reads as one, None where empty."""
        rows = csv.reader(self.lines(SYSTEM))
        header = next(rows, [])
        samples: list[Sample] = []
        for number, row in enumerate(rows, start=2):
            if len(row) != len(header):
                self.warnings.append(f"{SYSTEM}: line {number} has {len(row)} cells; left out")
            else:
                samples.append(dict(zip(header, map(_cell, row), strict=True)))
        return samples

    def mapping(self, name: str) -> dict[str, Any] | None:
        content = self._content(name)
        if content is None:
            return None
        record = _mapping(content)
        if record is None:
            self.warnings.append(f"{name}: not readable as JSON and left out")
        return record

    def model(self, name: str, kind: type[_Model]) -> _Model | None:
        content = self._content(name)
        if content is None:
            return None
        try:
            return kind.model_validate_json(content)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            where = ".".join(map(str, problem["loc"]))
            self.warnings.append(f"{name}: {where}: {problem['msg']}; left out")
            return None

    def _content(self, name: str) -> str | None:
        try:
            return (self._path / name).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None
        except OSError as error:
            self.warnings.append(f"{name}: cannot be read ({error.strerror}) and is left out")
            return None


def _mapping(text: str) -> dict[str, Any] | None:
    try:
        record = json.loads(text)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _cell(text: str) -> float | str | None:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        return text


def list_runs(parent: Path) -> list[dict[str, Any]]:
    """The runs in a folder, oldest first: name, state, verdict and breaking point of each.

    Raises `ConfigurationError` where the folder cannot be read; one that is missing has no runs.
    """
    try:
        folders = sorted(path for path in parent.iterdir() if (path / MANIFEST).is_file())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigurationError(
            "--out", f"`{parent}` cannot be read ({error.strerror}); name a folder of runs"
        ) from None
    return [_listed(path) for path in folders]


def _listed(path: Path) -> dict[str, Any]:
    result = _Reader(path).model(RESULT, Result)
    point = result.breaking_point if result is not None else None
    unfinished = "running" if is_open(path) else "incomplete"
    return {
        "run": path.name,
        "state": unfinished if result is None else "complete",
        "verdict": None if result is None else result.verdict,
        "breaking_point": None if point is None else point.multiplier,
    }
