"""The way to a device: which backend is chosen and why, what is refused, what a lost one leaves."""

from __future__ import annotations

import json
import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fake_root import plant
from swarmbench.cli import main
from swarmbench.components import COMPONENTS, Evolution
from swarmbench.components.cuda import CUDA
from swarmbench.components.cuda.base import CudaOperation, Done
from swarmbench.components.cuda.evolution import Island
from swarmbench.config import Config
from swarmbench.config.backends import EMULATED_BYTES, choose
from swarmbench.config.host import Host
from swarmbench.config.resolve import resolve
from swarmbench.errors import MachineError, Status
from swarmbench.gpu import found, nvml, source
from swarmbench.gpu.card_stream import CardBuffer, CardStream
from swarmbench.gpu.device import DeviceLostError
from swarmbench.plan import LANES, Plan, harness_bytes
from swarmbench.schema import RESULT_SCHEMA, json_schema

EMULATED = ("max-throughput", "--backend", "cuda", "--device", "emulated", "--allow-concurrent")
EMULATED_NOTE = (
    "the device is emulated: sizes are small, rates 0.05 of the production ones, and no figure "
    "says anything of a GPU"
)
HOST = Host(
    cpus=(0, 1),
    threads_max=2,
    memory_available_bytes=20_000_000_000,
    disk_free_bytes=10**12,
    gpu_problem=None,
)


def planned(host: Host = HOST, **content: Any) -> Plan:
    workloads = {"evolution": {}, "null": {}}
    return resolve(Config.model_validate({"workloads": workloads} | content), host)


def test_auto_takes_a_card_for_what_has_kernels_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("swarmbench.config.backends.card_memory_bytes", lambda number: 8 << 30)
    plan = planned()
    assert (plan.backend, plan.device) == ("cuda", (0,))
    assert plan.backend_reason == "a usable GPU is there; null on the CPU"
    assert {each.name: each.backend for each in plan.workloads} == {
        "evolution": "cuda",
        "null": "cpu",
    }
    assert plan.workload("evolution").submit == "python"
    assert planned(device="1").device == (1,)
    only = planned(backend="cpu")
    assert (only.backend, only.backend_reason, only.device) == ("cpu", "as asked", ())


def test_a_fallback_is_under_auto_alone_and_said() -> None:
    problem = "missing: CuPy; install swarmbench[cuda13]"
    host = Host(**{**host_fields(), "gpu_problem": problem, "has_driver": True})
    plan = planned(host)
    assert (plan.backend, plan.backend_reason) == ("cpu", problem)
    assert plan.notes == (f"on the cpu backend: {problem}",)
    with pytest.raises(MachineError, match=f"cannot run evolution, null: {problem[:13]}"):
        planned(host, backend="cuda")


def host_fields() -> dict[str, Any]:
    return {name: getattr(HOST, name) for name in HOST.__dataclass_fields__}


def test_a_component_without_kernels_is_refused_where_cuda_is_demanded() -> None:
    for content in ({"backend": "cuda"}, {"workloads": {"null": {"backend": "cuda"}}}):
        with pytest.raises(MachineError, match="cannot run null: their CUDA kernels are not part"):
            planned(**content)


def test_what_does_not_fit_a_card_is_shrunk_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarmbench.config.backends.card_memory_bytes", lambda number: 4 << 20)
    plan = planned(workloads={"evolution": {}})
    (note,) = plan.notes
    assert note.startswith("evolution: population: 10000 -> ")
    component = plan.workload("evolution").component
    assert CUDA["evolution"].device_bytes(component, LANES) <= (4 << 20) * 0.8
    monkeypatch.setattr("swarmbench.config.backends.card_memory_bytes", lambda number: 4000)
    with pytest.raises(MachineError, match=r"needs .* of device memory and has 3\.20 KB"):
        planned(workloads={"evolution": {}})


def test_what_a_device_takes_of_the_host_is_in_the_budget() -> None:
    for name in ("memory", "streaming", "evolution"):
        plan = planned(workloads={name: {}})
        workload, memory = plan.workload(name), plan.memory[name]
        assert workload.backend == "cuda"
        pinned = CUDA[name].host_bytes(workload.component, workload.lanes)
        assert memory.for_device_bytes == pinned > 0
        assert memory.resident_bytes == workload.component.resident_bytes(plan.threads) + pinned
        assert memory.peak_bytes == workload.component.peak_bytes(plan.threads) + pinned
        assert plan.to_json()["memory"][name]["for_device_bytes"] == pinned
        alone = planned(workloads={name: {"backend": "cpu"}}).memory[name]
        assert alone.for_device_bytes == 0


@pytest.mark.parametrize("share", [0.9, 0.5, 0.2])
@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("memory", {}),
        ("memory", {"allocator": "pinned", "host_memory": "pageable"}),
        ("streaming", {"placement": "host_device_host"}),
        ("evolution", {}),
    ],
)
def test_a_budget_holds_what_is_pinned_too(name: str, params: dict[str, Any], share: float) -> None:
    workloads = {name: {"params": params}}
    wanted = planned(workloads=workloads).memory[name]
    budget = int(share * wanted.peak_bytes)
    plan = planned(workloads=workloads, memory_budget=f"{harness_bytes(1) + budget}B")
    memory = plan.memory[name]
    assert memory.wanted_bytes == wanted.wanted_bytes
    assert 0 < memory.for_device_bytes <= wanted.for_device_bytes
    assert memory.peak_bytes <= budget
    assert plan.resident_bytes() <= plan.memory_budget_bytes
    assert memory.fitted
    assert plan.notes[: len(memory.fitted)] == tuple(f"{name}: {line}" for line in memory.fitted)


def test_a_budget_that_what_is_pinned_does_not_fit_is_refused_with_the_numbers() -> None:
    tight = f"{harness_bytes(1) + 5_000_000}B"
    problem = (
        r"component `memory` needs \d+\.?\d* MB of memory, \d+\.?\d* (K|M)B of it for its device, "
        r"and has 5\.00 MB"
    )
    with pytest.raises(MachineError, match=problem):
        planned(workloads={"memory": {}}, memory_budget=tight)


def test_the_emulated_device_has_small_sizes_unless_others_are_given() -> None:
    plan = planned(device="emulated", workloads={"evolution": {}})
    assert plan.device == ("emulated",)
    assert plan.workload("evolution").component == Evolution.small()
    assert plan.notes == (EMULATED_NOTE,)
    assert plan.workload("evolution").rate_s == 0.5
    given = {"evolution": {"params": {"population": 32}}}
    plan = planned(device="emulated", workloads=given)
    assert plan.workload("evolution").component == Evolution(population=32, genome=100)
    assert CUDA["evolution"].device_bytes(Evolution.small(), LANES) <= EMULATED_BYTES
    chosen = choose(Config.model_validate({"device": "emulated", "workloads": given}), HOST)
    assert chosen.reason == "the emulated device"


@pytest.mark.parametrize(
    ("version", "packages", "said"),
    [
        ("580.65.06", set(), "missing: CuPy, NVRTC, numba-cuda; install swarmbench[cuda13]"),
        ("535.54.03", {"cuda", "numba_cuda"}, "missing: CuPy; install swarmbench[cuda12]"),
        ("470.82.01", {"cuda", "cupy"}, "driver 470.82.01 is too old; the kernels need 525"),
        ("580.65.06", {"cuda", "cupy", "numba_cuda"}, None),
    ],
)
def test_what_a_card_lacks_is_one_line_with_the_remedy(
    version: str, packages: set[str], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = nvml.Gpu("H200", *[None] * 2, "9.0", *[None] * 8)
    monkeypatch.setattr(found, "read_gpus", lambda root: nvml.Gpus((card,), version, None))
    monkeypatch.setattr(found, "find_spec", lambda name: name if name in packages else None)
    problem = found.card_problem()
    assert problem is None if said is None else problem is not None and problem.startswith(said)


def test_without_a_driver_there_is_no_card(tmp_path: Path) -> None:
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("a driver is loaded here")
    assert found.card_problem(plant(tmp_path, {})) == "no NVIDIA driver is loaded"
    with pytest.raises(MachineError, match=r"CuPy is not here|the CUDA driver cannot be used"):
        found.open_device(0)


def test_a_kernel_that_does_not_compile_ends_the_run_before_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = source.text_of("evolution.cu").replace("Digest digest;", "Digest digest", 1)
    monkeypatch.setattr(source, "text_of", lambda file: text)
    status = main([*EMULATED, "--components", "evolution", "--out", str(tmp_path)])
    assert status == Status.MACHINE_UNFIT
    error = capsys.readouterr().err.splitlines()[0]
    assert error.startswith("error: kernel file `evolution.cu` does not compile for the host: ")
    assert "evolution.cu:" in error


def test_a_device_without_room_is_status_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--set", "workloads.evolution.params.population=1000000"]
    sizes += ["--set", "workloads.evolution.params.genome=4096"]
    arguments = [*EMULATED, "--components", "evolution", *sizes, "--dry-run"]
    assert main([*arguments, "--out", str(tmp_path)]) == Status.OK
    assert "note      evolution: population: 1000000 -> " in capsys.readouterr().out
    prepared = Evolution(population=200_000, genome=4096)
    with pytest.raises(MachineError, match=r"the emulated device has \d+ bytes free"):
        CUDA["evolution"](
            prepared,
            COMPONENTS["evolution"].small().prepare(seed=1).native,
            found.open_device("emulated"),
            1,
        ).operation()


def test_a_lost_device_ends_the_run_with_status_4_and_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Island.run

    def lost(self: CudaOperation, op: str, key: int) -> Done:
        lost.calls += 1  # type: ignore[attr-defined]
        if lost.calls > 20:  # type: ignore[attr-defined]
            raise DeviceLostError("the device was lost: Xid 79", hint="look at dmesg")
        return whole(self, op, key)  # type: ignore[arg-type]

    lost.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(Island, "run", lost)
    arguments = [*EMULATED, "--components", "evolution", "--duration", "12s"]
    assert main([*arguments, "--out", str(tmp_path)]) == Status.SAFETY_STOP
    error, hint = capsys.readouterr().err.splitlines()
    assert error == "error: the device was lost: Xid 79"
    assert hint == "hint: look at dmesg"
    (run,) = tmp_path.iterdir()
    assert json.loads((run / "manifest.json").read_text())["state"].startswith("the device was")
    assert (run / "components.jsonl").stat().st_size > 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_lane_that_breaks_ends_the_run_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(self: CudaOperation, op: str, key: int) -> Done:
        raise RuntimeError("CUDA_ERROR_INVALID_VALUE: invalid argument")

    monkeypatch.setattr(Island, "run", broken)
    arguments = [*EMULATED, "--components", "evolution", "--duration", "12s"]
    assert main([*arguments, "--out", str(tmp_path)]) == Status.SAFETY_STOP
    assert capsys.readouterr().err.splitlines()[0] == (
        "error: a lane of evolution ended: RuntimeError: CUDA_ERROR_INVALID_VALUE: invalid argument"
    )


def test_all_components_with_kernels_run_together_on_the_emulated_device(tmp_path: Path) -> None:
    names = ",".join(CUDA)
    command = [sys.executable, "-m", "swarmbench", *EMULATED, "--components", names]
    command += ["--duration", "20s", "--json", "--out", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stderr == ""
    assert ended.returncode in (Status.OK, Status.CRITERION_FAILED, Status.UNTRUSTED)
    result = json.loads(ended.stdout)
    assert result["schema"] == RESULT_SCHEMA
    assert json_schema(RESULT_SCHEMA)["properties"].keys() >= result.keys()
    assert (result["backend"], result["device"]) == ("cuda", "emulated")
    assert result["backend_reason"] == "the emulated device"
    assert EMULATED_NOTE in result["notes"]
    for phase in result["phases"]:
        for name, figures in phase["components"].items():
            assert figures["violations"] == 0, f"{name} in {phase['name']}"
            assert figures["errors"] == 0, f"{name} in {phase['name']}"
    for name in CUDA:
        assert sum(p["components"][name]["verified"] for p in result["phases"]) > 0, name


def test_the_doctor_says_what_a_card_lacks_and_what_it_would_hold(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    card = nvml.Gpu("H200", *[None] * 2, "9.0", *[None] * 8)
    gpus = nvml.Gpus((card,), "580.65.06", None)
    monkeypatch.setattr(found, "read_gpus", lambda root: gpus)
    monkeypatch.setattr(nvml, "read_gpus", lambda root: gpus)
    for packages, state, value in (
        (set(), "missing", "missing: CuPy, NVRTC, numba-cuda; install swarmbench[cuda13]"),
        ({"cuda", "cupy", "numba_cuda"}, "ok", f"kernels of {', '.join(CUDA)}"),
    ):
        monkeypatch.setattr(found, "find_spec", lambda name, has=packages: name in has or None)
        assert main(["doctor", "--json"]) == Status.OK
        findings = json.loads(capsys.readouterr().out)["findings"]
        (backend,) = [each for each in findings if each["name"] == "CUDA backend"]
        assert (backend["state"], backend["value"]) == (state, value)
        held = [each for each in findings if each["name"] == "device memory of evolution"]
        assert bool(held) == (state == "ok")
        (kept,) = [each for each in findings if each["name"] == "memory of evolution"]
        assert kept["value"].endswith(" of it for the device") == (state == "ok")


def test_ordinary_memory_is_kept_until_its_copy_was_waited_for() -> None:
    """The driver may read it later than it is asked to; what is pinned is the component's."""
    fake = SimpleNamespace(ptr=0, synchronize=lambda: None, copy_from_host_async=lambda *_: None)
    errors = SimpleNamespace(CUDADriverError=KeyError, CUDARuntimeError=KeyError)
    cuda = SimpleNamespace(driver=errors, runtime=errors, PinnedMemoryPointer=bytearray)
    cuda.Stream = cuda.Event = lambda **_: fake
    stream = CardStream(SimpleNamespace(cuda=cuda))
    target = CardBuffer(SimpleNamespace(nbytes=8, data=fake))
    pinned = np.frombuffer(bytearray(64), np.uint32)
    held = sys.getrefcount(pinned)
    stream.upload(target, pinned[:2])
    stream.upload(target, pinned[4:8].view(np.uint16)[:4])
    assert sys.getrefcount(pinned) == held
    given = np.arange(4, dtype=np.uint16)
    left = weakref.ref(given)
    stream.upload(target, given)
    del given
    assert left() is not None
    stream.synchronize()
    assert left() is None
