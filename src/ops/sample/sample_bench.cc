// Sampling one row of the default model's vocabulary. Logits of a language model have a few large values
// above a wide bulk: here a normal bulk and fifty raised tokens.
#include "ops/sample/sample.h"

#include <benchmark/benchmark.h>

#include <algorithm>

#include "ops/machine_ceiling.h"
#include "ops/random_values.h"

namespace crible {
namespace {

void BM_Sample(benchmark::State& state, SampleRow row) {
  const int64_t vocabulary = 49152;
  RandomValues random(1);
  Stream stream = Stream::create_cpu(bench_threads()).value();
  if (!stream.reserve_scratch(sample_scratch_bytes(1, vocabulary, stream.threads()))) return;
  std::vector<float> source = random.normals(vocabulary, 2.0f), logits = source;
  for (int i = 0; i < 50; ++i) source[static_cast<size_t>(random.integer(0, vocabulary - 1))] = 8.0f + 3.0f * random.normal();
  TokenId token = 0;
  for (auto _ : state) {
    std::copy(source.begin(), source.end(), logits.begin());  // a draw may overwrite them
    sample(stream, {logits.data(), vocabulary, 1, vocabulary, &row, &token});
    ++row.position;
  }
  const double elements = static_cast<double>(state.iterations() * vocabulary);
  report_ceiling(state, stream, 4 * elements, elements);
}
BENCHMARK_CAPTURE(BM_Sample, greedy, {.temperature = 0.0f})->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Sample, plain, {})->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Sample, top_k, {.top_k = 40})->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Sample, top_p, {.top_p = 0.9f})->UseRealTime()->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace crible
