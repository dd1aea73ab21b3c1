"""The launches of the synthesis kernels: each operation counts, then writes, over the same grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from swarmbench.gpu.device import Argument, Buffer, Device, Kernel, Stream

#: The words of an answer: how much there is, blocks done, the first problem, rewrites.
TOTAL, DONE, PROBLEM, REWRITES = range(4)
NO_PROBLEM = (1 << 64) - 1
#: An answer before the first launch.
ANSWER = np.array([0, 0, NO_PROBLEM, 0], dtype=np.uint64)
#: Blocks of a grid at most: one number each is added up by the last block done.
GRID_MAX = 4096

#: As in the kernel files: words of `STEPS` that a warp looks at, numbers of `SUMS`, `WINDOW` bytes.
_STEPS, _SUMS, _WINDOW = 8, 34, 8192
_SUMS_BYTES = 8 * _SUMS
_TREE_TABLES_WORDS = 512
_FILES = {
    "synthesis.cu": ("match_few_count", "match_few_write", "match_many_count", "match_many_write"),
    "synthesis_bytes.cu": ("bytes_count", "bytes_write"),
    "synthesis_digest.cu": ("digest",),
    "synthesis_expand.cu": ("expand_measure", "expand_write"),
    "synthesis_templates.cu": ("templates_count", "templates_write"),
    "synthesis_transform.cu": ("transform_measure", "transform_write"),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """Threads of a block (a multiple of 32), and blocks of a grid for each multiprocessor.

    Four blocks of 256 threads with up to 64 registers each are on a multiprocessor at once, so that
    all of a grid are under way together; kernels with up to 32 take twice as many.
    """

    block: int = 256
    blocks_each: int = 4


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch but for its grid and block."""

    kernel: Kernel
    arguments: tuple[Argument, ...]
    shared_bytes: int


@dataclass(frozen=True, slots=True)
class Steps:
    """The two launches of an operation: how much there is, and the answer itself."""

    grid: int
    block: int
    count: Launch
    write: Launch

    def enqueue(self, stream: Stream, launch: Launch) -> None:
        """One of the two."""
        stream.launch(
            launch.kernel,
            self.grid,
            self.block,
            launch.arguments,
            shared_bytes=launch.shared_bytes,
        )


@dataclass(frozen=True, slots=True)
class Nodes:
    """A forest's first looks and records, and the patterns' program; `few` where there are at most
    32 of them."""

    looks: Buffer
    records: Buffer
    length: int
    program: Buffer
    few: Buffer | None


@dataclass(frozen=True, slots=True)
class Instances:
    """What is expanded: instances, and the templates and texts of all."""

    templates: Buffer
    bindings: Buffer
    length: int
    shapes: Buffer
    shape_count: int
    parts: Buffer
    literals: Buffer
    texts: Buffer
    text_count: int
    letters: Buffer


@dataclass(frozen=True, slots=True)
class Trees:
    """A forest in preorder, cut into tiles of whole trees, and the rules' program."""

    records: Buffer
    tiles: Buffer
    tile_count: int
    capacity: int
    roots: Buffer
    program: Buffer


@dataclass(frozen=True, slots=True)
class Linearised:
    """Trees of 64 tokens, and the rows of bits that templates are compared by."""

    trees: Buffer
    length: int
    numbers: Buffer
    rows: Buffer
    words: int


@dataclass(frozen=True, slots=True)
class Text:
    """A text as words, and the byte patterns' program with so many words of tables."""

    text: Buffer
    length: int
    program: Buffer
    tables: int


def measuring_bytes(capacity: int) -> int:
    """Shared memory of `transform_measure`."""
    return _SUMS_BYTES + 4 * _TREE_TABLES_WORDS + 4 * (capacity + 1) + 4 * capacity


def writing_bytes(capacity: int) -> int:
    """Shared memory of `transform_write`."""
    return _SUMS_BYTES + 8 * (capacity + 1) + 8 * capacity + 4


class Launcher:
    """The kernels with what their launches share: `starts` and `answer` are on the device."""

    def __init__(self, device: Device, starts: Buffer, answer: Buffer, shape: Shape) -> None:
        self._blocks = min(shape.blocks_each * device.multiprocessors, GRID_MAX)
        self._most_blocks = min(2 * shape.blocks_each * device.multiprocessors, GRID_MAX)
        self._block = shape.block
        self._starts, self._answer = starts, answer
        self._kernels = {
            name: device.kernel(file, name) for file, names in _FILES.items() for name in names
        }

    def _steps(
        self,
        names: tuple[str, str],
        tiles: int,
        given: tuple[Argument, ...],
        kept: tuple[Argument, ...],
        written: tuple[Argument, ...],
        shared_bytes: tuple[int, int],
        *,
        blocks: int | None = None,
    ) -> Steps:
        ends = (self._starts, self._answer)
        count, write = (self._kernels[name] for name in names)
        return Steps(
            max(1, min(tiles, blocks or self._blocks)),
            self._block,
            Launch(count, (*given, *kept, *ends), shared_bytes[0]),
            Launch(write, (*given, *kept, *ends, *written), shared_bytes[1]),
        )

    def _pairs(
        self,
        names: tuple[str, str],
        length: int,
        given: tuple[Argument, ...],
        kept: Buffer,
        written: tuple[Argument, ...],
        tables: int,
    ) -> Steps:
        size = self._block * _STEPS
        words = 2 * size + size // 32 + 1 + tables
        shared = _SUMS_BYTES + 4 * words
        return self._steps(names, -(-length // size), given, (kept,), written, (shared, shared))

    def match(self, nodes: Nodes, kept: Buffer, pairs: Buffer, room: int) -> Steps:
        """`kept` has a bit for each node."""
        given: tuple[Argument, ...] = (
            nodes.looks,
            nodes.records,
            np.uint32(nodes.length),
            nodes.program,
        )
        written = (np.uint32(room), pairs)
        if nodes.few is None:
            names, tables = ("match_many_count", "match_many_write"), _TREE_TABLES_WORDS
        else:
            given = (*given, nodes.few)
            names, tables = ("match_few_count", "match_few_write"), nodes.few.count
        return self._pairs(names, nodes.length, given, kept, written, tables)

    def match_bytes(self, text: Text, kept: Buffer, pairs: Buffer, room: int) -> Steps:
        """`kept` has a bit for each position."""
        given = (text.text, np.uint32(text.length), text.program, np.uint32(text.tables))
        names, written = ("bytes_count", "bytes_write"), (np.uint32(room), pairs)
        return self._pairs(names, text.length, given, kept, written, text.tables)

    def compare(self, trees: Linearised, found: Buffer, pairs: Buffer, room: int) -> Steps:
        """`found` has a number for each tree."""
        return self._steps(
            ("templates_count", "templates_write"),
            -(-trees.length // self._block),
            (
                trees.trees,
                np.uint32(trees.length),
                trees.numbers,
                trees.rows,
                np.uint32(trees.words),
            ),
            (found,),
            (np.uint32(room), pairs),
            (_SUMS_BYTES + 8 * self._block, _SUMS_BYTES + 12 * self._block),
            blocks=self._most_blocks,
        )

    def expand(self, given: Instances, written: Buffer, offsets: Buffer, room: int) -> Steps:
        """`offsets` has a number more than there are instances."""
        ends = (self._starts, self._answer)
        instances = (given.templates, given.bindings, np.uint32(given.length))
        shapes = (given.shapes, np.uint32(given.shape_count))
        texts = (given.texts, np.uint32(given.text_count))
        places = (self._block // 4 + 4) // 4 * 4
        return Steps(
            max(1, min(-(-given.length // self._block), self._most_blocks)),
            self._block,
            Launch(
                self._kernels["expand_measure"],
                (*instances, *shapes, *texts, *ends),
                _SUMS_BYTES,
            ),
            Launch(
                self._kernels["expand_write"],
                (
                    *instances,
                    *shapes,
                    given.parts,
                    given.literals,
                    *texts,
                    given.letters,
                    *ends,
                    np.uint32(room),
                    written,
                    offsets,
                ),
                _SUMS_BYTES + 4 * places + _WINDOW,
            ),
        )

    def transform(
        self, trees: Trees, fates: Buffer, made: Buffer, roots: Buffer, room: int
    ) -> Steps:
        """`fates` has a number for each node, `made` four words for each new one."""
        capacity = np.uint32(trees.capacity)
        given = (trees.records, trees.tiles, np.uint32(trees.tile_count), capacity)
        ends = (self._starts, self._answer)
        return Steps(
            max(1, min(trees.tile_count, self._blocks)),
            self._block,
            Launch(
                self._kernels["transform_measure"],
                (*given, trees.program, fates, *ends),
                measuring_bytes(trees.capacity),
            ),
            Launch(
                self._kernels["transform_write"],
                (*given, trees.roots, trees.program, fates, *ends, np.uint32(room), made, roots),
                writing_bytes(trees.capacity),
            ),
        )

    def digest(self, stream: Stream, answer: Buffer, nbytes: int, total: Buffer) -> None:
        """Enqueues the digest of the first bytes of an answer."""
        stream.fill(total, 0)
        grid = max(1, min(-(-nbytes // (16 * self._block)), self._blocks))
        arguments = (answer, np.uint64(nbytes), total)
        stream.launch(self._kernels["digest"], grid, self._block, arguments)
