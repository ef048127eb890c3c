#include "ops/gelu_mul/gelu_mul.h"

#include <benchmark/benchmark.h>

#include "ops/machine_ceiling.h"
#include "ops/random_values.h"

namespace crible {
namespace {

// Gemma 3 270M's feed-forward width.
void BM_GeluMul(benchmark::State& state) {
  const int64_t rows = state.range(0), columns = 2048;
  RandomValues random(1);
  Stream stream = Stream::create_cpu(bench_threads()).value();
  const std::vector<float> gate_up = random.normals(rows * 2 * columns);
  std::vector<float> out(static_cast<size_t>(rows * columns));
  for (auto _ : state) gelu_mul(stream, {gate_up.data(), 2 * columns, out.data(), columns, rows, columns});
  const double elements = static_cast<double>(state.iterations() * rows * columns);
  // As silu_mul, and four operations of the cubic.
  report_ceiling(state, stream, 12 * elements, 34 * elements);
}
BENCHMARK(BM_GeluMul)->Arg(1)->Arg(512)->UseRealTime()->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace crible
