"""The embeddings of the knowledge graph on a device: rows, the planes of their codes, and lists."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from swarmbench import _native
from swarmbench.components.base import Arrays
from swarmbench.components.embeddings import SearchParameters
from swarmbench.components.philox import stream_key
from swarmbench.gpu.device import Argument, Buffer, Device

#: Streams of random words, as `embeddings` names them.
CENTRES, VECTORS, QUERIES = 0x6B670101, 0x6B670102, 0x6B670103
#: `STORAGE` of the kernels, and bytes of a component kept beside the codes.
STORAGE = {"fp32": 0, "fp16": 1, "int8": 2}
ROW_BYTES = {"fp32": 4, "fp16": 2, "int8": 0}
#: Vectors of a tile, dimensions of 16 bytes of a plane.
TILE, GROUP = 32, 32
#: Places whose rows are made at a time, where rows of f32 are not kept.
_CHUNK_PLACES = 8192
_NONE = 0xFFFFFFFF


def tile_count(vectors: int) -> int:
    """Tiles that hold so many vectors."""
    return -(-vectors // TILE)


def group_count(dims: int) -> int:
    """Groups of dimensions of a coded vector, the padding of the last one included."""
    return -(-dims // GROUP)


@dataclass(frozen=True, slots=True)
class Corpus:
    """Vectors in places, list after list: what searches read."""

    parameters: SearchParameters
    device: Device
    seed: int
    vectors: int
    lists: int
    ids: Buffer
    starts: Buffer
    centroids: Buffer
    rows: Buffer
    halves: Buffer
    high: Buffer
    low: Buffer
    spans: Buffer

    @property
    def groups(self) -> int:
        """Groups of dimensions of a coded vector."""
        return group_count(self.parameters.dims)

    @property
    def scored(self) -> Buffer:
        """What vectors are scored from."""
        return {"fp32": self.rows, "fp16": self.halves, "int8": self.high}[self.parameters.storage]

    @classmethod
    def bytes(cls, parameters: SearchParameters) -> int:
        """Device memory of the vectors."""
        tiles, dims = tile_count(parameters.vectors), parameters.dims
        places = tiles * TILE
        kept = places if parameters.storage == "fp32" else min(places, _CHUNK_PLACES)
        halves = 2 * dims * places if parameters.storage == "fp16" else 8
        planes = tiles * (2 * 512 * group_count(dims) + 16)
        lists = 4 * (parameters.lists + 1) + parameters.lists * dims
        return 4 * places + lists + 4 * dims * kept + halves + planes

    @classmethod
    def build(
        cls,
        parameters: SearchParameters,
        native: _native.Component,
        device: Device,
        seed: int,
        given: Buffer | None = None,
        inputs: Arrays | None = None,
    ) -> Corpus:
        """Makes the vectors of a seed, or those `given` (rows by id), in the lists of the native
        search over them (`inputs` holds the same `vectors`)."""
        index = native.evaluate("lists", inputs or {})
        vectors, dims = len(index["ids"]), parameters.dims
        tiles = tile_count(vectors)
        places = tiles * TILE
        ids = np.full(places, _NONE, np.uint32)
        ids[:vectors] = index["ids"]
        kept = places if parameters.storage == "fp32" else min(places, _CHUNK_PLACES)
        halves = dims * places if parameters.storage == "fp16" else 4
        corpus = cls(
            parameters=parameters,
            device=device,
            seed=seed,
            vectors=vectors,
            lists=len(index["starts"]) - 1,
            ids=device.uploaded(ids),
            starts=device.uploaded(index["starts"]),
            centroids=device.uploaded(index["centroids"]),
            rows=device.empty(dims * kept, np.float32),
            halves=device.empty(halves, np.uint16),
            high=device.empty(tiles * 128 * group_count(dims), np.uint32),
            low=device.empty(tiles * 128 * group_count(dims), np.uint32),
            spans=device.empty(tiles * 4, np.float32),
        )
        corpus._fill(given)
        return corpus

    def kernel_words(self, *domains: int) -> list[np.uint32]:
        """The keys of streams, as kernels take them."""
        return [np.uint32(word) for domain in domains for word in stream_key(self.seed, domain)]

    def _fill(self, given: Buffer | None) -> None:
        """Writes rows and codes, a run of places at a time."""
        device, dims, block = self.device, self.parameters.dims, 256
        storage = {"STORAGE": STORAGE[self.parameters.storage]}
        embed = device.kernel("knowledge_graph_embed.cu", "embed_vectors", storage)
        encode = device.kernel("knowledge_graph_embed.cu", "encode_vectors", storage)
        stream = device.stream()
        keys = self.kernel_words(VECTORS, CENTRES)
        source = (self.rows if given is None else given, np.uint32(given is not None))
        clusters = np.uint32(self.parameters.clusters)
        places = self.ids.count
        room = min(places, _CHUNK_PLACES)
        for first in range(0, places, room):
            count = min(room, places - first)
            begin = first * dims if self.parameters.storage == "fp32" else 0
            rows = self.rows.part(begin, count * dims)
            sizes = (np.uint32(first), np.uint32(count), np.uint32(dims), clusters)
            blocks = min(8 * device.multiprocessors, -(-count // (block // 32)))
            arguments: list[Argument] = [self.ids, *sizes, *keys, *source, rows, self.halves]
            stream.launch(embed, blocks, block, arguments)
            tiles = count // TILE
            run = (np.uint32(first // TILE), np.uint32(tiles), np.uint32(dims))
            planes = (self.high, self.low, self.spans)
            stream.launch(encode, -(-tiles // (block // 32)), block, (rows, *run, *planes))
        stream.synchronize()
