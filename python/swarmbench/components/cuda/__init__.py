"""The components' CUDA sides; `CUDA` is the only list of them."""

from swarmbench.components.cuda.base import CudaComponent

_KINDS: tuple[type[CudaComponent], ...] = ()
CUDA: dict[str, type[CudaComponent]] = {kind.name: kind for kind in _KINDS}
