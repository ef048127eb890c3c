// Matmul's products that end with silu(gate) · up.
#include "base/check.h"
#include "ops/matmul/cublaslt_matmul_cuda.h"
#include "ops/silu_mul/silu_mul_cuda.h"

namespace crible::cuda {
namespace {

// As `kernel` says (Matmul::Impl::gated).
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

}  // namespace

Status Matmul::tune_gated(const CudaStream& stream, GatedMatmulArgs args, int64_t max_rows) {
  CHECK(args.product.out_features % 32 == 0 && args.product.out_stride == 0, "a gated product of {} outputs",
        args.product.out_features);
  CRIBLE_RETURN_IF_ERROR(tune(stream, args.product, max_rows));
  std::map<int, int>& choices = impl_->gated[key_of(args.product)];
  for (int bucket = kSmallestBucket; bucket <= bucket_of(max_rows); ++bucket) {
    if (choices.contains(bucket)) continue;
    choices[bucket] = -1;
    if (impl_->rule == MatmulRule::kSameBits) continue;
    args.product.rows = std::min<int64_t>(max_rows, int64_t{1} << bucket);
    std::vector<int> kernels = impl_->tiled.candidates(args.product, /*gated=*/true, /*whole=*/true);
    kernels.push_back(-1);
    std::optional<double> best;
    for (const int kernel : kernels) {
      CRIBLE_TRY(const std::optional<double> ms, impl_->time_ms(stream, [&] {
                   return run_as(stream, *this, impl_->tiled, kernel, args);
                 }));
      if (ms && (!best || *ms < *best)) {
        best = ms;
        choices[bucket] = kernel;
      }
    }
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
