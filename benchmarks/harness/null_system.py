"""The engine around a component that does nothing, beside LoadGen and fio around theirs.

LoadGen answers inside the issuing thread and has a second one that writes its log; fio's null
engine completes a read at once. Ours has one worker, which paces while it is idle.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial

from harness.native import engine, fio, loadgen, program
from harness.neighbour import busy_neighbour
from paired import Case, PeerMissing

STRETCH_S = 1.0
#: Beyond what either carries; LoadGen's schedule of it needs about a gigabyte.
OFFERED, LOADGEN_OFFERED = 2e7, 3e6
#: Operations per second at which fio was seen to be off its mark.
POISSON = 3e5


def ours(figure: str, *words: object) -> float:
    return engine(*words)[figure]


def theirs(field: str, scenario: str, rate: float) -> float:
    return loadgen(scenario, rate, STRETCH_S).figure(field)


def cases() -> Iterator[Case]:
    """Rate, lateness, memory and instructions."""
    yield from rates()
    yield from lateness()
    yield from footprint()


def rates() -> Iterator[Case]:
    """Operations per second; the goals are 20 and 60 M/s where LoadGen did 0.9 and 14, fio 5.4."""
    single = partial(theirs, "QPS w/ loadgen overhead", "singlestream", 1e6)
    server = partial(theirs, "Completed samples per second", "server", LOADGEN_OFFERED)
    offline = partial(theirs, "Samples per second", "offline", 2e6)
    one = partial(ours, "ops_s", "closed", 1, STRETCH_S)
    open_loop = partial(ours, "ops_s", "open", OFFERED, STRETCH_S)
    many = partial(ours, "ops_s", "closed", 1024, STRETCH_S)
    batches = partial(ours, "ops_s", "closed", 1024, STRETCH_S, 64)
    iops = partial(fio_ops_s)
    yield Case("engine", "closed_1", "ops/s", None, "LoadGen SingleStream", one, single, threads=2)
    yield Case("engine", "closed_1", "ops/s", 3.7, "fio null engine", one, iops)
    yield Case(
        "engine", "poisson_overload", "ops/s", 22.0, "LoadGen Server", open_loop, server, threads=2
    )
    yield Case(
        "engine", "closed_1024", "ops/s", 1.0, "LoadGen Offline, one query", many, offline,
        threads=2,
    )  # fmt: skip
    yield Case(
        "engine", "closed_1024_by_64", "ops/s", 4.3, "LoadGen Offline, one query", batches,
        offline, threads=2,
    )  # fmt: skip
    yield Case(
        "engine", "closed_1024_neighbour", "ops/s", lost_share(), "itself alone",
        beside_a_neighbour, partial(ours, "ops_s", "closed", 1024, STRETCH_S, 1, cores()),
        threads=cores(),
    )  # fmt: skip
    yield Case(
        "engine", "poisson_off_the_mark", "%", 1.0, "fio null engine", off_the_mark,
        fio_off_the_mark, check=issues_what_was_drawn, better="lower",
    )  # fmt: skip


def lateness() -> Iterator[Case]:
    """The goals are 50 ns where LoadGen's median was 82, 73 and 46 us."""
    for rate, goal in ((1e3, 1640.0), (1e4, 1460.0), (1e5, 920.0)):
        peer = partial(theirs, "50.00 percentile latency \\(ns\\)", "server", rate)
        yield Case(
            "engine", f"late_p50_at_{rate:.0e}", "ns", goal, "LoadGen Server",
            partial(ours, "late_p50_ns", "open", rate, STRETCH_S), peer,
            better="lower", threads=2,
        )  # fmt: skip
        for percentile in (90, 99):
            field = f"{percentile}.00 percentile latency \\(ns\\)"
            yield Case(
                "engine", f"response_p{percentile}_at_{rate:.0e}", "ns", 1.0, "LoadGen Server",
                partial(ours, f"response_p{percentile}_ns", "open", rate, STRETCH_S),
                partial(theirs, field, "server", rate), better="lower", threads=2,
            )  # fmt: skip
    yield Case(
        "engine", "cores_at_1e+03", "cores", None, "LoadGen Server",
        partial(ours, "cpu", "open", 1e3, STRETCH_S), loadgen_cores, better="lower", threads=2,
    )  # fmt: skip


def footprint() -> Iterator[Case]:
    """Memory and instructions per operation, and what reading costs."""
    yield Case(
        "engine", "bytes_per_op", "bytes", 1.0, "LoadGen Server", growth, loadgen_bytes,
        better="lower", threads=2,
    )  # fmt: skip
    yield Case(
        "engine", "instructions_by_64", "instructions", None, "LoadGen SingleStream",
        instructions, loadgen_instructions, better="lower", threads=2,
    )  # fmt: skip
    yield Case(
        "engine", "reading_16_streams_at_1_hz", "% of throughput", None, "none",
        reading_cost, no_such_reader, better="lower", threads=2,
    )  # fmt: skip


def fio_ops_s() -> float:
    return float(fio(STRETCH_S)["iops"])


def off_the_mark() -> float:
    """How far a second of Poisson arrivals is off the rate asked for; chance alone gives 0.1 %."""
    return max(1e-3, abs(engine("open", POISSON, STRETCH_S)["issued"] / POISSON - 1.0) * 100.0)


def fio_off_the_mark() -> float:
    options = ("--rate_process=poisson", f"--rate_iops={POISSON:.0f}")
    return max(1e-3, abs(float(fio(STRETCH_S, *options)["iops"]) / POISSON - 1.0) * 100.0)


def issues_what_was_drawn() -> bool:
    """Whether every arrival drawn was issued, and none besides, from 1/s to 5 million a second."""
    counts = [engine("open", rate, STRETCH_S) for rate in (1.0, 1e3, 1e5, 5e6)]
    return all(each["issued"] == each["drawn"] for each in counts)


def loadgen_cores() -> float:
    return loadgen("server", 1e3, STRETCH_S).cpu_s / STRETCH_S


def growth() -> float:
    """Bytes of growth per operation scheduled, over 10^8."""
    grown = engine("growth", 1e8)
    return max(1.0, grown["bytes"]) / grown["ops"]


def loadgen_bytes() -> float:
    large, small = (loadgen("server", rate, 1.0).resident_bytes for rate in (1e6, 1e3))
    return (large - small) / (1e6 - 1e3)


def no_such_reader() -> float:
    raise PeerMissing("no peer is read without the writer's help")


def reading_cost() -> float:
    """Throughput lost to reading 16 streams once a second, by reading them 1000 times as often."""
    alone, read = (engine("snapshots", rate, STRETCH_S)["ops_s"] for rate in (0, 1000))
    return max(0.0, 1.0 - read / alone) * 100.0 / 1000.0


def cores() -> int:
    return len(os.sched_getaffinity(0))


def lost_share() -> float:
    """What a fair scheduler leaves beside a spinning neighbour: it loses half of one core."""
    return 1.0 - 0.5 / cores()


def beside_a_neighbour() -> float:
    with busy_neighbour(min(os.sched_getaffinity(0))):
        return ours("ops_s", "closed", 1024, STRETCH_S, 1, cores())


def callgrind(folder: str) -> list[str]:
    if shutil.which("valgrind") is None:
        raise PeerMissing("valgrind is not installed: apt-get install valgrind")
    return ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/callgrind.out"]


def executed(output: str) -> float:
    found = re.search(r"Collected : (\d+)", output)
    if found is None:
        raise PeerMissing("callgrind printed no count")
    return float(found[1])


def per_operation(points: list[tuple[float, float]]) -> float:
    """The slope between a short and a long run: what starting and ending costs drops out."""
    (few, less), (many, more) = points
    return (more - less) / (many - few)


def instructions() -> float:
    """Instructions per null operation in batches of 64, of all threads, under callgrind."""
    points = []
    for seconds in (1.0, 4.0):
        with tempfile.TemporaryDirectory() as folder:
            command = [*callgrind(folder), str(program("engine")), "closed", "1024"]
            ended = subprocess.run(
                [*command, str(seconds), "64"], check=True, capture_output=True, text=True
            )
            points.append(
                (float(re.findall(r'"ops": (\d+)', ended.stdout)[0]), executed(ended.stderr))
            )
    return per_operation(points)


def loadgen_instructions() -> float:
    points = []
    for seconds in (1.0, 4.0):
        with tempfile.TemporaryDirectory() as folder:
            ended = loadgen("singlestream", 1e6, seconds, *callgrind(folder))
            queries = ended.figure("QPS w/ loadgen overhead") * seconds
            points.append((queries, executed(ended.output)))
    return per_operation(points)
