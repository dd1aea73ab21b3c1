"""The components under test, `null` and those of third parties; `COMPONENTS` is the only list."""

from swarmbench.components.agents import Agents
from swarmbench.components.assistant import Assistant
from swarmbench.components.base import Component
from swarmbench.components.consensus import Consensus
from swarmbench.components.evolution import Evolution
from swarmbench.components.knowledge_graph import KnowledgeGraph
from swarmbench.components.memory import Memory
from swarmbench.components.null import Null
from swarmbench.components.streaming import Streaming
from swarmbench.components.synthesis import Synthesis
from swarmbench.components.third_party import third_parties

COMPONENTS: dict[str, type[Component]] = {
    kind.name: kind
    for kind in (
        Agents,
        Assistant,
        Consensus,
        Evolution,
        KnowledgeGraph,
        Memory,
        Null,
        Streaming,
        Synthesis,
    )
}
COMPONENTS |= {kind.name: kind for kind in third_parties(COMPONENTS)}

__all__ = [
    "COMPONENTS",
    "Agents",
    "Assistant",
    "Component",
    "Consensus",
    "Evolution",
    "KnowledgeGraph",
    "Memory",
    "Null",
    "Streaming",
    "Synthesis",
]
