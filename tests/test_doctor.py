"""Findings: a quiet machine is ok throughout, each planted disturbance is named with a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from fake_root import CPUINFO, MEMINFO, plant, pressure, proc_stat, self_stat
from swarmbench import doctor, machine
from swarmbench.components import COMPONENTS
from swarmbench.doctor import Finding

#: What no remedy may ask for: each can harm the machine or someone else's work.
HARMFUL = ("--gpu-reset", "nvidia-smi -r", "drop_caches", "ipcrm", "-lgc", "swapoff", "kill", "rm ")
QUIET = {
    "proc/cpuinfo": CPUINFO,
    "proc/meminfo": MEMINFO.replace("600000", "900000000").replace("75000", "100000"),
    "proc/stat": proc_stat((5, 5, 900, 0, 0), (5, 5, 900, 0, 0)),
    "proc/self/stat": self_stat(10),
    "proc/self/schedstat": "1 2 3\n",
    "proc/self/task/7/comm": "python\n",
    "proc/self/task/7/schedstat": "1 2 3\n",
    "proc/pressure/cpu": pressure(0),
    "proc/pressure/memory": pressure(0),
    "proc/pressure/io": pressure(0),
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "tsc\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
    "sys/devices/system/node/node0/cpulist": "0-1\n",
}
DISTURBED = {
    "huge pages": {"sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]\n"},
    "governor": {"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n"},
    "clock": {"sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet\n"},
    "memory": {"proc/meminfo": MEMINFO},
    "swap": {"proc/meminfo": MEMINFO},
    "NUMA": {"sys/devices/system/node/node1/cpulist": "2-3\n"},
    "virtual machine": {"proc/sys/kernel/osrelease": "6.6.87-microsoft-standard-WSL2\n"},
    "vector instructions": {"proc/cpuinfo": "model name\t: Old\nflags\t: fpu\n"},
    "power": {
        "sys/class/power_supply/AC/type": "Mains\n",
        "sys/class/power_supply/AC/online": "0\n",
    },
    "container's processor quota": {
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        "sys/fs/cgroup/cpu.max": "100000 100000\n",
    },
}


@pytest.fixture
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: {0, 1})
    return plant(tmp_path / "root", QUIET)


def _found(root: Path, directory: Path) -> dict[str, Finding]:
    findings = doctor.examine(directory, root=root, seconds=0.0)
    assert len({each.name for each in findings}) == len(findings)
    return {each.name: each for each in findings}


def test_a_quiet_machine_is_ok_where_it_is_planted(quiet: Path, tmp_path: Path) -> None:
    found = _found(quiet, tmp_path)
    disturbed = {name for name in DISTURBED if name in found and found[name].state != "ok"}
    assert disturbed == set()
    assert "power" not in found


@pytest.mark.parametrize("name", DISTURBED)
def test_each_disturbance_is_named_with_its_remedy(name: str, quiet: Path, tmp_path: Path) -> None:
    finding = _found(plant(quiet, DISTURBED[name]), tmp_path)[name]
    assert finding.state == "warn"
    assert finding.remedy


def test_whatever_is_not_ok_has_a_remedy_and_none_is_harmful(quiet: Path, tmp_path: Path) -> None:
    everything = {path: text for files in DISTURBED.values() for path, text in files.items()}
    bare = tmp_path / "bare"
    bare.mkdir()
    for root in (quiet, plant(quiet, everything), bare, Path("/")):
        for finding in _found(root, tmp_path).values():
            assert (finding.state == "ok") == (finding.remedy is None), finding
            assert not any(word in (finding.remedy or "") for word in HARMFUL), finding


def test_a_missing_folder_and_missing_accounts_are_missing_not_ok(
    quiet: Path, tmp_path: Path
) -> None:
    assert _found(quiet, tmp_path / "nowhere")["disk"].state == "missing"
    for name in ("cpu", "memory", "io"):
        (quiet / "proc/pressure" / name).unlink()
    found = _found(quiet, tmp_path)
    assert found["pressure on memory"].state == "missing"
    assert "psi=1" in str(found["pressure on memory"].remedy)


def test_the_memory_of_every_component_is_said_and_what_had_to_shrink(
    quiet: Path, tmp_path: Path
) -> None:
    def memory_of(kilobytes: int) -> dict[str, Finding]:
        text = f"MemTotal: 99000000 kB\nMemAvailable: {kilobytes} kB\n"
        return _found(plant(quiet, {"proc/meminfo": text}), tmp_path)

    plenty = memory_of(90_000_000)
    for name in COMPONENTS.keys() - {"null"}:
        assert plenty[f"memory of {name}"].state == "ok"
    assert plenty["memory budget"].value.startswith("55.3 GB, of which a quick run of all keeps")
    little = memory_of(1_500_000)
    assert little["memory of knowledge_graph"].state == "warn"
    assert "1000000 nodes fitted to" in little["memory of knowledge_graph"].value
    assert memory_of(100_000)["memory budget"].state == "missing"


def test_the_load_of_others_is_told_from_its_share() -> None:
    reading = ("load of others", 0.2, 0.05)
    assert doctor._share(reading, "wait").state == "warn"
    assert doctor._share(("load of others", 0.01, 0.05), "wait").state == "ok"
    assert doctor._share(("load of others", None, 0.05), "wait").state == "missing"


def test_examining_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    doctor.examine(tmp_path, seconds=0.0)
    assert list(tmp_path.iterdir()) == []
