"""The run directory: whole lines while a run goes on, whole files at its end, readable always."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import secrets
import tempfile
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit, urlunsplit

from swarmbench.errors import ConfigurationError, SafetyStop
from swarmbench.plan import REDACTED
from swarmbench.schema import Bottlenecks, Result

MANIFEST = "manifest.json"
EVENTS = "events.jsonl"
SYSTEM = "system.csv"
COMPONENTS_LOG = "components.jsonl"
HISTOGRAMS = "latency.hlog"
RESULT = "result.json"
BOTTLENECKS = "bottlenecks.json"

_Made = TypeVar("_Made")
_SECRET_NAME = re.compile(
    r"(^|_)(key|token|secret|password|passwd|authorization|credentials?)$", re.IGNORECASE
)
_ADDRESS = re.compile(r"https?://\S+")
#: Folders with the same second and the same six digits: more than two would be a wonder.
_NAME_ATTEMPTS_MAX = 16


def redacted(value: Any, name: str = "") -> Any:
    """The same JSON value with every secret replaced: keys and tokens, passwords in addresses."""
    if isinstance(value, Mapping):
        return {str(key): redacted(each, str(key)) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(each, name) for each in value]
    if isinstance(value, str):
        if value and _SECRET_NAME.search(name):
            return REDACTED
        return _ADDRESS.sub(lambda match: _without_secrets(match[0]), value)
    return value


def _without_secrets(address: str) -> str:
    """An address without user, password and the values of its query."""
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    user = f"{REDACTED}@" if "@" in parts.netloc else ""
    query = REDACTED if parts.query else ""
    return urlunsplit((parts.scheme, user + host, parts.path, query, ""))


def check_folder(path: Path) -> None:
    """Raises `ConfigurationError` unless `path` is a folder that can be written."""
    if not path.is_dir():
        raise ConfigurationError("--out", f"`{path}` is no folder; name one that exists")
    check_writable(path)


def check_writable(parent: Path) -> None:
    """Raises `ConfigurationError` where no run directory can be made in `parent`; makes nothing."""
    nearest = parent.absolute()
    while not os.path.lexists(nearest):
        nearest = nearest.parent
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise _unwritable(parent, error) from None


def _unwritable(parent: Path, error: OSError) -> ConfigurationError:
    reason = error.strerror or str(error)
    return ConfigurationError(
        "--out", f"`{parent}` cannot be written ({reason}); name a folder that can"
    )


class RunDirectory:
    """Writes one run's record. Any thread may append; every append is one whole line on disk.

    Each method raises `SafetyStop` when the disk is full or the directory is gone; what was
    written before stays as it is. The directory is locked while it is open, which is how others
    tell a run that goes on from one that was cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # Advisory, and nobody else writes here: a file system without locks costs only the state.
        with contextlib.suppress(OSError):
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._appenders: dict[str, _Appender] = {}
        self._lock = threading.Lock()
        self._system_columns: tuple[str, ...] = ()

    @classmethod
    def create(cls, parent: Path, scenario: str, *, started: datetime) -> Self:
        """Makes `<UTC time>_<scenario>_<6 hex>` in `parent`, and `parent` where it is missing."""
        stamp = started.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        made = _make_parents(parent)
        try:
            for _ in range(_NAME_ATTEMPTS_MAX):
                path = parent / f"{stamp}_{scenario}_{secrets.token_hex(3)}"
                try:
                    path.mkdir()
                except FileExistsError:
                    continue
                return cls(path)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(parent))
        except OSError as error:
            for folder in reversed(made):
                folder.rmdir()
            raise _unwritable(parent, error) from None

    @property
    def run_id(self) -> str:
        """The directory's name."""
        return self.path.name

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Writes or replaces `manifest.json`, without secrets."""
        self._replace(MANIFEST, manifest)

    def write_result(self, result: Result) -> None:
        """Writes `result.json`."""
        self._replace(RESULT, result.to_json())

    def write_bottlenecks(self, bottlenecks: Bottlenecks) -> None:
        """Writes `bottlenecks.json`."""
        self._replace(BOTTLENECKS, bottlenecks.to_json())

    def append_event(self, event: Mapping[str, Any]) -> None:
        """Appends one record to `events.jsonl`."""
        self._append(EVENTS, _json_line(event))

    def append_component(self, record: Mapping[str, Any]) -> None:
        """Appends one component's figures of one interval to `components.jsonl`."""
        self._append(COMPONENTS_LOG, _json_line(record))

    def append_system(self, sample: Mapping[str, float | int | str | None]) -> None:
        """Appends one sample to `system.csv`; the first one's names become the header.

        A sample lacking a column leaves it empty; an unknown column is our mistake.
        """
        with self._lock:
            if not self._system_columns:
                self._system_columns = tuple(sample)
                self._appender(SYSTEM).append(",".join(self._system_columns).encode() + b"\n")
            assert set(sample) <= set(self._system_columns), "a column that the header lacks"
            cells = (sample.get(column) for column in self._system_columns)
            line = ",".join("" if cell is None else _cell(cell) for cell in cells)
            self._appender(SYSTEM).append(line.encode() + b"\n")

    def append_histograms(self, lines: str) -> None:
        """Appends whole lines of HdrHistogram's log format to `latency.hlog`."""
        assert lines.endswith("\n"), "a histogram log is appended by whole lines"
        self._append(HISTOGRAMS, lines.encode())

    def sync(self) -> None:
        """Returns once everything appended so far would survive a loss of power."""
        with self._lock:
            for appender in self._appenders.values():
                appender.sync()

    def close(self) -> None:
        """Closes the appended files and lets the directory go."""
        with self._lock:
            for appender in self._appenders.values():
                appender.close()
            self._appenders.clear()
            if self._held >= 0:
                os.close(self._held)
                self._held = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _append(self, name: str, lines: bytes) -> None:
        with self._lock:
            self._appender(name).append(lines)

    def _appender(self, name: str) -> _Appender:
        if name not in self._appenders:
            self._appenders[name] = _Appender(self.path / name)
        return self._appenders[name]

    def _replace(self, name: str, content: Mapping[str, Any]) -> None:
        """Writes a summary beside its place and renames it, so that no reader meets half of one."""
        text = json.dumps(redacted(content), indent=2, allow_nan=False) + "\n"
        beside = self.path / f".{name}.new"

        def write() -> None:
            descriptor = os.open(
                beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644
            )
            try:
                _write_all(descriptor, text.encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            beside.replace(self.path / name)
            folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

        _stopping(self.path, write)


class _Appender:
    """One file that grows by whole lines: each is one system call, nothing waits in a buffer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = _stopping(path, lambda: os.open(path, flags, 0o644))

    def append(self, lines: bytes) -> None:
        """Appends all of `lines` or nothing of them."""
        before = os.fstat(self._descriptor)
        if before.st_nlink == 0:
            raise SafetyStop(f"`{self._path}` was removed during the run")
        try:
            _write_all(self._descriptor, lines)
        except OSError as error:
            os.ftruncate(self._descriptor, before.st_size)
            raise _stop(self._path, error) from error

    def sync(self) -> None:
        _stopping(self._path, lambda: os.fsync(self._descriptor))

    def close(self) -> None:
        os.close(self._descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _stop(path: Path, error: OSError) -> SafetyStop:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return SafetyStop(
            f"the disk under `{path}` is full; what was recorded is kept",
            hint="make room, or choose another disk by `--out`",
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
        return SafetyStop(f"`{path}` was removed during the run")
    return SafetyStop(f"`{path}` cannot be written: {error.strerror}; what was recorded is kept")


def _stopping(path: Path, write: Callable[[], _Made]) -> _Made:
    try:
        return write()
    except OSError as error:
        raise _stop(path, error) from error


def _json_line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(redacted(record), separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _cell(value: float | int | str) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    assert not set(text) & set(',"\r\n'), "a cell that would need quoting"
    return text


def is_open(path: Path) -> bool:
    """Whether a living process holds the run directory at `path`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _make_parents(parent: Path) -> list[Path]:
    """Makes what is missing of `parent`; returns what was made, outermost first."""
    missing = [parent, *parent.parents]
    missing = [folder for folder in missing if not folder.exists()]
    made: list[Path] = []
    try:
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            made.append(folder)
    except OSError as error:
        for folder in reversed(made):
            folder.rmdir()
        raise _unwritable(parent, error) from None
    return made
