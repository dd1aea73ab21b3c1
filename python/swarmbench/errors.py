"""Every error that a user can meet: one line, an exit status and, where there is one, a hint."""

from __future__ import annotations


class SwarmbenchError(Exception):
    """An expected failure; `cli` prints it as one line and exits with its status."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ConfigurationError(SwarmbenchError):
    """An argument or a configuration value is wrong: where, what, and what would be right."""

    def __init__(self, where: str, problem: str, *, hint: str | None = None) -> None:
        super().__init__(f"{where}: {problem}", hint=hint)
        self.where = where


class MachineError(SwarmbenchError):
    """This machine cannot run what was asked (no GPU, too little memory)."""

    exit_code = 3


class SafetyStop(SwarmbenchError):
    """The run was stopped because going on would have harmed the machine or the record."""

    exit_code = 4
