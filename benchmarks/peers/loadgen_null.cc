// MLPerf LoadGen driving a system that answers at once: what the peer's harness itself costs.
//
// Usage: loadgen_null server|offline|singlestream QUERIES_PER_S SECONDS OUTDIR; the figures are in
// OUTDIR/mlperf_log_summary.txt. The system is LoadGen's own null one (perftests_null_sut.cc): it
// completes a query inside IssueQuery, on the thread that issues it. Traces are off.

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "loadgen.h"
#include "query_sample_library.h"
#include "system_under_test.h"
#include "test_settings.h"

namespace {

class NullSystem : public mlperf::SystemUnderTest {
 public:
  const std::string& Name() override { return name_; }
  void IssueQuery(const std::vector<mlperf::QuerySample>& samples) override {
    responses_.clear();
    for (const auto& sample : samples) responses_.push_back({sample.id, 0, 0});
    mlperf::QuerySamplesComplete(responses_.data(), responses_.size());
  }
  void FlushQueries() override {}

 private:
  std::string name_ = "null";
  std::vector<mlperf::QuerySampleResponse> responses_;
};

class NullLibrary : public mlperf::QuerySampleLibrary {
 public:
  const std::string& Name() override { return name_; }
  size_t TotalSampleCount() override { return 1024; }
  size_t PerformanceSampleCount() override { return 1024; }
  void LoadSamplesToRam(const std::vector<mlperf::QuerySampleIndex>&) override {}
  void UnloadSamplesFromRam(const std::vector<mlperf::QuerySampleIndex>&) override {}

 private:
  std::string name_ = "null";
};

}  // namespace

int main(int count, char** arguments) {
  if (count != 5) return 2;
  const std::string scenario = arguments[1];
  const double queries_per_s = std::atof(arguments[2]);
  const double seconds = std::atof(arguments[3]);

  mlperf::TestSettings settings;
  settings.mode = mlperf::TestMode::PerformanceOnly;
  settings.scenario = scenario == "server"    ? mlperf::TestScenario::Server
                      : scenario == "offline" ? mlperf::TestScenario::Offline
                                              : mlperf::TestScenario::SingleStream;
  settings.server_target_qps = queries_per_s;
  settings.server_target_latency_ns = 1000000000;
  settings.offline_expected_qps = queries_per_s;
  settings.single_stream_expected_latency_ns = 1e9 / queries_per_s;
  settings.min_duration_ms = static_cast<uint64_t>(seconds * 1000);
  settings.max_duration_ms = settings.min_duration_ms;
  settings.min_query_count = 1;

  mlperf::LogSettings log;
  log.log_output.outdir = arguments[4];
  log.enable_trace = false;

  NullSystem system;
  NullLibrary library;
  mlperf::StartTest(&system, &library, settings, log);
  return 0;
}
