#include "ops/embed/embed.h"

#include <gtest/gtest.h>

#include "ops/random_values.h"

namespace crible {
namespace {

TEST(Embed, GivesTheRowsOfTheTable) {
  RandomValues random(1);
  Stream stream = Stream::create_cpu(2, CpuIsa::kScalar).value();
  const int64_t vocabulary = 37, columns = 256, stride = 260;
  for (DType dtype : {DType::kF32, DType::kQ8_0, DType::kQ4_1, DType::kQ5_0, DType::kQ4_K, DType::kQ6_K}) {
    const std::vector<std::byte> data = random.matrix(dtype, vocabulary, columns);
    const MatrixSource source = {dtype, vocabulary, columns, data.data()};
    const PackedMatrix table = PackedMatrix::pack({&source, 1}, stream).value();
    std::vector<TokenId> ids;
    for (int i = 0; i < 200; ++i) ids.push_back(static_cast<TokenId>(random.integer(0, vocabulary - 1)));
    BatchView batch;
    batch.num_tokens = static_cast<int64_t>(ids.size());
    batch.token_ids = ids.data();
    std::vector<float> out(ids.size() * stride, -5.0f), row(columns);
    for (const float scale : {1.0f, 24.0f}) {
      embed(stream, batch, {&table, out.data(), stride, scale});
      for (size_t t = 0; t < ids.size(); ++t) {
        table.dequantize_row(ids[t], row.data());
        for (int64_t c = 0; c < stride; ++c) ASSERT_EQ(out[t * stride + c], c < columns ? row[c] * scale : -5.0f);
      }
    }
  }
}

}  // namespace
}  // namespace crible
