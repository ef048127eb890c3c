// Products with 4-bit weights against float64 on what the integers, zero points and scales mean: any number
// of rows, every size of group, tiles that many blocks share, and the same bits in every run.
#include "ops/matmul/int4_matmul_cuda.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "device/cuda/gpu_test.h"
#include "ops/gpu_values.h"
#include "ops/matmul/int4_arrange_cuda.h"
#include "ops/matmul/int4_gpu_case.h"

namespace crible::cuda {
namespace {

struct Size {
  int64_t rows, out, in, group;
};

// What 4-bit weights mean, once.
std::vector<double> meant(const Int4Case& c) {
  std::vector<double> w;
  w.reserve(static_cast<size_t>(c.rows * c.columns));
  for (int64_t n = 0; n < c.rows; ++n) {
    for (int64_t k = 0; k < c.columns; ++k) w.push_back(c.weight(n, k));
  }
  return w;
}

std::vector<double> product(const Bf16s& x, const Int4Case& c, int64_t rows) {
  const std::vector<double> w = meant(c);
  const std::vector<double> wide = to_doubles(x);
  std::vector<double> out;
  for (int64_t r = 0; r < rows; ++r) {
    const double* row = wide.data() + r * c.columns;
    for (int64_t n = 0; n < c.rows; ++n) {
      const double* weights = w.data() + n * c.columns;
      double sums[4] = {};
      for (int64_t k = 0; k < c.columns; ++k) sums[k % 4] += row[k] * weights[k];
      out.push_back(sums[0] + sums[1] + sums[2] + sums[3]);
    }
  }
  return out;
}

std::vector<double> gated(const std::vector<double>& both, int64_t rows) {
  const auto columns = static_cast<int64_t>(both.size()) / rows / 2;
  std::vector<double> out;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      const double gate = both[static_cast<size_t>(r * 2 * columns + c)];
      out.push_back(gate / (1 + std::exp(-gate)) * both[static_cast<size_t>(r * 2 * columns + columns + c)]);
    }
  }
  return out;
}

TEST(Int4Tiles, EveryWindowHasItsPlace) {
  for (const int64_t tiles : {1, 15, 16, 17, 40}) {
    for (const int64_t windows : {1, 7}) {
      std::vector<int> seen(static_cast<size_t>(tiles * windows), 0);
      for (int64_t tile = 0; tile < tiles; ++tile) {
        for (int64_t window = 0; window < windows; ++window)
          ++seen.at(static_cast<size_t>(int4_window_index(tile, window, tiles, windows)));
      }
      EXPECT_TRUE(std::all_of(seen.begin(), seen.end(), [](int n) { return n == 1; })) << tiles << " tiles";
    }
  }
  // Sixteen tiles of a window are one run of bytes, and so is the group.
  EXPECT_EQ(int4_window_index(17, 3, 40, 7), 16 * 7 + 3 * 16 + 1);
  EXPECT_EQ(int4_window_index(33, 3, 40, 7), 32 * 7 + 3 * 8 + 1) << "the last group is what is left";
}

TEST(Int4Arranged, EveryElementHasItsPlace) {
  constexpr int64_t kColumns = 256;
  for (const int64_t block : {8, 16, 128}) {
    const int64_t rows = 2 * block;
    std::vector<int> seen(static_cast<size_t>(arranged_bytes(rows, kColumns, block) / 2), 0);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t k = 0; k < kColumns; ++k)
        ++seen.at(static_cast<size_t>(arranged_place(r, k, kColumns, block)));
    }
    EXPECT_TRUE(std::all_of(seen.begin(), seen.end(), [](int n) { return n == 1; }))
        << block << " rows a block";
  }
}

TEST(Int4Arranged, BlocksAreAsLargeAsTheRowsNeed) {
  EXPECT_EQ(int4_block_rows(1), 8);
  EXPECT_EQ(int4_block_rows(8), 8);
  EXPECT_EQ(int4_block_rows(9), 16);
  EXPECT_EQ(int4_block_rows(33), 64);
  EXPECT_EQ(int4_block_rows(65), 128);
  EXPECT_EQ(int4_block_rows(600), 128);
}

class Int4MatmulCuda : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (IsSkipped()) return;
    prepare_int4_matmul();
    counters_.emplace(std::vector<int>(kInt4Counters, 0));
    sums_.emplace(static_cast<size_t>(kInt4SumBytes));
  }
  // x [rows, columns] on the device as the product takes it.
  DeviceArray<uint8_t> arranged(const DeviceArray<__nv_bfloat16>& x, int64_t rows, int64_t columns,
                                int64_t block) {
    DeviceArray<uint8_t> out(static_cast<size_t>(arranged_bytes(rows, columns, block)));
    arrange(stream(), {.x = x.data(), .rows = rows, .columns = columns, .block = block, .out = out.data()});
    return out;
  }
  void multiply(Int4Epilogue epilogue, const DeviceArray<uint8_t>& x, int64_t rows, int64_t block,
                const Int4Matrix& weight, const DeviceArray<__nv_bfloat16>& out, int64_t stride) {
    int4_matmul(stream(), epilogue,
                {.x = x.data(),
                 .rows = rows,
                 .block = block,
                 .weight = weight,
                 .out = out.data(),
                 .out_stride = stride,
                 .meeting = {.counters = counters_->data(), .sums = sums_->data()}});
  }
  void expect_counters_at_rest() {
    const std::vector<int> counters = counters_->host();
    EXPECT_TRUE(std::all_of(counters.begin(), counters.end(), [](int c) { return c == 0; }));
  }
  // Every epilogue, and a paired matrix without its gate.
  void check(RandomValues& random, const Size& s) {
    SCOPED_TRACE(::testing::Message()
                 << s.rows << " rows of " << s.out << " x " << s.in << ", group " << s.group);
    const Int4Case c(random, s.out, s.in, s.group, 1.0f / std::sqrt(static_cast<float>(s.in)));
    const Bf16s x = random_bf16(random, s.rows * s.in, 2.0f);
    const Bf16s residual = random_bf16(random, s.rows * s.out, 2.0f);
    const std::vector<double> reference = product(x, c, s.rows);
    std::vector<double> added = reference;
    for (size_t i = 0; i < added.size(); ++i) added[i] += exact(residual[i]);
    const int64_t block = int4_block_rows(s.rows);
    const auto x_device = to_device(x);
    const auto x_arranged = arranged(x_device, s.rows, s.in, block);
    const Int4OnDevice plain(stream(), c, false);
    const Int4OnDevice paired(stream(), c, true);
    // The result is rounded to BF16 once: half an epsilon. In larger blocks each weight is too, which moves a
    // sum of random terms by as much at most, the gate's product by twice as much.
    const double store = kBf16Epsilon / 2 * (block <= 64 ? 1 : 2);
    const double gate = kBf16Epsilon / 2 * (block <= 64 ? 1 : 3);
    const auto expect = [&](Int4Epilogue epilogue, const Int4OnDevice& w, const std::vector<double>& expected,
                            double tolerance) {
      const auto stride = static_cast<int64_t>(expected.size()) / s.rows;
      const bool adds = epilogue == Int4Epilogue::kAddResidual;
      std::vector<double> first;
      for (int run = 0; run < 2; ++run) {
        const DeviceArray<__nv_bfloat16> poisoned(expected.size());
        const auto residual_device = to_device(residual);
        const auto& out = adds ? residual_device : poisoned;
        multiply(epilogue, x_arranged, s.rows, block, w.matrix(), out, stride);
        finish();
        const std::vector<double> values = to_doubles(out.host());
        EXPECT_LE(relative_distance(values, expected), tolerance)
            << "epilogue " << static_cast<int>(epilogue);
        if (run == 0) first = values;
        EXPECT_EQ(values, first);
      }
      expect_counters_at_rest();
    };
    expect(Int4Epilogue::kStore, plain, reference, store);
    expect(Int4Epilogue::kStore, paired, reference, store);
    expect(Int4Epilogue::kAddResidual, plain, added, store);
    expect(Int4Epilogue::kSiluMul, paired, gated(reference, s.rows), gate);
  }

  std::optional<DeviceArray<int>> counters_;
  std::optional<DeviceArray<uint8_t>> sums_;
};

TEST_F(Int4MatmulCuda, FewRowsAgreeWithFloat64) {
  RandomValues random(4);
  for (const Size& s :
       {Size{1, 64, 128, 128}, Size{3, 144, 640, 128}, Size{8, 272, 2560, 64}, Size{9, 16, 6400, 32},
        Size{16, 1040, 384, 32}, Size{17, 256, 2560, 64}, Size{32, 96, 5120, 128}, Size{33, 272, 1152, 128},
        Size{50, 128, 640, 32}, Size{64, 2560, 256, 64}, Size{63, 528, 896, 32}})
    check(random, s);
}

TEST_F(Int4MatmulCuda, ManyRowsAgreeWithFloat64) {
  RandomValues random(5);
  for (const Size& s : {Size{65, 512, 1280, 128}, Size{128, 272, 640, 64}, Size{200, 96, 1152, 32},
                        Size{257, 1040, 256, 128}, Size{600, 528, 384, 128}})
    check(random, s);
}

// As many windows as keep every multiprocessor busy, so that tiles are shared by many and by few.
TEST_F(Int4MatmulCuda, LargeMatricesAgreeWithFloat64) {
  RandomValues random(6);
  for (const Size& s : {Size{5, 5120, 1024, 128}, Size{20, 256, 12800, 128}, Size{70, 4096, 1024, 128}})
    check(random, s);
}

// Products that follow each other without a pause, as in a step: each starts while the one before ends.
TEST_F(Int4MatmulCuda, ProductsInARowDoNotDisturbEachOther) {
  RandomValues random(7);
  constexpr int64_t kRows = 24;
  constexpr int64_t kWide = 2560;
  constexpr int64_t kNarrow = 1024;
  const Int4Case down(random, kNarrow, kWide, 128, 0.02f);
  const Int4Case up(random, kWide, kNarrow, 128, 0.03f);
  const Int4OnDevice down_device(stream(), down, false);
  const Int4OnDevice up_device(stream(), up, false);
  const auto x = to_device(random_bf16(random, kRows * kWide));
  const int64_t block = int4_block_rows(kRows);
  const DeviceArray<__nv_bfloat16> wide(kRows * kWide);
  const DeviceArray<__nv_bfloat16> narrow(kRows * kNarrow);
  const DeviceArray<uint8_t> operand(static_cast<size_t>(arranged_bytes(kRows, kWide, block)));
  const auto arrange_into = [&](const DeviceArray<__nv_bfloat16>& from, int64_t columns) {
    arrange(stream(),
            {.x = from.data(), .rows = kRows, .columns = columns, .block = block, .out = operand.data()});
  };
  const auto chain = [&](bool pauses) {
    std::vector<double> all;
    for (int step = 0; step < 20; ++step) {
      arrange_into(step == 0 ? x : wide, kWide);
      if (pauses) finish();
      multiply(Int4Epilogue::kStore, operand, kRows, block, down_device.matrix(), narrow, kNarrow);
      if (pauses) finish();
      arrange_into(narrow, kNarrow);
      if (pauses) finish();
      multiply(Int4Epilogue::kStore, operand, kRows, block, up_device.matrix(), wide, kWide);
      if (pauses) finish();
    }
    finish();
    return to_doubles(wide.host());
  };
  const std::vector<double> apart = chain(true);
  EXPECT_GT(relative_distance(apart, std::vector<double>(apart.size(), 1.0)), 0);  // no NaN
  for (int run = 0; run < 5; ++run) EXPECT_EQ(chain(false), apart);
}

TEST_F(Int4MatmulCuda, ARowHasTheSameBitsInAnyCompanyOfItsBlock) {
  RandomValues random(8);
  const Int4Case c(random, 320, 1280, 128, 0.03f);
  const Int4OnDevice w(stream(), c, false);
  const Bf16s x = random_bf16(random, 64 * c.columns);
  const auto run = [&](int64_t first, int64_t rows) {
    const auto part = to_device(Bf16s(x.begin() + first * c.columns, x.begin() + (first + rows) * c.columns));
    const DeviceArray<__nv_bfloat16> out(static_cast<size_t>(rows * c.rows));
    multiply(Int4Epilogue::kStore, arranged(part, rows, c.columns, 64), rows, 64, w.matrix(), out, c.rows);
    finish();
    return to_doubles(out.host());
  };
  const std::vector<double> all = run(0, 64);
  for (const int64_t rows : {1, 7, 20, 40}) {
    const std::vector<double> some = run(3, rows);
    EXPECT_EQ(some, std::vector<double>(all.begin() + 3 * c.rows, all.begin() + (3 + rows) * c.rows));
  }
}

// The gate's product as the next product's x: the same values at their places.
TEST_F(Int4MatmulCuda, AGatedProductMayArrangeItself) {
  RandomValues random(10);
  for (const int64_t rows : {3, 40, 150}) {
    const Int4Case c(random, 512, 640, 128, 0.03f);
    const Int4OnDevice w(stream(), c, true);
    const int64_t block = int4_block_rows(rows);
    const int64_t columns = c.rows / 2;
    const auto x = arranged(to_device(random_bf16(random, rows * c.columns)), rows, c.columns, block);
    const DeviceArray<__nv_bfloat16> plain(static_cast<size_t>(rows * columns));
    multiply(Int4Epilogue::kSiluMul, x, rows, block, w.matrix(), plain, columns);
    const DeviceArray<__nv_bfloat16> places(static_cast<size_t>(arranged_bytes(rows, columns, block) / 2));
    int4_matmul(stream(), Int4Epilogue::kSiluMul,
                {.x = x.data(),
                 .rows = rows,
                 .block = block,
                 .weight = w.matrix(),
                 .out = places.data(),
                 .out_stride = columns,
                 .arranges = true,
                 .meeting = {.counters = counters_->data(), .sums = sums_->data()}});
    finish();
    const std::vector<double> expected = to_doubles(plain.host());
    const std::vector<double> found = to_doubles(places.host());
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t k = 0; k < columns; ++k) {
        ASSERT_EQ(found[static_cast<size_t>(arranged_place(r, k, columns, block))],
                  expected[static_cast<size_t>(r * columns + k)]);
      }
    }
  }
}

// x as wgmma and the tiles have it: the definition in int4_arrange_cuda.h, element by element; and its norm.
TEST_F(Int4MatmulCuda, ArrangesRowsAsTheTilesHaveTheirColumns) {
  RandomValues random(9);
  constexpr int64_t kRows = 21;
  constexpr int64_t kBlock = 8;
  for (const int64_t columns : {384, 9216}) {
    const Bf16s x = random_bf16(random, kRows * columns, 2.0f);
    const Bf16s weight = random_bf16(random, columns);
    const auto x_device = to_device(x);
    const auto weight_device = to_device(weight);
    for (const bool norm : {false, true}) {
      const DeviceArray<__nv_bfloat16> out(static_cast<size_t>(arranged_bytes(kRows, columns, kBlock) / 2));
      arrange(stream(), {.x = x_device.data(),
                         .rows = kRows,
                         .columns = columns,
                         .block = kBlock,
                         .out = out.data(),
                         .norm_weight = norm ? weight_device.data() : nullptr,
                         .epsilon = 1e-6f});
      finish();
      const Bf16s values = out.host();
      for (int64_t r = 0; r < kRows; ++r) {
        double squares = 0;
        for (int64_t k = 0; k < columns; ++k)
          squares += std::pow(exact(x[static_cast<size_t>(r * columns + k)]), 2);
        const double scale = norm ? 1 / std::sqrt(squares / static_cast<double>(columns) + 1e-6) : 1;
        for (int64_t k = 0; k < columns; ++k) {
          const int64_t pair = k % 32 / 2;  // of its run: 4·t + 2·h + s
          const int64_t t = pair / 4;
          const int64_t chunk = k % 64 / 32 * 4 + pair % 4;
          const int64_t place = ((r / kBlock * (columns / 64) + k / 64) * kBlock + r % kBlock) * 64 +
                                (chunk ^ r % 8) * 8 + t * 2 + k % 2;
          ASSERT_EQ(place, arranged_place(r, k, columns, kBlock));
          const double expected = exact(x[static_cast<size_t>(r * columns + k)]) * scale *
                                  (norm ? exact(weight[static_cast<size_t>(k)]) : 1);
          ASSERT_NEAR(exact(values[static_cast<size_t>(place)]), expected,
                      norm ? std::abs(expected) * kBf16Epsilon * 1.01 : 0)
              << "row " << r << ", column " << k;
        }
      }
    }
  }
}

}  // namespace
}  // namespace crible::cuda
