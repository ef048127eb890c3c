// The experts of one layer at the shapes of a Qwen3-MoE of 128 small experts, 8 a token; fewer experts here, so that the
// bench stays small. Bytes are those of the experts that the rows chose.
#include "ops/moe/moe.h"

#include <benchmark/benchmark.h>

#include <set>

#include "ops/machine_ceiling.h"
#include "ops/random_values.h"

namespace crible {
namespace {

constexpr int64_t kExperts = 64, kPerToken = 8, kColumns = 2048, kHidden = 768;

PackedMatrix random_matrix(RandomValues& random, Stream& stream, DType dtype, int64_t rows, int64_t columns) {
  const std::vector<std::byte> data = random.matrix(dtype, rows, columns);
  const MatrixSource source = {dtype, rows, columns, data.data()};
  return PackedMatrix::pack({&source, 1}, stream).value();
}

void BM_Experts(benchmark::State& state, DType gate_up_type, DType down_type) {
  const int64_t rows = state.range(0);
  RandomValues random(1);
  Stream stream = Stream::create_cpu(bench_threads()).value();
  if (!stream.reserve_scratch(experts_scratch_bytes(rows, kExperts, kPerToken, kColumns, kHidden))) return;
  const PackedMatrix gate_up = random_matrix(random, stream, gate_up_type, kExperts * 2 * kHidden, kColumns);
  const PackedMatrix down = random_matrix(random, stream, down_type, kExperts * kColumns, kHidden);
  const std::vector<float> logits = random.normals(rows * kExperts), x = random.normals(rows * kColumns);
  std::vector<int32_t> chosen(static_cast<size_t>(rows * kPerToken));
  std::vector<float> weights(chosen.size()), out(static_cast<size_t>(rows * kColumns));
  for (auto _ : state) {
    route_to_experts(stream, {.logits = logits.data(), .logits_stride = kExperts, .rows = rows, .experts = kExperts,
                              .experts_per_token = kPerToken, .normalise = true, .chosen = chosen.data(),
                              .weights = weights.data()});
    experts_feed_forward(stream, {.x = x.data(), .rows = rows, .x_stride = kColumns, .chosen = chosen.data(),
                                  .weights = weights.data(), .experts = kExperts, .experts_per_token = kPerToken,
                                  .gate_up = &gate_up, .down = &down, .out = out.data(), .out_stride = kColumns});
  }
  const double active = static_cast<double>(std::set<int32_t>(chosen.begin(), chosen.end()).size()) / kExperts;
  const double calls = static_cast<double>(state.iterations());
  report_ceiling(state, stream, calls * active * static_cast<double>(gate_up.bytes() + down.bytes()),
                 calls * 6.0 * static_cast<double>(rows * kPerToken * kColumns * kHidden));
}
BENCHMARK_CAPTURE(BM_Experts, q4_k_q6_k, DType::kQ4_K, DType::kQ6_K)->Arg(1)->Arg(16)->Arg(512)->UseRealTime()->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace crible
