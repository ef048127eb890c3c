// Matmul with every weight type on the shapes of two small models, and packing. Counters: bytes of weights read and operations per second, and their share of
// what this machine gives: the bandwidth of a plain read, and the multiply-adds of the float32 unit (16-bit integer
// products can exceed it).
#include <benchmark/benchmark.h>

#include "base/units.h"
#include "ops/machine_ceiling.h"
#include "ops/matmul/matmul.h"
#include "ops/random_values.h"

namespace crible {
namespace {

void BM_Matmul(benchmark::State& state, DType dtype) {
  const int64_t n = state.range(0), k = state.range(1), rows = state.range(2);
  RandomValues random(1);
  Stream stream = Stream::create_cpu(bench_threads()).value();
  if (!stream.reserve_scratch(256 * kMiB)) return;
  // Enough copies that the weights come from memory, as they do in a model.
  const int64_t copies = std::max<int64_t>(1, 96 * kMiB / PackedMatrix::packed_bytes(dtype, n, k));
  const std::vector<std::byte> data = random.matrix(dtype, n, k);
  const MatrixSource source = {dtype, n, k, data.data()};
  std::vector<PackedMatrix> weights;
  for (int64_t i = 0; i < copies; ++i) weights.push_back(PackedMatrix::pack({&source, 1}, stream).value());
  const std::vector<float> x = random.normals(rows * k);
  std::vector<float> out(static_cast<size_t>(rows * n));
  size_t next = 0;
  for (auto _ : state) {
    matmul(stream, {.x = x.data(), .rows = rows, .x_stride = k, .weight = &weights[next], .out = out.data(),
                    .out_stride = n});
    next = (next + 1) % weights.size();
  }
  const double calls = static_cast<double>(state.iterations());
  report_ceiling(state, stream, calls * static_cast<double>(weights[0].bytes() + 4 * rows * (k + n)),
                 calls * 2.0 * static_cast<double>(n * k * rows));
}

// Source bytes read and packed bytes written, as loading a model does it.
void BM_Pack(benchmark::State& state, DType dtype) {
  const int64_t n = state.range(0), k = state.range(1);
  RandomValues random(1);
  Stream stream = Stream::create_cpu(bench_threads()).value();
  const std::vector<std::byte> data = random.matrix(dtype, n, k);
  const MatrixSource source = {dtype, n, k, data.data()};
  for (auto _ : state) benchmark::DoNotOptimize(PackedMatrix::pack({&source, 1}, stream));
  const double bytes = static_cast<double>(std::ssize(data) + PackedMatrix::packed_bytes(dtype, n, k));
  report_ceiling(state, stream, static_cast<double>(state.iterations()) * bytes, 0);
}

// Qwen3-0.6B's fused gate and up (half of it), down, and fused query, key and value; one row is decoding, 512 prefill.
void model_shapes(benchmark::internal::Benchmark* b) {
  for (int64_t rows : {1, 4, 16, 512}) b->Args({3072, 1024, rows})->Args({1024, 3072, rows})->Args({4096, 1024, rows});
  b->UseRealTime()->Unit(benchmark::kMicrosecond);
}
void head_shapes(benchmark::internal::Benchmark* b) {
  for (int64_t rows : {1, 16}) b->Args({151936, 1024, rows});
  b->UseRealTime()->Unit(benchmark::kMicrosecond);
}
// The default model's layers.
void small_shapes(benchmark::internal::Benchmark* b) {
  for (int64_t rows : {1, 4, 16, 512}) {
    b->Args({960, 576, rows})->Args({576, 576, rows})->Args({3072, 576, rows})->Args({576, 1536, rows});
  }
  b->UseRealTime()->Unit(benchmark::kMicrosecond);
}
void pack_shapes(benchmark::internal::Benchmark* b) {
  b->Args({3072, 1024})->Args({1024, 3072})->UseRealTime()->Unit(benchmark::kMicrosecond);
}

BENCHMARK_CAPTURE(BM_Matmul, small_q4_1, DType::kQ4_1)->Apply(small_shapes);
BENCHMARK_CAPTURE(BM_Matmul, head_q8_0, DType::kQ8_0)->Apply(head_shapes);
BENCHMARK_CAPTURE(BM_Matmul, head_q6_k, DType::kQ6_K)->Apply(head_shapes);

#define CRIBLE_BENCH_TYPE(name, dtype)                                \
  BENCHMARK_CAPTURE(BM_Matmul, name, dtype)->Apply(model_shapes); \
  BENCHMARK_CAPTURE(BM_Pack, name, dtype)->Apply(pack_shapes)

CRIBLE_BENCH_TYPE(f32, DType::kF32);
CRIBLE_BENCH_TYPE(f16, DType::kF16);
CRIBLE_BENCH_TYPE(bf16, DType::kBF16);
CRIBLE_BENCH_TYPE(q8_0, DType::kQ8_0);
CRIBLE_BENCH_TYPE(q4_0, DType::kQ4_0);
CRIBLE_BENCH_TYPE(q4_1, DType::kQ4_1);
CRIBLE_BENCH_TYPE(q5_0, DType::kQ5_0);
CRIBLE_BENCH_TYPE(q5_1, DType::kQ5_1);
CRIBLE_BENCH_TYPE(q4_k, DType::kQ4_K);
CRIBLE_BENCH_TYPE(q5_k, DType::kQ5_K);
CRIBLE_BENCH_TYPE(q6_k, DType::kQ6_K);

}  // namespace
}  // namespace crible
