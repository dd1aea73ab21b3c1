"""The threads that run the operations of CUDA workloads, submitted one by one from Python.

A lane takes an operation, launches its kernels on its own stream, waits for the answer, says that
it is there, and checks it. The interpreter is entered once per operation and released while the
device works.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from swarmbench import _native
from swarmbench.components.cuda.base import CudaComponent, CudaOperation
from swarmbench.gpu.device import DeviceLostError
from swarmbench.plan import LANES

#: How long a lane waits for an operation before it looks whether the run is over.
PATIENCE_S = 0.1


class Lanes:
    """The lanes of one workload; they end when the engine is stopped.

    `lost` is what ended them before that, None while all is well: then every further operation is
    counted as an error, and the run has to be stopped.
    """

    def __init__(self, cuda: CudaComponent, desk: _native.Desk) -> None:
        self.lost: DeviceLostError | None = None
        self._cuda, self._desk = cuda, desk
        self._ops = [op.name for op in cuda.component.ops]
        operations = [cuda.operation() for _ in range(LANES)]
        self._threads = [
            threading.Thread(
                target=self._serve, args=(each,), name=f"{cuda.name}-lane-{number}", daemon=True
            )
            for number, each in enumerate(operations)
        ]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Waits for the lanes, after the engine was stopped."""
        for thread in self._threads:
            thread.join()

    def _serve(self, operation: CudaOperation) -> None:
        try:
            self._serve_until_stopped(operation)
        finally:
            problem = sys.exception()
            if problem is not None and self.lost is None:
                # Nobody would take the operations that are still to come.
                self.lost = DeviceLostError(
                    f"a lane of {self._cuda.name} ended: {type(problem).__name__}: {problem}",
                    hint="its traceback stands above",
                )

    def _serve_until_stopped(self, operation: CudaOperation) -> None:
        self._cuda.device.use()
        while not self._desk.stopped():
            opened = self._desk.open(PATIENCE_S)
            if opened is None:
                continue
            if self.lost is not None:
                opened.close(False)
                continue
            try:
                self._perform(operation, opened)
            except DeviceLostError as error:
                self.lost = error
                opened.close(False)

    def _perform(self, operation: CudaOperation, opened: _native.Opened) -> None:
        done = operation.run(self._ops[opened.op], opened.key)
        opened.finish()
        if done.status != "ok":
            opened.close(False, rejected=done.status == "rejected")
            return
        checked, violations = operation.verify()
        opened.close(True, units=done.units, checked=checked, violations=violations)


def is_lost(lanes: Mapping[str, Lanes]) -> bool:
    """Raises `DeviceLostError` where a device stopped answering; False where none did."""
    for each in lanes.values():
        if each.lost is not None:
            raise each.lost
    return False


@contextmanager
def laned(
    components: Mapping[str, CudaComponent],
    desks: Mapping[str, _native.Desk],
    engine: _native.Engine,
) -> Iterator[dict[str, Lanes]]:
    """Serves the CUDA workloads of an engine at their desks; yields their lanes by component.

    The engine is stopped where the block ends: that is what ends the threads.
    """
    lanes = {name: Lanes(cuda, desks[name]) for name, cuda in components.items()}
    try:
        yield lanes
    finally:
        engine.stop()
        for each in lanes.values():
            each.join()
