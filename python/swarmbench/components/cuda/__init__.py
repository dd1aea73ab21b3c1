"""The components' CUDA sides; `CUDA` is the only list of them."""

from swarmbench.components.cuda.agents import CudaAgents
from swarmbench.components.cuda.assistant import CudaAssistant
from swarmbench.components.cuda.base import CudaComponent
from swarmbench.components.cuda.consensus import CudaConsensus
from swarmbench.components.cuda.evolution import CudaEvolution
from swarmbench.components.cuda.knowledge_graph import CudaKnowledgeGraph
from swarmbench.components.cuda.memory import CudaMemory
from swarmbench.components.cuda.streaming import CudaStreaming
from swarmbench.components.cuda.synthesis import CudaSynthesis

_KINDS: tuple[type[CudaComponent], ...] = (
    CudaAgents,
    CudaAssistant,
    CudaConsensus,
    CudaEvolution,
    CudaKnowledgeGraph,
    CudaMemory,
    CudaStreaming,
    CudaSynthesis,
)
CUDA: dict[str, type[CudaComponent]] = {kind.name: kind for kind in _KINDS}
