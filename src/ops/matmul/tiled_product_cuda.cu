#include "ops/matmul/tiled_product_cuda.h"

#include "base/units.h"
#include "device/cuda/cuda_status.h"
#include "device/cuda/launch.h"
#include "device/cuda/tensor_map.h"

namespace crible::cuda {
namespace {

constexpr unsigned kThreads = 384;
constexpr int kStepBytes = 128;

int element_bytes(const MatmulArgs& a) {
  return a.type == WeightType::kBf16 ? 2 : 1;
}

LaunchShape launch_shape(const TiledKernel& kernel, unsigned clusters) {
  const auto cluster = static_cast<unsigned>(kernel.cluster());
  return {.grid = dim3(clusters * cluster),
          .block = dim3(kThreads),
          .shared_bytes = static_cast<size_t>(kernel.shared_bytes),
          .cluster = cluster,
          .dependent = true};
}

TiledProductParams describe(const TiledKernel& kernel, const MatmulArgs& a, bool gated) {
  const CUtensorMapDataType type =
      a.type == WeightType::kBf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_UINT8;
  const int64_t row_bytes = a.in_features * element_bytes(a);
  const int step = kStepBytes / element_bytes(a);
  const bool wide = a.out_type == OutputType::kFloat;
  const int64_t outputs = gated ? a.out_features / 2 : a.out_features;
  const TilePlaces places = tile_places(kernel, a.rows, a.out_features);
  TiledProductParams p;
  p.x = make_tensor_map(a.x, {.type = type,
                              .rows = a.rows,
                              .columns = a.in_features,
                              .stride_bytes = row_bytes,
                              .box_rows = kernel.share == TileShare::kX ? kernel.rows / 2 : kernel.rows,
                              .box_columns = step});
  p.weight = make_tensor_map(a.weight, {.type = type,
                                        .rows = a.out_features,
                                        .columns = a.in_features,
                                        .stride_bytes = row_bytes,
                                        .box_rows = kernel.columns / 2,
                                        .box_columns = step});
  p.out = make_tensor_map(a.out,
                          {.type = wide ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                           .rows = a.rows,
                           .columns = outputs,
                           .stride_bytes = (a.out_stride == 0 ? outputs : a.out_stride) * (wide ? 4 : 2),
                           .box_rows = 64,
                           .box_columns = kernel.chunk});
  p.row_places = places.rows;
  p.column_places = places.columns;
  p.steps = static_cast<int>(ceil_div(row_bytes, int64_t{kStepBytes}));
  p.up_offset = gated ? static_cast<int>(a.out_features / 2) : kernel.columns / 2;
  p.rows = static_cast<int>(a.rows);
  p.weight_rows = static_cast<int>(a.out_features);
  p.x_scale = a.x_scale;
  p.weight_scale = a.weight_scale;
  p.accumulate = a.accumulate;
  p.settled_weight = a.settled_weight;
  return p;
}

}  // namespace

TilePlaces tile_places(const TiledKernel& kernel, int64_t rows, int64_t weight_rows) {
  const int64_t tall = kernel.rows * (kernel.share == TileShare::kWeight ? 2 : 1);
  const int64_t wide = kernel.columns * (kernel.share == TileShare::kX ? 2 : 1);
  return {static_cast<int>(ceil_div(rows, tall)), static_cast<int>(ceil_div(weight_rows, wide))};
}

bool worth_measuring(const TiledKernel& kernel, const MatmulArgs& a) {
  constexpr int64_t kFewestSteps = 4;  // of a part of K
  const TilePlaces places = tile_places(kernel, a.rows, a.out_features);
  const int64_t tall = kernel.rows * (kernel.share == TileShare::kWeight ? 2 : 1);
  if (tall > 128 && tall >= 2 * a.rows) return false;
  if (kernel.split == 1) return true;
  const int64_t steps = ceil_div(a.in_features * element_bytes(a), int64_t{kStepBytes});
  return places.count() <= kernel.most_clusters && steps >= kFewestSteps * kernel.split;
}

Result<TiledProducts::Kernels> TiledProducts::prepare(std::span<const TiledKernel> kernels) {
  Kernels prepared(kernels.begin(), kernels.end());
  for (TiledKernel& kernel : prepared) {
    allow_shared_bytes(kernel.function, static_cast<size_t>(kernel.shared_bytes));
    const LaunchShape shape = launch_shape(kernel, 1);
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {shape.cluster, 1, 1};
    cudaLaunchConfig_t config{};
    config.gridDim = shape.grid;
    config.blockDim = shape.block;
    config.dynamicSmemBytes = shape.shared_bytes;
    config.attrs = &attribute;
    config.numAttrs = 1;
    CRIBLE_CUDA_RETURN_IF_ERROR(
        cudaOccupancyMaxActiveClusters(&kernel.most_clusters, kernel.function, &config));
  }
  return prepared;
}

Result<TiledProducts> TiledProducts::create() {
  TiledProducts products;
  CRIBLE_TRY(products.bf16_, prepare(tiled_kernels_bf16()));
  CRIBLE_TRY(products.bf16_gated_, prepare(tiled_kernels_bf16_gated()));
  CRIBLE_TRY(products.bf16_float_, prepare(tiled_kernels_bf16_float()));
  CRIBLE_TRY(products.fp8_, prepare(tiled_kernels_fp8()));
  CRIBLE_TRY(products.fp8_gated_, prepare(tiled_kernels_fp8_gated()));
  return products;
}

std::span<const TiledKernel> TiledProducts::kernels(const MatmulArgs& a, bool gated) const {
  const bool wide = a.out_type == OutputType::kFloat;
  if (a.block_scales || (wide && (gated || a.accumulate))) return {};
  if (a.type == WeightType::kBf16) return gated ? bf16_gated_ : wide ? bf16_float_ : bf16_;
  if (a.type == WeightType::kFp8 && a.fast_sums && !wide) return gated ? fp8_gated_ : fp8_;
  return {};
}

std::vector<int> TiledProducts::candidates(const MatmulArgs& args, bool gated, bool whole) const {
  std::vector<int> found;
  const std::span<const TiledKernel> all = kernels(args, gated);
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i].most_clusters < 1 || (whole && all[i].split > 1)) continue;
    if (worth_measuring(all[i], args)) found.push_back(static_cast<int>(i));
  }
  return found;
}

void TiledProducts::run(const CudaStream& stream, int kernel, const MatmulArgs& args, bool gated) const {
  const std::span<const TiledKernel> all = kernels(args, gated);
  CHECK(static_cast<size_t>(kernel) < all.size(), "no tiled product {} of type {}", kernel,
        static_cast<int>(args.type));
  const TiledKernel& chosen = all[static_cast<size_t>(kernel)];
  const TiledProductParams params = describe(chosen, args, gated);
  const int64_t places = int64_t{params.row_places} * params.column_places;
  // Parts of K are for one place a cluster: those that find no room at first come later.
  const int64_t clusters = chosen.split > 1 ? places : std::min<int64_t>(places, chosen.most_clusters);
  launch(stream.get(), launch_shape(chosen, static_cast<unsigned>(clusters)), chosen.function, params);
}

}  // namespace crible::cuda
