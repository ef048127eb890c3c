// 4-bit weights from the files' words to tiles and back, against what the integers, zero points and scales mean
// in float64.
#include "device/cuda/gpu_test.h"
#include "ops/gpu_values.h"
#include "ops/matmul/dequantize.h"
#include "ops/matmul/int4_gpu_case.h"

namespace crible::cuda {
namespace {

class Int4Cuda : public GpuTest {
 protected:
  std::vector<double> unpacked(const Int4Matrix& matrix) {
    const DeviceArray<__nv_bfloat16> out(static_cast<size_t>(matrix.rows * matrix.columns));
    // In two pieces, as a prefill does.
    const int64_t first = matrix.rows / 2 / 16 * 16;
    unpack_int4(stream(), matrix, 0, first, out.data());
    unpack_int4(stream(), matrix, first, matrix.rows - first, out.data() + first * matrix.columns);
    finish();
    return to_doubles(out.host());
  }
};

TEST_F(Int4Cuda, TilesHoldWhatTheWordsMean) {
  RandomValues random(1);
  for (const int64_t group : {32, 64, 96, 128, 384}) {
    for (const bool paired : {false, true}) {
      const Int4Case c(random, 96, 384, group, 0.1f);
      for (const Int4Source source : {Int4Source::kAwq, Int4Source::kGptq}) {
        for (const bool less_one : {false, true}) {
          const Int4OnDevice device(stream(), c, paired, source, less_one);
          const std::vector<double> values = unpacked(device.matrix());
          for (int64_t i = 0; i < c.rows * c.columns; ++i) {
            const double meant = c.weight(i / c.columns, i % c.columns);
            ASSERT_LE(std::abs(values[static_cast<size_t>(i)] - meant), std::abs(meant) * kBf16Epsilon)
                << "group " << group << ", paired " << paired << ", " << i;
          }
        }
      }
    }
  }
}

TEST_F(Int4Cuda, RoundsGgmlBlocksNowhere) {
  RandomValues random(3);
  constexpr int64_t kRows = 32;
  constexpr int64_t kColumns = 256;
  std::vector<uint8_t> blocks;
  for (int64_t i = 0; i < kRows * kColumns / 32; ++i) {
    const auto scale = __half_as_ushort(__float2half_rn(0.02f * static_cast<float>(random.uniform())));
    blocks.push_back(static_cast<uint8_t>(scale & 0xFF));
    blocks.push_back(static_cast<uint8_t>(scale >> 8));
    for (int b = 0; b < 16; ++b) blocks.push_back(static_cast<uint8_t>(random.integer(0, 255)));
  }
  const auto on_device = to_device(blocks);
  const DeviceArray<uint8_t> tiles(static_cast<size_t>(int4_bytes(kRows, kColumns, 32)));
  const Int4Matrix matrix = {tiles.data(), kRows, kColumns, 32, false};
  pack_int4(stream(),
            {.source = Int4Source::kQ4_0,
             .rows = kRows,
             .columns = kColumns,
             .group = 32,
             .qweight = on_device.data()},
            matrix, 0);
  const std::vector<double> values = unpacked(matrix);
  std::vector<float> expected(kRows * kColumns);
  for (int64_t r = 0; r < kRows; ++r) {
    dequantize(
        DType::kQ4_0,
        reinterpret_cast<const std::byte*>(blocks.data()) + r * dtype_row_bytes(DType::kQ4_0, kColumns),
        kColumns, expected.data() + r * kColumns);
  }
  for (size_t i = 0; i < expected.size(); ++i) {
    const auto meant = static_cast<double>(expected[i]);
    ASSERT_LE(std::abs(values[i] - meant), std::abs(meant) * kBf16Epsilon) << i;
  }
}

}  // namespace
}  // namespace crible::cuda
