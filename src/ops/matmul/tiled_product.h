// What the tiled products' kernels (tiled_product.cuh) and their launcher (tiled_product_cuda.cu) agree on.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <span>

#include "ops/matmul/matmul_cuda.h"

namespace crible::cuda {

// What two blocks of a cluster both read: each copies half of it from device memory and hands it to both.
enum class TileShare : uint8_t { kNone, kWeight, kX };

enum class TiledEpilogue : uint8_t {
  kStore,  // out = sums, or out += sums, BF16
  kGated,  // out = silu(gate) · up, BF16; the weight's first half is gate's
  kFloat,  // out = sums, float32
};

struct TiledProductParams {
  CUtensorMap x, weight, out;
  int row_places = 0;  // tiles, or pairs of tiles that share their weights, over the rows of x
  int column_places = 0;
  int steps = 0;      // of 128 bytes along K
  int up_offset = 0;  // weight rows between the two halves of a tile's
  int rows = 0;
  int weight_rows = 0;
  const float* x_scale = nullptr;       // FP8: [rows]
  const float* weight_scale = nullptr;  // FP8: [weight_rows]
  bool accumulate = false;
  bool settled_weight = false;  // may be read before the kernel before this one has ended
};

struct TiledKernel {
  void (*function)(TiledProductParams) = nullptr;
  int rows = 0;     // of x, in a tile
  int columns = 0;  // weight rows of a tile
  int chunk = 0;    // columns of out that are written at once
  TileShare share = TileShare::kNone;
  int split = 1;  // blocks of a cluster that each add up a part of K
  int shared_bytes = 0;
  int most_clusters = 0;  // that this GPU runs at once; TiledProducts asks it

  int cluster() const { return split * (share == TileShare::kNone ? 1 : 2); }
};

// Of a type of weights and an epilogue; none of 4-bit weights, or of FP8 with float32 results.
std::span<const TiledKernel> tiled_kernels_bf16();
std::span<const TiledKernel> tiled_kernels_bf16_gated();
std::span<const TiledKernel> tiled_kernels_bf16_float();
std::span<const TiledKernel> tiled_kernels_fp8();
std::span<const TiledKernel> tiled_kernels_fp8_gated();

}  // namespace crible::cuda
