// Behind Matmul: how a product is described to cuBLASLt, and what it keeps. For the files that choose and run
// its algorithms alone.
#pragma once

#include <cublasLt.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <map>
#include <tuple>
#include <vector>

#include "base/units.h"
#include "device/cuda/device_buffer.h"
#include "ops/matmul/matmul_cuda.h"
#include "ops/matmul/tiled_product_cuda.h"

namespace crible::cuda {

inline constexpr int64_t kMatmulWorkspaceBytes = 64 * kMiB;
inline constexpr int kCandidates = 8;
inline constexpr int kSmallestBucket = 4;  // log2 of rows
// Beyond it nothing is measured: a product takes milliseconds there, and the order of the ways changes no more.
inline constexpr int kLargestMeasured = 13;

inline Status cublaslt_status(cublasStatus_t status, std::string_view what) {
  if (status == CUBLAS_STATUS_SUCCESS) return {};
  return fail(ErrorCode::kInternal, "cuBLASLt: {}: {}", what, cublasLtGetStatusString(status));
}

inline int bucket_of(int64_t rows) {
  return std::max(kSmallestBucket, static_cast<int>(std::bit_width(static_cast<uint64_t>(rows - 1))));
}

// What a chosen algorithm depends on, beside the bucket of rows.
using ShapeKey = std::tuple<WeightType, bool, OutputType, int64_t, int64_t, int64_t, bool, bool>;
inline ShapeKey key_of(const MatmulArgs& a) {
  return {a.type,       a.block_scales, a.out_type,   a.out_features,
          a.out_stride, a.in_features,  a.accumulate, a.fast_sums};
}

// cuBLASLt counts columns first: out as [N, rows] = (W as [K, N])ᵀ · (x as [K, rows]).
struct Problem {
  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t weight;
  cublasLtMatrixLayoutOpaque_t x;
  cublasLtMatrixLayoutOpaque_t out;
};

inline Status set(Problem& p, cublasLtMatmulDescAttributes_t attribute, const void* value, size_t bytes) {
  return cublaslt_status(cublasLtMatmulDescSetAttribute(&p.operation, attribute, value, bytes),
                         "describe a product");
}

inline Result<Problem> describe(const MatmulArgs& a) {
  Problem p;
  const cudaDataType_t type = a.type == WeightType::kBf16 ? CUDA_R_16BF : CUDA_R_8F_E4M3;
  const cudaDataType_t out = a.out_type == OutputType::kBf16 ? CUDA_R_16BF : CUDA_R_32F;
  const auto n = static_cast<uint64_t>(a.out_features);
  const auto k = static_cast<uint64_t>(a.in_features);
  const auto m = static_cast<uint64_t>(a.block_scales ? fp8_padded_rows(a.rows) : a.rows);
  CRIBLE_RETURN_IF_ERROR(
      cublaslt_status(cublasLtMatmulDescInit(&p.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describe"));
  CRIBLE_RETURN_IF_ERROR(
      cublaslt_status(cublasLtMatrixLayoutInit(&p.weight, type, k, n, a.in_features), "describe"));
  CRIBLE_RETURN_IF_ERROR(
      cublaslt_status(cublasLtMatrixLayoutInit(&p.x, type, k, m, a.in_features), "describe"));
  const int64_t out_stride = a.out_stride == 0 ? a.out_features : a.out_stride;
  CRIBLE_RETURN_IF_ERROR(
      cublaslt_status(cublasLtMatrixLayoutInit(&p.out, out, n, m, out_stride), "describe"));
  const cublasOperation_t transpose = CUBLAS_OP_T;
  CRIBLE_RETURN_IF_ERROR(set(p, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof transpose));
  if (a.type == WeightType::kFp8) {
    const cublasLtMatmulMatrixScale_t of_weight = a.block_scales ? CUBLASLT_MATMUL_MATRIX_SCALE_BLK128x128_32F
                                                                 : CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    const cublasLtMatmulMatrixScale_t of_x =
        a.block_scales ? CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F : CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    const int8_t fast_sums = a.fast_sums ? 1 : 0;
    CRIBLE_RETURN_IF_ERROR(set(p, CUBLASLT_MATMUL_DESC_FAST_ACCUM, &fast_sums, sizeof fast_sums));
    CRIBLE_RETURN_IF_ERROR(set(p, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &of_weight, sizeof of_weight));
    CRIBLE_RETURN_IF_ERROR(set(p, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &of_x, sizeof of_x));
    CRIBLE_RETURN_IF_ERROR(
        set(p, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &a.weight_scale, sizeof a.weight_scale));
    CRIBLE_RETURN_IF_ERROR(set(p, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &a.x_scale, sizeof a.x_scale));
  }
  return p;
}

// A kernel of TiledProducts, or an algorithm of cuBLASLt.
struct ProductChoice {
  int tiled = -1;  // -1: cuBLASLt's
  cublasLtMatmulAlgo_t algorithm = {};

  bool operator==(const ProductChoice& other) const {
    if (tiled != other.tiled) return false;
    return tiled >= 0 || std::memcmp(&algorithm, &other.algorithm, sizeof algorithm) == 0;
  }
};
// By bucket of rows.
using ProductChoices = std::map<int, ProductChoice>;

struct MatmulChoices::Tables {
  MatmulRule rule = MatmulRule::kFastest;
  std::map<ShapeKey, ProductChoices> chosen;
  // Of gated products: a kernel of TiledProducts, or -1 for a product and a pass after it.
  std::map<ShapeKey, std::map<int, int>> gated;
};

struct Matmul::Impl : MatmulChoices::Tables {
  cublasLtHandle_t handle = nullptr;
  DeviceBuffer workspace;
  TiledProducts tiled;

  ~Impl() {
    if (handle != nullptr) (void)cublasLtDestroy(handle);
  }

  // cuBLASLt's handles are not const, but it only reads the problem.
  Status multiply(const CudaStream& stream, const MatmulArgs& a, const ProductChoice& choice) const {
    if (choice.tiled >= 0) {
      tiled.run(stream, choice.tiled, a, /*gated=*/false);
      return {};
    }
    CRIBLE_TRY(Problem p, describe(a));
    const float one = 1.0f;
    const float kept = a.accumulate ? 1.0f : 0.0f;
    return cublaslt_status(cublasLtMatmul(handle, &p.operation, &one, a.weight, &p.weight, a.x, &p.x, &kept,
                                          a.out, &p.out, a.out, &p.out, &choice.algorithm, workspace.data(),
                                          static_cast<size_t>(kMatmulWorkspaceBytes), stream.get()),
                           "multiply");
  }

  // cuBLASLt's kCandidates best guesses, and the tiled products. splits: whether parts of K may be summed
  // apart.
  Result<std::vector<ProductChoice>> candidates(const MatmulArgs& a, bool splits) const;
  // What each of several ways to compute a product adds to a stream, in ms: as in a step, with x in the
  // second-level cache and the weight not. Medians of bursts in turn. Infinite for one that cannot, or that
  // was far behind at once.
  Result<std::vector<double>> time_ms(const CudaStream& stream, const MatmulArgs& a,
                                      const std::vector<std::function<Status()>>& ways) const;
  // The time of a few runs of `enqueue`, each after the caches were filled, in ms a run.
  Result<double> burst_ms(const CudaStream& stream, const MatmulArgs& a,
                          const std::function<Status()>& enqueue) const;
  Result<ProductChoice> measure(const CudaStream& stream, const MatmulArgs& a) const;
  // The same unmeasured, for more rows than those that `fewer` was chosen for.
  Result<ProductChoice> extend(const MatmulArgs& a, const ProductChoice& fewer) const;
};

// For MatmulRule::kSameBits, which leaves x filled with rows that repeat after so many.
inline constexpr int64_t kPatternRows = 256;
// A choice per bucket of rows up to max_rows, all giving each row the same bits.
Status tune_same_bits(const CudaStream& stream, const Matmul::Impl& impl, const MatmulArgs& args,
                      int64_t max_rows, ProductChoices& chosen);

}  // namespace crible::cuda
