"""Systems whose truth is known, for `--simulate`: what the tool says of them can be checked."""

from __future__ import annotations

from swarmbench import _native
from swarmbench.engine import Track
from swarmbench.measured import Resources
from swarmbench.plan import Plan

#: Operations per second of the simulated workload at 1x.
RATE_S = 2000.0
#: Servers that no load up to the search's limit can fill.
UNLIMITED_SERVERS = 1_000_000


def simulated_engine(plan: Plan) -> tuple[_native.Engine, list[Track], list[float]]:
    """The plan's simulated system under a virtual clock, with one workload.

    mm1: one server with exponential service times, such that the p99 response reaches the
    tolerated degradation exactly at the knee; of an M/M/1 queue every percentile goes as
    1 / (capacity - load). hard: evenly spaced arrivals at one server whose capacity is the knee.
    none: constant service times and a server for everyone.
    """
    simulation, degradation = plan.simulation, plan.slo_degradation
    assert simulation is not None
    knee = simulation.knee or 1.0
    servers, process, service = 1, "poisson", "constant"
    if simulation.system == "mm1":
        capacity_s = RATE_S * (degradation * knee - 1.0) / (degradation - 1.0)
        service_ns, service = 1e9 / capacity_s, "exponential"
    elif simulation.system == "hard":
        service_ns, process = 1e9 / (RATE_S * knee), "constant"
    else:
        service_ns, servers = 1e6, UNLIMITED_SERVERS
    workload = _native.SimulatedWorkload(
        rate=RATE_S, service_ns=service_ns, service=service, process=process
    )
    engine = _native.Engine.simulated([workload], seed=plan.seed, servers=servers)
    name = plan.workloads[0].name
    return engine, [Track(name, ("nothing",), 64)], [RATE_S]


class NoMachine:
    """The meter of a simulated system: there is no machine whose resources could be read."""

    def start(self) -> None:
        """Nothing to begin."""

    def read(self) -> Resources:
        """Every reading is unknown."""
        return Resources()
