#include "ops/embed/embed.h"

#include <benchmark/benchmark.h>

#include "ops/machine_ceiling.h"
#include "ops/random_values.h"

namespace crible {
namespace {

void BM_Embed(benchmark::State& state) {
  const int64_t tokens = state.range(0), vocabulary = 49152, columns = 576;
  RandomValues random(1);
  Stream stream = Stream::create_cpu(bench_threads()).value();
  const std::vector<std::byte> data = random.matrix(DType::kQ8_0, vocabulary, columns);
  const MatrixSource source = {DType::kQ8_0, vocabulary, columns, data.data()};
  const PackedMatrix table = PackedMatrix::pack({&source, 1}, stream).value();
  std::vector<TokenId> ids;
  for (int64_t t = 0; t < tokens; ++t) ids.push_back(static_cast<TokenId>(random.integer(0, vocabulary - 1)));
  BatchView batch;
  batch.num_tokens = tokens;
  batch.token_ids = ids.data();
  std::vector<float> out(static_cast<size_t>(tokens * columns));
  for (auto _ : state) embed(stream, batch, {&table, out.data(), columns});
  const double elements = static_cast<double>(state.iterations() * tokens * columns);
  report_ceiling(state, stream, elements * (34.0 / 32 + 4), elements);
}
BENCHMARK(BM_Embed)->Arg(1)->Arg(512)->UseRealTime()->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace crible
