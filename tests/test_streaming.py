"""The streaming component against its NumPy reference, and each of its checks failing once."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import lz4.block
import numpy as np
import pytest
import zstandard
from pydantic import ValidationError

from swarmbench import cli
from swarmbench.components import chunks
from swarmbench.components.base import same_arrays
from swarmbench.components.streaming import MIXES, Streaming

SEED = 20240607
SMALL = Streaming(chunk_bytes=1 << 17, block_bytes=1 << 15, pool_chunks=20)
EVERY_KIND = [(kind, 1.0) for kind in chunks.KINDS]


@pytest.mark.parametrize("op", [op.name for op in Streaming.ops])
def test_answers_match_the_reference_for_every_kind(op: str) -> None:
    component = SMALL.model_copy(update={"blend": tuple(EVERY_KIND)})
    native = component.prepare(seed=SEED, threads=2).native
    kinds = set()
    for key in range(component.pool_chunks):
        inputs = component.inputs(op, SEED, key)
        answers = component.reference(op, inputs)
        assert same_arrays(native.evaluate(op, inputs), answers)
        kinds.add(component.kinds()[component.pool_index(op, key)])
        spoiled = {"chunk": inputs["chunk"].copy()}
        spoiled["chunk"][len(spoiled["chunk"]) // 3] ^= 1
        assert not same_arrays(native.evaluate(op, spoiled), answers)
    assert kinds == ({"int32", "float32"} if op == "pack" else set(chunks.KINDS))


@pytest.mark.parametrize("op", ["auto", "pack"])
def test_native_chunks_are_those_of_the_numpy_generator(op: str) -> None:
    component = Streaming(chunk_bytes=1 << 16, pool_chunks=24, blend=tuple(EVERY_KIND))
    native = component.prepare(seed=SEED).native
    index = np.array([native.ops().index(op)], dtype=np.uint8)
    for key in [*range(24), (3 << 48) + 5]:
        made = native.evaluate("source", {"op": index, "key": np.array([key], dtype=np.uint64)})
        assert same_arrays(made, component.inputs(op, SEED, key))


def test_every_mix_holds_its_shares_and_is_never_all_zero() -> None:
    for name, blend in MIXES.items():
        component = Streaming(blend=name, pool_chunks=200)
        kinds = component.kinds()
        total = sum(share for _, share in blend)
        for kind, share in blend:
            assert abs(kinds.count(kind) / 200 - share / total) <= 0.02
        assert set(kinds) != {"zeros"}
    with pytest.raises(ValidationError, match="something else than zeros"):
        Streaming(blend={"zeros": 1.0})
    with pytest.raises(ValidationError, match="choose one of mixed"):
        Streaming(blend="mixt")


@pytest.mark.parametrize("op", [op.name for op in Streaming.ops])
def test_a_run_on_two_threads_is_verified_and_loses_no_number(op: str) -> None:
    native = SMALL.prepare(seed=SEED).native
    tally = native.run(op, count=100, threads=2)
    assert tally["ok"] == tally["verified"] == 200
    assert tally["violations"] == tally["errors"] == tally["rejected"] == 0
    assert tally["units"] == 200 * SMALL.chunk_bytes
    counters = dict(native.counters())
    pipelines = 0 if op in ("compress", "decompress") else 200
    assert counters["sequences_handed_out"] == counters["sequences_released"] == pipelines
    assert counters["queue_depth_max"] <= SMALL.queue_depth
    assert all(counters[name] == 0 for name in ("corrupt", "lost", "doubled", "reordered"))


def test_incompressible_chunks_bypass_and_numeric_ones_are_packed() -> None:
    native = Streaming(blend="random", pool_chunks=4).prepare(seed=SEED).native
    native.run("auto", count=4)
    counters = dict(native.counters())
    assert counters["bypassed_chunks"] == counters["chunks"] == 4
    assert counters["compressed_bytes"] < counters["chunk_bytes"] * 1.001

    component = Streaming(blend="numeric", pool_chunks=4)
    native = component.prepare(seed=SEED).native
    native.run("auto", count=4)
    assert dict(native.counters())["packed_chunks"] == 4
    ratios = json.loads(native.describe())["kinds"]
    assert ratios["int32"]["ratio"] > 3.9
    assert ratios["float32"]["ratio"] > 2.6


def test_no_flipped_bit_of_a_frame_passes() -> None:
    component = Streaming(chunk_bytes=1 << 13, block_bytes=1 << 12, pool_chunks=12)
    native = component.prepare(seed=SEED).native
    for key in range(component.pool_chunks):
        inputs = component.inputs("auto", SEED, key)
        frame = native.evaluate("frame", inputs)["frame"]
        assert same_arrays(native.evaluate("unframe", {"frame": frame}), inputs)
        generator = np.random.default_rng(key)
        bits = {*range(24), *range(64, 256), *generator.integers(0, len(frame) * 8, 200).tolist()}
        for bit in bits - set(range(64, 128)):
            spoiled = frame.copy()
            spoiled[bit // 8] ^= 1 << bit % 8
            try:
                restored = native.evaluate("unframe", {"frame": spoiled})
            except ValueError:
                continue
            assert same_arrays(restored, inputs), f"bit {bit} of frame {key} changed the chunk"


def test_placements_on_a_device_are_refused_by_the_cpu_backend() -> None:
    for placement in ("device", "host_device_host", "file_device_file"):
        with pytest.raises(ValueError, match=r"placement: .* needs the cuda backend"):
            Streaming(placement=placement).prepare(seed=SEED)


def test_the_file_placement_streams_leaves_nothing_and_holds_its_budget(tmp_path: Path) -> None:
    component = SMALL.model_copy(update={"placement": "file", "directory": str(tmp_path)})
    native = component.prepare(seed=SEED).native
    tally = native.run("auto", count=10, threads=2)
    assert tally["ok"] == tally["verified"] == 20
    assert tally["violations"] == 0
    assert list(tmp_path.iterdir()) == []

    pool_bytes = component.pool_chunks * component.chunk_bytes
    scarce = component.model_copy(update={"write_budget_bytes": pool_bytes + (1 << 18)})
    tally = scarce.prepare(seed=SEED).native.run("auto", count=20)
    assert tally["rejected"] > 0
    assert tally["ok"] > 0
    assert tally["errors"] == tally["violations"] == 0


def test_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    with pytest.raises(ValueError, match="directory: "):
        Streaming(placement="file", directory=missing, pool_chunks=2).prepare(seed=SEED)


def test_a_budget_shortens_the_pool_and_says_so() -> None:
    fitted, lines = Streaming().fitted(64 << 20, workers=4)
    assert fitted.resident_bytes(4) <= 64 << 20
    assert lines == [f"streaming.pool_chunks: 64 -> {fitted.pool_chunks}"]
    native = fitted.prepare(seed=SEED).native
    assert native.resident_bytes(4) == fitted.resident_bytes(4)
    assert Streaming().fitted(1 << 40, workers=4) == (Streaming(), [])


def test_other_decoders_read_the_codecs_bytes() -> None:
    component = Streaming(chunk_bytes=1 << 16, block_bytes=1 << 16, blend="text", pool_chunks=1)
    native = component.prepare(seed=SEED).native
    inputs = component.inputs("lz4", SEED, 0)
    original = inputs["chunk"].tobytes()
    decoders = {
        "frame": (1, lambda coded: lz4.block.decompress(coded, uncompressed_size=1 << 16)),
        "frame_zstd": (2, lambda coded: zstandard.ZstdDecompressor().decompress(coded)),
    }
    for name, (blocks, decode) in decoders.items():
        frame = native.evaluate(name, inputs)["frame"]
        assert len(frame) < len(original)
        lengths = frame[32 : 32 + 4 * blocks].view(np.uint32).tolist()
        ends = np.cumsum([32 + 4 * blocks, *lengths]).tolist()
        assert ends[-1] == len(frame)
        pieces = [frame[start:end].tobytes() for start, end in itertools.pairwise(ends)]
        assert b"".join(map(decode, pieces)) == original


def test_the_numpy_codec_undoes_itself() -> None:
    generator = np.random.default_rng(SEED)
    for bits in range(33):
        steps = generator.integers(0, 1 << bits, 1500, dtype=np.uint64).astype(np.uint32)
        segment = np.cumsum(steps, dtype=np.uint32).view(np.uint8)[:-1]
        assert np.array_equal(chunks.unpack(chunks.pack(segment), len(segment)), segment)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("params.placement=device", "`device` needs the cuda backend; choose memory or file"),
        ("params.placement=elsewhere", "there is no `elsewhere`; choose one of device, file"),
        ("data_mix=txt", "there is no mix `txt`; choose one of mixed, text_binary_random"),
    ],
)
def test_what_the_cpu_cannot_stream_is_refused_before_the_start(
    change: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["max-throughput", "--components", "streaming", "--dry-run"]
    assert cli.main([*arguments, "--set", f"workloads.streaming.{change}"]) == 2
    key = change.partition("=")[0]
    found = capsys.readouterr().err
    assert found.startswith(f"error: --set workloads.streaming.{key}: {line}")
    assert cli.main([*arguments, "--set", "workloads.streaming.data_mix=text"]) == 0


def test_a_files_directory_must_be_there(tmp_path: Path) -> None:
    component = Streaming(placement="file", directory=str(tmp_path))
    assert component.unfit("cpu") is None
    lost = component.model_copy(update={"directory": str(tmp_path / "lost")})
    refused = ("directory", f"there is no directory `{tmp_path / 'lost'}`; give one")
    assert lost.unfit("cpu") == refused
