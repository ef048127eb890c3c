#include "ops/moe/moe_cuda.h"

#include <cuda_fp8.h>

#include <algorithm>
#include <cstring>

#include "device/cuda/gpu_test.h"
#include "ops/gpu_values.h"
#include "ops/moe/moe.h"

namespace crible::cuda {
namespace {

// A mixture with its weights on the device, and as float64 of what the device holds.
struct Mixture {
  ExpertSizes sizes;
  WeightType type;
  std::vector<double> gate_up, down;  // with their scales
  DeviceArray<uint8_t> gate_up_device, down_device;
  DeviceArray<float> gate_up_scale, down_scale;

  Mixture(RandomValues& random, const ExpertSizes& s, WeightType t)
      : sizes(s),
        type(t),
        gate_up_device(static_cast<size_t>(s.experts * 2 * s.hidden * s.columns * 2)),
        down_device(static_cast<size_t>(s.experts * s.columns * s.hidden * 2)),
        gate_up_scale(static_cast<size_t>(s.experts * 2 * s.hidden)),
        down_scale(static_cast<size_t>(s.experts * s.columns)) {
    gate_up = fill(random, s.experts * 2 * s.hidden, s.columns, gate_up_device, gate_up_scale);
    down = fill(random, s.experts * s.columns, s.hidden, down_device, down_scale);
  }

  std::vector<double> fill(RandomValues& random, int64_t rows, int64_t columns,
                           const DeviceArray<uint8_t>& to, const DeviceArray<float>& scale_to) const {
    const float deviation = 1.0f / std::sqrt(static_cast<float>(columns));
    std::vector<double> exact_values;
    if (type == WeightType::kBf16) {
      const Bf16s values = random_bf16(random, rows * columns, deviation);
      CRIBLE_CUDA_CHECK(cudaMemcpy(to.data(), values.data(), values.size() * 2, cudaMemcpyHostToDevice));
      return to_doubles(values);
    }
    std::vector<uint8_t> bytes;
    std::vector<float> scales;
    for (int64_t r = 0; r < rows; ++r) {
      scales.push_back(deviation / 64 * static_cast<float>(0.5 + random.uniform()));
      for (int64_t c = 0; c < columns; ++c) {
        bytes.push_back(__nv_cvt_float_to_fp8(64 * random.normal(), __NV_SATFINITE, __NV_E4M3));
        const __half value(__nv_cvt_fp8_to_halfraw(bytes.back(), __NV_E4M3));
        exact_values.push_back(static_cast<double>(__half2float(value)) * static_cast<double>(scales.back()));
      }
    }
    CRIBLE_CUDA_CHECK(cudaMemcpy(to.data(), bytes.data(), bytes.size(), cudaMemcpyHostToDevice));
    CRIBLE_CUDA_CHECK(cudaMemcpy(scale_to.data(), scales.data(), scales.size() * 4, cudaMemcpyHostToDevice));
    return exact_values;
  }

  // The experts' weighted sum for one row, by definition.
  std::vector<double> row(const double* x, const int32_t* chosen, const float* weights) const {
    std::vector<double> out(static_cast<size_t>(sizes.columns), 0.0);
    for (int64_t j = 0; j < sizes.experts_per_token; ++j) {
      const auto dot = [&](const std::vector<double>& matrix, int64_t matrix_row, const double* v,
                           int64_t n) {
        double sum = 0;
        for (int64_t i = 0; i < n; ++i) sum += matrix[static_cast<size_t>(matrix_row * n + i)] * v[i];
        return sum;
      };
      std::vector<double> hidden;
      for (int64_t f = 0; f < sizes.hidden; ++f) {
        const int64_t first = chosen[j] * 2 * sizes.hidden;
        const double gate = dot(gate_up, first + f, x, sizes.columns);
        const double up = dot(gate_up, first + sizes.hidden + f, x, sizes.columns);
        hidden.push_back(gate / (1 + std::exp(-gate)) * up);
      }
      for (int64_t c = 0; c < sizes.columns; ++c) {
        out[static_cast<size_t>(c)] += static_cast<double>(weights[j]) *
                                       dot(down, chosen[j] * sizes.columns + c, hidden.data(), sizes.hidden);
      }
    }
    return out;
  }
};

class MoeCuda : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (!IsSkipped()) prepare_experts();
  }

  // The residual after the mixture, for rows [first, first + rows) of x and logits.
  struct Outcome {
    Bf16s residual;
    std::vector<int32_t> chosen;
    std::vector<float> weights;
  };
  Outcome run(const Mixture& m, const Bf16s& x, const std::vector<float>& logits, const Bf16s& residual,
              int64_t first, int64_t rows, int tile_slots) {
    const ExpertSizes& s = m.sizes;
    DeviceArena counter;
    lay_out_experts(counter, s, rows);
    const DeviceArray<uint8_t> memory(static_cast<size_t>(counter.used_bytes()));
    DeviceArena arena(memory.data(), counter.used_bytes());
    const ExpertRoom room = lay_out_experts(arena, s, rows);
    EXPECT_TRUE(clear_experts(stream(), room, s));
    const auto slice = [&](const auto& of, int64_t width) {
      using T = typename std::decay_t<decltype(of)>::value_type;
      return to_device(std::vector<T>(of.begin() + first * width, of.begin() + (first + rows) * width));
    };
    const auto x_device = slice(x, s.columns), residual_device = slice(residual, s.columns);
    const auto logits_device = slice(logits, s.experts);
    const DeviceArray<uint8_t> x8(static_cast<size_t>(rows * s.columns));
    const DeviceArray<float> x_scale(static_cast<size_t>(rows));
    const bool fp8 = m.type == WeightType::kFp8;
    if (fp8) {
      quantize_rows(stream(), x_device.data(), rows, s.columns, {.data = x8.data(), .scale = x_scale.data()});
    }
    const auto enqueue = [&] {
      route_to_experts(stream(), s, logits_device.data(), rows, true, room);
      experts_feed_forward(stream(),
                           {.sizes = s,
                            .rows = rows,
                            .type = m.type,
                            .x = fp8 ? static_cast<const void*>(x8.data()) : x_device.data(),
                            .x_scale = x_scale.data(),
                            .gate_up = m.gate_up_device.data(),
                            .gate_up_scale = m.gate_up_scale.data(),
                            .down = m.down_device.data(),
                            .down_scale = m.down_scale.data(),
                            .residual = residual_device.data(),
                            .tile_slots = tile_slots},
                           room);
    };
    enqueue();
    finish();
    Outcome outcome;
    outcome.residual = residual_device.host();
    outcome.chosen.resize(static_cast<size_t>(rows * s.experts_per_token));
    outcome.weights.resize(outcome.chosen.size());
    CRIBLE_CUDA_CHECK(
        cudaMemcpy(outcome.chosen.data(), room.chosen, outcome.chosen.size() * 4, cudaMemcpyDeviceToHost));
    CRIBLE_CUDA_CHECK(
        cudaMemcpy(outcome.weights.data(), room.weights, outcome.weights.size() * 4, cudaMemcpyDeviceToHost));
    // A second time over the same room: the counts were left at zero.
    CRIBLE_CUDA_CHECK(cudaMemcpy(residual_device.data(), residual.data() + first * s.columns,
                                 static_cast<size_t>(rows * s.columns) * 2, cudaMemcpyHostToDevice));
    enqueue();
    finish();
    EXPECT_EQ(differences(residual_device.host(), outcome.residual.data(), s.columns), "") << "the second use differs";
    return outcome;
  }

  // Where two results are not the same bits; "" if nowhere.
  static std::string differences(const Bf16s& a, const __nv_bfloat16* b, int64_t columns) {
    int64_t count = 0;
    std::string first;
    for (size_t i = 0; i < a.size(); ++i) {
      if (std::memcmp(&a[i], &b[i], sizeof a[i]) == 0) continue;
      if (count++ == 0) {
        first = fmt::format("row {}, column {}: {} and {}", static_cast<int64_t>(i) / columns,
                            static_cast<int64_t>(i) % columns, exact(a[i]), exact(b[i]));
      }
    }
    return count == 0 ? "" : fmt::format("{} of {} values, first {}", count, a.size(), first);
  }
};

TEST_F(MoeCuda, AgreesWithFloat64WhateverTheTiles) {
  RandomValues random(1);
  const ExpertSizes sizes = {.experts = 20, .experts_per_token = 4, .columns = 512, .hidden = 256};
  constexpr int64_t kRows = 300;
  for (const WeightType type : {WeightType::kBf16, WeightType::kFp8}) {
    const Mixture m(random, sizes, type);
    const Bf16s x = random_bf16(random, kRows * sizes.columns);
    const Bf16s residual = random_bf16(random, kRows * sizes.columns);
    // Few experts get most rows: some have hundreds of slots, some none.
    std::vector<float> logits = random.normals(kRows * sizes.experts, 2.0f);
    for (int64_t r = 0; r < kRows; ++r) {
      logits[static_cast<size_t>(r * sizes.experts + 3)] += 8;
      logits[static_cast<size_t>(r * sizes.experts + 7)] = -100;
    }
    const Outcome all = run(m, x, logits, residual, 0, kRows, 0);
    std::vector<double> reference, result;
    const std::vector<double> wide = to_doubles(x);
    for (int64_t r = 0; r < kRows; r += 7) {
      const std::vector<double> row =
          m.row(&wide[static_cast<size_t>(r * sizes.columns)], &all.chosen[static_cast<size_t>(r * 4)],
                &all.weights[static_cast<size_t>(r * 4)]);
      for (int64_t c = 0; c < sizes.columns; ++c) {
        const size_t at = static_cast<size_t>(r * sizes.columns + c);
        reference.push_back(row[static_cast<size_t>(c)]);
        result.push_back(exact(all.residual[at]) - exact(residual[at]));
      }
    }
    // BF16: the hidden values and the experts' outputs are rounded; the sum is a sixth of the residual it is
    // added to and rounded with. FP8: x and the hidden values keep three bits, a relative error of about
    // 2^-5.
    const double distance = relative_distance(result, reference);
    EXPECT_LE(distance, type == WeightType::kBf16 ? 6 * kBf16Epsilon : 0.06);
    std::printf("%s: relative distance %.5f\n", type == WeightType::kBf16 ? "BF16" : "FP8", distance);
    for (const int tile : {8, 32, 128}) {
      for (const auto& [first, rows] :
           {std::pair<int64_t, int64_t>{0, kRows}, {0, 1}, {17, 1}, {100, 3}, {250, 50}}) {
        const Outcome some = run(m, x, logits, residual, first, rows, tile);
        EXPECT_EQ(differences(some.residual, all.residual.data() + first * sizes.columns, sizes.columns), "")
            << rows << " rows from " << first << " in tiles of " << tile << " depend on their company or the tile";
      }
    }
  }
}

TEST_F(MoeCuda, ChoosesAsTheCpuDoes) {
  RandomValues random(2);
  Stream cpu = Stream::create_cpu(2).value();
  for (const int64_t experts : {8, 60, 128, 512}) {
    const ExpertSizes sizes = {.experts = experts, .experts_per_token = 8, .columns = 256, .hidden = 128};
    constexpr int64_t kRows = 77;
    std::vector<float> logits = random.normals(kRows * experts, 3.0f);
    for (int64_t e = 0; e < experts; ++e)
      logits[static_cast<size_t>(5 * experts + e)] = static_cast<float>(e % 3);  // ties
    logits[static_cast<size_t>(9 * experts + 2)] = INFINITY;
    for (const bool normalise : {true, false}) {
      std::vector<int32_t> chosen(kRows * 8);
      std::vector<float> weights(kRows * 8);
      crible::route_to_experts(cpu, {.logits = logits.data(),
                                     .logits_stride = experts,
                                     .rows = kRows,
                                     .experts = experts,
                                     .experts_per_token = 8,
                                     .normalise = normalise,
                                     .chosen = chosen.data(),
                                     .weights = weights.data()});
      DeviceArena counter;
      lay_out_experts(counter, sizes, kRows);
      const DeviceArray<uint8_t> memory(static_cast<size_t>(counter.used_bytes()));
      DeviceArena arena(memory.data(), counter.used_bytes());
      const ExpertRoom room = lay_out_experts(arena, sizes, kRows);
      ASSERT_TRUE(clear_experts(stream(), room, sizes));
      const auto logits_device = to_device(logits);
      route_to_experts(stream(), sizes, logits_device.data(), kRows, normalise, room);
      finish();
      std::vector<int32_t> chosen_here(chosen.size()), counts(static_cast<size_t>(experts));
      std::vector<float> weights_here(weights.size());
      CRIBLE_CUDA_CHECK(
          cudaMemcpy(chosen_here.data(), room.chosen, chosen.size() * 4, cudaMemcpyDeviceToHost));
      CRIBLE_CUDA_CHECK(
          cudaMemcpy(weights_here.data(), room.weights, weights.size() * 4, cudaMemcpyDeviceToHost));
      CRIBLE_CUDA_CHECK(cudaMemcpy(counts.data(), room.counts, counts.size() * 4, cudaMemcpyDeviceToHost));
      EXPECT_EQ(chosen_here, chosen) << experts << " experts";
      for (size_t i = 0; i < weights.size(); ++i) {
        if (std::isnan(weights[i])) {
          EXPECT_TRUE(std::isnan(weights_here[i]));
        } else {
          EXPECT_NEAR(weights_here[i], weights[i], 1e-5f * weights[i] + 1e-9f);
        }
      }
      for (int64_t e = 0; e < experts; ++e) {
        EXPECT_EQ(counts[static_cast<size_t>(e)],
                  std::count(chosen.begin(), chosen.end(), static_cast<int32_t>(e)));
      }
    }
  }
}

// What choose_experts() left of one batch, on the host.
struct ChosenBatch {
  ExpertSizes sizes;
  Bf16s residual, norm_weight, router;
  Bf16s normed;
  std::vector<uint8_t> quantised;
  std::vector<float> scales, weights;
  std::vector<int32_t> chosen, places, rows, tile_expert, tile_begin, tile_end;

  double element(const Bf16s& of, int64_t row, int64_t column) const {
    return exact(of[static_cast<size_t>(row * sizes.columns + column)]);
  }

  // Every place belongs to one slot, and lies in its expert's tile.
  void expect_grouped() const {
    std::vector<int> owners(chosen.size(), 0);
    for (size_t slot = 0; slot < chosen.size(); ++slot) {
      ASSERT_GE(places[slot], 0);
      ASSERT_LT(places[slot], static_cast<int32_t>(chosen.size()));
      ++owners[static_cast<size_t>(places[slot])];
      EXPECT_EQ(rows[static_cast<size_t>(places[slot])],
                static_cast<int32_t>(slot) / static_cast<int32_t>(sizes.experts_per_token));
      const auto found = std::find(tile_expert.begin(), tile_expert.end(), chosen[slot]);
      ASSERT_NE(found, tile_expert.end());
      const auto tile = static_cast<size_t>(found - tile_expert.begin());
      EXPECT_GE(places[slot], tile_begin[tile]);
      EXPECT_LT(places[slot], tile_end[tile]);
    }
    EXPECT_EQ(std::count(owners.begin(), owners.end(), 1), static_cast<int64_t>(chosen.size()));
  }

  // The norm of a row in both types.
  void expect_normed(int64_t row) const {
    double squares = 0;
    for (int64_t c = 0; c < sizes.columns; ++c) squares += std::pow(element(residual, row, c), 2);
    const double factor = 1 / std::sqrt(squares / static_cast<double>(sizes.columns) + 1e-6);
    std::vector<double> x, got, from_fp8;
    for (int64_t c = 0; c < sizes.columns; ++c) {
      x.push_back(element(residual, row, c) * factor * exact(norm_weight[static_cast<size_t>(c)]));
      got.push_back(element(normed, row, c));
      const uint8_t byte = quantised[static_cast<size_t>(row * sizes.columns + c)];
      const __half value(__nv_cvt_fp8_to_halfraw(byte, __NV_E4M3));
      from_fp8.push_back(static_cast<double>(__half2float(value)) *
                         static_cast<double>(scales[static_cast<size_t>(row)]));
    }
    EXPECT_LE(relative_distance(got, x), kBf16Epsilon);
    EXPECT_LE(relative_distance(from_fp8, x), 0.04);
  }

  // The choice of a row, by the logits of what its norm was rounded to.
  void expect_chosen(int64_t row) const {
    std::vector<double> logits;
    for (int64_t e = 0; e < sizes.experts; ++e) {
      double sum = 0;
      for (int64_t c = 0; c < sizes.columns; ++c) sum += element(normed, row, c) * element(router, e, c);
      logits.push_back(sum);
    }
    std::vector<double> sorted = logits;
    std::sort(sorted.rbegin(), sorted.rend());
    const int64_t k = sizes.experts_per_token;
    double total = 0;
    for (int64_t j = 0; j < k; ++j) total += std::exp(sorted[static_cast<size_t>(j)]);
    for (int64_t j = 0; j < k; ++j) {
      const auto slot = static_cast<size_t>(row * k + j);
      const double logit = logits[static_cast<size_t>(chosen[slot])];
      // float32 sums over thousands of products of size one.
      EXPECT_NEAR(logit, sorted[static_cast<size_t>(j)], 1e-4);
      EXPECT_NEAR(static_cast<double>(weights[slot]), std::exp(logit) / total, 1e-4);
    }
  }
};

template <typename T>
std::vector<T> fetch(const T* from, size_t count) {
  std::vector<T> values(count);
  CRIBLE_CUDA_CHECK(cudaMemcpy(values.data(), from, count * sizeof(T), cudaMemcpyDeviceToHost));
  return values;
}

// Norm, router, choice and grouping in one kernel.
TEST_F(MoeCuda, FewRowsAreChosenForInOneKernel) {
  RandomValues random(3);
  for (const auto& [experts, columns] : {std::pair<int64_t, int64_t>{128, 2048}, {60, 512}, {256, 4096}}) {
    for (const int rows : {1, 3, 8}) {
      ChosenBatch b;
      b.sizes = {.experts = experts, .experts_per_token = 8, .columns = columns, .hidden = 128};
      b.norm_weight = random_bf16(random, columns);
      b.router = random_bf16(random, experts * columns, 2.0f / std::sqrt(static_cast<float>(columns)));
      b.residual = random_bf16(random, rows * columns, 3.0f);
      const auto norm_device = to_device(b.norm_weight), router_device = to_device(b.router);
      const auto residual_device = to_device(b.residual);
      const DeviceArray<__nv_bfloat16> normed(b.residual.size());
      const DeviceArray<uint8_t> quantised(b.residual.size());
      const DeviceArray<float> scales(static_cast<size_t>(rows));
      DeviceArena counter;
      lay_out_experts(counter, b.sizes, rows);
      const DeviceArray<uint8_t> memory(static_cast<size_t>(counter.used_bytes()));
      DeviceArena arena(memory.data(), counter.used_bytes());
      const ExpertRoom room = lay_out_experts(arena, b.sizes, rows);
      ASSERT_TRUE(choose_experts_fits(b.sizes, rows));
      ChooseArgs args = {.sizes = b.sizes,
                         .rows = rows,
                         .residual = residual_device.data(),
                         .norm_weight = norm_device.data(),
                         .epsilon = 1e-6f,
                         .router = router_device.data(),
                         .normed = normed.data()};
      choose_experts(stream(), args, room);
      args.quantised = quantised.data();
      args.scales = scales.data();
      choose_experts(stream(), args, room);
      finish();
      const auto slots = static_cast<size_t>(rows * 8);
      const auto tiles = static_cast<size_t>(fetch(room.tile_count, 1)[0]);
      b.normed = normed.host();
      b.quantised = quantised.host();
      b.scales = scales.host();
      b.weights = fetch(room.weights, slots);
      b.chosen = fetch(room.chosen, slots);
      b.places = fetch(room.places, slots);
      b.rows = fetch(room.rows, slots);
      b.tile_expert = fetch(room.tile_expert, tiles);
      b.tile_begin = fetch(room.tile_begin, tiles);
      b.tile_end = fetch(room.tile_end, tiles);
      b.expect_grouped();
      for (int64_t row = 0; row < rows; ++row) {
        b.expect_normed(row);
        b.expect_chosen(row);
      }
    }
  }
}

TEST(MoeCudaLimits, SizesThatDoNotFitAreSaid) {
  EXPECT_TRUE(experts_fit({.experts = 128, .experts_per_token = 8, .columns = 2048, .hidden = 768}));
  EXPECT_FALSE(experts_fit({.experts = 128, .experts_per_token = 8, .columns = 2048, .hidden = 700}));
  EXPECT_FALSE(experts_fit({.experts = 1024, .experts_per_token = 8, .columns = 2048, .hidden = 768}));
  EXPECT_FALSE(experts_fit({.experts = 4, .experts_per_token = 8, .columns = 2048, .hidden = 768}));
}

}  // namespace
}  // namespace crible::cuda
