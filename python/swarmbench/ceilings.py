"""What a machine can do at best: named ceilings that results refer to, and how they were found."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

#: What each ceiling means. Rates are those of all threads together unless the name says one.
MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "copy_bytes_s": "copying in memory, bytes read and bytes written both counted",
        "copy_one_thread_bytes_s": "the same by one thread",
        "read_bytes_s": "reading memory in order",
        "read_one_thread_bytes_s": "the same by one thread",
        "write_bytes_s": "writing memory in order",
        "write_one_thread_bytes_s": "the same by one thread",
        "random_64b_s": "loads of 64-byte lines at random places in memory",
        "random_64b_one_thread_s": "the same by one thread",
        "page_touch_bytes_s": "memory made resident by the first store to each page",
        "cache_read_bytes_s": "reading from the second-level caches",
        "fma_flop_s": "single-precision operations, a fused multiply-add counted as two",
        "fma_one_thread_flop_s": "the same by one thread",
        "timer_ns": "one reading of the monotonic clock",
        "sleep_overshoot_ns": "how late a sleep to an absolute time ends, median",
        "sleep_overshoot_p99_ns": "the same, 99th percentile",
        "wakeup_ns": "from waking a parked thread until it runs, median",
        "wakeup_p99_ns": "the same, 99th percentile",
        "canary_memory_ns": "the observer's cold copy of 256 KiB, on the machine as it is",
        "canary_compute_ns": "the observer's chain of 16 000 multiplications",
        "disk_write_direct_bytes_s": "writing past the page cache, four requests in flight",
        "disk_read_direct_bytes_s": "reading past the page cache, four requests in flight",
        "disk_write_buffered_bytes_s": "writing into the page cache, not flushed",
        "disk_read_buffered_bytes_s": "reading out of the page cache",
        "disk_fsync_ns": "writing 4 KiB and waiting until they are safe, median",
    }
)


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The best repeat of a rate or the median (or named percentile) of a delay.

    `spread` is half of what lies between the quartiles of the repeats, over their median.
    """

    value: float
    unit: str
    spread: float
    threads: int
    samples: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """All ceilings by name, why others are missing, and what measuring them took."""

    ceilings: Mapping[str, Ceiling]
    absent: Mapping[str, str]
    notes: tuple[str, ...]
    threads: int
    memory_bytes: int
    disk_written_bytes: int
    duration_s: float

    def value(self, name: str) -> float | None:
        """The ceiling's value; None where this machine has none."""
        found = self.ceilings.get(name)
        return None if found is None else found.value

    def to_json(self) -> dict[str, Any]:
        """As JSON values, each ceiling with its meaning."""
        fields: dict[str, Any] = {
            each.name: getattr(self, each.name) for each in dataclasses.fields(self)
        }
        fields["ceilings"] = {
            name: {**dataclasses.asdict(ceiling), "meaning": MEANINGS[name]}
            for name, ceiling in self.ceilings.items()
        }
        return fields | {"absent": dict(self.absent), "notes": list(self.notes)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """What `to_json` gave; `KeyError` where it lacks a field."""
        names = [each.name for each in dataclasses.fields(Ceiling)]
        ceilings = {
            key: Ceiling(**{name: each[name] for name in names})
            for key, each in record["ceilings"].items()
        }
        return cls(
            ceilings=ceilings,
            absent=dict(record["absent"]),
            notes=tuple(record["notes"]),
            threads=record["threads"],
            memory_bytes=record["memory_bytes"],
            disk_written_bytes=record["disk_written_bytes"],
            duration_s=record["duration_s"],
        )
