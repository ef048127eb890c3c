#include <array>

#include "ops/matmul/tiled_product.cuh"

namespace crible::cuda {
namespace {

template <int kRowBlocks, int kColumns, TileShare kShare, int kSplit>
TiledKernel kernel() {
  return tiled_kernel<
      TileShape<WeightType::kBf16, TiledEpilogue::kStore, kRowBlocks, kColumns, kShare, kSplit>>();
}

}  // namespace

std::span<const TiledKernel> tiled_kernels_bf16() {
  static const std::array kKernels = {
      kernel<1, 256, TileShare::kWeight, 1>(), kernel<2, 192, TileShare::kX, 1>(),
      kernel<1, 192, TileShare::kNone, 1>(),   kernel<1, 192, TileShare::kWeight, 1>(),
      kernel<1, 144, TileShare::kWeight, 2>(), kernel<1, 208, TileShare::kWeight, 2>(),
      kernel<1, 160, TileShare::kNone, 4>(),   kernel<1, 224, TileShare::kNone, 4>()};
  return kKernels;
}

}  // namespace crible::cuda
