"""One run at a time on a machine: a lock that the kernel drops with its holder, and its name tag.

Users share the lock, so it lies in a folder that all can write to and holds no secret. It is an
advisory `flock`: a holder killed by SIGKILL leaves it free. Machines in the sense of this file
are file-system views; two containers that do not share the folder do not see each other.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from swarmbench.errors import MachineError

LOCK_PATH = Path("/tmp/swarmbench.lock")
#: A tag is read up to here, whoever wrote it.
_TAG_BYTES_MAX = 4096
#: Rounds in which the file may be replaced by others under us.
_ATTEMPTS_MAX = 10


@dataclass(frozen=True, slots=True)
class MachineLock:
    """The machine as one run has it: alone, or beside another one that was there first."""

    scenario: str
    descriptor: int | None

    @property
    def alone(self) -> bool:
        """Whether the lock is held; False beside another run."""
        return self.descriptor is not None

    def name_run(self, directory: Path) -> None:
        """Says which run directory this run has, for the next one that is refused."""
        if self.descriptor is None:
            return
        place = str(directory.absolute())
        tag = {"pid": os.getpid(), "scenario": self.scenario, "run_directory": place}
        try:
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, json.dumps(tag).encode(), 0)
        except OSError as error:
            # Another user's file opened for reading, or a full disk: the lock holds all the same.
            if error.errno not in (errno.EBADF, errno.EINVAL, errno.ENOSPC, errno.EDQUOT):
                raise


@contextmanager
def machine_lock(
    scenario: str,
    run_directory: Path,
    *,
    allow_concurrent: bool = False,
    path: Path = LOCK_PATH,
) -> Iterator[MachineLock]:
    """Holds the machine for one run, which is in `run_directory` (or will be below it).

    Raises `MachineError` naming the first run where another holds it, unless
    `allow_concurrent`: then the block runs beside it and the lock is not held.
    """
    descriptor = _open_held(path)
    lock = MachineLock(scenario, descriptor)
    if descriptor is None:
        if not allow_concurrent:
            raise MachineError(
                f"another run is on this machine: {_holder(path)}",
                hint="wait for it, or allow both by `--allow-concurrent`; they disturb each other",
            )
        yield lock
        return
    try:
        lock.name_run(run_directory)
        yield lock
    finally:
        os.close(descriptor)


def _open_held(path: Path) -> int | None:
    """A descriptor of the file at `path` with the lock held, or None where another holds it."""
    for _ in range(_ATTEMPTS_MAX):
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return None
            raise MachineError(f"the lock `{path}` cannot be taken: {error.strerror}") from error
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)
    raise MachineError(f"the lock `{path}` keeps being replaced", hint="see who deletes it")


def _open(path: Path) -> int:
    """Opens the shared file, made on first use.

    It is first opened without O_CREAT: with it the kernel (fs.protected_regular) refuses another
    user's file in a sticky folder. Reading is enough for `flock`.
    """
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    for attempt in (os.O_RDWR, os.O_RDONLY, os.O_RDWR | os.O_CREAT | os.O_EXCL, os.O_RDWR):
        try:
            descriptor = os.open(path, flags | attempt, 0o666)
        except (FileNotFoundError, FileExistsError, PermissionError):
            continue
        except OSError as error:
            raise MachineError(f"the lock `{path}` cannot be opened: {error.strerror}") from error
        if attempt & os.O_CREAT:
            os.fchmod(descriptor, 0o666)
        return descriptor
    raise MachineError(f"the lock `{path}` cannot be opened", hint="make it readable to all")


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the locked file is still the one that others will find at `path`."""
    try:
        there = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _holder(path: Path) -> str:
    """What the holder says of itself, in one line, whatever the file holds."""
    try:
        with path.open("rb") as file:
            tag = json.loads(file.read(_TAG_BYTES_MAX))
        parts = tag["scenario"], tag["pid"], tag["run_directory"]
    except (OSError, ValueError, KeyError, TypeError):
        return "it has not said which"
    scenario, pid, run_directory = (" ".join(str(part).split()) for part in parts)
    return f"{scenario}, process {pid}, in `{run_directory}`"
