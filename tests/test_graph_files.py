"""Graphs from files: both formats give the graph that NumPy reads; what is no graph is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from swarmbench import _native, cli
from swarmbench.components import graphs
from swarmbench.components.base import same_arrays
from swarmbench.components.embeddings import SearchParameters
from swarmbench.components.knowledge_graph import KnowledgeGraph

SEED = 3
SEARCH = SearchParameters(vectors=64, dims=8, clusters=2, lists=4, probes=4)
PLAIN = "# a comment\n\n0 1\n1\t2\r\n  2 0 \n% another\n2 2\n5 2\n5 2\n4294 0"
MATRIX = """%%MatrixMarket matrix coordinate real symmetric
% a comment
70 70 3
1 2 -1.5e3
2 3 nan

70 70 4
"""
GOOD = {
    "list": (PLAIN, 4295, 7),
    "few nodes": ("7 3\n", 64, 1),
    "matrix": (MATRIX, 70, 3),
    "pattern": ("%%matrixmarket MATRIX coordinate pattern general\n64 64 1\n1 64\n", 64, 1),
}
BANNER = "%%MatrixMarket matrix coordinate pattern general\n"
#: What a file holds, the line that is wrong, and what must be said of it.
BAD: dict[str, tuple[bytes, int | None, str]] = {
    "empty": (b"", None, "no edge between two nodes"),
    "comments": (b"# nothing\n% here\n", None, "no edge between two nodes"),
    "self-loops": (b"0 0\n5 5\n", None, "no edge between two nodes"),
    "words": (b"0 1\nalice bob\n", 2, "`alice bob` is no edge; give two node numbers, 0 to"),
    "one number": (b"# x\n0 1\n17\n", 3, "`17` is no edge"),
    "weights": (b"0 1 0.5\n", 1, "`0 1 0.5` is no edge"),
    "commas": (b"0,1\n", 1, "`0,1` is no edge"),
    "negative": (b"0 -1\n", 1, "is no edge"),
    "too high": (b"0 16000000\n", 1, "0 to 15999999"),
    "far too high": (b"0 18446744073709551616\n", 1, "is no edge"),
    "binary": (b"\x93NUMPY\x01\x00v\x00{'descr'\n", 1, "is no edge"),
    "long": (b"0 1\n" + b"7" * 5000, 2, "is longer than an edge can be"),
    "array": (b"%%MatrixMarket matrix array real general\n2 2\n", 1, "is no matrix of coordinates"),
    "banner": (b"%%MatrixMarket vector coordinate real general\n", 1, "give `matrix coordinate`"),
    "no size": (BANNER.encode(), 2, "is no size; give rows, columns and entries"),
    "short size": (BANNER.encode() + b"5 5\n", 2, "`5 5` is no size"),
    "oblong": (BANNER.encode() + b"5 6 1\n1 2\n", 2, "is no graph; give a square matrix"),
    "from zero": (
        BANNER.encode() + b"5 5 1\n0 2\n",
        3,
        "is no entry; give a row and a column, 1 to 5",
    ),
    "value": (BANNER.encode() + b"5 5 1\n1 2 0.5\n", 3, "and 0 values"),
    "short": (BANNER.encode() + b"5 5 2\n1 2\n", 4, "after 1 of 2 entries"),
    "surplus": (BANNER.encode() + b"5 5 1\n1 2\n2 3\n", 4, "one entry more than the 1 announced"),
}


def graph(path: Path, **sizes: Any) -> KnowledgeGraph:
    return KnowledgeGraph(file=str(path), search=SEARCH, **sizes)


@pytest.mark.parametrize(("text", "nodes", "edges"), GOOD.values(), ids=GOOD)
def test_a_file_gives_the_graph_that_numpy_reads(
    tmp_path: Path, text: str, nodes: int, edges: int
) -> None:
    path = tmp_path / "graph.txt"
    path.write_text(text, encoding="ascii", newline="")
    assert _native.graph_file_size(str(path)) == (nodes, edges)
    component = graph(path)
    native = component.prepare(seed=SEED, threads=2).native
    assert component.nodes == nodes
    assert same_arrays(native.evaluate("graph", {}), component.rows(SEED)._asdict())
    for workers in (1, 3):
        assert component.resident_bytes(workers) == native.resident_bytes(workers)
    for op in ("path_finding", "bfs", "node_lookup", "path_batch"):
        inputs = component.inputs(op, SEED, 4)
        assert same_arrays(native.evaluate(op, inputs), component.reference(op, inputs))
        tally = native.run(op, count=9, threads=2)
        assert (tally["ok"], tally["violations"]) == (18, 0)


@settings(max_examples=40, deadline=None)
@given(
    ends=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=60),
    is_matrix=st.booleans(),
)
def test_any_edges_come_back_from_either_format(
    tmp_path_factory: pytest.TempPathFactory, ends: list[tuple[int, int]], is_matrix: bool
) -> None:
    ends = [*ends, (0, 99)]
    path = tmp_path_factory.mktemp("edges") / "graph"
    lines = [f"{one + is_matrix} {other + is_matrix}" for one, other in ends]
    head = [BANNER + f"100 100 {len(ends)}"] if is_matrix else []
    path.write_text("\n".join(head + lines), encoding="ascii")
    native = graph(path).prepare(seed=SEED).native
    sources, targets = np.array(ends, dtype=np.uint32).T
    expected = graphs.rows(100, sources, targets)._asdict()
    assert same_arrays(native.evaluate("graph", {}), expected)


@pytest.mark.parametrize(("content", "line", "said"), BAD.values(), ids=BAD)
def test_a_file_that_is_no_graph_is_named_with_its_line_and_what_would_be_right(
    tmp_path: Path, content: bytes, line: int | None, said: str
) -> None:
    path = tmp_path / "graph.txt"
    path.write_bytes(content)
    with pytest.raises(ValidationError) as caught:
        graph(path)
    (error,) = caught.value.errors()
    where = f"{path}: " if line is None else f"{path}, line {line}: "
    assert where in error["msg"]
    assert said in error["msg"]
    assert "\n" not in error["msg"]
    assert error["msg"].isprintable()


@settings(max_examples=300, deadline=None)
@given(content=st.one_of(st.binary(max_size=200), st.text("01 \n%#9MatrixMarket.-", max_size=200)))
def test_no_content_does_more_than_be_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes | str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    problem = problem_of(path)
    assert problem is None or (problem.isprintable() and str(path) in problem)


def problem_of(path: Path) -> str | None:
    try:
        nodes, edges = _native.graph_file_size(str(path))
    except ValueError as error:
        return str(error)
    assert 64 <= nodes <= 16_000_000
    assert edges > 0
    return None


def test_what_cannot_be_read_and_what_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="No such file"):
        graph(tmp_path / "missing")
    with pytest.raises(ValidationError, match="is no file"):
        graph(tmp_path)
    path = tmp_path / "graph"
    path.write_text("0 99\n")
    with pytest.raises(ValidationError, match=r"has 100; leave `nodes` out"):
        graph(path, nodes=64)
    component = graph(path, nodes=100)
    path.write_text("0 199\n")
    with pytest.raises(ValueError, match="has 200 nodes now, not 100"):
        component.prepare(seed=SEED)


def test_fitting_leaves_a_files_graph_whole(tmp_path: Path) -> None:
    path = tmp_path / "graph"
    path.write_text("0 4000\n")
    component = KnowledgeGraph(file=str(path))
    assert (component.nodes, component.search.vectors) == (4001, 4001)
    budget = component.resident_bytes(2) - 1_000_000
    fitted, lines = component.fitted(budget, 2)
    assert fitted.resident_bytes(2) <= budget
    assert fitted.nodes == 4001
    assert lines == [f"knowledge_graph: 4001 embeddings fitted to {fitted.search.vectors}"]


def test_the_command_line_refuses_a_file_that_is_no_graph_before_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "graph"
    path.write_text("0 1\nx y\n")
    arguments = [
        "max-throughput",
        "--components",
        "knowledge_graph",
        "--out",
        str(tmp_path / "runs"),
    ]
    change = f"workloads.knowledge_graph.params.file={path}"
    assert cli.main([*arguments, "--dry-run", "--set", change]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "workloads.knowledge_graph.params" in line
    assert f"{path}, line 2: `x y` is no edge; give two node numbers" in line
    assert not (tmp_path / "runs").exists()
