"""Progress: seen on a terminal, silent everywhere else."""

from __future__ import annotations

import os
import pty
import sys

import pytest

from swarmbench.report.progress import shown_progress


def drawn(monkeypatch: pytest.MonkeyPatch, *, terminal: bool, wanted: bool) -> str:
    """What reaches standard error while progress is reported once."""
    reader, writer = pty.openpty() if terminal else os.pipe()
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setattr(sys, "stderr", stream)
        with shown_progress(wanted=wanted) as report:
            report("searching at 3x", 0.5)
        monkeypatch.undo()
        stream.write("end")
        stream.flush()
        text = ""
        while not text.endswith("end"):
            text += os.read(reader, 65_536).decode()
    os.close(reader)
    return text


def test_progress_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "searching at 3x" in drawn(monkeypatch, terminal=True, wanted=True)


@pytest.mark.parametrize(("terminal", "wanted"), [(False, True), (True, False), (False, False)])
def test_progress_is_silent_in_a_pipe_and_where_unwanted(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, wanted: bool
) -> None:
    assert drawn(monkeypatch, terminal=terminal, wanted=wanted) == "end"
