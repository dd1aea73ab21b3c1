"""The machine as a run finds it: its fingerprint, and what of it this process may use."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import json
import os
import platform
import re
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from swarmbench import cgroup
from swarmbench.gpu import nvml

#: Packages whose version can change a figure.
PACKAGES = (
    "swarmbench",
    "numpy",
    "psutil",
    "pydantic",
    "rich",
    "typer",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "numba",
    "cuda-core",
    "nvidia-ml-py",
)
#: Instruction sets that the native code, its compiler or a library choose between.
INSTRUCTION_SETS = (
    *("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512vbmi"),
    *("avx512_vpopcntdq", "vaes", "sha_ni", "asimd", "sve", "sve2", "atomics", "crc32"),
)
CLOCK_FLAGS = ("constant_tsc", "nonstop_tsc", "tsc_known_freq", "tsc_reliable", "rdtscp")
_CLOCKS_OF_HYPERVISORS = {"kvm-clock": "KVM", "hyperv": "Hyper-V", "xen": "Xen"}
#: The parts of a fingerprint that make it another machine; the rest are its settings.
IDENTITY = ("cpu", "caches", "memory", "numa", "virtual", "limits", "gpus")


def allowed_cpus() -> tuple[int, ...]:
    """The cores that this process may run on, ascending: affinity, which a container's set of
    cores has already narrowed."""
    return tuple(sorted(os.sched_getaffinity(0)))


def usable_threads(root: Path = Path("/")) -> int:
    """Threads that can run at once: allowed cores, fewer where a container's quota is less.

    A part of a core is left unused: a thread that the quota stops for milliseconds would show as
    latency of whatever it serves.
    """
    quota = cgroup.limits(root).cpu_quota
    cores = len(allowed_cpus())
    return cores if quota is None else max(1, min(cores, int(quota)))


def memory_available_bytes(root: Path = Path("/")) -> int:
    """Memory that can be taken without swapping or breaking a container's limit."""
    available = meminfo(root).get("MemAvailable", 0)
    free = cgroup.limits(root).memory_free_bytes
    return available if free is None else min(available, free)


def fingerprint(directory: Path | None = None, *, root: Path = Path("/")) -> dict[str, Any]:
    """All that may explain a figure's difference from another machine's, as JSON values.

    `directory` is where the run writes; its file system is part of it. No host, user or
    directory name is. `digest` is the identity's alone: equal where only settings or software
    differ.
    """
    found: dict[str, Any] = {
        "cpu": _cpu(root),
        "caches": _caches(root),
        "memory": {"total_bytes": meminfo(root).get("MemTotal")},
        "numa": _numa(root),
        "virtual": {"hypervisor": hypervisor(root), "container": _in_container(root)},
        "limits": _limits(root),
        "gpus": _gpus(root),
        "settings": settings(root),
        "disk": None if directory is None else disk(directory, root),
        "software": {
            "kernel": platform.release(),
            "architecture": platform.machine(),
            "libc": " ".join(platform.libc_ver()).strip() or None,
            "python": platform.python_version(),
            "implementation": platform.python_implementation(),
            "packages": _packages(),
        },
    }
    return {"digest": digest(found), **found}


def digest(found: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that name the machine, whatever its settings and software."""
    identity = {part: found[part] for part in IDENTITY}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


CLOCK = Path("sys/devices/system/clocksource/clocksource0")


def clock_source(root: Path = Path("/")) -> str | None:
    """The kernel's clock source now; the kernel gives it up when it finds it unstable."""
    return read(root / CLOCK / "current_clocksource")


def settings(root: Path = Path("/")) -> dict[str, Any]:
    """What an operator can change and a figure depends on; None where the kernel does not say."""
    frequency = root / "sys/devices/system/cpu"
    first = frequency / "cpu0/cpufreq"
    boost = read(frequency / "cpufreq/boost")
    turbo_off = read(frequency / "intel_pstate/no_turbo")
    if boost is None and turbo_off is not None:
        boost = "0" if turbo_off == "1" else "1"
    pages = root / "sys/kernel/mm/transparent_hugepage"
    flags = cpuinfo(root).get("flags", "").split()
    return {
        "governor": read(first / "scaling_governor"),
        "scaling_driver": read(first / "scaling_driver"),
        "frequency_min_khz": number(first / "scaling_min_freq"),
        "frequency_max_khz": number(first / "scaling_max_freq"),
        "boost": None if boost is None else boost == "1",
        "smt": read(frequency / "smt/control"),
        "transparent_hugepage": chosen(read(pages / "enabled")),
        "clock_source": clock_source(root),
        "clock_sources": (read(root / CLOCK / "available_clocksource") or "").split(),
        "clock_flags": [flag for flag in CLOCK_FLAGS if flag in flags],
        "swappiness": number(root / "proc/sys/vm/swappiness"),
        "overcommit": number(root / "proc/sys/vm/overcommit_memory"),
        "isolated_cpus": read(frequency / "isolated") or "",
    }


def direct_problem(directory: Path) -> str | None:
    """Why files in `directory` cannot be read past the page cache; None where they can."""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            flags = fcntl.fcntl(file, fcntl.F_GETFL)
            fcntl.fcntl(file, fcntl.F_SETFL, flags | os.O_DIRECT)
    except OSError as error:
        return error.strerror or str(error)
    return None


def disk(directory: Path, root: Path = Path("/")) -> dict[str, Any]:
    """The file system under `directory` and the device below it; no path is part of it."""
    device = os.stat(directory).st_dev
    number_text = f"{os.major(device)}:{os.minor(device)}"
    kind, options = None, []
    for line in (read(root / "proc/self/mountinfo") or "").splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) > 5 and fields[2] == number_text:
            kind, options = after.split()[0], fields[5].split(",")
    block = (root / "sys/dev/block" / number_text).resolve()
    queue = block / "queue" if (block / "queue").is_dir() else block.parent / "queue"
    rotating = read(queue / "rotational")
    return {
        "file_system": kind,
        "options": sorted(set(options) & {"ro", "noatime", "relatime", "sync", "nodiratime"}),
        "model": read(queue.parent / "device/model"),
        "rotating": None if rotating is None else rotating == "1",
        "scheduler": chosen(read(queue / "scheduler")),
        "total_bytes": os.statvfs(directory).f_frsize * os.statvfs(directory).f_blocks,
    }


def hypervisor(root: Path = Path("/")) -> str | None:
    """What the machine runs under: a product's name, `unnamed`, or None on bare metal."""
    if "microsoft" in (read(root / "proc/sys/kernel/osrelease") or "").lower():
        return "WSL2"
    kind = read(root / "sys/hypervisor/type")
    if kind:
        return kind
    if "hypervisor" not in cpuinfo(root).get("flags", "").split():
        return None
    clocks = read(root / "sys/devices/system/clocksource/clocksource0/available_clocksource") or ""
    named = (name for sign, name in _CLOCKS_OF_HYPERVISORS.items() if sign in clocks)
    return read(root / "sys/class/dmi/id/sys_vendor") or next(named, "unnamed")


def cpuinfo(root: Path = Path("/")) -> dict[str, str]:
    """The first core's lines of /proc/cpuinfo; `flags` also where the kernel says Features."""
    lines = (read(root / "proc/cpuinfo") or "").split("\n\n")[0].splitlines()
    pairs = (line.partition(":") for line in lines)
    found = {name.strip(): value.strip() for name, _, value in pairs}
    if "flags" not in found and "Features" in found:
        found["flags"] = found["Features"]
    return found


def meminfo(root: Path = Path("/")) -> dict[str, int]:
    """/proc/meminfo in bytes."""
    found = {}
    for line in (read(root / "proc/meminfo") or "").splitlines():
        name, _, rest = line.partition(":")
        fields = rest.split()
        if fields and fields[0].isdigit():
            found[name] = int(fields[0]) * (1024 if fields[1:] == ["kB"] else 1)
    return found


def read(path: Path) -> str | None:
    """A small file's text without its last newline; None where it is not there for us."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def number(path: Path) -> int | None:
    """The whole number that a file holds; None where it holds none."""
    text = read(path)
    return int(text) if text is not None and text.removeprefix("-").isdigit() else None


def chosen(choices: str | None) -> str | None:
    """The bracketed one of the kernel's `always [madvise] never`."""
    found = re.search(r"\[(\S+)\]", choices or "")
    return found[1] if found else choices


def _cpu(root: Path) -> dict[str, Any]:
    found = cpuinfo(root)
    flags = found.get("flags", "").split()
    cpus = allowed_cpus()
    siblings = read(root / f"sys/devices/system/cpu/cpu{cpus[0]}/topology/thread_siblings_list")
    return {
        "model": found.get("model name") or found.get("CPU part"),
        "vendor": found.get("vendor_id") or found.get("CPU implementer"),
        "family": found.get("cpu family") or found.get("CPU architecture"),
        "stepping": found.get("stepping") or found.get("CPU revision"),
        "microcode": found.get("microcode"),
        "cores_allowed": len(cpus),
        "cores_online": os.cpu_count(),
        "threads_per_core": None if siblings is None else _count(siblings),
        "instruction_sets": [name for name in INSTRUCTION_SETS if name in flags],
    }


def _count(listed: str) -> int:
    """How many numbers a kernel list such as `0-3,8` names."""
    ends = (part.partition("-") for part in listed.split(","))
    return sum(int(high or low) - int(low) + 1 for low, _, high in ends)


def _caches(root: Path) -> list[dict[str, Any]]:
    folder = root / f"sys/devices/system/cpu/cpu{allowed_cpus()[0]}/cache"
    return [
        {
            "level": number(index / "level"),
            "type": read(index / "type"),
            "size": read(index / "size"),
            "shared_by_cores": _count(read(index / "shared_cpu_list") or "0"),
        }
        for index in sorted(folder.glob("index[0-9]*"))
    ]


def _numa(root: Path) -> list[dict[str, Any]]:
    nodes = sorted((root / "sys/devices/system/node").glob("node[0-9]*"))
    return [
        {
            "cpus": read(node / "cpulist"),
            "distances": [int(each) for each in (read(node / "distance") or "").split()],
        }
        for node in nodes
    ]


def _limits(root: Path) -> dict[str, Any]:
    found = cgroup.limits(root)
    return {"cpu_quota": found.cpu_quota, "memory_bytes": found.memory_limit_bytes}


def _gpus(root: Path) -> dict[str, Any]:
    """The GPUs; who else uses them is a moment's finding and no part of a fingerprint."""
    found = nvml.read_gpus(root)
    devices = [dataclasses.asdict(gpu) for gpu in found.devices]
    for device in devices:
        del device["foreign_processes"]
    return {"devices": devices, "driver": found.driver}


def _in_container(root: Path) -> bool:
    if (root / ".dockerenv").exists() or (root / "run/.containerenv").exists():
        return True
    groups = read(root / "proc/1/cgroup") or ""
    return any(word in groups for word in ("docker", "kubepods", "containerd", "lxc"))


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
