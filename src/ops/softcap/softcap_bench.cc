#include "ops/softcap/softcap.h"

#include <benchmark/benchmark.h>

#include "ops/machine_ceiling.h"
#include "ops/random_values.h"

namespace crible {
namespace {

// The logits of Gemma 2's vocabulary.
void BM_Softcap(benchmark::State& state) {
  const int64_t rows = state.range(0), columns = 256000;
  RandomValues random(1);
  Stream stream = Stream::create_cpu(bench_threads()).value();
  std::vector<float> x = random.normals(rows * columns);
  for (auto _ : state) softcap(stream, {x.data(), rows, columns, 30.0f});
  const double elements = static_cast<double>(state.iterations() * rows * columns);
  // The tangent's two polynomials and divisions: about 50 operations.
  report_ceiling(state, stream, 8 * elements, 50 * elements);
}
BENCHMARK(BM_Softcap)->Arg(1)->Arg(16)->UseRealTime()->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace crible
