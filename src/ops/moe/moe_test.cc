#include "ops/moe/moe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "base/units.h"
#include "ops/available_isas.h"
#include "ops/random_values.h"
#include "ops/silu_mul/silu_mul.h"

namespace crible {
namespace {

constexpr float kPoison = std::numeric_limits<float>::quiet_NaN();

struct Routing {
  std::vector<int32_t> chosen;
  std::vector<float> weights;
};

Routing route(Stream& stream, const std::vector<float>& logits, int64_t rows, int64_t k, bool normalise) {
  const int64_t experts = std::ssize(logits) / rows;
  Routing routing = {std::vector<int32_t>(static_cast<size_t>(rows * k), -1),
                     std::vector<float>(static_cast<size_t>(rows * k), kPoison)};
  route_to_experts(stream, {.logits = logits.data(), .logits_stride = experts, .rows = rows, .experts = experts,
                            .experts_per_token = k, .normalise = normalise, .chosen = routing.chosen.data(),
                            .weights = routing.weights.data()});
  return routing;
}

// Against a sort and a softmax in float64. Each exponential and each of the sum's additions is off by a few units in the
// last place.
TEST(Router, ChoosesAndWeighsAsTheSoftmaxDoes) {
  RandomValues random(1);
  Stream stream = Stream::create_cpu(2, CpuIsa::kScalar).value();
  for (int trial = 0; trial < 40; ++trial) {
    const int64_t experts = random.integer(1, 140), k = random.integer(1, std::min<int64_t>(experts, 12));
    const int64_t rows = random.integer(1, 40);
    const bool normalise = random.integer(0, 1) == 1;
    std::vector<float> logits = random.normals(rows * experts, 3.0f);
    // Few different values: ties.
    if (trial % 4 == 0) std::for_each(logits.begin(), logits.end(), [](float& x) { x = std::round(x); });
    const Routing routing = route(stream, logits, rows, k, normalise);
    for (int64_t r = 0; r < rows; ++r) {
      const float* row = logits.data() + r * experts;
      std::vector<int32_t> order(static_cast<size_t>(experts));
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return row[a] > row[b]; });
      double sum = 0;
      for (int64_t e = 0; e < (normalise ? k : experts); ++e) sum += std::exp(static_cast<double>(row[order[e]]));
      for (int64_t j = 0; j < k; ++j) {
        ASSERT_EQ(routing.chosen[r * k + j], order[j]);
        const double expected = std::exp(static_cast<double>(row[order[j]])) / sum;
        ASSERT_NEAR(routing.weights[r * k + j], expected, expected * 0x1p-24 * static_cast<double>(experts + 8));
      }
    }
  }
}

TEST(Router, FaultyLogitsMakeTheirOwnRowsWeightsNaN) {
  RandomValues random(2);
  Stream stream = Stream::create_cpu(1, CpuIsa::kScalar).value();
  const int64_t rows = 5, experts = 9, k = 3;
  for (float fault : {kPoison, std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
    std::vector<float> logits = random.normals(rows * experts);
    for (int64_t e = 0; e < experts; ++e) logits[2 * experts + e] = fault;
    logits[4 * experts + 7] = fault;
    const Routing routing = route(stream, logits, rows, k, true);
    for (int64_t i = 0; i < rows * k; ++i) {
      EXPECT_EQ(std::isnan(routing.weights[i]), i / k == 2 || i / k == 4);
      EXPECT_GE(routing.chosen[i], 0);
      EXPECT_LT(routing.chosen[i], experts);
    }
  }
}

// Experts with their weights both stacked, as the op takes them, and apart, for the reference.
class ExpertCase {
 public:
  ExpertCase(Stream& stream, RandomValues& random, int64_t experts, int64_t columns, int64_t hidden, DType gate, DType up,
             DType down)
      : experts_(experts), columns_(columns), hidden_(hidden) {
    std::vector<MatrixSource> gates, ups, both, downs;
    for (int64_t e = 0; e < experts; ++e) {
      gates.push_back(source(random, gate, hidden, columns));
      ups.push_back(source(random, up, hidden, columns));
      downs.push_back(source(random, down, columns, hidden));
      both.push_back(gates.back());
      both.push_back(ups.back());
      apart_.push_back({PackedMatrix::pack({&gates.back(), 1}, stream).value(),
                        PackedMatrix::pack({&ups.back(), 1}, stream).value(),
                        PackedMatrix::pack({&downs.back(), 1}, stream).value()});
    }
    fused_ = gate == up;
    gate_up_ = PackedMatrix::pack(fused_ ? both : gates, stream).value();
    if (!fused_) up_ = PackedMatrix::pack(ups, stream).value();
    down_ = PackedMatrix::pack(downs, stream).value();
  }

  int64_t columns() const { return columns_; }
  int64_t experts() const { return experts_; }

  std::vector<float> run(Stream& stream, const float* x, const Routing& routing, int64_t first, int64_t rows) const {
    std::vector<float> out(static_cast<size_t>(rows * columns_), kPoison);
    experts_feed_forward(stream, {.x = x + first * columns_, .rows = rows, .x_stride = columns_,
                                  .chosen = routing.chosen.data() + first * k_, .weights = routing.weights.data() + first * k_,
                                  .experts = experts_, .experts_per_token = k_, .gate_up = &gate_up_,
                                  .up = fused_ ? nullptr : &up_, .down = &down_, .out = out.data(), .out_stride = columns_});
    return out;
  }

  // One row through each of its experts by the plain operations.
  std::vector<float> reference(Stream& stream, const float* x, const int32_t* chosen, const float* weights) const {
    std::vector<float> sum(static_cast<size_t>(columns_), 0.0f), gate_up(static_cast<size_t>(2 * hidden_));
    std::vector<float> gated(static_cast<size_t>(hidden_)), y(static_cast<size_t>(columns_));
    const auto product = [&](const PackedMatrix& weight, const float* in, float* out) {
      matmul(stream, {.x = in, .rows = 1, .x_stride = weight.columns(), .weight = &weight, .out = out,
                      .out_stride = weight.rows()});
    };
    for (int64_t j = 0; j < k_; ++j) {
      const Apart& expert = apart_[static_cast<size_t>(chosen[j])];
      product(expert.gate, x, gate_up.data());
      product(expert.up, x, gate_up.data() + hidden_);
      silu_mul(stream, {.gate_up = gate_up.data(), .gate_up_stride = 2 * hidden_, .out = gated.data(),
                        .out_stride = hidden_, .rows = 1, .columns = hidden_});
      product(expert.down, gated.data(), y.data());
      for (size_t c = 0; c < sum.size(); ++c) sum[c] += weights[j] * y[c];
    }
    return sum;
  }

  void set_experts_per_token(int64_t k) { k_ = k; }
  int64_t scratch_bytes(int64_t rows) const { return experts_scratch_bytes(rows, experts_, k_, columns_, hidden_); }

 private:
  struct Apart {
    PackedMatrix gate, up, down;
  };

  MatrixSource source(RandomValues& random, DType dtype, int64_t rows, int64_t columns) {
    data_.push_back(random.matrix(dtype, rows, columns));
    return {dtype, rows, columns, data_.back().data()};
  }

  int64_t experts_, columns_, hidden_, k_ = 1;
  bool fused_ = true;
  std::vector<std::vector<std::byte>> data_;
  std::vector<Apart> apart_;
  PackedMatrix gate_up_, up_, down_;
};

Stream make_stream(int threads, CpuIsa isa, int64_t scratch) {
  Stream stream = Stream::create_cpu(threads, isa).value();
  EXPECT_TRUE(stream.reserve_scratch(scratch));
  return stream;
}

struct Types {
  DType gate, up, down;
};

// Bit for bit: every row equals the same row computed alone by the plain operations, whatever stands beside it.
TEST(Experts, EqualThePlainOperationsRowByRow) {
  RandomValues random(3);
  for (CpuIsa isa : available_isas()) {
    for (const Types types : {Types{DType::kQ8_0, DType::kQ8_0, DType::kQ4_1}, Types{DType::kQ4_K, DType::kQ4_K, DType::kQ6_K},
                              Types{DType::kQ4_K, DType::kQ5_K, DType::kQ5_0}, Types{DType::kBF16, DType::kQ8_0, DType::kQ8_0},
                              Types{DType::kF32, DType::kF32, DType::kBF16},
                              Types{DType::kF16, DType::kF16, DType::kQ8_0}}) {
      const int64_t experts = random.integer(3, 12), k = random.integer(1, 3), rows = isa == CpuIsa::kScalar ? 12 : 300;
      Stream single = make_stream(1, isa, 32 * kMiB);
      ExpertCase c(single, random, experts, 256, 256, types.gate, types.up, types.down);
      c.set_experts_per_token(k);
      const std::vector<float> x = random.normals(rows * c.columns());
      const Routing routing = route(single, random.normals(rows * experts), rows, k, true);
      std::vector<float> expected;
      for (int64_t r = 0; r < rows; ++r) {
        const std::vector<float> row = c.reference(single, x.data() + r * c.columns(), routing.chosen.data() + r * k,
                                                   routing.weights.data() + r * k);
        expected.insert(expected.end(), row.begin(), row.end());
      }
      for (int threads : {1, 3}) {
        Stream stream = make_stream(threads, isa, c.scratch_bytes(rows));
        for (int64_t begin = 0; begin < rows;) {
          const int64_t count = std::min(rows - begin, random.integer(1, random.integer(0, 1) == 0 ? 6 : 300));
          const std::vector<float> out = c.run(stream, x.data(), routing, begin, count);
          ASSERT_EQ(0, std::memcmp(out.data(), expected.data() + begin * c.columns(), out.size() * sizeof(float)))
              << cpu_isa_name(isa) << " " << dtype_name(types.gate) << " rows " << begin << "+" << count;
          begin += count;
        }
      }
    }
  }
}

TEST(Experts, AddToTheResidualAndHonourStrides) {
  RandomValues random(4);
  const int64_t rows = 7, k = 2, columns = 64, stride = 80;
  Stream stream = make_stream(2, widest_cpu_isa(), 4 * kMiB);
  const int64_t experts = 2, hidden = 32;
  const std::vector<std::byte> gate_up_data = random.matrix(DType::kQ8_0, experts * 2 * hidden, columns);
  const std::vector<std::byte> down_data = random.matrix(DType::kQ8_0, experts * columns, hidden);
  const MatrixSource gate_up_source = {DType::kQ8_0, experts * 2 * hidden, columns, gate_up_data.data()};
  const MatrixSource down_source = {DType::kQ8_0, experts * columns, hidden, down_data.data()};
  const PackedMatrix gate_up = PackedMatrix::pack({&gate_up_source, 1}, stream).value();
  const PackedMatrix down = PackedMatrix::pack({&down_source, 1}, stream).value();
  const std::vector<float> x = random.normals(rows * stride), residual = random.normals(rows * stride);
  const Routing routing = route(stream, random.normals(rows * experts), rows, k, false);
  ExpertsArgs args = {.x = x.data(), .rows = rows, .x_stride = stride, .chosen = routing.chosen.data(),
                      .weights = routing.weights.data(), .experts = experts, .experts_per_token = k, .gate_up = &gate_up,
                      .down = &down, .out = nullptr, .out_stride = stride};
  std::vector<float> plain(static_cast<size_t>(rows * stride), -7.0f), added = residual;
  args.out = plain.data();
  experts_feed_forward(stream, args);
  args.out = added.data();
  args.accumulate = true;
  experts_feed_forward(stream, args);
  for (int64_t i = 0; i < rows * stride; ++i) {
    const bool inside = i % stride < columns;
    EXPECT_EQ(added[i], inside ? residual[i] + plain[i] : residual[i]);
    if (!inside) {
      EXPECT_EQ(plain[i], -7.0f);
    }
  }
}

}  // namespace
}  // namespace crible
