// Matmul's products that end with silu(gate) · up. By MatmulRule::kSameBits all kernels that do it at once
// must have been seen to agree, and are then taken for every number of rows or for none: two steps round in
// between.
#include <cuda_runtime_api.h>

#include <cmath>

#include "base/check.h"
#include "device/cuda/cuda_status.h"
#include "ops/matmul/cublaslt_matmul_cuda.h"
#include "ops/matmul/row_hashes_cuda.h"
#include "ops/silu_mul/silu_mul_cuda.h"

namespace crible::cuda {
namespace {

// As `kernel` says (MatmulChoices::Tables::gated).
Status run_as(const CudaStream& stream, const Matmul& matmul, const TiledProducts& tiled, int kernel,
              const GatedMatmulArgs& args) {
  const int64_t columns = args.product.out_features / 2;
  if (kernel < 0) {
    CRIBLE_RETURN_IF_ERROR(matmul.run(stream, args.product));
    silu_mul(stream, {.gate_up = static_cast<const __nv_bfloat16*>(args.product.out),
                      .out = args.gated,
                      .rows = args.product.rows,
                      .columns = columns,
                      .quantised = args.quantised});
    return {};
  }
  MatmulArgs product = args.product;
  product.out = args.gated;
  tiled.run(stream, kernel, product, /*gated=*/true);
  if (args.quantised.data != nullptr) {
    quantize_rows(stream, args.gated, product.rows, columns, args.quantised);
  }
  return {};
}

GatedMatmulArgs with_rows(GatedMatmulArgs args, int64_t rows) {
  args.product.rows = rows;
  return args;
}

// Of the rows of a kernel's results.
Result<std::vector<uint64_t>> hashes_of(const CudaStream& stream, const TiledProducts& tiled, int kernel,
                                        const GatedMatmulArgs& args, const DeviceBuffer& on_device) {
  MatmulArgs product = args.product;
  product.out = args.gated;
  tiled.run(stream, kernel, product, /*gated=*/true);
  hash_rows(stream, args.gated, product.rows, product.out_features,
            on_device.as<uint64_t>());  // half of them, BF16
  std::vector<uint64_t> hashes(static_cast<size_t>(product.rows));
  CRIBLE_CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(hashes.data(), on_device.data(), hashes.size() * 8,
                                              cudaMemcpyDeviceToHost, stream.get()));
  CRIBLE_RETURN_IF_ERROR(stream.synchronize());
  return hashes;
}

// Whether all these kernels give a row the same bits wherever it stands and however many there are, as far as
// rows of x that repeat every kPatternRows show: at the ends of every bucket.
Result<bool> rows_keep_their_bits(const CudaStream& stream, const TiledProducts& tiled,
                                  const std::vector<int>& kernels, const GatedMatmulArgs& args,
                                  int64_t max_rows) {
  CRIBLE_TRY(const DeviceBuffer on_device, DeviceBuffer::allocate(max_rows * 8));
  std::vector<uint64_t> pattern;
  for (const int kernel : kernels) {
    for (int bucket = bucket_of(max_rows); bucket >= kSmallestBucket; --bucket) {
      const int64_t largest = std::min<int64_t>(max_rows, int64_t{1} << bucket);
      for (const int64_t rows : {largest, std::max<int64_t>(largest - 1, 1), largest / 2 + 1}) {
        CRIBLE_TRY(const std::vector<uint64_t> hashes,
                   hashes_of(stream, tiled, kernel, with_rows(args, rows), on_device));
        if (pattern.empty()) {
          const auto period = static_cast<size_t>(std::min(rows, kPatternRows));
          pattern.assign(hashes.begin(), hashes.begin() + static_cast<int64_t>(period));
        }
        for (size_t r = 0; r < hashes.size(); ++r) {
          if (hashes[r] != pattern[r % pattern.size()]) return false;
        }
      }
    }
  }
  return true;
}

}  // namespace

Status Matmul::tune_gated(const CudaStream& stream, GatedMatmulArgs args, int64_t max_rows) {
  CHECK(args.product.out_features % 32 == 0 && args.product.out_stride == 0, "a gated product of {} outputs",
        args.product.out_features);
  std::map<int, int>& choices = impl_->gated[key_of(args.product)];
  if (choices.contains(bucket_of(max_rows))) return {};
  CRIBLE_RETURN_IF_ERROR(tune(stream, args.product, max_rows));
  std::vector<int> whole =
      impl_->tiled.candidates(with_rows(args, max_rows).product, /*gated=*/true, /*whole=*/true);
  if (impl_->rule == MatmulRule::kSameBits) {
    CRIBLE_TRY(const bool alike, rows_keep_their_bits(stream, impl_->tiled, whole, args, max_rows));
    if (!alike) whole.clear();
  }
  double won = 0;  // log of the time of two steps over that of the best kernel, over all buckets
  std::map<int, int> best_kernels;
  for (int bucket = kSmallestBucket; bucket <= bucket_of(max_rows); ++bucket) {
    if (impl_->rule == MatmulRule::kFastest) {
      if (choices.contains(bucket)) continue;
      if (bucket > kLargestMeasured) {
        choices[bucket] = choices.at(bucket - 1);
        continue;
      }
    }
    const GatedMatmulArgs sized = with_rows(args, std::min<int64_t>(max_rows, int64_t{1} << bucket));
    std::vector<int> kernels = whole;
    kernels.push_back(-1);
    std::vector<std::function<Status()>> ways;
    for (const int kernel : kernels)
      ways.push_back([&, kernel] { return run_as(stream, *this, impl_->tiled, kernel, sized); });
    CRIBLE_TRY(const std::vector<double> ms, impl_->time_ms(stream, sized.product, ways));
    const auto best = std::min_element(ms.begin(), ms.end() - 1);
    choices[bucket] =
        best != ms.end() - 1 && *best < ms.back() ? kernels[static_cast<size_t>(best - ms.begin())] : -1;
    if (best == ms.end() - 1) continue;
    best_kernels[bucket] = kernels[static_cast<size_t>(best - ms.begin())];
    // One that was not timed to the end was far behind.
    constexpr double kFar = 0.22;
    const bool both = std::isfinite(ms.back()) && std::isfinite(*best);
    won += both ? std::log(ms.back() / *best) : std::isfinite(*best) ? kFar : -kFar;
  }
  if (impl_->rule == MatmulRule::kSameBits) {
    // Two steps round gate and up in between: all buckets the one way or the other.
    for (auto& [bucket, kernel] : choices)
      kernel = won > 0 && best_kernels.contains(bucket) ? best_kernels[bucket] : -1;
  }
  return {};
}

Status Matmul::run_gated(const CudaStream& stream, const GatedMatmulArgs& args) const {
  if (args.product.rows == 0) return {};
  const auto shape = impl_->gated.find(key_of(args.product));
  CHECK(shape != impl_->gated.end(), "gated matmul {} x {} was not tuned", args.product.out_features,
        args.product.in_features);
  return run_as(stream, *this, impl_->tiled, shape->second.at(bucket_of(args.product.rows)), args);
}

}  // namespace crible::cuda
