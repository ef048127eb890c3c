// 4-bit weights from the files' words to tiles and back, and the product for up to 64 rows, against what the
// integers, zero points and scales mean in float64.
#include "device/cuda/gpu_test.h"
#include "ops/gpu_values.h"
#include "ops/matmul/dequantize.h"
#include "ops/matmul/int4_gpu_case.h"
#include "ops/matmul/int4_rows_cuda.h"

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

struct Size {
  int64_t rows, out, in, group;
};

class Int4RowsCuda : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (!IsSkipped()) prepare_int4_rows();
  }
  static std::vector<double> product(const Bf16s& x, const Int4Case& c, int64_t rows) {
    std::vector<double> out;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t n = 0; n < c.rows; ++n) {
        double sum = 0;
        for (int64_t k = 0; k < c.columns; ++k)
          sum += exact(x[static_cast<size_t>(r * c.columns + k)]) * c.weight(n, k);
        out.push_back(sum);
      }
    }
    return out;
  }
  static std::vector<double> gated(const std::vector<double>& both, int64_t rows) {
    const auto columns = static_cast<int64_t>(both.size()) / rows / 2;
    std::vector<double> out;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; ++c) {
        const double gate = both[static_cast<size_t>(r * 2 * columns + c)];
        out.push_back(gate / (1 + std::exp(-gate)) *
                      both[static_cast<size_t>(r * 2 * columns + columns + c)]);
      }
    }
    return out;
  }
};

TEST_F(Int4RowsCuda, AgreesWithFloat64) {
  RandomValues random(4);
  for (const Size& s :
       {Size{1, 64, 128, 128}, Size{3, 144, 640, 128}, Size{16, 1040, 384, 32}, Size{17, 256, 2560, 64},
        Size{32, 96, 5120, 128}, Size{33, 272, 1152, 128}, Size{64, 2560, 256, 64}, Size{50, 128, 640, 32}}) {
    const Int4Case c(random, s.out, s.in, s.group, 1.0f / std::sqrt(static_cast<float>(s.in)));
    const Bf16s x = random_bf16(random, s.rows * s.in, 2.0f);
    const Bf16s residual = random_bf16(random, s.rows * s.out, 2.0f);
    const auto x_device = to_device(x);
    const std::vector<double> reference = product(x, c, s.rows);
    for (const auto epilogue :
         {Int4RowsEpilogue::kStore, Int4RowsEpilogue::kAddResidual, Int4RowsEpilogue::kSiluMul}) {
      const bool paired = epilogue == Int4RowsEpilogue::kSiluMul;
      const Int4OnDevice w(stream(), c, paired);
      const int64_t columns = paired ? s.out / 2 : s.out;
      const DeviceArray<__nv_bfloat16> poisoned(static_cast<size_t>(s.rows * columns));
      const auto added = to_device(residual);
      const auto& out = epilogue == Int4RowsEpilogue::kAddResidual ? added : poisoned;
      int4_rows(stream(), epilogue,
                {.x = x_device.data(),
                 .rows = s.rows,
                 .weight = w.matrix(),
                 .out = out.data(),
                 .out_stride = columns});
      finish();
      std::vector<double> expected = paired ? gated(reference, s.rows) : reference;
      if (epilogue == Int4RowsEpilogue::kAddResidual) {
        for (size_t i = 0; i < expected.size(); ++i) expected[i] += exact(residual[i]);
      }
      // Products are exact, sums in float32: one rounding to BF16.
      EXPECT_LE(relative_distance(to_doubles(out.host()), expected), kBf16Epsilon / 2)
          << "epilogue " << static_cast<int>(epilogue) << ", " << s.rows << " rows of " << s.out << " x "
          << s.in << ", group " << s.group;
    }
    // A paired matrix without the gate comes out as the two matrices it is.
    const Int4OnDevice w(stream(), c, true);
    const DeviceArray<__nv_bfloat16> out(static_cast<size_t>(s.rows * s.out));
    int4_rows(
        stream(), Int4RowsEpilogue::kStore,
        {.x = x_device.data(), .rows = s.rows, .weight = w.matrix(), .out = out.data(), .out_stride = s.out});
    finish();
    EXPECT_LE(relative_distance(to_doubles(out.host()), reference), kBf16Epsilon / 2);
  }
}

TEST_F(Int4RowsCuda, ARowHasTheSameBitsInAnyCompanyWhereAskedFor) {
  RandomValues random(5);
  const Int4Case c(random, 320, 1280, 128, 0.03f);
  const Int4OnDevice w(stream(), c, false);
  const auto x = to_device(random_bf16(random, 64 * c.columns));
  const auto run = [&](int64_t first, int64_t rows) {
    const DeviceArray<__nv_bfloat16> out(static_cast<size_t>(rows * c.rows));
    int4_rows(stream(), Int4RowsEpilogue::kStore,
              {.x = x.data() + first * c.columns,
               .rows = rows,
               .weight = w.matrix(),
               .out = out.data(),
               .out_stride = c.rows,
               .same_bits = true});
    finish();
    return to_doubles(out.host());
  };
  const std::vector<double> all = run(0, 64);
  for (const int64_t rows : {1, 7, 20, 40}) {
    const std::vector<double> some = run(3, rows);
    EXPECT_EQ(some, std::vector<double>(all.begin() + 3 * c.rows, all.begin() + (3 + rows) * c.rows));
  }
}

}  // namespace
}  // namespace crible::cuda
