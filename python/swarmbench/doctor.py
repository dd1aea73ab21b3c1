"""What this machine can run, what is missing, and what would disturb a measurement.

Reads and reports; changes nothing. A remedy is something an operator can do or undo safely.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from swarmbench import cgroup, machine
from swarmbench.components.cuda import CUDA
from swarmbench.config import Host, load, resolve
from swarmbench.errors import SwarmbenchError
from swarmbench.gpu import nvml
from swarmbench.gpu.found import card_problem
from swarmbench.monitoring import probes
from swarmbench.units import about_bytes

State = Literal["ok", "warn", "missing"]

#: Below these, a run is fitted so tightly that its figures say little.
_MEMORY_BYTES_MIN = 2 << 30
_DISK_BYTES_MIN = 2 << 30
#: Stands for a disk that is no concern of the question asked.
_DISK_BYTES_ANY = 1 << 40
_DESCRIPTORS_MIN = 1024
_PROCESSES_MIN = 1024
#: From these on, what others take shows in the figures.
_FOREIGN_SHARE_MAX = 0.05
_STEAL_SHARE_MAX = 0.01
_PRESSURE_SHARE_MAX = 0.05
_CLOCKS = ("tsc", "arch_sys_counter")
_REMOTE_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "virtiofs")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, how it stands, and what would do where it is not ok."""

    name: str
    state: State
    value: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where to look: the root of /proc and /sys, and the folder that runs will be written to."""

    root: Path
    directory: Path
    seconds: float


def examine(
    directory: Path = Path("."), *, root: Path = Path("/"), seconds: float = 0.5
) -> list[Finding]:
    """Every finding, in the order of the list below; watches the load for `seconds`."""
    place = _Place(root, directory, seconds)
    return [finding for look in _LOOKS for finding in look(place)]


def _processor(place: _Place) -> Iterator[Finding]:
    cpu = machine.fingerprint(root=place.root)["cpu"]
    cores, online = cpu["cores_allowed"], cpu["cores_online"]
    value = f"{cpu['model'] or 'unnamed'}, {cores} of {online} cores allowed"
    if cores < 2:
        remedy = "allow at least two cores: with one, the generator disturbs what it measures"
        yield Finding("processor", "warn", value, remedy)
    else:
        yield Finding("processor", "ok", value)
    sets = set(cpu["instruction_sets"])
    widest = next((name for name in ("avx512f", "avx2", "sve", "asimd") if name in sets), None)
    if widest is None:
        remedy = "none needed: the portable code runs, slower than on a machine with AVX2 or NEON"
        yield Finding("vector instructions", "warn", "none known", remedy)
    else:
        yield Finding("vector instructions", "ok", widest)


def _frequency(place: _Place) -> Iterator[Finding]:
    settings = machine.settings(place.root)
    governor = settings["governor"]
    if governor is None:
        yield Finding("governor", "ok", "not visible here (the host decides)")
    elif governor == "performance":
        yield Finding("governor", "ok", governor)
    else:
        remedy = "for steady figures: `sudo cpupower frequency-set -g performance`; undo it after"
        yield Finding("governor", "warn", governor, remedy)
    low_khz, high_khz = settings["frequency_min_khz"], settings["frequency_max_khz"]
    if low_khz is not None and high_khz is not None:
        raised = {True: ", boost on", False: ", boost off", None: ""}[settings["boost"]]
        value = f"{low_khz / 1e6:.1f} to {high_khz / 1e6:.1f} GHz{raised}"
        yield Finding("frequency scaling", "ok", value)
    else:
        yield Finding("frequency scaling", "ok", "not visible here")
    for supply in sorted((place.root / "sys/class/power_supply").glob("*")):
        if machine.read(supply / "type") == "Mains" and machine.read(supply / "online") == "0":
            yield Finding("power", "warn", "on battery", "plug the machine in")


def _clock(place: _Place) -> Iterator[Finding]:
    settings = machine.settings(place.root)
    source, flags = settings["clock_source"], settings["clock_flags"]
    if source is None:
        yield Finding("clock", "warn", "clock source unknown", "mount /sys in this container")
    elif source in _CLOCKS:
        yield Finding("clock", "ok", ", ".join([source, *flags]))
    else:
        remedy = (
            "each reading is a system call: figures below some microseconds are coarse; "
            "measure on a host or hypervisor that offers `tsc`"
        )
        yield Finding("clock", "warn", source, remedy)
    slack = machine.number(place.root / "proc/self/timerslack_ns")
    value = "unknown" if slack is None else f"{slack} ns by default, 1 ns in the pacer"
    yield Finding("timer slack", "ok", value)


def _memory(place: _Place) -> Iterator[Finding]:
    memory = machine.meminfo(place.root)
    available = machine.memory_available_bytes(place.root)
    value = f"{about_bytes(available)} available of {about_bytes(memory.get('MemTotal', 0))}"
    if available < _MEMORY_BYTES_MIN:
        least = about_bytes(_MEMORY_BYTES_MIN)
        remedy = f"close other programs, or allow this container at least {least}"
        yield Finding("memory", "warn", value, remedy)
    else:
        yield Finding("memory", "ok", value)
    used = memory.get("SwapTotal", 0) - memory.get("SwapFree", 0)
    if used > 0:
        remedy = "close other programs; what is swapped out comes back during a measurement"
        yield Finding("swap", "warn", f"{about_bytes(used)} in use", remedy)
    else:
        yield Finding("swap", "ok", "none in use")
    pages = machine.settings(place.root)["transparent_hugepage"]
    if pages == "never":
        remedy = "`echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled`"
        yield Finding("huge pages", "warn", "never", remedy)
    else:
        yield Finding("huge pages", "ok", pages or "not visible here")
    nodes = len(list((place.root / "sys/devices/system/node").glob("node[0-9]*")))
    if nodes > 1:
        remedy = "keep a run on one node by `--cpus`, or memory ceilings are a mixture"
        yield Finding("NUMA", "warn", f"{nodes} nodes", remedy)
    else:
        yield Finding("NUMA", "ok", "one node")


def _disk(place: _Place) -> Iterator[Finding]:
    try:
        found = machine.disk(place.directory, place.root)
        statistics = os.statvfs(place.directory)
    except OSError as error:
        remedy = "name a folder that exists by `--out`"
        yield Finding("disk", "missing", error.strerror or str(error), remedy)
        return
    free = statistics.f_bavail * statistics.f_frsize
    kind = found["file_system"] or "unknown file system"
    value = f"{about_bytes(free)} free, {kind}"
    if free < _DISK_BYTES_MIN:
        remedy = f"make {about_bytes(_DISK_BYTES_MIN)} free, or choose another disk by `--out`"
        yield Finding("disk", "warn", value, remedy)
    elif kind in _REMOTE_FILE_SYSTEMS:
        remedy = "choose a local disk by `--out`: this one measures the network and its server"
        yield Finding("disk", "warn", value, remedy)
    else:
        yield Finding("disk", "ok", value)
    problem = machine.direct_problem(place.directory)
    if problem is None:
        yield Finding("direct disk access", "ok", "yes")
    else:
        remedy = "choose a folder on ext4 or xfs by `--out`, or do without the direct disk ceilings"
        yield Finding("direct disk access", "missing", problem, remedy)


def _components(place: _Place) -> Iterator[Finding]:
    """What a run of all components at its defaults would keep in memory here, and what shrinks."""
    cpus = machine.allowed_cpus()
    host = Host(
        cpus=cpus,
        threads_max=max(1, min(len(cpus), machine.usable_threads(place.root))),
        memory_available_bytes=machine.memory_available_bytes(place.root),
        disk_free_bytes=_DISK_BYTES_ANY,
        gpu_problem=card_problem(place.root),
    )
    try:
        plan = resolve(load("max-throughput"), host)
    except SwarmbenchError as error:
        remedy = error.hint or "close other programs, or allow this container more memory"
        yield Finding("memory budget", "missing", str(error), remedy)
        return
    kept = about_bytes(plan.resident_bytes())
    value = f"{about_bytes(plan.memory_budget_bytes)}, of which a quick run of all keeps {kept}"
    yield Finding("memory budget", "ok", value)
    for name, memory in plan.memory.items():
        value = about_bytes(memory.resident_bytes)
        if memory.for_device_bytes:
            value += f", {about_bytes(memory.for_device_bytes)} of it for the device"
        if memory.fitted:
            remedy = "close other programs, or give more by `--memory-budget`, for the full sizes"
            yield Finding(
                f"memory of {name}", "warn", f"{value}: {'; '.join(memory.fitted)}", remedy
            )
        else:
            yield Finding(f"memory of {name}", "ok", value)
    for each in plan.workloads:
        if each.backend == "cuda":
            nbytes = CUDA[each.name].device_bytes(each.component, each.lanes)
            yield Finding(f"device memory of {each.name}", "ok", about_bytes(nbytes))


def _limits(place: _Place) -> Iterator[Finding]:
    for name, kind, least, option in (
        ("open files", resource.RLIMIT_NOFILE, _DESCRIPTORS_MIN, "n"),
        ("threads", resource.RLIMIT_NPROC, _PROCESSES_MIN, "u"),
    ):
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY and soft < least:
            remedy = f"`ulimit -{option} {least}` in the shell that starts it"
            yield Finding(f"limit of {name}", "warn", str(soft), remedy)
        else:
            value = "unlimited" if soft == resource.RLIM_INFINITY else str(soft)
            yield Finding(f"limit of {name}", "ok", value)
    found = cgroup.limits(place.root)
    cores = len(machine.allowed_cpus())
    if found.cpu_quota is not None and found.cpu_quota < cores:
        remedy = (
            f"runs use {machine.usable_threads(place.root)} threads; give the container whole "
            "cores instead of a quota, which stops threads for milliseconds"
        )
        value = f"{found.cpu_quota:g} cores of {cores}"
        yield Finding("container's processor quota", "warn", value, remedy)
    else:
        yield Finding("container's processor quota", "ok", "none below the cores allowed")
    limit = found.memory_limit_bytes
    value = "none" if limit is None else about_bytes(limit)
    yield Finding("container's memory limit", "ok", value)


def _load(place: _Place) -> Iterator[Finding]:
    cpus = machine.allowed_cpus()
    before = probes.counters(place.root, cpus, "", time.monotonic())
    time.sleep(place.seconds)
    after = probes.counters(place.root, cpus, "", time.monotonic())
    yield _share(
        ("load of others", probes.foreign_share(before, after), _FOREIGN_SHARE_MAX),
        "close other programs or wait: they take what is to be measured",
    )
    yield _share(
        ("stolen time", probes.steal_share(before, after), _STEAL_SHARE_MAX),
        "the host is shared: measure on a dedicated one, or at another hour",
    )
    for kind in ("memory", "io"):
        share = probes.pressure_share(before, after, kind)
        remedy = "find and stop what waits: `/proc/pressure` says that something does"
        if share is None:
            remedy = "runs go without this watch; a kernel booted with `psi=1` has it"
        yield _share((f"pressure on {kind}", share, _PRESSURE_SHARE_MAX), remedy)
    if machine.read(place.root / "proc/self/schedstat") is None:
        remedy = "runs go without this reading; a kernel with CONFIG_SCHED_INFO has it"
        yield Finding("waiting for cores", "missing", "not visible here", remedy)
    else:
        yield Finding("waiting for cores", "ok", "visible")


def _share(reading: tuple[str, float | None, float], remedy: str) -> Finding:
    name, share, limit = reading
    if share is None:
        return Finding(name, "missing", "not visible here", remedy)
    value = f"{100 * share:.1f} %"
    return Finding(name, "ok", value) if share <= limit else Finding(name, "warn", value, remedy)


def _virtual(place: _Place) -> Iterator[Finding]:
    hypervisor = machine.hypervisor(place.root)
    if hypervisor == "WSL2":
        remedy = "compare its figures with other WSL2 machines only"
        yield Finding("virtual machine", "warn", "WSL2", remedy)
    else:
        yield Finding("virtual machine", "ok", hypervisor or "no")


def _software(_: _Place) -> Iterator[Finding]:
    yield Finding("native code", "ok", "loaded; no compiler is needed at run time")


def _gpu(place: _Place) -> Iterator[Finding]:
    found = nvml.read_gpus(place.root)
    extra = found.extra()
    usable, reason = found.usable()
    if found.driver is None:
        remedy = (
            "none needed for the CPU; for a GPU: an NVIDIA driver from branch 525 on, "
            "then `pip install 'swarmbench[cuda12]'` (from 580 on `cuda13`)"
        )
        yield Finding("GPU", "missing", reason, remedy)
        return
    if extra is None:
        remedy = "install an NVIDIA driver from branch 525 on"
        yield Finding("GPU driver", "missing", found.driver, remedy)
    else:
        yield Finding("GPU driver", "ok", f"{found.driver}, fits `swarmbench[{extra}]`")
    if usable:
        yield Finding("GPU", "ok", reason)
        problem = card_problem(place.root)
        if problem is not None:
            remedy = f"`pip install 'swarmbench[{extra or 'cuda12'}]'`"
            yield Finding("CUDA backend", "missing", problem, remedy)
        else:
            yield Finding("CUDA backend", "ok", f"kernels of {', '.join(CUDA)}")
    else:
        remedy = f"`pip install 'swarmbench[{extra or 'cuda12'}]'`"
        if found.devices:
            remedy = "none: its kernels cannot run here; use `--backend cpu`"
        yield Finding("GPU", "missing", reason, remedy)
    for gpu in found.devices:
        if gpu.foreign_processes:
            value = f"{gpu.foreign_processes} on {gpu.name}"
            remedy = "end the programs of yours that use it, or choose another by `--device`"
            yield Finding("GPU processes of others", "warn", value, remedy)


#: The only list of what is looked at.
_LOOKS: tuple[Callable[[_Place], Iterator[Finding]], ...] = (
    _processor,
    _frequency,
    _clock,
    _memory,
    _components,
    _disk,
    _limits,
    _virtual,
    _load,
    _software,
    _gpu,
)
