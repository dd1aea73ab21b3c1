"""What a container allows: the processor quota and memory limit of the control groups, v1 or v2.

A limit holds for everything below it, so the tightest one from this process's group up to the
root of its mount counts. `root` is `/` on a machine and a copied tree in a test.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Version 1 writes the largest page-aligned 64-bit number where there is no limit.
_NO_LIMIT_MIN = 1 << 62
#: Nested groups looked at; deeper trees than this have not been seen.
_DEPTH_MAX = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """Of this process's control groups; None where nothing limits.

    `cpu_quota` is in cores; `memory_free_bytes` is what is left below the tightest limit, page
    cache that can be dropped counted as free.
    """

    version: int | None = None
    cpu_quota: float | None = None
    memory_limit_bytes: int | None = None
    memory_free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class _Group:
    version: int
    controllers: frozenset[str]
    folder: Path
    top: Path

    def levels(self) -> Iterator[Path]:
        """The group's folder and those above it, up to the mount."""
        folder = self.folder
        for _ in range(_DEPTH_MAX):
            yield folder
            if folder == self.top:
                return
            folder = folder.parent


def limits(root: Path = Path("/")) -> Limits:
    """The limits on this process; all None outside a container, or where none can be read."""
    version = None
    quotas: list[float] = []
    memory: list[tuple[int, int]] = []
    for group in _groups(root):
        if group.version == 1 and not group.controllers & {"cpu", "memory"}:
            continue
        found = False
        for folder in group.levels():
            found |= folder.is_dir()
            quotas += _quota(folder, group)
            memory += _memory(folder, group)
        if found:
            version = max(version or 0, group.version) if quotas or memory else version
    return Limits(
        version=version,
        cpu_quota=min(quotas, default=None),
        memory_limit_bytes=min((limit for limit, _ in memory), default=None),
        memory_free_bytes=min((max(0, limit - used) for limit, used in memory), default=None),
    )


def throttled_s(root: Path = Path("/")) -> float | None:
    """Seconds for which the processor quota stopped this group so far; None without one."""
    for group in _groups(root):
        if group.version == 1 and "cpu" not in group.controllers:
            continue
        statistics = _table(group.folder / "cpu.stat")
        if "throttled_usec" in statistics:
            return statistics["throttled_usec"] / 1e6
        if "throttled_time" in statistics:
            return statistics["throttled_time"] / 1e9
    return None


def _groups(root: Path) -> list[_Group]:
    mounts = _mounts(root)
    groups = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        parts = line.split(":", 2)
        if len(parts) != 3:
            continue
        controllers = frozenset(parts[1].split(",")) - {""}
        for mounted, top, of in mounts:
            if not controllers & of and (controllers or of):
                continue
            # Inside a container the mount may show only the part of the tree below its group.
            path = parts[2]
            inside = path.removeprefix(mounted) if mounted != "/" else path
            folder = top / inside.lstrip("/")
            folder = folder if folder.is_dir() and ".." not in folder.parts else top
            groups.append(_Group(1 if controllers else 2, controllers, folder, top))
            break
    return groups


def _mounts(root: Path) -> list[tuple[str, Path, frozenset[str]]]:
    """(path shown at the mount, where it is mounted, controllers; none of them for version 2)."""
    mounts = []
    for line in _text(root / "proc/self/mountinfo").splitlines():
        before, separator, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if not separator or len(fields) < 5 or len(kind) < 3:
            continue
        if kind[0] not in ("cgroup", "cgroup2"):
            continue
        options = frozenset(kind[2].split(",")) if kind[0] == "cgroup" else frozenset()
        mounts.append((fields[3], root / fields[4].lstrip("/"), options - {"rw", "ro"}))
    return mounts


def _quota(folder: Path, group: _Group) -> list[float]:
    if group.version == 2:
        fields = _text(folder / "cpu.max").split()
        if len(fields) == 2 and fields[0].isdigit() and int(fields[1]) > 0:
            return [int(fields[0]) / int(fields[1])]
        return []
    quota = _number(folder / "cpu.cfs_quota_us")
    period = _number(folder / "cpu.cfs_period_us")
    return [quota / period] if quota is not None and quota > 0 and period else []


def _memory(folder: Path, group: _Group) -> list[tuple[int, int]]:
    """(limit, used without droppable page cache) in bytes, where there is a limit."""
    if group.version == 2:
        limit, used = _number(folder / "memory.max"), _number(folder / "memory.current")
        droppable = _table(folder / "memory.stat").get("inactive_file", 0)
    else:
        limit = _number(folder / "memory.limit_in_bytes")
        used = _number(folder / "memory.usage_in_bytes")
        droppable = _table(folder / "memory.stat").get("total_inactive_file", 0)
    if limit is None or limit >= _NO_LIMIT_MIN or used is None:
        return []
    return [(limit, max(0, used - droppable))]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.removeprefix("-").isdigit() else None


def _table(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
