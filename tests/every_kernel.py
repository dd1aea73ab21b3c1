"""Every kernel of the kernel files, launched on an emulated device at more than one shape."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from deciding import Deciding
from spinning import echo_once
from swarmbench.components import COMPONENTS
from swarmbench.components.base import Component, agree
from swarmbench.components.consensus import Consensus
from swarmbench.components.cuda import CUDA, synthesis_launches
from swarmbench.components.cuda import consensus_boxes as consensus
from swarmbench.components.cuda import knowledge_graph_tables as knowledge_graph
from swarmbench.components.cuda.assistant import CudaAssistant
from swarmbench.components.cuda.assistant_speech import SmallSpeech
from swarmbench.components.cuda.assistant_stages import StagedSpeech
from swarmbench.components.cuda.base import CudaOperation
from swarmbench.components.cuda.consensus import CudaConsensus
from swarmbench.components.cuda.consensus_boxes import Kind
from swarmbench.components.cuda.evolution import CudaEvolution, Island
from swarmbench.components.cuda.knowledge_graph import CudaKnowledgeGraph
from swarmbench.components.cuda.memory import CudaMemory, Mover
from swarmbench.components.cuda.streaming import CudaStreaming
from swarmbench.components.cuda.streaming_lane import Lane
from swarmbench.components.cuda.synthesis import CudaSynthesis, SynthesisOperation
from swarmbench.components.knowledge_graph import KnowledgeGraph
from swarmbench.gpu import source
from swarmbench.gpu.device import Argument
from swarmbench.gpu.emulated import EmulatedDevice, HostKernel, SimulatedKernel

#: At which grids and blocks kernels were launched, by file and name.
Shapes = dict[str, set[tuple[int, int]]]
#: Runs at one shape, and why that is so.
ONE_SHAPE = {
    "assistant.cu: learn": "every step of a feedback needs the one before it: one warp",
    "evolution.cu: evolution_lead": "one block of 1024 threads sorts 2048 ranks",
    "knowledge_graph_batch.cu: batch_start": "64 pairs, two to a warp of one block",
    "knowledge_graph_bfs.cu: bfs_start": "one root: one warp",
    "knowledge_graph_paths.cu: path_start": "two ends: one warp",
    "knowledge_graph_paths.cu: path_walk": "two ways: two lanes of one warp",
}


def _halved(grid: int, block: int) -> tuple[int, int]:
    return 2 * grid, block // 2


#: Kernels that are launched at one shape by components, though any will do: what every second
#: launch is turned into here.
TURNED: dict[str, Callable[[int, int], tuple[int, int]]] = {
    "assistant.cu: rows": _halved,
    "assistant_batch.cu: to_floats": _halved,
    "knowledge_graph.cu: fill_pool": _halved,
    "knowledge_graph.cu: write_records": _halved,
    "knowledge_graph_embed.cu: embed_vectors": _halved,
    "knowledge_graph_embed.cu: encode_vectors": _halved,
    "memory.cu: memory_guards": _halved,
    "memory.cu: memory_holds": _halved,
    "memory.cu: memory_touch": _halved,
    "streaming_source.cu: streaming_source": lambda grid, block: (grid, 64),
}


class Recorder(EmulatedDevice):
    """An emulated device that keeps at which grids and blocks each kernel was launched."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.shapes: Shapes = defaultdict(set)
        self._launches = Counter[str]()

    def run(
        self,
        kernel: HostKernel | SimulatedKernel,
        grid: int,
        block: int,
        arguments: Sequence[Argument],
        shared_bytes: int,
    ) -> None:
        name = f"{kernel.source.file}: {kernel.name}"
        self._launches[name] += 1
        if name in TURNED and self._launches[name] % 2 == 0:
            grid, block = TURNED[name](grid, block)
        self.shapes[name].add((grid, block))
        super().run(kernel, grid, block, arguments, shared_bytes)

    def missed(self) -> list[str]:
        """Kernels that no launch reached, or that ran at one shape with no reason for that."""
        return [
            f"{kernel}: {sorted(self.shapes[kernel]) or 'never launched'}"
            for kernel in every_kernel()
            if len(self.shapes[kernel]) < 2 - (kernel in ONE_SHAPE)
        ]


def every_kernel() -> list[str]:
    """The kernels of all files."""
    return [f"{file}: {each.name}" for file in source.files() for each in source.kernels(file)]


def _consensus(shared: CudaConsensus) -> Iterator[CudaOperation]:
    yield shared.operation()
    kinds: tuple[Kind, ...] = ("shared", "dense", "hashed")
    for kind in kinds:
        for shape in (consensus.Shape(2, 64), consensus.Shape(3, 96)):
            yield shared.operation(kind, shape)


def _assistant(shared: CudaAssistant) -> Iterator[CudaOperation]:
    for warps, block in ((1, 64), (3, 96)):
        for speech in (SmallSpeech, StagedSpeech):
            yield shared.operation(warps=warps, block=block, speech=speech)


def _knowledge_graph(shared: CudaKnowledgeGraph) -> Iterator[CudaOperation]:
    yield shared.operation()
    shape = knowledge_graph.Shape(block=64, blocks_per_multiprocessor=3)
    given = (shared.component, shared.native, shared.device, shared.seed)
    yield CudaKnowledgeGraph(*given, shape=shape).operation()


def _evolution(shared: CudaEvolution) -> Iterator[CudaOperation]:
    yield Island(shared)
    yield Island(shared, grid=3, teams=8)


def _streaming(shared: CudaStreaming) -> Iterator[CudaOperation]:
    yield Lane(shared)
    yield Lane(shared, block=64, grid=3)


def _memory(shared: CudaMemory) -> Iterator[CudaOperation]:
    yield Mover(shared)
    yield Mover(shared, grid=3, block=32)


def _synthesis(shared: CudaSynthesis) -> Iterator[CudaOperation]:
    yield SynthesisOperation(shared.requests, synthesis_launches.Shape(64, 2))
    yield SynthesisOperation(shared.requests, synthesis_launches.Shape(96, 3))


FEW_PROBES = KnowledgeGraph.small().search.model_copy(update={"probes": 3})
SMALLER: dict[str, Any] = {
    **{"nodes": 1500, "pool": 2, "trees": 70, "tree_templates": 100},
    **{"text_bytes": 3001, "byte_patterns": 100},
}
LANES: dict[str, Callable[[Any], Iterator[CudaOperation]]] = {
    "assistant": _assistant,
    "consensus": _consensus,
    "evolution": _evolution,
    "knowledge_graph": _knowledge_graph,
    "memory": _memory,
    "streaming": _streaming,
    "synthesis": _synthesis,
}
#: Sizes that reach every kernel, in the place of the small ones.
SIZES: dict[str, list[dict[str, Any]]] = {
    "assistant": [{"tokens": 2}, {"tokens": 1, "prompts": 9}],
    "knowledge_graph": [{}, {"search": FEW_PROBES}],
    "synthesis": [SMALLER | {"patterns": 20}, SMALLER | {"patterns": 256}],
}


def run_all(device: EmulatedDevice, seed: int) -> None:
    """Runs every op of every component in lanes of several shapes: twice by key, and on given
    inputs against the reference; and rings. Raises `AssertionError` for what is wrong."""
    for name, lanes in LANES.items():
        for sizes in SIZES.get(name, [{}]):
            component = COMPONENTS[name].small().model_copy(update=sizes)
            native = component.prepare(backend="cpu", seed=seed).native
            for lane in lanes(CUDA[name](component, native, device, seed)):
                for op in component.ops:
                    run_op(component, lane, op.name, seed)
    for groups, block in ((2, 64), (3, 96)):
        echo_once(device, groups, seed)
        Deciding(Consensus.small(), device, seed, groups=groups, block=block).once(2 * groups)


def run_op(component: Component, lane: CudaOperation, op: str, seed: int) -> None:
    """Runs two operations and one on given inputs; all must be right."""
    where = f"{component.name} {op}, seed {seed}"
    for key in (seed % 1000, seed % 1000 + 1):
        assert lane.run(op, key).status == "ok", f"{where}, key {key}"
        assert lane.verify()[1] == 0, f"{where}, key {key}"
    inputs = component.inputs(op, seed, seed % 1000)
    found = lane.evaluate(op, dict(inputs))
    if op == "approximate_search":
        # The reference is exact, and this one may miss what it has: its check says what it may.
        return
    assert agree(found, component.reference(op, inputs), component.tolerance), where
