"""`latency.hlog` against the PyPI package `hdrhistogram`, in both directions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from swarmbench import hlog
from swarmbench._native import Histogram
from swarmbench.errors import ConfigurationError

HOUR_NS = 3_600_000_000_000
PERCENTS = [0.0, 25.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0]


def latencies(seed: int, count: int = 5000) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(12, 2.5, count).astype(np.int64)


def theirs_of(values: np.ndarray) -> HdrHistogram:
    histogram = HdrHistogram(1, HOUR_NS, 3)
    for value in values.tolist():
        assert histogram.record_value(value)
    return histogram


def counts_of(histogram: HdrHistogram) -> list[int]:
    return [histogram.get_count_at_index(index) for index in range(histogram.counts_len)]


@pytest.mark.parametrize("seed", range(4))
def test_their_decoder_reads_our_encoding_count_for_count(seed: int) -> None:
    values = latencies(seed)
    read = HdrHistogram.decode(Histogram.from_values(values).encode())
    assert counts_of(read) == counts_of(theirs_of(values))


@pytest.mark.parametrize("seed", range(4))
def test_our_decoder_reads_their_encoding(seed: int) -> None:
    values = latencies(seed)
    assert Histogram.decode(theirs_of(values).encode().decode()) == Histogram.from_values(values)


@pytest.mark.parametrize("count", [1, 3, 17, 999, 5000])
def test_both_give_the_same_percentiles_minimum_maximum_and_mean(count: int) -> None:
    ours, theirs = Histogram.from_values(latencies(7, count)), theirs_of(latencies(7, count))
    assert ours.percentiles(PERCENTS) == [theirs.get_value_at_percentile(p) for p in PERCENTS]
    assert ours.max == theirs.get_max_value()
    assert ours.min == theirs.get_min_value()
    assert ours.mean == pytest.approx(theirs.get_mean_value(), rel=1e-12)


def test_an_empty_histogram_survives_both_ways() -> None:
    assert HdrHistogram.decode(Histogram().encode()).get_total_count() == 0
    empty = HdrHistogram(1, HOUR_NS, 3).encode().decode()
    assert Histogram.decode(empty) == Histogram()


def write(path: Path, entries: list[hlog.Entry]) -> None:
    path.write_text(hlog.header(1_700_000_000.25) + "".join(map(hlog.line, entries)))


@pytest.fixture
def entries() -> list[hlog.Entry]:
    histograms = [Histogram.from_values(latencies(seed, 300)) for seed in range(3)]
    return [
        hlog.Entry(f"consensus.search.{kind}", 1.5, 2.25, histogram)
        for kind, histogram in zip(("response", "service", "lateness"), histograms, strict=True)
    ]


def test_their_log_reader_finds_every_tag_and_time(
    tmp_path: Path, entries: list[hlog.Entry]
) -> None:
    path = tmp_path / "latency.hlog"
    write(path, entries)
    reader = HistogramLogReader(str(path), HdrHistogram(1, HOUR_NS, 3))
    for entry in entries:
        read = reader.get_next_interval_histogram()
        assert read.get_tag() == entry.tag
        assert read.get_start_time_stamp() == pytest.approx(1_700_000_001_750, abs=1)
        assert read.get_end_time_stamp() == pytest.approx(1_700_000_004_000, abs=1)
        assert read.get_value_at_percentile(99) == entry.histogram.percentile(99)
    assert reader.get_next_interval_histogram() is None
    reader.input_file.close()


def test_a_log_is_read_as_it_was_written(tmp_path: Path, entries: list[hlog.Entry]) -> None:
    path = tmp_path / "latency.hlog"
    write(path, entries)
    assert hlog.read(path) == hlog.Log(1_700_000_000.25, tuple(entries), torn=False)


def test_a_torn_last_line_is_dropped_and_said(tmp_path: Path, entries: list[hlog.Entry]) -> None:
    path = tmp_path / "latency.hlog"
    write(path, entries)
    path.write_bytes(path.read_bytes()[:-20])
    assert hlog.read(path) == hlog.Log(1_700_000_000.25, tuple(entries[:2]), torn=True)


def test_a_damaged_log_is_an_error_that_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "latency.hlog"
    path.write_text(hlog.header(0.0) + "Tag=a,1,2,3,HISTnonsense\n")
    with pytest.raises(
        ConfigurationError, match=r"latency\.hlog: line 5: this is not a compressed"
    ):
        hlog.read(path)


def test_a_tag_that_would_break_the_line_is_refused() -> None:
    with pytest.raises(ValueError, match="`a,b`"):
        hlog.line(hlog.Entry("a,b", 0.0, 1.0, Histogram()))
