"""`latency.hlog` against the PyPI package `hdrhistogram`, in both directions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader, HistogramLogWriter

from same_counts import HOUR_NS, assert_same_counts
from swarmbench import hlog
from swarmbench._native import Histogram
from swarmbench.errors import ConfigurationError

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


@pytest.mark.parametrize("digits", range(1, 6))
@pytest.mark.parametrize(("lowest", "highest"), [(1, HOUR_NS), (1, 10**10), (1000, HOUR_NS)])
def test_their_histograms_of_any_precision_and_range_keep_every_count(
    lowest: int, highest: int, digits: int
) -> None:
    theirs = HdrHistogram(lowest, highest, digits)
    for value in latencies(3).tolist():
        theirs.record_value(min(value, highest))
    ours = Histogram.decode(theirs.encode().decode())
    if digits <= 3:
        assert assert_same_counts(ours, theirs) > 50
    # Finer buckets are added up to ours.
    assert ours.count == theirs.get_total_count() == 5000
    bound = max(10.0**-digits, 1e-3)
    for percent in (50.0, 99.0, 99.9):
        exact = theirs.get_value_at_percentile(percent)
        assert ours.percentile(percent) == pytest.approx(exact, rel=bound, abs=lowest)


def test_a_count_that_moved_to_the_next_bucket_is_noticed() -> None:
    theirs = theirs_of(latencies(0))
    theirs.record_value(70_000)
    assert_same_counts(Histogram.from_values(np.append(latencies(0), 70_000)), theirs)
    with pytest.raises(AssertionError, match="ns"):
        assert_same_counts(Histogram.from_values(np.append(latencies(0), 70_100)), theirs)


@pytest.mark.parametrize("digits", [2, 3])
@pytest.mark.parametrize("base_s", [0.0, 1_700_000_000.0])
def test_a_log_that_their_writer_wrote_is_read_with_its_times_and_counts(
    tmp_path: Path, digits: int, base_s: float
) -> None:
    path = tmp_path / "theirs.hlog"
    written = []
    with path.open("w", encoding="utf-8") as file:
        writer = HistogramLogWriter(file)
        writer.output_log_format_version()
        writer.output_comment("[made by another tool]")
        writer.output_base_time(base_s * 1000)
        writer.output_legend()
        for index in range(3):
            theirs = HdrHistogram(1, HOUR_NS, digits)
            for value in latencies(index, 400).tolist():
                theirs.record_value(value)
            writer.output_interval_histogram(theirs, 10.5 + index, 11.25 + index)
            written.append(theirs)

    log = hlog.read(path)
    assert not log.torn
    for index, (entry, theirs) in enumerate(zip(log.entries, written, strict=True)):
        assert (entry.tag, entry.start_s) == ("", base_s + 10.5 + index)
        assert entry.duration_s == pytest.approx(0.75)
        assert assert_same_counts(entry.histogram, theirs) > 50


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
