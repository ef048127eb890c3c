// Dequantisation against values that the reference Python implementation of the format computed
// (tools/make_quant_golden.py): equal bit for bit, from the file's layout and by way of the packed one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "base/atomic_file.h"
#include "ops/matmul/dequantize.h"
#include "ops/matmul/matmul.h"

namespace crible {
namespace {

class Reader {
 public:
  explicit Reader(std::string content) : content_(std::move(content)) {}
  bool at_end() const { return at_ == content_.size(); }
  uint32_t u32() {
    uint32_t value;
    std::memcpy(&value, take(4), 4);
    return value;
  }
  const char* take(size_t bytes) {
    EXPECT_LE(at_ + bytes, content_.size());
    at_ += bytes;
    return content_.data() + at_ - bytes;
  }

 private:
  std::string content_;
  size_t at_ = 0;
};

TEST(Dequantise, EqualsTheReferenceImplementation) {
  auto content = read_file(CRIBLE_SOURCE_DIR "/tests/golden/quant_blocks.bin");
  ASSERT_TRUE(content) << content.error().message;
  Reader reader(std::move(*content));
  Stream stream = Stream::create_cpu(1, CpuIsa::kScalar).value();
  std::vector<std::string> seen;
  while (!reader.at_end() && !HasFailure()) {
    const size_t name_length = reader.u32();
    const std::string name(reader.take(name_length), name_length);
    const uint32_t num_bytes = reader.u32(), num_values = reader.u32();
    DType dtype = DType::kI32;
    for (DType candidate : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1, DType::kQ5_0,
                            DType::kQ5_1, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K}) {
      if (name == dtype_name(candidate)) dtype = candidate;
    }
    const int64_t columns = std::max<int64_t>(32, dtype_block_size(dtype)), rows = num_values / columns;
    ASSERT_EQ(dtype_row_bytes(dtype, columns) * rows, num_bytes) << name;
    const auto* blocks = reinterpret_cast<const std::byte*>(reader.take(num_bytes));
    const MatrixSource source = {dtype, rows, columns, blocks};
    const PackedMatrix matrix = PackedMatrix::pack({&source, 1}, stream).value();
    const char* expected = reader.take(num_values * sizeof(float));
    std::vector<float> all(num_values), row(columns);
    dequantize(dtype, blocks, num_values, all.data());
    EXPECT_EQ(0, std::memcmp(all.data(), expected, num_values * sizeof(float))) << name;
    for (int64_t r = 0; r < rows; ++r) {
      matrix.dequantize_row(r, row.data());
      EXPECT_EQ(0, std::memcmp(row.data(), expected + r * columns * 4, columns * 4)) << name << " row " << r;
    }
    seen.push_back(name);
  }
  EXPECT_EQ(seen, (std::vector<std::string>{"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k"}));
}

}  // namespace
}  // namespace crible
