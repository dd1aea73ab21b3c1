"""The Rust crate's own benchmark programs, and other programs that print their figures."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from paired import PeerMissing

ROOT = Path(__file__).resolve().parent.parent.parent
LOADGEN = ROOT / "target" / "peers" / "loadgen_null"


@cache
def program(bench: str) -> Path:
    """The built program of `rust/core/benches/<bench>.rs`."""
    command = ["cargo", "bench", "-p", "swarmbench-core", "--bench", bench, "--no-run"]
    command += ["--message-format", "json"]
    try:
        built = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise PeerMissing("cargo is missing") from error
    messages = map(json.loads, built.stdout.splitlines())
    return Path(next(one["executable"] for one in messages if one.get("executable")))


def engine(*words: object) -> dict[str, float]:
    """What `benches/engine.rs` prints."""
    command = [str(word) for word in (program("engine"), *words)]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(ended.stdout)
    return figures


@dataclass(frozen=True)
class Ended:
    """LoadGen's summary of a run, with what the process took."""

    summary: str
    resident_bytes: int
    cpu_s: float
    output: str

    def figure(self, field: str) -> float:
        """The figure for `field`, a regular expression."""
        found = re.search(rf"^{field}\s*: *([0-9.e+]+)$", self.summary, re.MULTILINE)
        if found is None:
            raise PeerMissing(f"LoadGen's summary has no `{field}`")
        return float(found[1])


def loadgen(scenario: str, rate: float, seconds: float, *prefix: str) -> Ended:
    """LoadGen's null system, run under `prefix` if there is one."""
    if not LOADGEN.exists():
        raise PeerMissing("LoadGen's null system is not built: make bench-peers builds it")
    with tempfile.TemporaryDirectory() as folder:
        command = [*prefix, LOADGEN, scenario, str(rate), str(seconds), folder]
        output = Path(folder) / "output.txt"
        with output.open("w") as file:
            child = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            raise PeerMissing(f"LoadGen's null system ended with {child.returncode}")
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text()
        cpu_s = usage.ru_utime + usage.ru_stime
        return Ended(summary, usage.ru_maxrss * 1024, cpu_s, output.read_text())


def fio(seconds: float, *options: str) -> dict[str, Any]:
    """The read side of fio's null engine: one thread, one operation in flight, latency recorded."""
    if shutil.which("fio") is None:
        raise PeerMissing("fio is not installed: apt-get install fio")
    command = ["fio", "--name=null", "--ioengine=null", "--size=1000g", "--rw=randread", "--bs=4k"]
    command += ["--thread", "--iodepth=1", "--time_based", f"--runtime={seconds}"]
    command += ["--output-format=json", *options]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    read: dict[str, Any] = json.loads(ended.stdout)["jobs"][0]["read"]
    return read
