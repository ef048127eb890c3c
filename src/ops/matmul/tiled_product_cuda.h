// The project's own products for Hopper beside cuBLASLt's (matmul_cuda.h): tiles that fit the multiprocessors
// at 128 to some thousand rows, K in parts where there are few tiles, and silu(gate) · up as the end of a
// product. BF16, or FP8 with a scale per row of each operand, whose sums stay in the tensor cores (about 14
// bits of a partial sum). A residual is added to the product after that was rounded to BF16. The same bits
// run to run; without parts of K the bits of a row do not depend on the other rows.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "ops/matmul/tiled_product.h"

namespace crible::cuda {

class TiledProducts {
 public:
  // Asks the GPU how many blocks of each kernel it holds at once.
  static Result<TiledProducts> create();

  // The kernels that are worth a measurement for this product, by their index. gated: out has half as many
  // columns. whole: none that adds up K in parts.
  std::vector<int> candidates(const MatmulArgs& args, bool gated, bool whole) const;
  // All kernels of a product of that type, in the order of their indexes.
  std::span<const TiledKernel> kernels(const MatmulArgs& args, bool gated) const;
  void run(const CudaStream& stream, int kernel, const MatmulArgs& args, bool gated) const;

 private:
  using Kernels = std::vector<TiledKernel>;
  static Result<Kernels> prepare(std::span<const TiledKernel> kernels);

  Kernels bf16_, bf16_gated_, bf16_float_, fp8_, fp8_gated_;
};

// Tiles, or pairs of them, over the rows of x and the columns of out.
struct TilePlaces {
  int rows = 0;
  int columns = 0;
  int64_t count() const { return int64_t{rows} * columns; }
};
TilePlaces tile_places(const TiledKernel& kernel, int64_t rows, int64_t weight_rows);

// Whether that kernel can be the best for a product: not one that computes far more rows than there are, nor
// parts of K where whole tiles already fill the GPU or where a part is too short.
bool worth_measuring(const TiledKernel& kernel, const MatmulArgs& args);

}  // namespace crible::cuda
