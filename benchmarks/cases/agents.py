"""Agents beside a NumPy slab, Mesa, asyncio tasks, and real processes as Python starts them.

Births are counted where as many agents end, so that a population stays as it is; ours end at
random, which lifetimes ask for, the peers' end oldest first, which is what costs them least. Ours
draws what an agent is born with from Philox, keyed by the operation, and locks; the peers draw
from the fastest generator that they have. A NumPy slab, Mesa and asyncio work on one thread.
Rounds are short on both sides, so that a machine which others use too delays both alike.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np

from paired import Case, PeerMissing
from peers.agents_python import MesaChurn, NumpyMail, NumpySlab, asyncio_churn, mesa_model
from swarmbench.components import populations
from swarmbench.components.agents import Agents

SEED = 7
THREADS = 2
BATCH = 1024
SINGLE = 20_000
#: Processes that a percentile is of.
PROCESSES = 200
PROGRAM = "/bin/true"


@cache
def native(component: Agents) -> Any:
    return component.prepare(seed=SEED).native


def counted(component: Agents, op: str, count: int) -> float:
    """Agents per second of `count` operations on each thread."""
    result = native(component).run(op, count=count, threads=THREADS, verify=False)
    return float(result["units"] / result["elapsed_ns"] * 1e9)


def timed(work: Callable[[], int]) -> float:
    """Agents per second of a call that returns how many it did."""
    began = time.perf_counter_ns()
    agents = work()
    return agents / (time.perf_counter_ns() - began) * 1e9


def single(component: Agents, op: str) -> int:
    """Calls one operation after the other from Python."""
    run = native(component).caller(op).run
    for key in range(SINGLE):
        run(key)
    return SINGLE


def slab_churn(slab: NumpySlab, batch: int, batches: int) -> int:
    for _ in range(batches):
        slab.spawn(batch)
        slab.destroy(batch)
    return batch * batches


def mesa_churn(mesa: MesaChurn, count: int) -> int:
    mesa.churn(count)
    return count


def keeps_its_number(component: Agents, peer: Callable[[], Any], live: int) -> bool:
    """Whether both have what was born less what ended, each id once, and the peer its number."""
    counters = dict(native(component).counters())
    kept = counters["spawned"] - counters["destroyed"] == counters["live"]
    within = component.population_min <= counters["live"] <= component.population_max
    checked = native(component).run("spawn", first_key=1 << 40, count=64)
    return kept and within and checked["violations"] == 0 and peer().live == live


def spawn_cases() -> Iterator[Case]:
    many = Agents(population_min=2000, population_max=6000, swarms=4, batch=BATCH)
    one = Agents()
    live = 4000
    slab = cache(lambda: NumpySlab(live, BATCH))
    mesa = cache(lambda: MesaChurn(live))
    job = f"spawn in batches of {BATCH}, population of {live}"
    ours = partial(counted, many, "spawn", 100)
    yield Case(
        benchmark="agents",
        case=job,
        unit="agents/s",
        goal=20.0 / 4.2,
        peer_name="numpy slab (one thread)",
        ours=ours,
        peer=lambda: timed(lambda: slab_churn(slab(), BATCH, 20)),
        check=lambda: keeps_its_number(many, slab, live),
        threads=THREADS,
    )
    yield Case(
        benchmark="agents",
        case=job,
        unit="agents/s",
        goal=20.0 / 0.28,
        peer_name="mesa (one thread)",
        ours=ours,
        peer=lambda: timed(lambda: mesa_churn(mesa(), 1000)),
        check=lambda: keeps_its_number(many, mesa, live),
        threads=THREADS,
    )
    yield Case(
        benchmark="agents",
        case=job,
        unit="agents/s",
        goal=20.0 / 0.107,
        peer_name="asyncio tasks (one thread)",
        ours=ours,
        peer=lambda: timed(lambda: asyncio.run(asyncio_churn(live, 6000))),
        check=lambda: asyncio.run(asyncio_churn(10, 100)) == 100,
        threads=THREADS,
    )
    small = cache(lambda: NumpySlab(live, 1))
    for name, goal, peer in (
        ("numpy slab", 3.0 / 0.28, lambda: slab_churn(small(), 1, 300)),
        ("mesa", 3.0 / 0.28, lambda: mesa_churn(mesa(), 1000)),
    ):
        yield Case(
            benchmark="agents",
            case="spawn one at a time from Python",
            unit="agents/s",
            goal=goal,
            peer_name=name,
            ours=lambda: timed(lambda: single(one, "spawn")),
            peer=lambda peer=peer: timed(peer),
            check=lambda name=name: keeps_its_number(
                one, small if name == "numpy slab" else mesa, live
            ),
        )


def same_mail(component: Agents, kind: str) -> bool:
    """Whether a tick of one of the swarms leaves the same energies and messages in the peer's."""
    inputs = component.inputs("tick", SEED, 4)
    found = native(component).evaluate("tick", inputs)
    live = np.flatnonzero(inputs["state"] != populations.STOPPED)
    mail = NumpyMail(inputs)
    next_inbox = found[("inbox_odd", "inbox_even")[mail.parity]][live]
    counts, sums = next_inbox >> np.uint64(40), next_inbox & np.uint64((1 << 40) - 1)
    energy, heard = found["energy"][live], found["heard"][live]
    if kind == "numpy":
        now = mail.parity
        mail.tick()
        answers = (mail.counts[1 - now], mail.sums[1 - now], mail.energy, mail.heard)
    else:
        model = mesa_model(mail)
        model.tick()
        fields = ("count", "sum", "energy", "heard")
        answers = tuple(np.array([getattr(a, f) for a in model.everybody]) for f in fields)
    rights = (counts, sums, energy, heard)
    return all(np.array_equal(a, b) for a, b in zip(answers, rights, strict=True))


def tick_cases(large: bool) -> Iterator[Case]:
    live = 1_000_000 if large else 10_000
    component = Agents(
        population_min=live * 9 // 10, population_max=live * 11 // 10, swarms=max(16, live // 2000)
    )
    shape = populations.Shape(live + live // 10, 1, 2 * live - 1, 1, SEED)
    mail = cache(lambda: NumpyMail(populations.synthetic(shape, 4)))
    model = cache(lambda: mesa_model(NumpyMail(populations.synthetic(shape, 4))))
    ticks = 4 if large else 200

    def numpy_ticks() -> int:
        rounds = 2 if large else 40
        for _ in range(rounds):
            mail().tick()
        return live * rounds

    def mesa_ticks() -> int:
        model().tick()
        return live

    for name, goal, peer in (
        ("mesa (one thread)", 100.0 / 6.2, mesa_ticks),
        ("numpy (one thread)", None, numpy_ticks),
    ):
        kind = name.split()[0]
        yield Case(
            benchmark="agents",
            case=f"tick of {live:,} agents: read, send one message",
            unit="agents/s",
            goal=goal,
            peer_name=name,
            ours=partial(counted, component, "tick", ticks),
            peer=lambda peer=peer: timed(peer),
            check=lambda kind=kind: same_mail(component, kind),
            threads=THREADS,
        )


def percentile_us(percent: int, start: Callable[[int], None]) -> float:
    """Microseconds that `percent` of `PROCESSES` processes, one by one, do not exceed."""
    times = []
    for key in range(PROCESSES):
        began = time.perf_counter_ns()
        start(key)
        times.append(time.perf_counter_ns() - began)
    return sorted(times)[PROCESSES * percent // 100 - 1] / 1e3


def spawned(_: int) -> None:
    pid = os.posix_spawn(PROGRAM, [PROGRAM], {})
    _, status = os.waitpid(pid, 0)
    if status:
        raise PeerMissing(f"{PROGRAM} ended with {status}")


def run_by_subprocess(_: int) -> None:
    subprocess.run([PROGRAM], check=True)


def process_cases() -> Iterator[Case]:
    """Ours is linked to nothing and reports a thousand steps; `true` loads the C library."""
    component = Agents()

    def start(key: int) -> None:
        caller().run(key)

    caller = cache(lambda: native(component).caller("process"))
    peers = (("os.posix_spawn of true", spawned), ("subprocess", run_by_subprocess))
    for (name, peer), percent in itertools.product(peers, (50, 99)):
        yield Case(
            benchmark="agents",
            case=f"one process, started to reaped, p{percent}",
            unit="us",
            goal=None,
            peer_name=name,
            ours=partial(percentile_us, percent, start),
            peer=partial(percentile_us, percent, peer),
            check=lambda: native(component).run("process", count=8)["violations"] == 0,
            better="lower",
        )


def cases(large: bool) -> Iterator[Case]:
    """Agents per second, and microseconds of a process; `large` ticks a million agents."""
    yield from spawn_cases()
    yield from tick_cases(large)
    yield from process_cases()
