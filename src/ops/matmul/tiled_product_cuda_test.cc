// Every kernel of the tiled products against float64, at ragged sizes, with what lies around the results
// untouched.
#include "ops/matmul/tiled_product_cuda.h"

#include <cuda_fp8.h>

#include <functional>

#include "device/cuda/gpu_test.h"
#include "ops/fill_random/fill_random_cuda.h"
#include "ops/gpu_values.h"

namespace crible::cuda {
namespace {

std::vector<double> gated(const std::vector<double>& both, int64_t rows) {
  const int64_t columns = static_cast<int64_t>(both.size()) / rows / 2;
  std::vector<double> out;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      const double gate = both[static_cast<size_t>(r * 2 * columns + c)];
      out.push_back(gate / (1 + std::exp(-gate)) * both[static_cast<size_t>((r * 2 + 1) * columns + c)]);
    }
  }
  return out;
}

double fp8_value(uint8_t byte) {
  __nv_fp8_e4m3 v;
  v.__x = byte;
  return static_cast<double>(static_cast<float>(v));
}

// Sizes that are no multiples of a tile, a step or a part of K.
const ProductSize kSizes[] = {{1, 32, 64}, {64, 224, 144}, {130, 544, 1040}, {257, 416, 512}, {600, 1568, 272}};
constexpr int64_t kGuard = 16;  // columns and rows around a result

class TiledProductCuda : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (!IsSkipped()) products_.emplace(TiledProducts::create().value());
  }
  // Runs every kernel for args, whose out is replaced by poisoned memory with a guard, or by `before` inside
  // it, and hands its results to `check`.
  template <typename T>
  void for_each_kernel(MatmulArgs args, bool gated, const std::vector<T>& before,
                       const std::function<void(const TiledKernel&, const std::vector<T>&)>& check) {
    const int64_t columns = gated ? args.out_features / 2 : args.out_features;
    const int64_t stride = columns + kGuard;
    const std::span<const TiledKernel> kernels = products_->kernels(args, gated);
    ASSERT_FALSE(kernels.empty());
    for (size_t k = 0; k < kernels.size(); ++k) {
      const DeviceArray<T> out(static_cast<size_t>((args.rows + kGuard) * stride));
      if (!before.empty()) {
        CRIBLE_CUDA_CHECK(cudaMemcpy2D(out.data(), static_cast<size_t>(stride) * sizeof(T), before.data(),
                                       static_cast<size_t>(columns) * sizeof(T),
                                       static_cast<size_t>(columns) * sizeof(T),
                                       static_cast<size_t>(args.rows), cudaMemcpyHostToDevice));
      }
      args.out = out.data();
      args.out_stride = stride;
      products_->run(stream(), static_cast<int>(k), args, gated);
      finish();
      const std::vector<T> all = out.host();
      std::vector<T> inside;
      int64_t touched = 0;
      for (int64_t r = 0; r < args.rows + kGuard; ++r) {
        for (int64_t c = 0; c < stride; ++c) {
          const T& value = all[static_cast<size_t>(r * stride + c)];
          if (r < args.rows && c < columns) {
            inside.push_back(value);
          } else {
            const T poison = []() {
              T p;
              std::memset(&p, 0xFF, sizeof p);
              return p;
            }();
            touched += std::memcmp(&value, &poison, sizeof value) != 0 ? 1 : 0;
          }
        }
      }
      SCOPED_TRACE(fmt::format("{} rows, {} x {}: kernel {} x {}, share {}, {} parts", args.rows,
                               args.out_features, args.in_features, kernels[k].rows, kernels[k].columns,
                               static_cast<int>(kernels[k].share), kernels[k].split));
      EXPECT_EQ(touched, 0);
      check(kernels[k], inside);
    }
  }

  TiledProducts& products() { return *products_; }

 private:
  std::optional<TiledProducts> products_;
};

TEST_F(TiledProductCuda, Bf16AgreesWithFloat64) {
  RandomValues random(1);
  for (const ProductSize& s : kSizes) {
    const Bf16s x = random_bf16(random, s.rows * s.in), w = random_bf16(random, s.out * s.in, 0.1f);
    const auto x_device = to_device(x), w_device = to_device(w);
    const std::vector<double> expected = float64_product(to_doubles(x), to_doubles(w), s);
    MatmulArgs args = {.x = x_device.data(),
                       .rows = s.rows,
                       .weight = w_device.data(),
                       .out_features = s.out,
                       .in_features = s.in};
    const double size = 0.1 * std::sqrt(static_cast<double>(s.in));  // of a typical output
    for_each_kernel<__nv_bfloat16>(args, false, {}, [&](const TiledKernel&, const Bf16s& out) {
      expect_each_near(out, expected, kBf16Epsilon, 1e-4 * size);
    });
    for_each_kernel<__nv_bfloat16>(args, true, {}, [&](const TiledKernel&, const Bf16s& out) {
      // silu's slope is at most 1.1, gate and up up to five deviations: an error of a sum grows by those.
      expect_each_near(out, gated(expected, s.rows), kBf16Epsilon * 1.01, 1e-4 * size * (1 + 10 * size));
    });
    args.out_type = OutputType::kFloat;
    for_each_kernel<float>(args, false, {}, [&](const TiledKernel&, const std::vector<float>& out) {
      expect_each_near(out, expected, 1e-5, 1e-5 * size);
    });
  }
}

TEST_F(TiledProductCuda, AddsToTheResidual) {
  RandomValues random(2);
  for (const ProductSize& s : kSizes) {
    const Bf16s x = random_bf16(random, s.rows * s.in), w = random_bf16(random, s.out * s.in, 0.1f);
    const Bf16s residual = random_bf16(random, s.rows * s.out, 5.0f);
    const auto x_device = to_device(x), w_device = to_device(w);
    const std::vector<double> sums = float64_product(to_doubles(x), to_doubles(w), s);
    for_each_kernel<__nv_bfloat16>(
        {.x = x_device.data(),
         .rows = s.rows,
         .weight = w_device.data(),
         .out_features = s.out,
         .in_features = s.in,
         .accumulate = true},
        false, residual, [&](const TiledKernel&, const Bf16s& out) {
          for (size_t i = 0; i < sums.size(); ++i) {
            const double expected = sums[i] + exact(residual[i]);
            // One rounding of the product, one of the sum.
            ASSERT_LE(std::abs(exact(out[i]) - expected),
                      kBf16Epsilon * 1.01 * (std::abs(sums[i]) + std::abs(expected)) + 1e-3)
                << i;
          }
        });
  }
}

// Quantised rows and a weight with scales per row, and what they stand for.
struct Fp8Operands {
  DeviceArray<uint8_t> x, w;
  DeviceArray<float> x_scale, w_scale;
  std::vector<double> xs, ws;
  ProductSize s;

  Fp8Operands(const CudaStream& stream, RandomValues& random, const ProductSize& size)
      : x(static_cast<size_t>(size.rows * size.in)),
        w(static_cast<size_t>(size.out * size.in)),
        x_scale(static_cast<size_t>(size.rows)),
        w_scale(static_cast<size_t>(size.out)),
        s(size) {
    const auto quantise = [&](int64_t rows, float scale, const DeviceArray<uint8_t>& to,
                              const DeviceArray<float>& scales) {
      const auto values = to_device(random_bf16(random, rows * s.in, scale));
      quantize_rows(stream, values.data(), rows, s.in, {.data = to.data(), .scale = scales.data()});
      CRIBLE_CUDA_CHECK(cudaStreamSynchronize(stream.get()));
      const std::vector<uint8_t> bytes = to.host();
      const std::vector<float> of_rows = scales.host();
      std::vector<double> meant;
      for (size_t i = 0; i < bytes.size(); ++i)
        meant.push_back(fp8_value(bytes[i]) * static_cast<double>(of_rows[i / static_cast<size_t>(s.in)]));
      return meant;
    };
    xs = quantise(s.rows, 3.0f, x, x_scale);
    ws = quantise(s.out, 0.1f, w, w_scale);
  }
  MatmulArgs args() const {
    return {.type = WeightType::kFp8,
            .x = x.data(),
            .x_scale = x_scale.data(),
            .rows = s.rows,
            .weight = w.data(),
            .weight_scale = w_scale.data(),
            .out_features = s.out,
            .in_features = s.in,
            .fast_sums = true};
  }
};

// The tensor cores keep about 14 bits of a partial FP8 sum: an instruction adds 32 products, and each
// addition may cut off one part in 2^13 of the sum so far; with one rounding to BF16.
TEST_F(TiledProductCuda, Fp8AgreesWithFloat64OfTheQuantisedOperands) {
  RandomValues random(3);
  for (const ProductSize& s : kSizes) {
    const Fp8Operands operands(stream(), random, s);
    const std::vector<double> expected = float64_product(operands.xs, operands.ws, s);
    const double cut = 0x1p-13 * std::sqrt(static_cast<double>(s.in) / 32);
    for_each_kernel<__nv_bfloat16>(operands.args(), false, {}, [&](const TiledKernel&, const Bf16s& out) {
      EXPECT_LE(relative_distance(to_doubles(out), expected), 0x1p-9 + cut);
    });
    for_each_kernel<__nv_bfloat16>(operands.args(), true, {}, [&](const TiledKernel&, const Bf16s& out) {
      EXPECT_LE(relative_distance(to_doubles(out), gated(expected, s.rows)), 0x1p-9 + 4 * cut);
    });
    MatmulArgs onto = operands.args();
    onto.accumulate = true;
    const Bf16s residual = random_bf16(random, s.rows * s.out, 5.0f);
    std::vector<double> sums = expected;
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += exact(residual[i]);
    for_each_kernel<__nv_bfloat16>(onto, false, residual, [&](const TiledKernel&, const Bf16s& out) {
      EXPECT_LE(relative_distance(to_doubles(out), sums), 0x1p-8 + cut);
    });
  }
}

// The same bits again, and in a slice that begins and ends elsewhere; kernels that do not split K agree bit
// for bit.
TEST_F(TiledProductCuda, ResultsAreTheSameRunToRunAndRowByRow) {
  RandomValues random(4);
  const ProductSize s = {600, 1568, 1040};
  const Bf16s x = random_bf16(random, s.rows * s.in), w = random_bf16(random, s.out * s.in, 0.1f);
  const auto x_device = to_device(x), w_device = to_device(w);
  const DeviceArray<__nv_bfloat16> out(static_cast<size_t>(s.rows * s.out));
  bool settled = false;  // the other way each time
  const auto run = [&](int kernel, int64_t first, int64_t rows) {
    CRIBLE_CUDA_CHECK(cudaMemset(out.data(), 0xFF, static_cast<size_t>(s.rows * s.out) * 2));
    products().run(stream(), kernel,
                   {.x = x_device.data() + first * s.in,
                    .rows = rows,
                    .weight = w_device.data(),
                    .out_features = s.out,
                    .in_features = s.in,
                    .out = out.data(),
                    .settled_weight = settled},
                   false);
    settled = !settled;
    finish();
    Bf16s all = out.host();
    all.resize(static_cast<size_t>(rows * s.out));
    return all;
  };
  const auto same = [](const __nv_bfloat16* a, const Bf16s& b) {
    return std::memcmp(a, b.data(), b.size() * sizeof(b[0])) == 0;
  };
  const std::span<const TiledKernel> kernels = products().kernels({}, false);
  std::optional<Bf16s> whole;
  for (size_t k = 0; k < kernels.size(); ++k) {
    const int kernel = static_cast<int>(k);
    const Bf16s all = run(kernel, 0, s.rows);
    for (int again = 0; again < 5; ++again) EXPECT_TRUE(same(all.data(), run(kernel, 0, s.rows))) << k;
    for (int i = 0; i < 10; ++i) {
      const int64_t rows = random.integer(1, s.rows);
      const int64_t first = random.integer(0, s.rows - rows);
      EXPECT_TRUE(same(all.data() + first * s.out, run(kernel, first, rows)))
          << k << ": " << rows << " of " << first;
    }
    if (kernels[k].split > 1) continue;
    if (!whole) whole = all;
    EXPECT_TRUE(same(all.data(), *whole)) << k;
  }
}

// The products of real layers at ragged numbers of rows: 64 of the results against float64.
TEST_F(TiledProductCuda, TheLayersOfQwen3AgreeWithFloat64) {
  RandomValues random(5);
  for (const ProductSize& s :
       {ProductSize{600, 6144, 4096}, ProductSize{256, 4096, 4096}, ProductSize{300, 24576, 4096}, ProductSize{77, 4096, 12288},
        ProductSize{200, 10240, 5120}, ProductSize{513, 5120, 8192}, ProductSize{33, 51200, 5120}, ProductSize{129, 5120, 25600},
        ProductSize{450, 4096, 1024}, ProductSize{64, 1024, 2048}, ProductSize{260, 6144, 1024}, ProductSize{511, 1024, 3072}}) {
    const DeviceArray<__nv_bfloat16> x(static_cast<size_t>(s.rows * s.in)),
        w(static_cast<size_t>(s.out * s.in)), out(static_cast<size_t>(s.rows * s.out));
    const auto deviation = static_cast<float>(1 / std::sqrt(static_cast<double>(s.in)));
    fill_random(stream(), x.data(), s.rows * s.in, 6, 0.0f, 1.0f);
    fill_random(stream(), w.data(), s.out * s.in, 7, 0.0f, deviation);
    finish();
    const auto row_of = [&](const DeviceArray<__nv_bfloat16>& matrix, int64_t row) {
      Bf16s values(static_cast<size_t>(s.in));
      CRIBLE_CUDA_CHECK(
          cudaMemcpy(values.data(), matrix.data() + row * s.in, values.size() * 2, cudaMemcpyDeviceToHost));
      return to_doubles(values);
    };
    struct Sample {
      size_t place;
      double expected;
    };
    std::vector<Sample> samples;
    for (int i = 0; i < 64; ++i) {
      const int64_t r = random.integer(0, s.rows - 1), n = random.integer(0, s.out - 1);
      samples.push_back(
          {static_cast<size_t>(r * s.out + n), float64_product(row_of(x, r), row_of(w, n), {1, 1, s.in})[0]});
    }
    const MatmulArgs args = {.x = x.data(),
                             .rows = s.rows,
                             .weight = w.data(),
                             .out_features = s.out,
                             .in_features = s.in,
                             .out = out.data()};
    for (const int kernel : products().candidates(args, false, false)) {
      CRIBLE_CUDA_CHECK(cudaMemset(out.data(), 0xFF, static_cast<size_t>(s.rows * s.out) * 2));
      products().run(stream(), kernel, args, false);
      finish();
      const Bf16s all = out.host();
      for (const Sample& sample : samples) {
        ASSERT_LE(std::abs(exact(all[sample.place]) - sample.expected),
                  kBf16Epsilon * std::abs(sample.expected) + 1e-4)
            << s.rows << " rows, " << s.out << " x " << s.in << ", kernel " << kernel << ", at "
            << sample.place;
      }
    }
  }
}

// Needs no GPU.
TEST(TiledPlaces, CoverTheMatrixAndLeaveOutWhatCannotWin) {
  const TiledKernel pairs = {.rows = 128, .columns = 256, .share = TileShare::kWeight, .split = 1};
  EXPECT_EQ(tile_places(pairs, 256, 24576).count(), 96);
  EXPECT_EQ(tile_places(pairs, 257, 24576).rows, 2);
  const TiledKernel wide = {.rows = 256, .columns = 192, .share = TileShare::kX, .split = 1};
  EXPECT_EQ(tile_places(wide, 256, 24576).count(), 64);
  EXPECT_EQ(tile_places(wide, 1, 400).columns, 2);
  EXPECT_EQ(wide.cluster(), 2);
  const TiledKernel parts = {
      .rows = 128, .columns = 256, .share = TileShare::kWeight, .split = 4, .most_clusters = 16};
  EXPECT_EQ(parts.cluster(), 8);
  const auto worth = [](const TiledKernel& kernel, int64_t rows, int64_t out, int64_t in) {
    return worth_measuring(kernel, {.rows = rows, .out_features = out, .in_features = in});
  };
  EXPECT_TRUE(worth(parts, 256, 4096, 4096));
  EXPECT_FALSE(worth(parts, 512, 4096, 4096));  // 32 clusters
  EXPECT_FALSE(worth(parts, 256, 4096, 960));   // fifteen steps for four
  EXPECT_FALSE(worth(parts, 128, 4096, 4096));  // half of each pair would multiply nothing
  EXPECT_TRUE(worth(pairs, 129, 4096, 64));
  EXPECT_TRUE(worth(wide, 8192, 64, 64));
}

}  // namespace
}  // namespace crible::cuda
