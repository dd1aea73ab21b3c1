"""The trace reader: what users write is read, anything else refused by its line, all in one line.

The oracle reads the same grammar by exact decimal arithmetic.
"""

from __future__ import annotations

import io
import random
import subprocess
import sys
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from swarmbench.config import processes
from swarmbench.config.models import Distribution
from swarmbench.config.processes import TRACE_LINE_BYTES_MAX, Source, process_of, starts_of
from swarmbench.errors import ConfigurationError

#: Fragments that lines are made of, so that most inputs get past the first check.
FRAGMENTS = (
    *(b"0", b"1", b"7", b"25", b"0.5", b".5", b"5.", b"1e3", b"1E-9", b"2e+2", b"9.3e9", b"e5"),
    *(b"9223372036.85", b"9223372036.86", b"1e400", b"1e-400", b"+3", b"-0", b"-1", b"--1"),
    *(b"1_0", b"0x10", b"1e", b".", b"nan", b"inf", b"-Infinity", b"1,5", b"1 2"),
    *(b"#", b"# a comment", b"  ", b"\t", b"\x0b", b"\x00", b"#" * 400, b" " * 600),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\x85", "\u0663".encode(), "\u00bd".encode()),
)
ENDS = (b"\n", b"\n", b"\n", b"\r\n", b"\r", b"")


def expected(lines: list[bytes]) -> list[Fraction] | int | None:
    """Starts in nanoseconds, the number of the line that is wrong, or None for no start."""
    starts: list[Fraction] = []
    for number, line in enumerate(lines, start=1):
        text = line.split(b"#")[0].strip()
        if len(line) > TRACE_LINE_BYTES_MAX:
            return number
        if not text:
            continue
        if set(text) - set(b"+-.eE0123456789"):
            return number
        try:
            seconds = Decimal(text.decode())
        except InvalidOperation:
            return number
        tiny = seconds.adjusted() < -330  # less than any float
        start = Fraction(0 if tiny else min(seconds, Decimal(10**10))) * 10**9
        if start < 0 or start >= 2**63 or (starts and start < starts[-1]):
            return number
        starts.append(start)
    return starts or None


def lines_of(content: bytes) -> list[bytes]:
    file = io.BytesIO(content)
    return list(iter(lambda: file.readline(TRACE_LINE_BYTES_MAX + 1), b""))


def check(content: bytes) -> bool:
    """Holds the reader to the oracle; returns whether it read the content."""
    lines = lines_of(content)
    wanted = expected(lines)
    try:
        read = starts_of(lines)
    except ValueError as error:
        message = str(error)
        assert "\n" not in message
        assert message.endswith("; give seconds from the start, one a line, ascending"), message
        if wanted is None:
            assert message.startswith("has no start in it")
        else:
            assert message.startswith((f"line {wanted}:", f"line {wanted} has")), (lines, message)
        return False
    assert isinstance(wanted, list), (lines, wanted, read)
    assert len(read) == len(wanted)
    assert list(read) == sorted(read)
    for found, exact in zip(read, wanted, strict=True):
        assert abs(found - exact) <= max(Fraction(1), exact / 2**51), (found, exact)
    return True


@settings(deadline=None, max_examples=500)
@given(st.lists(st.tuples(st.lists(st.sampled_from(FRAGMENTS), max_size=3), st.sampled_from(ENDS))))
@example([([b"1"], b"\n"), ([b"0.5"], b"\n")])
@example([([b"# made by hand"], b"\r\n"), ([b"0"], b"\r\n"), ([], b"\n"), ([b".5"], b"")])
def test_lines_of_any_fragments_are_read_or_refused_as_the_oracle_says(
    lines: list[tuple[list[bytes], bytes]],
) -> None:
    check(b"".join(b"".join(fragments) + end for fragments, end in lines))


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_as_the_oracle_says(content: bytes) -> None:
    check(content)


def random_content(generator: random.Random) -> bytes:
    """A trace that would be read, with up to three changes."""
    places, seconds, lines = generator.randrange(8), 0.0, []
    for _ in range(generator.randrange(6)):
        seconds += generator.choice((0.0, 0.1, 1.0, 1e4)) * generator.random()
        lines.append(b"%.*f%s" % (places, seconds, generator.choice(ENDS[:4])))
    content = b"".join(lines)
    for _ in range(generator.randrange(4)):
        place = generator.randrange(len(content) + 1)
        gone = generator.choice((0, 0, 1, 3))
        added = generator.choice(FRAGMENTS) if generator.random() < 0.7 else generator.randbytes(1)
        content = content[:place] + added + content[place + gone :]
    return content


@pytest.mark.parametrize(
    "count", [20_000, pytest.param(1_000_000, marks=(pytest.mark.soak, pytest.mark.timeout(1800)))]
)
def test_damaged_traces_are_read_or_refused_as_the_oracle_says(count: int) -> None:
    generator = random.Random(20_240_607)
    read = sum(check(random_content(generator)) for _ in range(count))
    # Neither side is the exception.
    assert 0.2 < read / count < 0.8


def test_the_oracle_notices_a_start_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_trace.starts_of", lambda lines: (10**9, 2 * 10**9))
    assert check(b"1\n2\n")
    for content in (b"1\n2.000000002\n", b"1\n", b"1\n2\nx\n"):
        with pytest.raises(AssertionError):
            check(content)


def read_trace(path: str) -> tuple[int, ...]:
    part = Distribution(kind="trace", file=path)
    return process_of(part, ("load",), Source("a.yaml", ())).times_ns


def refusal(path: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read_trace(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("a.yaml: load.file: `")
    return message


def test_a_file_with_comments_blank_lines_and_either_line_end_is_read(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_bytes("# größer\r\n0\r\n\r\n 0.25 # second\n.5e0\n+7".encode())
    assert read_trace(str(trace)) == (0, 250_000_000, 500_000_000, 7_000_000_000)


def test_what_is_no_readable_file_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "fifty bytes of a name are shown to the very last one").mkdir()
    (directory,) = tmp_path.iterdir()
    assert f"`{directory}` cannot be read (Is a directory); name a file" in refusal(str(directory))
    missing = str(tmp_path / "missing")
    assert f"`{missing}` cannot be read (No such file" in refusal(missing)
    assert "cannot be read (embedded null byte); name a file" in refusal("a\0b")
    assert "cannot be read (File name too long)" in refusal("a" * 5000)


def test_a_file_without_end_is_refused_at_once() -> None:
    assert "`/dev/zero`: line 1 has over 1000 bytes; give seconds" in refusal("/dev/zero")


def test_a_file_that_is_too_long_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "TRACE_LINES_MAX", 3)
    trace = tmp_path / "trace"
    trace.write_text("1\n2\n3\n")
    assert len(read_trace(str(trace))) == 3
    trace.write_text("1\n2\n3\n4\n")
    assert "has more than 3 lines; give a shorter trace" in refusal(str(trace))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"0\nnan\n", "line 2: `nan` is no number of seconds; give"),
        (b"1_000\n", "line 1: `1_000` is no number of seconds; give"),
        (b"seconds\n1\n", "line 1: `seconds` is no number of seconds; give"),
        (b"\x7fELF\x02\x01\xff\n", "line 1: `\x7fELF\x02\x01\\xff` is no number of seconds; give"),
        (b"0\n\n-1\n", "line 3: `-1` is before the start; give"),
        (b"1e400\n", "line 1: `1e400` is later than 292 years; give"),
        (b"# nothing\n", "has no start in it; give"),
    ],
)
def test_a_line_that_is_wrong_is_named_with_what_would_be_right(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    trace = tmp_path / "trace"
    trace.write_bytes(content)
    assert refusal(str(trace)).startswith(f"a.yaml: load.file: `{trace}`: {problem} seconds from")


def test_the_command_line_says_it_in_one_line_and_ends_with_two(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.write_bytes(bytes(range(256)))
    setting = f"workloads.null.distribution={{kind: trace, file: {trace}}}"
    arguments = ["max-throughput", "--components", "null", "--set", setting, "--dry-run"]
    ended = subprocess.run(
        [sys.executable, "-m", "swarmbench", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert f"`{trace}`: line 1" in ended.stderr
    assert "Traceback" not in ended.stderr
