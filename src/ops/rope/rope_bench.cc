#include "ops/rope/rope.h"

#include <benchmark/benchmark.h>

#include "ops/machine_ceiling.h"
#include "ops/random_values.h"

namespace crible {
namespace {

void BM_Rope(benchmark::State& state) {
  const int64_t tokens = state.range(0), heads = 9, kv_heads = 3, head_size = 64;
  const int64_t stride = (heads + 2 * kv_heads) * head_size;
  RandomValues random(1);
  Stream stream = Stream::create_cpu(bench_threads()).value();
  const RopeTable table = make_rope_table(std::vector<double>(head_size / 2, 0.01), tokens, 1.0);
  std::vector<float> qkv = random.normals(tokens * stride);
  std::vector<int32_t> positions;
  for (int64_t t = 0; t < tokens; ++t) positions.push_back(static_cast<int32_t>(t));
  BatchView batch;
  batch.num_tokens = tokens;
  batch.positions = positions.data();
  for (auto _ : state) {
    rope(stream, batch, {qkv.data(), stride, heads, qkv.data() + heads * head_size, stride, kv_heads, head_size,
                         RopePairing::kInterleaved, &table});
  }
  const double elements = static_cast<double>(state.iterations() * tokens * (heads + kv_heads) * head_size);
  report_ceiling(state, stream, 8 * elements, 3 * elements);
}
BENCHMARK(BM_Rope)->Arg(1)->Arg(512)->UseRealTime()->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace crible
