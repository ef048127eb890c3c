#include "ops/silu_mul/silu_mul.h"

#include <benchmark/benchmark.h>

#include "ops/machine_ceiling.h"
#include "ops/random_values.h"

namespace crible {
namespace {

void BM_SiluMul(benchmark::State& state) {
  const int64_t rows = state.range(0), columns = 1536;
  RandomValues random(1);
  Stream stream = Stream::create_cpu(bench_threads()).value();
  const std::vector<float> gate_up = random.normals(rows * 2 * columns);
  std::vector<float> out(static_cast<size_t>(rows * columns));
  for (auto _ : state) silu_mul(stream, {gate_up.data(), 2 * columns, out.data(), columns, rows, columns});
  const double elements = static_cast<double>(state.iterations() * rows * columns);
  // The exponential's polynomial, its scaling, one division and one product: about 30 operations.
  report_ceiling(state, stream, 12 * elements, 30 * elements);
}
BENCHMARK(BM_SiluMul)->Arg(1)->Arg(512)->UseRealTime()->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace crible
