#include "ops/rms_norm/rms_norm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "ops/available_isas.h"
#include "ops/random_values.h"

namespace crible {
namespace {

constexpr float kEpsilon = 1e-5f;

std::vector<float> run(CpuIsa isa, int threads, const std::vector<float>& x, const std::vector<float>& weight,
                       int64_t rows) {
  Stream stream = Stream::create_cpu(threads, isa).value();
  const int64_t columns = static_cast<int64_t>(weight.size());
  std::vector<float> out(static_cast<size_t>(rows * columns), std::numeric_limits<float>::quiet_NaN());
  rms_norm(stream, {x.data(), columns, out.data(), columns, weight.data(), rows, columns, kEpsilon});
  return out;
}

TEST(RmsNorm, AgreesWithFloat64AndAcrossInstructionSets) {
  RandomValues random(1);
  for (int64_t columns : {1, 7, 8, 63, 576, 1000}) {
    const int64_t rows = random.integer(1, 40);
    const std::vector<float> x = random.normals(rows * columns, 3.0f), weight = random.normals(columns);
    const std::vector<float> scalar = run(CpuIsa::kScalar, 1, x, weight, rows);
    for (int64_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (int64_t c = 0; c < columns; ++c) sum += std::pow(static_cast<double>(x[r * columns + c]), 2);
      const double scale = 1.0 / std::sqrt(sum / static_cast<double>(columns) + static_cast<double>(kEpsilon));
      for (int64_t c = 0; c < columns; ++c) {
        const double exact = static_cast<double>(x[r * columns + c]) * scale * static_cast<double>(weight[c]);
        // columns / 8 roundings in a partial sum halve under the root; five more around it.
        const double bound = 0x1p-24 * std::abs(exact) * (static_cast<double>(columns) / 16 + 8);
        ASSERT_LE(std::abs(static_cast<double>(scalar[r * columns + c]) - exact), bound);
      }
    }
    for (CpuIsa isa : available_isas()) {
      const std::vector<float> out = run(isa, 3, x, weight, rows);
      EXPECT_EQ(0, std::memcmp(out.data(), scalar.data(), out.size() * sizeof(float))) << cpu_isa_name(isa);
    }
  }
}

TEST(RmsNorm, WorksInPlaceWithStrides) {
  RandomValues random(2);
  for (CpuIsa isa : available_isas()) {
    const int64_t rows = 5, columns = 20, stride = 23;
    std::vector<float> x = random.normals(rows * stride);
    const std::vector<float> weight = random.normals(columns), before = x;
    std::vector<float> dense;
    for (int64_t r = 0; r < rows; ++r) dense.insert(dense.end(), &x[r * stride], &x[r * stride] + columns);
    const std::vector<float> expected = run(isa, 1, dense, weight, rows);
    Stream stream = Stream::create_cpu(2, isa).value();
    rms_norm(stream, {x.data(), stride, x.data(), stride, weight.data(), rows, columns, kEpsilon});
    for (int64_t i = 0; i < rows * stride; ++i) {
      EXPECT_EQ(x[i], i % stride < columns ? expected[i / stride * columns + i % stride] : before[i]);
    }
  }
}

// Heads inside the rows of a fused projection, in place, as one call and as rows of their own.
TEST(RmsNorm, NormsEveryGroupOfARowAlone) {
  RandomValues random(4);
  for (CpuIsa isa : available_isas()) {
    for (int64_t columns : {64, 20}) {
      const int64_t rows = 37, groups = 3, stride = groups * columns + 11;
      std::vector<float> x = random.normals(rows * stride);
      const std::vector<float> weight = random.normals(columns), before = x;
      Stream stream = Stream::create_cpu(3, isa).value();
      rms_norm(stream, {.x = x.data(), .x_stride = stride, .out = x.data(), .out_stride = stride, .weight = weight.data(),
                        .rows = rows, .columns = columns, .epsilon = kEpsilon, .groups = groups});
      for (int64_t r = 0; r < rows; ++r) {
        const auto row = before.begin() + r * stride;
        std::vector<float> expected = run(isa, 1, {row, row + groups * columns}, weight, groups);
        expected.insert(expected.end(), row + groups * columns, row + stride);
        ASSERT_TRUE(std::equal(expected.begin(), expected.end(), x.begin() + r * stride)) << "row " << r;
      }
    }
  }
}

TEST(RmsNorm, AddsToItsOutputAndTakesRowsByIndex) {
  RandomValues random(3);
  for (CpuIsa isa : available_isas()) {
    const int64_t rows = 9, columns = 21;
    const std::vector<float> x = random.normals(rows * columns), weight = random.normals(columns);
    const std::vector<float> plain = run(isa, 1, x, weight, rows);
    const std::vector<int32_t> index = {8, 0, 3, 3};
    const int64_t chosen = static_cast<int64_t>(index.size());
    const std::vector<float> before = random.normals(chosen * columns);
    std::vector<float> out = before;
    Stream stream = Stream::create_cpu(2, isa).value();
    rms_norm(stream, {.x = x.data(), .x_stride = columns, .out = out.data(), .out_stride = columns,
                      .weight = weight.data(), .rows = chosen, .columns = columns, .epsilon = kEpsilon,
                      .accumulate = true, .row_index = index.data()});
    for (int64_t i = 0; i < chosen * columns; ++i) {
      const int64_t source = index[static_cast<size_t>(i / columns)] * columns + i % columns;
      ASSERT_EQ(out[i], before[i] + plain[source]);
    }
  }
}

}  // namespace
}  // namespace crible
