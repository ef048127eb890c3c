#include "model/cuda/tensor_parallel/matrix_cut.h"

#include <gmock/gmock.h>

#include <cstring>
#include <numeric>
#include <vector>

#include "base/check.h"
#include "ops/matmul/dequantize.h"
#include "ops/random_values.h"

namespace crible::cuda {
namespace {

using ::testing::HasSubstr;

// The weights that a stored matrix stands for, [rows, columns].
std::vector<float> weights_of(const StoredMatrix& matrix) {
  static Stream stream = Stream::create_cpu(1).value();
  ConvertedMatrix converted;
  MatrixSource source = {};
  if (const auto* plain = std::get_if<MatrixSource>(&matrix)) {
    source = *plain;
  } else {
    auto result = std::holds_alternative<GroupQuantised>(matrix) ? convert(std::get<GroupQuantised>(matrix), stream)
                                                                 : convert(std::get<ScaledFp8>(matrix), stream);
    CHECK(result, "{}", result.error().message);
    converted = std::move(*result);
    source = converted.source;
  }
  std::vector<float> values(static_cast<size_t>(source.rows * source.columns));
  const int64_t row_bytes = dtype_row_bytes(source.dtype, source.columns);
  for (int64_t r = 0; r < source.rows; ++r) {
    dequantize(source.dtype, source.data + r * row_bytes, source.columns,
               &values[static_cast<size_t>(r * source.columns)]);
  }
  return values;
}

// A cut stands for the rectangle of the whole's weights, exactly.
void expect_rectangle(const StoredMatrix& matrix, int64_t columns, const Range& rows, const Range& range) {
  const std::vector<float> whole = weights_of(matrix);
  const auto cut = cut_matrix(matrix, rows, range, "m");
  ASSERT_TRUE(cut) << cut.error().message;
  EXPECT_TRUE(check_cut(matrix, rows, range, "m"));
  std::vector<float> expected;
  for (int64_t r = rows.first; r < rows.end(); ++r) {
    const auto row = whole.begin() + r * columns;
    expected.insert(expected.end(), row + range.first, row + range.end());
  }
  EXPECT_EQ(weights_of(cut->matrix), expected)
      << "rows " << rows.first << " to " << rows.end() << ", columns " << range.first << " to " << range.end();
}

constexpr int64_t kRows = 256;
constexpr int64_t kColumns = 512;

// Every share of rows, of columns and of both.
void expect_shares(const StoredMatrix& matrix, int64_t shares) {
  for (int64_t i = 0; i < shares; ++i) {
    const Range rows = {i * kRows / shares, kRows / shares};
    const Range columns = {i * kColumns / shares, kColumns / shares};
    expect_rectangle(matrix, kColumns, rows, {0, kColumns});
    expect_rectangle(matrix, kColumns, {0, kRows}, columns);
    expect_rectangle(matrix, kColumns, rows, columns);
  }
}

TEST(MatrixCut, PlainAndBlockedValues) {
  RandomValues random(1);
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1}) {
    const std::vector<std::byte> data = random.matrix(dtype, kRows, kColumns);
    for (const int64_t shares : {1, 2, 4, 8}) {
      expect_shares(MatrixSource{.dtype = dtype, .rows = kRows, .columns = kColumns, .data = data.data()}, shares);
    }
  }
}

TEST(MatrixCut, WholeRowsAreNotCopied) {
  RandomValues random(2);
  const std::vector<std::byte> data = random.matrix(DType::kBF16, kRows, kColumns);
  const MatrixSource whole = {.dtype = DType::kBF16, .rows = kRows, .columns = kColumns, .data = data.data()};
  const CutMatrix rows = cut_matrix(whole, {64, 64}, {0, kColumns}, "m").value();
  EXPECT_EQ(rows.copied_bytes, 0);
  EXPECT_EQ(std::get<MatrixSource>(rows.matrix).data, data.data() + 64 * kColumns * 2);
  const CutMatrix columns = cut_matrix(whole, {0, kRows}, {128, 64}, "m").value();
  EXPECT_EQ(columns.copied_bytes, kRows * 64 * 2);
}

struct RandomFp8 {
  std::vector<std::byte> values;
  std::vector<float> scales;
  ScaledFp8 matrix;

  RandomFp8(RandomValues& random, int64_t block_rows, int64_t block_columns) {
    for (int64_t i = 0; i < kRows * kColumns; ++i) {
      const auto bits = static_cast<uint8_t>(random.bits());
      values.push_back(static_cast<std::byte>((bits & 0x7F) == 0x7F ? 0 : bits));
    }
    for (int64_t i = 0; i < kRows / block_rows * (kColumns / block_columns); ++i) {
      scales.push_back(0.5f + static_cast<float>(random.uniform()));
    }
    matrix = {.rows = kRows,
              .columns = kColumns,
              .values = values.data(),
              .scales = {DType::kF32, reinterpret_cast<const std::byte*>(scales.data())},
              .block_rows = block_rows,
              .block_columns = block_columns};
  }
};

TEST(MatrixCut, Fp8WithOneScaleScalesPerRowAndPerBlock) {
  RandomValues random(3);
  expect_shares(RandomFp8(random, kRows, kColumns).matrix, 4);
  expect_shares(RandomFp8(random, 1, kColumns).matrix, 4);
  const RandomFp8 blocks(random, 64, 128);
  expect_shares(blocks.matrix, 4);
  const auto rows = cut_matrix(blocks.matrix, {32, 64}, {0, kColumns}, "model.q");
  ASSERT_FALSE(rows);
  EXPECT_THAT(rows.error().message,
              HasSubstr("model.q: a rank's rows 32 to 95 divide a block of 64 that share a scale"));
  const auto columns = cut_matrix(blocks.matrix, {0, kRows}, {64, 128}, "model.q");
  ASSERT_FALSE(columns);
  EXPECT_THAT(columns.error().message, HasSubstr("columns 64 to 191 divide a block of 128"));
  EXPECT_FALSE(check_cut(blocks.matrix, {0, kRows}, {64, 128}, "model.q"));
}

struct RandomGroups {
  std::vector<std::byte> weights, zeros;
  std::vector<float> scales;
  std::vector<int32_t> index;
  GroupQuantised matrix;

  RandomGroups(RandomValues& random, GroupQuantised::Layout layout, int64_t group_size, bool mixed) {
    const int64_t groups = kColumns / group_size;
    for (int64_t i = 0; i < kRows * kColumns / 2; ++i) weights.push_back(static_cast<std::byte>(random.bits()));
    for (int64_t i = 0; i < groups * kRows / 2; ++i) zeros.push_back(static_cast<std::byte>(random.bits()));
    for (int64_t i = 0; i < groups * kRows; ++i) scales.push_back(static_cast<float>(random.integer(1, 64)) / 1024);
    for (int64_t c = 0; c < kColumns; ++c) {
      index.push_back(static_cast<int32_t>(mixed ? c * 7 % kColumns / group_size : c / group_size));
    }
    matrix = {.layout = layout,
              .rows = kRows,
              .columns = kColumns,
              .bits = 4,
              .groups = groups,
              .group_size = group_size,
              .qweight = weights.data(),
              .qzeros = zeros.data(),
              .scales = {DType::kF32, reinterpret_cast<const std::byte*>(scales.data())},
              .group_index = layout == GroupQuantised::Layout::kGptq
                                 ? reinterpret_cast<const std::byte*>(index.data())
                                 : nullptr};
  }
};

TEST(MatrixCut, FourBitsInGroups) {
  RandomValues random(4);
  for (const int64_t group : {int64_t{32}, int64_t{64}, int64_t{128}, kColumns}) {
    for (const auto layout : {GroupQuantised::Layout::kAwq, GroupQuantised::Layout::kGptq}) {
      const RandomGroups groups(random, layout, group, /*mixed=*/false);
      expect_shares(groups.matrix, 4);
      // Groups in order stay so: they are kept in 4 bits.
      const CutMatrix cut = cut_matrix(groups.matrix, {0, kRows}, {256, 128}, "m").value();
      EXPECT_TRUE(groups_in_order(std::get<GroupQuantised>(cut.matrix)));
    }
    expect_shares(RandomGroups(random, GroupQuantised::Layout::kGptq, group, /*mixed=*/true).matrix, 4);
  }
}

TEST(MatrixCut, SaysWhatWouldBeDivided) {
  RandomValues random(5);
  const std::vector<std::byte> data = random.matrix(DType::kQ4_0, kRows, kColumns);
  const MatrixSource blocked = {.dtype = DType::kQ4_0, .rows = kRows, .columns = kColumns, .data = data.data()};
  const auto of = [](const StoredMatrix& matrix, const Range& rows, const Range& columns) {
    const auto cut = cut_matrix(matrix, rows, columns, "blk.0.ffn_down.weight");
    return cut ? std::string("cut") : cut.error().message;
  };
  EXPECT_THAT(of(blocked, {0, kRows}, {16, 32}),
              HasSubstr("blk.0.ffn_down.weight: a rank's columns 16 to 47 divide a block of 32 of q4_0"));
  const RandomGroups awq(random, GroupQuantised::Layout::kAwq, 128, false);
  EXPECT_THAT(of(awq.matrix, {0, kRows}, {64, 64}), HasSubstr("a group of 128 that share a scale"));
  EXPECT_THAT(of(awq.matrix, {4, 16}, {0, kColumns}), HasSubstr("rows 4 to 19 divide a word of 4-bit values"));
  EXPECT_EQ(of(awq.matrix, {8, 16}, {128, 256}), "cut");
}

}  // namespace
}  // namespace crible::cuda
