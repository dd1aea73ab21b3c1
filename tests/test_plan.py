"""The plan: everything resolved on a stated machine, what was fitted said, nothing secret in it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest

from swarmbench import calibrate
from swarmbench.components import COMPONENTS, Null
from swarmbench.config import (
    OPTIONS,
    Config,
    Host,
    Override,
    load,
    make_plan,
    overrides_of,
    read_host,
    resolve,
)
from swarmbench.config.models import Section
from swarmbench.errors import ConfigurationError, MachineError
from swarmbench.plan import (
    CALIBRATION_BYTES,
    PHASES,
    Plan,
    Process,
    Simulation,
    harness_bytes,
)

CONFIGS = Path(__file__).parent.parent / "configs"
HOST = Host(
    cpus=(0, 1, 2, 3, 6, 7),
    threads_max=6,
    memory_available_bytes=10_000_000_000,
    disk_free_bytes=10**12,
    gpu_problem="no NVIDIA driver is loaded",
)


class Elastic(Null):
    """A component whose size is a parameter and can be fitted."""

    name: ClassVar[str] = "elastic"
    size_bytes: int = 1000
    least_bytes: int = 10

    def resident_bytes(self, workers: int) -> int:
        return self.size_bytes * workers

    def fitted(self, budget_bytes: int, workers: int) -> tuple[Self, list[str]]:
        size_bytes = max(self.least_bytes, budget_bytes // workers)
        smaller = self.model_copy(update={"size_bytes": size_bytes})
        return smaller, [f"size {self.size_bytes} fitted to {size_bytes}"]


class Fixed(Elastic):
    """A second one, which is small and stays so."""

    name: ClassVar[str] = "fixed"
    size_bytes: int = 1_000_000


@pytest.fixture(autouse=True)
def _components(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (Elastic, Fixed):
        monkeypatch.setitem(COMPONENTS, kind.name, kind)


def planned(host: Host = HOST, **content: Any) -> Plan:
    """The plan of a configuration, of the null component unless it says otherwise."""
    content.setdefault("workloads", {"null": {}})
    return resolve(Config.model_validate(content), host)


def refused(**content: Any) -> str:
    """The one line that planning fails with."""
    with pytest.raises(ConfigurationError) as caught:
        planned(**content)
    return str(caught.value)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_that_is_shipped_makes_a_plan(path: Path) -> None:
    config = load("max-throughput", file=path)
    assert {each.name for each in resolve(config, HOST).workloads} == set(config.workloads)


def test_quick_takes_a_minute_with_the_search_the_longest() -> None:
    assert planned().phases.total_s == 60
    assert planned(profile="standard").phases.total_s == 600
    full = planned(profile="full").phases
    assert dataclasses.astuple(full) == (300, 1200, 600, 300)
    assert max(dataclasses.astuple(PHASES["quick"])) == PHASES["quick"].search_s


def test_a_duration_scales_every_phase_and_keeps_the_shape() -> None:
    phases = planned(settings={"duration": "30s", "ramp_up": "68s"}).phases
    assert phases.total_s == pytest.approx(30)
    assert phases.ramp_up_s == pytest.approx(30 * 68 / 120)
    assert phases.sustained_s / phases.search_s == pytest.approx(14 / 30)


@pytest.mark.parametrize(
    ("cpus", "threads_max", "threads", "generator"),
    [((0, 1), 2, 2, None), ((0, 1, 2, 3, 6, 7), 6, 5, 7), ((0, 1, 2, 3), 1, 1, None)],
)
def test_the_generator_has_a_core_of_its_own_where_there_are_enough(
    cpus: tuple[int, ...], threads_max: int, threads: int, generator: int | None
) -> None:
    plan = planned(dataclasses.replace(HOST, cpus=cpus, threads_max=threads_max))
    assert (plan.threads, plan.generator_cpu) == (threads, generator)
    assert generator not in plan.cpus


def test_chosen_cores_and_threads_are_kept_and_absent_cores_refused() -> None:
    plan = planned(settings={"cpus": "1-2", "threads": 7})
    assert (plan.cpus, plan.generator_cpu, plan.threads) == ((1, 2), None, 7)
    assert refused(settings={"cpus": "3-4"}) == (
        "configuration: settings.cpus: core 4 is not allowed here; choose from `0-3,6-7`"
    )


def test_a_workload_has_the_components_own_load_unless_another_is_given() -> None:
    own = planned().workload("null")
    assert (own.rate_s, own.capacity_share, own.process) == (1000.0, None, Process("poisson"))
    assert own.op_weights == {"nothing": 1.0}
    assert (own.in_flight_max, own.stress_in_flight, own.queue_max) == (64, 64, 65_536)
    given = planned(
        workloads={
            "null": {
                "rate": "5%",
                "distribution": {"kind": "onoff", "on": "2s", "off": "500ms"},
                "max_in_flight": 3,
                "stress_in_flight": 4,
                "queue": 5,
                "overload": "drop",
                "latency_target": "10ms",
                "throughput_target": "10M/s",
            }
        }
    ).workload("null")
    assert (given.rate_s, given.capacity_share) == (None, 0.05)
    assert given.process == Process("onoff", on_s=2.0, off_s=0.5)
    shown = Plan.to_json(dataclasses.replace(planned(), workloads=(given,)))
    assert shown["workloads"]["null"]["process"] == {"kind": "onoff", "on_s": 2.0, "off_s": 0.5}
    assert (given.in_flight_max, given.stress_in_flight, given.queue_max) == (3, 4, 5)
    assert (given.overload, given.latency_target_ns) == ("drop", 10_000_000)
    assert given.throughput_target_s == 1e7


@pytest.mark.parametrize(
    ("workload", "line"),
    [
        ({"rate": "0/s"}, "rate: the rate is 0; give one such as `100/s`"),
        ({"ops": {"nothin": 1}}, "ops.nothin: there is no `nothin`; did you mean `nothing`?"),
        ({"ops": {"nothing": 0}}, "ops: the weights are all 0; give one above 0"),
        ({"params": {"size": 1}}, "params.size: there is no `size`; choose one of batch"),
        ({"data_mix": "zipf"}, "data_mix: `null` has no `data_mix`; its params are batch"),
        ({"sizes": "1MB-2MB"}, "sizes: `null` has no `sizes`; its params are batch"),
        ({"distribution": "trace"}, "distribution.file: is missing; name a file of intended"),
        ({"endpoint": {"url": "host"}}, "endpoint.url: `host` is no address; give one such as"),
    ],
)
def test_a_workload_that_cannot_be_is_refused_by_its_key(
    workload: dict[str, Any], line: str
) -> None:
    said = refused(workloads={"null": workload})
    assert said.startswith(f"configuration: workloads.null.{line}")


def test_a_wrong_parameter_is_blamed_on_the_option_that_set_it() -> None:
    path = ("workloads", "elastic", "params", "size_bytes")
    override = Override(path, "big", "--set " + ".".join(path))
    config = load("max-throughput", overrides=[override], components=["elastic"])
    with pytest.raises(ConfigurationError) as caught:
        resolve(config, HOST, overrides=[override])
    assert str(caught.value) == f"{override.label}: `big` is not a whole number, such as `7`"


def test_a_trace_is_read_in_nanoseconds_or_refused_by_its_line(tmp_path: Path) -> None:
    trace = tmp_path / "trace"

    def workloads() -> dict[str, Any]:
        return {"null": {"distribution": {"kind": "trace", "file": str(trace)}}}

    trace.write_text("0\n0.25\n1e0\n")
    assert planned(workloads=workloads()).workload("null").process.times_ns == (
        0,
        250_000_000,
        1_000_000_000,
    )
    shown = planned(workloads=workloads()).to_json()["workloads"]["null"]["process"]
    assert (shown["arrivals"], shown["last_ns"], len(shown["sha256"])) == (3, 10**9, 64)
    for text, problem in {
        "1\n0.5\n": f"`{trace}`: line 2: `0.5` is before the line above; give seconds",
        "": f"`{trace}`: has no start in it; give seconds",
    }.items():
        trace.write_text(text)
        assert problem in refused(workloads=workloads())
    trace.unlink()
    assert "cannot be read (No such file or directory)" in refused(workloads=workloads())


def test_components_are_fitted_into_the_budget_and_it_is_said() -> None:
    plan = planned(
        memory_budget=f"{harness_bytes(2) + 105_000_000}B",
        workloads={"elastic": {"params": {"size_bytes": 10**9}}, "fixed": {}},
    )
    elastic, fixed = plan.workload("elastic").component, plan.workload("fixed").component
    assert isinstance(elastic, Elastic)
    assert isinstance(fixed, Fixed)
    assert (elastic.size_bytes, fixed.size_bytes) == (20_000_000, 1_000_000)
    assert plan.notes == ("elastic: size 1000000000 fitted to 20000000",)
    assert plan.resident_bytes() <= plan.memory_budget_bytes
    assert plan.memory["elastic"].wanted_bytes == 10**9 * plan.threads
    assert plan.memory["elastic"].resident_bytes == 20_000_000 * plan.threads
    assert plan.memory["elastic"].fitted == ("size 1000000000 fitted to 20000000",)
    assert plan.memory["fixed"].fitted == ()
    assert plan.to_json()["memory"]["elastic"]["resident_bytes"] == 20_000_000 * plan.threads


def test_what_building_takes_is_fitted_too() -> None:
    class Greedy(Elastic):
        name: ClassVar[str] = "fixed"

        def build_bytes(self) -> int:
            return 3 * self.size_bytes * 5

        def fitted(self, budget_bytes: int, workers: int) -> tuple[Self, list[str]]:
            return super().fitted(budget_bytes // 3, workers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(COMPONENTS, "fixed", Greedy)
        plan = planned(
            memory_budget=f"{harness_bytes(1) + 10**9}B",
            workloads={"fixed": {"params": {"size_bytes": 10**9}}},
        )
    memory = plan.memory["fixed"]
    assert memory.peak_bytes == 3 * memory.resident_bytes <= 10**9


def test_fractions_are_probabilities_and_add_up_while_whole_weights_need_not() -> None:
    name = "knowledge_graph"

    def weights(**ops: float) -> dict[str, Any]:
        return {name: {"ops": ops, "params": {"nodes": 64}}}

    for good in ({"bfs": 3.0, "node_lookup": 1.0}, {"bfs": 0.7, "node_lookup": 0.3 + 1e-7}):
        assert planned(workloads=weights(**good)).workload(name).op_weights == good
    assert refused(workloads=weights(bfs=0.7, node_lookup=0.2)) == (
        "configuration: workloads.knowledge_graph.ops: 0.7 + 0.2 is not 1 but 0.9; "
        "give probabilities that add up, or whole weights"
    )
    assert "is not 1 but 1.5" in refused(workloads=weights(bfs=1.0, node_lookup=0.5))
    assert "did you mean `bfs`?" in refused(workloads=weights(bfz=1.0))


def test_too_little_memory_or_disk_is_the_machines_fault() -> None:
    large = {"elastic": {"params": {"size_bytes": 10**9, "least_bytes": 10**9}}}
    for host, content in (
        (HOST, {"workloads": large, "memory_budget": "1GB"}),
        (HOST, {"memory_budget": "11GB"}),
        (dataclasses.replace(HOST, disk_free_bytes=1000), {}),
    ):
        with pytest.raises(MachineError) as caught:
            planned(host, **content)
        assert caught.value.exit_code == 3
        assert caught.value.hint
    assert "is too little; give more than 140 MB" in refused(memory_budget="1MB")


def test_a_gpu_that_is_demanded_and_absent_is_the_machines_fault() -> None:
    for content in ({"backend": "cuda"}, {"workloads": {"null": {"backend": "cuda"}}}):
        with pytest.raises(MachineError, match="cannot run null: no NVIDIA driver is loaded"):
            planned(**content)
    assert planned().backend_reason == "no NVIDIA driver is loaded"
    assert planned(backend="cpu").backend_reason == "as asked"


def test_what_calibration_writes_is_in_what_the_run_writes() -> None:
    # The scratch file is written up to seven times.
    assert CALIBRATION_BYTES == 7 * calibrate.DISK_FILE_QUICK_BYTES
    real, simulated = planned(), planned(settings={"simulate": "none"})
    assert real.written_bytes() - simulated.written_bytes() == CALIBRATION_BYTES


def test_simulated_systems_are_read_and_others_refused() -> None:
    assert planned(settings={"simulate": "mm1:knee=4.2"}).simulation == Simulation("mm1", 4.2)
    assert planned(settings={"simulate": "none"}).simulation == Simulation("none", None)
    plan = planned(settings={"simulate": "none"}, workloads={"elastic": {}, "fixed": {}})
    assert [each.name for each in plan.workloads] == ["null"]
    assert plan.notes == ("simulated system `none`: no component of this machine runs",)
    for text in ("mm2:knee=4", "mm1", "mm1:4", "mm1:knee=1", "hard:knee=inf", "none:knee=3", ""):
        assert "give `mm1:knee=4.2`" in refused(settings={"simulate": text})


def test_what_is_asked_in_vain_is_said() -> None:
    asked = {"submit": "armed", "isolation": "green", "endpoint": {"url": "http://host:8000"}}
    assert planned(device=0, workloads={"null": asked}).notes == (
        "device is for the cuda backend and has no effect",
        "null: submit armed is for the cuda backend and has no effect",
        "null: isolation green is for the cuda backend and has no effect",
        "null: it serves its own requests, the endpoint has no effect",
    )


def test_criteria_of_the_users_own_must_be_known() -> None:
    own = {"metric": "breaking_point", "target": 3, "failure_threshold": 1}
    assert planned(criteria=[own]).criteria[0].target == 3
    said = refused(criteria=[{**own, "metric": "breaking_pint"}])
    assert said.endswith("there is no `breaking_pint`; did you mean `breaking_point`?")


def test_a_plan_is_json_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_KEY", "s3cr3t-value")
    endpoint = {"url": "http://host:8000", "key_variable": "MODEL_KEY"}
    plan = planned(workloads={"null": {"endpoint": endpoint}})
    secret = plan.workload("null").endpoint
    assert secret is not None
    assert secret.key == "s3cr3t-value"
    text = json.dumps(plan.to_json())
    assert "s3cr3t-value" not in text + repr(plan)
    assert json.loads(text)["workloads"]["null"]["endpoint"]["url"] == "http://host:8000"


def test_the_description_says_minutes_bytes_written_and_memory() -> None:
    plan = planned(profile="standard", workloads={"elastic": {}})
    assert plan.describe() == (
        "max-throughput, profile standard, seed 20240607\n"
        "backend   cpu: no NVIDIA driver is loaded\n"
        "workers   5 on cores 0-3,6; generator on core 7\n"
        "phases    ramp_up 60.0 s, sustained 3.50 min, search 4.00 min, recovery 90.0 s\n"
        "load      elastic: 1.00k/s poisson, 64 in flight when sustained, 5.00 KB\n"
        "time      10.0 minutes, preparation and calibration apart\n"
        "writes    236 MB of 100 GB allowed\n"
        "memory    140 MB of 6.00 GB allowed"
    )


def test_the_host_is_read_for_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    host = read_host(tmp_path / "not" / "yet")
    assert host.cpus
    assert 1 <= host.threads_max <= len(host.cpus)
    assert host.memory_available_bytes > 0
    assert host.disk_free_bytes > 0
    assert list(tmp_path.iterdir()) == []


def test_options_from_python_make_the_same_plan_and_are_blamed_by_name(tmp_path: Path) -> None:
    given = {"profile": "standard", "seed": 3, "duration": "90s", "threads": None}
    overrides = overrides_of(given)
    plan = make_plan("max-throughput", overrides=overrides, components=["null"], out=tmp_path)
    assert (plan.profile, plan.seed) == ("standard", 3)
    assert plan.phases.total_s == pytest.approx(90)
    with pytest.raises(ConfigurationError, match=r"^sead: is no option; did you mean `seed`\?$"):
        overrides_of({"sead": 3})
    wrong = overrides_of({"duration": 90})
    with pytest.raises(ConfigurationError, match=r"^duration: `90` has no unit"):
        make_plan("max-throughput", overrides=wrong, components=["null"], out=tmp_path)


def test_every_option_is_a_key_of_the_configuration() -> None:
    for path in OPTIONS.values():
        fields = Config.model_fields
        for part in path[:-1]:
            section = fields[part].annotation
            assert isinstance(section, type)
            assert issubclass(section, Section)
            fields = section.model_fields
        assert path[-1] in fields
