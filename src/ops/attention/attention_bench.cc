// Attention with the default model's heads (9 query, 3 KV heads of 64): decode of one sequence at growing context and
// of many, whole prompts, and a prompt chunk behind others; half floats unless the name says otherwise.
#include "ops/attention/attention.h"

#include <benchmark/benchmark.h>

#include "ops/attention/paged_case.h"
#include "ops/machine_ceiling.h"

namespace crible {
namespace {

// Arguments: sequences, context, query tokens of each.
void BM_Attention(benchmark::State& state, DType dtype) {
  const int64_t sequences = state.range(0), context = state.range(1), queries = state.range(2);
  RandomValues random(1);
  PagedCase c(random, std::vector<SequenceShape>(static_cast<size_t>(sequences), {context, queries}), 9, 3, 64, 16,
              dtype);
  Stream stream = Stream::create_cpu(bench_threads()).value();
  if (!stream.reserve_scratch(attention_scratch_bytes(c.num_tokens, c.heads, c.head_size, stream.threads()))) return;
  std::vector<float> out(c.q.size());
  for (auto _ : state) attention(stream, c.batch(), c.args(out.data()));
  const double calls = static_cast<double>(state.iterations());
  const double pairs = static_cast<double>(sequences * queries) * (static_cast<double>(context) - static_cast<double>(queries - 1) / 2);
  report_ceiling(state, stream, calls * static_cast<double>(sequences * context / 16 * kv_cache_block_bytes(dtype, 16, c.kv_heads, c.head_size)),
                 calls * pairs * 4.0 * static_cast<double>(c.heads * c.head_size));
}
BENCHMARK_CAPTURE(BM_Attention, bf16, DType::kBF16)->Args({1, 2048, 1})->UseRealTime()->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Attention, i8, DType::kI8)
    ->Args({1, 2048, 1})
    ->Args({1, 8192, 1})
    ->Args({1, 2048, 512})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(BM_Attention, f16, DType::kF16)
    ->Args({1, 128, 1})
    ->Args({1, 512, 1})
    ->Args({1, 2048, 1})
    ->Args({1, 8192, 1})
    ->Args({16, 512, 1})
    ->Args({1, 512, 512})
    ->Args({1, 2048, 512})
    ->Args({1, 2048, 2048})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace crible
