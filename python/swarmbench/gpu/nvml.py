"""What NVIDIA's management library says of the GPUs, where its Python package is installed."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: The first driver branch that runs programs of a CUDA generation.
_DRIVER_MIN = {"cuda13": 580, "cuda12": 525}
_CAPABILITY_MIN = (7, 5)


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU; None where the board or the driver does not say."""

    name: str
    uuid: str | None
    memory_bytes: int | None
    compute_capability: str | None
    vbios: str | None
    pcie_generation: int | None
    pcie_width: int | None
    ecc: bool | None
    display: bool | None
    mig: bool | None
    power_limit_w: float | None
    foreign_processes: int | None


@dataclass(frozen=True, slots=True)
class Gpus:
    """All GPUs, or the reason why none is known; `driver` is None where none is loaded."""

    devices: tuple[Gpu, ...]
    driver: str | None
    reason: str | None

    def extra(self) -> str | None:
        """The extra of this package that fits the driver; None without one that is new enough."""
        if self.driver is None:
            return None
        major = int(self.driver.split(".")[0])
        fitting = (name for name, least in _DRIVER_MIN.items() if major >= least)
        return next(fitting, None)

    def usable(self) -> tuple[bool, str]:
        """Whether a GPU here can run the kernels, and which, or why not."""
        for gpu in self.devices:
            capability = gpu.compute_capability
            if capability is None:
                continue
            major, minor = (int(part) for part in capability.split("."))
            if (major, minor) >= _CAPABILITY_MIN:
                return True, gpu.name
        if self.devices:
            least = ".".join(str(part) for part in _CAPABILITY_MIN)
            return False, f"no GPU of compute capability {least} or newer is visible"
        return False, self.reason or "no GPU is visible"


def read_gpus(root: Path = Path("/")) -> Gpus:
    """Asks the library once; opens no CUDA context and changes nothing."""
    driver = driver_version(root)
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        if driver is None:
            return Gpus((), None, "no NVIDIA driver is loaded")
        return Gpus((), driver, "nvidia-ml-py is not installed")
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        reason = "no NVIDIA driver is loaded" if driver is None else f"the driver says: {error}"
        return Gpus((), driver, reason)
    try:
        driver = _text(nvml.nvmlSystemGetDriverVersion())
        devices = tuple(_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount()))
    except nvml.NVMLError as error:
        return Gpus((), driver, f"the driver says: {error}")
    finally:
        nvml.nvmlShutdown()
    return Gpus(devices, driver, None if devices else "the driver shows no GPU")


def driver_version(root: Path = Path("/")) -> str | None:
    """The loaded kernel driver's version, such as `580.65.06`; None where none is loaded."""
    try:
        text = (root / "proc/driver/nvidia/version").read_text()
    except OSError:
        return None
    found = re.search(r"\b(\d{3,}\.\d+(?:\.\d+)?)\b", text)
    return found[1] if found else None


def _gpu(nvml: Any, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def ask(name: str, *arguments: object) -> Any:
        """The answer, or None where this board does not support the question."""
        return _asked(nvml, getattr(nvml, name), handle, *arguments)

    capability = ask("nvmlDeviceGetCudaComputeCapability")
    memory = ask("nvmlDeviceGetMemoryInfo")
    ecc, mig = ask("nvmlDeviceGetEccMode"), ask("nvmlDeviceGetMigMode")
    display = ask("nvmlDeviceGetDisplayActive")
    power = ask("nvmlDeviceGetEnforcedPowerLimit")
    processes = ask("nvmlDeviceGetComputeRunningProcesses")
    uuid, vbios = ask("nvmlDeviceGetUUID"), ask("nvmlDeviceGetVbiosVersion")
    return Gpu(
        name=_text(ask("nvmlDeviceGetName") or "unnamed GPU"),
        uuid=None if uuid is None else _text(uuid),
        memory_bytes=None if memory is None else int(memory.total),
        compute_capability=None if capability is None else f"{capability[0]}.{capability[1]}",
        vbios=None if vbios is None else _text(vbios),
        pcie_generation=ask("nvmlDeviceGetMaxPcieLinkGeneration"),
        pcie_width=ask("nvmlDeviceGetMaxPcieLinkWidth"),
        ecc=None if ecc is None else bool(ecc[0]),
        display=None if display is None else bool(display),
        mig=None if mig is None else bool(mig[0]),
        power_limit_w=None if power is None else power / 1000,
        foreign_processes=None if processes is None else len(processes),
    )


def _asked(nvml: Any, question: Callable[..., Any], *arguments: object) -> Any:
    try:
        return question(*arguments)
    except nvml.NVMLError:
        return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
