"""Every error that a user can meet: one line, an exit status and, where there is one, a hint."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum


class Status(IntEnum):
    """The exit statuses of the command line."""

    OK = 0
    CRITERION_FAILED = 1
    WRONG_ARGUMENTS = 2
    MACHINE_UNFIT = 3
    SAFETY_STOP = 4
    WRONG_RESULT = 5
    UNTRUSTED = 7
    INTERRUPTED = 130


#: Where several statuses hold, the first of these is the one to exit with.
PRECEDENCE = (
    Status.WRONG_ARGUMENTS,
    Status.INTERRUPTED,
    Status.SAFETY_STOP,
    Status.MACHINE_UNFIT,
    Status.WRONG_RESULT,
    Status.UNTRUSTED,
    Status.CRITERION_FAILED,
    Status.OK,
)


def final_status(held: Iterable[int]) -> Status:
    """The one status to exit with where all of `held` apply; none of them is `OK`."""
    return min((Status(status) for status in held), key=PRECEDENCE.index, default=Status.OK)


class SwarmbenchError(Exception):
    """An expected failure; `cli` prints it as one line and exits with its status."""

    exit_code: int = Status.WRONG_ARGUMENTS

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ConfigurationError(SwarmbenchError):
    """An argument or a configuration value is wrong: where, what, and what would be right."""

    def __init__(self, where: str, problem: str, *, hint: str | None = None) -> None:
        super().__init__(f"{where}: {problem}", hint=hint)
        self.where = where


class MachineError(SwarmbenchError):
    """This machine cannot run what was asked (no GPU, too little memory, another run on it)."""

    exit_code: int = Status.MACHINE_UNFIT


class SafetyStop(SwarmbenchError):
    """The run was stopped because going on would have harmed the machine or the record."""

    exit_code: int = Status.SAFETY_STOP


class Interrupted(SwarmbenchError):
    """The user asked the run to end; what was under way was drained and everything so far kept."""

    exit_code: int = Status.INTERRUPTED
