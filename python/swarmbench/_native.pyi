from collections.abc import Callable
from typing import Any, final

import numpy.typing as npt

def component_names() -> list[str]: ...
@final
class Component:
    def __new__(
        cls,
        name: str,
        parameters: str,
        *,
        seed: int,
        threads: int = 1,
        progress: Callable[[str, float], object] | None = None,
    ) -> Component: ...
    @property
    def name(self) -> str: ...
    def ops(self) -> list[str]: ...
    def describe(self) -> str: ...
    def counters(self) -> list[tuple[str, int]]: ...
    def resident_bytes(self, workers: int) -> int: ...
    def evaluate(
        self, op: str, inputs: dict[str, npt.NDArray[Any]]
    ) -> dict[str, npt.NDArray[Any]]: ...
    def run(
        self,
        op: str,
        *,
        first_key: int = 0,
        count: int = 1,
        threads: int = 1,
        verify: bool = True,
    ) -> dict[str, int]: ...
