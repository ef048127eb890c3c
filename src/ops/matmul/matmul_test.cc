#include "ops/matmul/matmul.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/units.h"
#include "ops/available_isas.h"
#include "ops/matmul/dequantize.h"
#include "ops/random_values.h"

namespace crible {
namespace {

constexpr float kPoison = std::numeric_limits<float>::quiet_NaN();
constexpr DType kWeightTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ8_0, DType::kQ4_0, DType::kQ4_1,
                                  DType::kQ5_0, DType::kQ5_1, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

// A width of whole blocks, about `most` at most.
int64_t random_width(RandomValues& random, DType dtype, int64_t most) {
  const int64_t block = std::max<int64_t>(32, dtype_block_size(dtype));
  return block * random.integer(1, std::max<int64_t>(2, most / block));
}

Stream make_stream(int threads, CpuIsa isa) {
  auto stream = Stream::create_cpu(threads, isa);
  EXPECT_TRUE(stream) << stream.error().message;
  EXPECT_TRUE(stream->reserve_scratch(16 * kMiB));
  return std::move(*stream);
}

PackedMatrix pack(Stream& stream, DType dtype, int64_t rows, int64_t columns, const std::vector<std::byte>& data) {
  const MatrixSource source = {dtype, rows, columns, data.data()};
  auto packed = PackedMatrix::pack({&source, 1}, stream);
  EXPECT_TRUE(packed) << packed.error().message;
  return std::move(*packed);
}

std::vector<float> run(Stream& stream, const PackedMatrix& weight, const float* x, int64_t rows) {
  std::vector<float> out(static_cast<size_t>(rows * weight.rows()), kPoison);
  matmul(stream, {.x = x, .rows = rows, .x_stride = weight.columns(), .weight = &weight, .out = out.data(),
                  .out_stride = weight.rows()});
  return out;
}

// Every dtype and instruction set against float64 from the dequantised weights. Error of one
// output: each activation is off by half a step of its block's scale (largest / 32767), and each
// float32 addition rounds; both bounded by epsilon · Σ |x·w|-like sums.
TEST(Matmul, AgreesWithFloat64) {
  RandomValues random(1);
  for (CpuIsa isa : available_isas()) {
    for (DType dtype : kWeightTypes) {
      for (int64_t rows : {1, 2, 3, 4, 5, 8, 17, 48}) {
        const int64_t n = random.integer(1, 70), k = random_width(random, dtype, 640);
        Stream stream = make_stream(2, isa);
        const std::vector<std::byte> data = random.matrix(dtype, n, k);
        const PackedMatrix weight = pack(stream, dtype, n, k, data);
        const std::vector<float> x = random.normals(rows * k);
        const std::vector<float> out = run(stream, weight, x.data(), rows);
        std::vector<float> w(static_cast<size_t>(k));
        for (int64_t c = 0; c < n; ++c) {
          weight.dequantize_row(c, w.data());
          for (int64_t r = 0; r < rows; ++r) {
            double exact = 0, magnitude = 0, steps = 0;
            for (int64_t b = 0; b < k; b += 32) {
              double largest = 0, weights = 0;
              for (int64_t i = b; i < b + 32; ++i) {
                const double product = static_cast<double>(x[r * k + i]) * static_cast<double>(w[i]);
                exact += product;
                magnitude += std::abs(product);
                largest = std::max(largest, std::abs(static_cast<double>(x[r * k + i])));
                weights += std::abs(static_cast<double>(w[i]));
              }
              steps += weights * largest;
            }
            const bool quantised = dtype_block_size(dtype) > 1;
            // Types with a minimum or a centre add scale·q and the rest apart: each may be several times their sum.
            const double epsilon = 0x1p-24, spread = quantised ? 8 : 1;
            const double bound = epsilon * static_cast<double>(quantised ? k / 32 + 8 : k) * magnitude * spread +
                                 (quantised ? steps * 0.51 / 32767 : 0);
            ASSERT_LE(std::abs(static_cast<double>(out[r * n + c]) - exact), bound)
                << cpu_isa_name(isa) << " " << dtype_name(dtype) << " row " << r << " of " << rows << ", column " << c
                << " of " << n << ", k " << k;
          }
        }
      }
    }
  }
}

// The product's promise: an output row depends on its own input alone, bit for bit.
TEST(Matmul, RowsDoNotDependOnCompanionsOrThreads) {
  RandomValues random(2);
  for (CpuIsa isa : available_isas()) {
    for (DType dtype : kWeightTypes) {
      const int64_t n = random.integer(100, 200), k = random_width(random, dtype, 640);
      const int64_t total = isa == CpuIsa::kScalar ? 24 : 300;
      Stream one = make_stream(1, isa);
      const std::vector<std::byte> data = random.matrix(dtype, n, k);
      const PackedMatrix weight = pack(one, dtype, n, k, data);
      const std::vector<float> x = random.normals(total * k);
      std::vector<float> alone;
      for (int64_t r = 0; r < total; ++r) {
        const std::vector<float> row = run(one, weight, x.data() + r * k, 1);
        alone.insert(alone.end(), row.begin(), row.end());
      }
      for (int threads : {1, 2, 3}) {
        Stream stream = make_stream(threads, isa);
        for (int64_t begin = 0; begin < total;) {
          const int64_t rows = std::min(total - begin, random.integer(1, random.integer(0, 1) == 0 ? 17 : 250));
          const std::vector<float> part = run(stream, weight, x.data() + begin * k, rows);
          ASSERT_EQ(0, std::memcmp(part.data(), alone.data() + begin * n, part.size() * sizeof(float)))
              << cpu_isa_name(isa) << " " << dtype_name(dtype) << " rows " << begin << "+" << rows << ", " << threads
              << " threads";
          begin += rows;
        }
      }
    }
  }
}

TEST(Matmul, InstructionSetsAgreeBitForBit) {
  RandomValues random(3);
  const std::vector<CpuIsa> isas = available_isas();
  for (DType dtype : kWeightTypes) {
    const int64_t n = 77, k = dtype_block_size(dtype) == 256 ? 768 : 416, rows = 62;  // nearly fills tiles of 16
    Stream scalar = make_stream(1, CpuIsa::kScalar);
    const std::vector<std::byte> data = random.matrix(dtype, n, k);
    const PackedMatrix weight = pack(scalar, dtype, n, k, data);
    std::vector<float> x = random.normals(rows * k);
    std::fill_n(x.begin(), 64, 0.0f);                            // blocks of zeros
    for (int i = 64; i < 96; ++i) x[i] *= 1e-33f;                // below the smallest scale
    for (int i = 96; i < 128; ++i) x[i] *= 1e30f;                // far above the others
    const std::vector<float> expected = run(scalar, weight, x.data(), rows);
    for (CpuIsa isa : isas) {
      Stream stream = make_stream(2, isa);
      const std::vector<float> out = run(stream, weight, x.data(), rows);
      EXPECT_EQ(0, std::memcmp(out.data(), expected.data(), out.size() * sizeof(float)))
          << cpu_isa_name(isa) << " " << dtype_name(dtype);
    }
  }
}

// Integer sums at the ends of their range: every weight and every activation as large as it can be.
TEST(Matmul, HoldsTheLargestSums) {
  for (CpuIsa isa : available_isas()) {
    Stream stream = make_stream(1, isa);
    for (DType dtype : {DType::kQ8_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ4_K, DType::kQ5_K, DType::kQ6_K}) {
      for (uint8_t fill : {0x00, 0x7F, 0xFF}) {
        const int64_t k = 256, block = dtype_block_bytes(dtype);
        std::vector<std::byte> data(static_cast<size_t>(dtype_row_bytes(dtype, k)), std::byte{fill});
        for (int64_t at = 0; at < std::ssize(data); at += block) {
          const bool at_end = dtype == DType::kQ6_K;  // where the half floats are
          std::byte* halves = data.data() + at + (at_end ? block - 2 : 0);
          const int64_t count = at_end || dtype == DType::kQ8_0 || dtype == DType::kQ5_0 ? 1 : 2;
          for (int64_t i = 0; i < count; ++i) halves[2 * i] = std::byte{0}, halves[2 * i + 1] = std::byte{0x3C};  // 1.0
        }
        const PackedMatrix weight = pack(stream, dtype, 1, k, data);
        std::vector<float> w(static_cast<size_t>(k)), x(static_cast<size_t>(k), -3.0f);
        weight.dequantize_row(0, w.data());
        double exact = 0, magnitude = 0;
        for (float value : w) exact += -3.0 * static_cast<double>(value), magnitude += 3.0 * 64 * 127 + std::abs(static_cast<double>(value));
        EXPECT_NEAR(static_cast<double>(run(stream, weight, x.data(), 1)[0]), exact, magnitude * 0x1p-22)
            << cpu_isa_name(isa) << " " << dtype_name(dtype) << " " << int{fill};
      }
    }
  }
}

TEST(Matmul, AddsBiasAndResidual) {
  RandomValues random(4);
  for (CpuIsa isa : available_isas()) {
    for (int64_t n : {16, 33}) {
      const int64_t k = 64, rows = 6;
      Stream stream = make_stream(2, isa);
      const std::vector<std::byte> data = random.matrix(DType::kQ4_1, n, k);
      const PackedMatrix weight = pack(stream, DType::kQ4_1, n, k, data);
      const std::vector<float> x = random.normals(rows * k), bias = random.normals(n);
      const std::vector<float> residual = random.normals(rows * n);
      const std::vector<float> plain = run(stream, weight, x.data(), rows);
      std::vector<float> out = residual;
      matmul(stream, {.x = x.data(), .rows = rows, .x_stride = k, .weight = &weight, .out = out.data(), .out_stride = n,
                      .accumulate = true, .bias = bias.data()});
      for (int64_t i = 0; i < rows * n; ++i) EXPECT_EQ(out[i], residual[i] + (plain[i] + bias[i % n]));
    }
  }
}

TEST(Matmul, HonoursStridesAndWritesNothingElse) {
  RandomValues random(5);
  for (CpuIsa isa : available_isas()) {
    const int64_t n = 21, k = 96, rows = 7, x_stride = 101, out_stride = 50;
    Stream stream = make_stream(2, isa);
    const std::vector<std::byte> data = random.matrix(DType::kQ8_0, n, k);
    const PackedMatrix weight = pack(stream, DType::kQ8_0, n, k, data);
    const std::vector<float> x = random.normals(rows * x_stride);
    std::vector<float> packed_x;
    for (int64_t r = 0; r < rows; ++r) packed_x.insert(packed_x.end(), &x[r * x_stride], &x[r * x_stride] + k);
    const std::vector<float> expected = run(stream, weight, packed_x.data(), rows);
    std::vector<float> out(static_cast<size_t>(rows * out_stride), -7.0f);
    matmul(stream, {.x = x.data(), .rows = rows, .x_stride = x_stride, .weight = &weight, .out = out.data(),
                    .out_stride = out_stride});
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < out_stride; ++c) {
        EXPECT_EQ(out[r * out_stride + c], c < n ? expected[r * n + c] : -7.0f);
      }
    }
  }
}

TEST(Matmul, FaultyInputMakesItsOwnRowNaNAndNoOther) {
  RandomValues random(6);
  for (CpuIsa isa : available_isas()) {
    for (DType dtype : kWeightTypes) {
      for (float fault : {kPoison, std::numeric_limits<float>::infinity()}) {
        const int64_t n = 20, k = 256, rows = 5;
        Stream stream = make_stream(1, isa);
        const std::vector<std::byte> data = random.matrix(dtype, n, k);
        const PackedMatrix weight = pack(stream, dtype, n, k, data);
        std::vector<float> x = random.normals(rows * k);
        x[2 * k + 40] = fault;
        const std::vector<float> out = run(stream, weight, x.data(), rows);
        for (int64_t i = 0; i < rows * n; ++i) EXPECT_EQ(std::isfinite(out[i]), i / n != 2) << dtype_name(dtype);
      }
    }
  }
}

TEST(PackedMatrix, StacksSourcesAndGivesTheirRowsBack) {
  RandomValues random(7);
  Stream stream = make_stream(2, CpuIsa::kScalar);
  for (DType dtype : kWeightTypes) {
    const int64_t k = 256;
    const std::vector<std::byte> a = random.matrix(dtype, 19, k), b = random.matrix(dtype, 5, k);
    const MatrixSource sources[] = {{dtype, 19, k, a.data()}, {dtype, 5, k, b.data()}};
    const PackedMatrix whole = PackedMatrix::pack(sources, stream).value();
    EXPECT_EQ(whole.rows(), 24);
    EXPECT_EQ(whole.bytes(), PackedMatrix::packed_bytes(dtype, 24, k));
    const PackedMatrix second = pack(stream, dtype, 5, k, b);
    std::vector<float> expected(k), row(k);
    for (int64_t r = 0; r < 5; ++r) {
      second.dequantize_row(r, expected.data());
      whole.dequantize_row(19 + r, row.data());
      EXPECT_EQ(expected, row);
    }
  }
}

// Packed by portable code or by vectors: the same bytes, and from each of them the rows that were packed.
TEST(PackedMatrix, EveryInstructionSetPacksTheSameBytes) {
  RandomValues random(8);
  for (DType dtype : kWeightTypes) {
    // Float types may have any width.
    const int64_t n = 35, k = random_width(random, dtype, 1024) + (dtype_block_size(dtype) == 1 ? 13 : 0);
    const std::vector<std::byte> data = random.matrix(dtype, n, k);
    Stream portable = make_stream(2, CpuIsa::kScalar);
    const PackedMatrix expected = pack(portable, dtype, n, k, data);
    for (CpuIsa isa : available_isas()) {
      Stream stream = make_stream(2, isa);
      const PackedMatrix matrix = pack(stream, dtype, n, k, data);
      EXPECT_EQ(0, std::memcmp(matrix.data(), expected.data(), static_cast<size_t>(matrix.bytes()))) << dtype_name(dtype);
    }
    std::vector<float> row(static_cast<size_t>(k)), source(static_cast<size_t>(k));
    for (int64_t r = 0; r < n; ++r) {
      expected.dequantize_row(r, row.data());
      dequantize(dtype, data.data() + r * dtype_row_bytes(dtype, k), k, source.data());
      ASSERT_EQ(0, std::memcmp(row.data(), source.data(), row.size() * sizeof(float))) << dtype_name(dtype) << " row " << r;
    }
  }
}

// A few 6-bit scales widened are all that packing may add.
TEST(PackedMatrix, TakesAboutTheSizeOfItsSource) {
  for (DType dtype : kWeightTypes) {
    const int64_t source = 64 * dtype_row_bytes(dtype, 1024), packed = PackedMatrix::packed_bytes(dtype, 64, 1024);
    EXPECT_GE(packed, source) << dtype_name(dtype);
    EXPECT_LE(packed, source + source / 35) << dtype_name(dtype);
  }
}

TEST(PackedMatrix, RefusesWhatItCannotHold) {
  Stream stream = make_stream(1, CpuIsa::kScalar);
  const std::vector<std::byte> data(4096);
  const MatrixSource odd = {DType::kQ4_1, 2, 40, data.data()};
  EXPECT_EQ(PackedMatrix::pack({&odd, 1}, stream).error().code, ErrorCode::kUnsupported);
  const MatrixSource half_super_block = {DType::kQ6_K, 2, 128, data.data()};
  const Status refused = PackedMatrix::pack({&half_super_block, 1}, stream).map([](const PackedMatrix&) {});
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(refused.error().message, testing::HasSubstr("multiple of 256"));
  const MatrixSource integers = {DType::kI32, 2, 32, data.data()};
  EXPECT_EQ(PackedMatrix::pack({&integers, 1}, stream).error().code, ErrorCode::kUnsupported);
  const MatrixSource different[] = {{DType::kF32, 2, 32, data.data()}, {DType::kF16, 2, 32, data.data()}};
  EXPECT_EQ(PackedMatrix::pack(different, stream).error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace crible
