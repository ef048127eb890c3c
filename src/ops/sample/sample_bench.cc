// Sampling one row of the default model's vocabulary. Logits of a language model have a few large values
// above a wide bulk: here a normal bulk and fifty raised tokens.
#include "ops/sample/sample.h"

#include <benchmark/benchmark.h>

#include <algorithm>

#include "ops/machine_ceiling.h"
#include "ops/sample/repetition_matches.h"
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
  TokenLogprob logprobs[21];
  for (auto _ : state) {
    std::copy(source.begin(), source.end(), logits.begin());  // a draw may overwrite them
    sample(stream, {logits.data(), vocabulary, 1, vocabulary, &row, &token, logprobs, 21});
    ++row.position;
  }
  const double elements = static_cast<double>(state.iterations() * vocabulary);
  report_ceiling(state, stream, 4 * elements, elements);
}
BENCHMARK_CAPTURE(BM_Sample, greedy, {.temperature = 0.0f})->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Sample, plain, {})->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Sample, top_k, {.top_k = 40})->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Sample, top_p, {.top_p = 0.9f})->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Sample, min_p, {.min_p = 0.05f})->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Sample, typical_p, {.typical_p = 0.9f})->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Sample, min_p_typical_p, {.min_p = 0.01f, .typical_p = 0.9f})->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Sample, greedy_logprobs_0, {.temperature = 0.0f, .logprobs = 0})->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Sample, greedy_logprobs_20, {.temperature = 0.0f, .logprobs = 20})->UseRealTime()->Unit(benchmark::kMicrosecond);

// Penalties cost what a sequence's distinct tokens are: argument 0.
void BM_Penalties(benchmark::State& state) {
  RandomValues random(2);
  std::vector<TokenCount> seen;
  for (int64_t i = 0; i < state.range(0); ++i) seen.push_back({static_cast<TokenId>(i * 7 % 49152), static_cast<int32_t>(i % 3)});
  const LogitAdjustments adjustments = {.seen = seen, .repetition_penalty = 1.1f, .frequency_penalty = 0.2f, .presence_penalty = 0.1f};
  std::vector<float> logits = random.normals(49152, 2.0f);
  for (auto _ : state) {
    adjust_logits(logits.data(), 49152, adjustments);
    benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_Penalties)->Arg(100)->Arg(1000)->Arg(7000)->Unit(benchmark::kMicrosecond);

// One token of a sequence with DRY: independent of the length, of the order of the token's earlier occurrences.
void BM_Dry(benchmark::State& state) {
  RandomValues random(3);
  std::vector<TokenId> prompt(static_cast<size_t>(state.range(0)));
  for (TokenId& token : prompt) token = static_cast<TokenId>(random.integer(0, 2000));
  constexpr int64_t kRoom = 1 << 20;
  RepetitionMatches matches({.multiplier = 0.8f}, {}, prompt, kRoom);
  int64_t appended = 0;
  for (auto _ : state) {
    if (++appended > kRoom) {
      state.SkipWithError("more tokens than there is room for");
      break;
    }
    matches.append(static_cast<TokenId>(random.integer(0, 2000)));
    benchmark::DoNotOptimize(matches.penalties().data());
  }
}
BENCHMARK(BM_Dry)->Arg(1000)->Arg(8000)->Iterations(20000)->Unit(benchmark::kNanosecond);

}  // namespace
}  // namespace crible
