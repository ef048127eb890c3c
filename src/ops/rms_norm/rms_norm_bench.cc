#include "ops/rms_norm/rms_norm.h"

#include <benchmark/benchmark.h>

#include "ops/machine_ceiling.h"
#include "ops/random_values.h"

namespace crible {
namespace {

void BM_RmsNorm(benchmark::State& state) {
  const int64_t rows = state.range(0), columns = 576;
  RandomValues random(1);
  Stream stream = Stream::create_cpu(bench_threads()).value();
  const std::vector<float> x = random.normals(rows * columns), weight = random.normals(columns);
  std::vector<float> out(x.size());
  for (auto _ : state) {
    rms_norm(stream, {x.data(), columns, out.data(), columns, weight.data(), rows, columns, 1e-5f});
  }
  const double elements = static_cast<double>(state.iterations() * rows * columns);
  report_ceiling(state, stream, 8 * elements, 4 * elements);
}
BENCHMARK(BM_RmsNorm)->Arg(1)->Arg(512)->UseRealTime()->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace crible
