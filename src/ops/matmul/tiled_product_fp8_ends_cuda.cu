#include <array>

#include "ops/matmul/tiled_product.cuh"

namespace crible::cuda {
namespace {

template <int kRowBlocks, int kColumns, TileShare kShare>
TiledKernel kernel() {
  return tiled_kernel<TileShape<WeightType::kFp8, TiledEpilogue::kGated, kRowBlocks, kColumns, kShare, 1>>();
}

}  // namespace

std::span<const TiledKernel> tiled_kernels_fp8_gated() {
  static const std::array kKernels = {kernel<1, 256, TileShare::kWeight>(), kernel<2, 192, TileShare::kX>(),
                                      kernel<1, 192, TileShare::kNone>(),
                                      kernel<1, 192, TileShare::kWeight>()};
  return kKernels;
}

}  // namespace crible::cuda
