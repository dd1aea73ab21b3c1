"""LoadGen's null system through its Python binding: SCENARIO FOLDER SECONDS.

A process of its own, because LoadGen keeps its state for the life of one. Exit status 3 where the
package is missing.
"""

from __future__ import annotations

import sys


def main(scenario: str, folder: str, seconds: float) -> None:
    """Runs one test and leaves LoadGen's summary in `folder`."""
    try:
        import mlperf_loadgen as loadgen
    except ImportError:
        sys.exit(3)

    def issue(samples: list[object]) -> None:
        loadgen.QuerySamplesComplete(
            [loadgen.QuerySampleResponse(sample.id, 0, 0) for sample in samples]
        )

    settings = loadgen.TestSettings()
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = int(seconds * 1000)
    settings.min_query_count = 1
    if scenario == "offline":
        settings.scenario = loadgen.TestScenario.Offline
        settings.offline_expected_qps = 1e6
    else:
        settings.scenario = loadgen.TestScenario.SingleStream
        settings.single_stream_expected_latency_ns = 3000
    logging = loadgen.LogSettings()
    logging.log_output.outdir = folder
    logging.log_output.copy_summary_to_stdout = False
    logging.enable_trace = False
    system = loadgen.ConstructSUT(issue, lambda: None)
    library = loadgen.ConstructQSL(1024, 1024, lambda _: None, lambda _: None)
    loadgen.StartTestWithLogSettings(system, library, settings, logging)
    loadgen.DestroyQSL(library)
    loadgen.DestroySUT(system)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
