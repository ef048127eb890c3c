#include "ops/kv_write/kv_write.h"

#include <benchmark/benchmark.h>

#include "ops/attention/paged_case.h"
#include "ops/machine_ceiling.h"

namespace crible {
namespace {

void BM_KvWrite(benchmark::State& state) {
  const int64_t tokens = state.range(0);
  RandomValues random(1);
  PagedCase c(random, {{tokens, tokens}}, 9, 3, 64, 16, DType::kF16);
  Stream stream = Stream::create_cpu(bench_threads()).value();
  const int64_t row = c.kv_heads * c.head_size;
  for (auto _ : state) {
    kv_write(stream, c.batch(), {c.keys[0].data(), c.values[0].data(), row, row, c.cache()});
  }
  const double elements = static_cast<double>(state.iterations() * tokens * 2 * row);
  report_ceiling(state, stream, 6 * elements, elements);
}
BENCHMARK(BM_KvWrite)->Arg(1)->Arg(512)->UseRealTime()->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace crible
