#include <array>

#include "ops/matmul/tiled_product.cuh"

namespace crible::cuda {
namespace {

template <TiledEpilogue kEpilogue, int kRowBlocks, int kColumns, TileShare kShare>
TiledKernel kernel() {
  return tiled_kernel<TileShape<WeightType::kBf16, kEpilogue, kRowBlocks, kColumns, kShare, 1>>();
}

}  // namespace

std::span<const TiledKernel> tiled_kernels_bf16_gated() {
  constexpr TiledEpilogue kEnd = TiledEpilogue::kGated;
  static const std::array kKernels = {
      kernel<kEnd, 1, 256, TileShare::kWeight>(), kernel<kEnd, 2, 192, TileShare::kX>(),
      kernel<kEnd, 1, 192, TileShare::kNone>(), kernel<kEnd, 1, 192, TileShare::kWeight>()};
  return kKernels;
}

std::span<const TiledKernel> tiled_kernels_bf16_float() {
  constexpr TiledEpilogue kEnd = TiledEpilogue::kFloat;
  static const std::array kKernels = {kernel<kEnd, 1, 256, TileShare::kWeight>(),
                                      kernel<kEnd, 2, 192, TileShare::kX>(),
                                      kernel<kEnd, 1, 192, TileShare::kNone>()};
  return kKernels;
}

}  // namespace crible::cuda
