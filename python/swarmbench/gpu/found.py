"""Which devices there are: cards that the kernels can run on, and the emulator."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from swarmbench.gpu.device import Device
from swarmbench.gpu.nvml import read_gpus

#: What compiles and launches kernels, and the module that shows that it is there.
_NEEDED = (("CuPy", "cupy"), ("NVRTC", "cuda"), ("numba-cuda", "numba_cuda"))
#: The device that runs the kernels on the processor.
EMULATED = "emulated"


def card_problem(root: Path = Path("/")) -> str | None:
    """Why no card can run the kernels here, in one line; None where one can."""
    gpus = read_gpus(root)
    usable, reason = gpus.usable()
    if not usable:
        return reason
    extra = gpus.extra()
    if extra is None:
        return f"driver {gpus.driver} is too old; the kernels need 525 or newer"
    lacking = [name for name, module in _NEEDED if not _has(module)]
    if lacking:
        return f"missing: {', '.join(lacking)}; install swarmbench[{extra}]"
    return None


def card_memory_bytes(number: int, root: Path = Path("/")) -> int | None:
    """Memory of a card in bytes; None where it is not known."""
    devices = read_gpus(root).devices
    return devices[number].memory_bytes if number < len(devices) else None


def open_device(device: int | str, seed: int = 0) -> Device:
    """The card of that number, or the emulator; raises `MachineError` where it cannot be had."""
    # Loaded where they are asked for: a card needs CuPy, the emulator a compiler.
    if device == EMULATED:
        from swarmbench.gpu.emulated import EmulatedDevice

        return EmulatedDevice(seed=seed)
    from swarmbench.gpu.card import CardDevice

    return CardDevice(int(device))


def _has(module: str) -> bool:
    return find_spec(module) is not None
