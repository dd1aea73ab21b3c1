"""The components' CUDA sides; `CUDA` is the only list of them."""

from swarmbench.components.cuda.base import CudaComponent
from swarmbench.components.cuda.evolution import CudaEvolution

_KINDS: tuple[type[CudaComponent], ...] = (CudaEvolution,)
CUDA: dict[str, type[CudaComponent]] = {kind.name: kind for kind in _KINDS}
