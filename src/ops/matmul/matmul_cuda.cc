#include "ops/matmul/matmul_cuda.h"

#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <tuple>

#include "base/check.h"
#include "base/units.h"
#include "device/cuda/cuda_status.h"
#include "device/cuda/device_buffer.h"

namespace crible::cuda {
namespace {

constexpr int64_t kWorkspaceBytes = 64 * kMiB;
constexpr int kCandidates = 8;
constexpr int kSmallestBucket = 4;  // log2 of rows

Status status_of(cublasStatus_t status, std::string_view what) {
  if (status == CUBLAS_STATUS_SUCCESS) return {};
  return fail(ErrorCode::kInternal, "cuBLASLt: {}: {}", what, cublasLtGetStatusString(status));
}

int bucket_of(int64_t rows) {
  return std::max(kSmallestBucket, static_cast<int>(std::bit_width(static_cast<uint64_t>(rows - 1))));
}

// What a chosen algorithm depends on, beside the bucket of rows.
using ShapeKey = std::tuple<WeightType, OutputType, int64_t, int64_t, bool>;
ShapeKey key_of(const MatmulArgs& a) {
  return {a.type, a.out_type, a.out_features, a.in_features, a.accumulate};
}

// cuBLASLt counts columns first: out as [N, rows] = (W as [K, N])ᵀ · (x as [K, rows]).
struct Problem {
  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t weight;
  cublasLtMatrixLayoutOpaque_t x;
  cublasLtMatrixLayoutOpaque_t out;
};

Status set(Problem& p, cublasLtMatmulDescAttributes_t attribute, const void* value, size_t bytes) {
  return status_of(cublasLtMatmulDescSetAttribute(&p.operation, attribute, value, bytes),
                   "describe a product");
}

Result<Problem> describe(const MatmulArgs& a) {
  Problem p;
  const cudaDataType_t type = a.type == WeightType::kBf16 ? CUDA_R_16BF : CUDA_R_8F_E4M3;
  const cudaDataType_t out = a.out_type == OutputType::kBf16 ? CUDA_R_16BF : CUDA_R_32F;
  const auto n = static_cast<uint64_t>(a.out_features);
  const auto k = static_cast<uint64_t>(a.in_features);
  const auto m = static_cast<uint64_t>(a.rows);
  CRIBLE_RETURN_IF_ERROR(
      status_of(cublasLtMatmulDescInit(&p.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "describe"));
  CRIBLE_RETURN_IF_ERROR(
      status_of(cublasLtMatrixLayoutInit(&p.weight, type, k, n, a.in_features), "describe"));
  CRIBLE_RETURN_IF_ERROR(status_of(cublasLtMatrixLayoutInit(&p.x, type, k, m, a.in_features), "describe"));
  CRIBLE_RETURN_IF_ERROR(status_of(cublasLtMatrixLayoutInit(&p.out, out, n, m, a.out_features), "describe"));
  const cublasOperation_t transpose = CUBLAS_OP_T;
  CRIBLE_RETURN_IF_ERROR(set(p, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof transpose));
  if (a.type == WeightType::kFp8) {
    const cublasLtMatmulMatrixScale_t per_row = CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F;
    CRIBLE_RETURN_IF_ERROR(set(p, CUBLASLT_MATMUL_DESC_A_SCALE_MODE, &per_row, sizeof per_row));
    CRIBLE_RETURN_IF_ERROR(set(p, CUBLASLT_MATMUL_DESC_B_SCALE_MODE, &per_row, sizeof per_row));
    CRIBLE_RETURN_IF_ERROR(
        set(p, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &a.weight_scale, sizeof a.weight_scale));
    CRIBLE_RETURN_IF_ERROR(set(p, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &a.x_scale, sizeof a.x_scale));
  }
  return p;
}

}  // namespace

struct Matmul::Impl {
  cublasLtHandle_t handle = nullptr;
  DeviceBuffer workspace;
  std::map<ShapeKey, std::map<int, cublasLtMatmulAlgo_t>> chosen;

  ~Impl() {
    if (handle != nullptr) (void)cublasLtDestroy(handle);
  }

  // cuBLASLt's handles are not const, but it only reads the problem.
  Status multiply(const CudaStream& stream, const MatmulArgs& a, Problem& p,
                  const cublasLtMatmulAlgo_t& algorithm) const {
    const float one = 1.0f;
    const float kept = a.accumulate ? 1.0f : 0.0f;
    return status_of(cublasLtMatmul(handle, &p.operation, &one, a.weight, &p.weight, a.x, &p.x, &kept, a.out,
                                    &p.out, a.out, &p.out, &algorithm, workspace.data(),
                                    static_cast<size_t>(kWorkspaceBytes), stream.get()),
                     "multiply");
  }

  Result<cublasLtMatmulAlgo_t> measure(const CudaStream& stream, const MatmulArgs& a) const;
};

Matmul::Matmul() : impl_(std::make_unique<Impl>()) {}
Matmul::Matmul(Matmul&&) noexcept = default;
Matmul& Matmul::operator=(Matmul&&) noexcept = default;
Matmul::~Matmul() = default;

int64_t Matmul::workspace_bytes() {
  return kWorkspaceBytes;
}

Result<Matmul> Matmul::create() {
  Matmul matmul;
  CRIBLE_RETURN_IF_ERROR(status_of(cublasLtCreate(&matmul.impl_->handle), "start"));
  CRIBLE_TRY(matmul.impl_->workspace, DeviceBuffer::allocate(kWorkspaceBytes));
  return matmul;
}

Result<cublasLtMatmulAlgo_t> Matmul::Impl::measure(const CudaStream& stream, const MatmulArgs& a) const {
  CRIBLE_TRY(Problem p, describe(a));
  cublasLtMatmulPreferenceOpaque_t preference;
  CRIBLE_RETURN_IF_ERROR(status_of(cublasLtMatmulPreferenceInit(&preference), "prefer"));
  const auto workspace_limit = static_cast<size_t>(kWorkspaceBytes);
  CRIBLE_RETURN_IF_ERROR(
      status_of(cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                     &workspace_limit, sizeof workspace_limit),
                "prefer"));
  std::array<cublasLtMatmulHeuristicResult_t, kCandidates> candidates;
  int found = 0;
  CRIBLE_RETURN_IF_ERROR(
      status_of(cublasLtMatmulAlgoGetHeuristic(handle, &p.operation, &p.weight, &p.x, &p.out, &p.out,
                                               &preference, kCandidates, candidates.data(), &found),
                fmt::format("find algorithms for [{}, {}] x [{}, {}]", a.rows, a.in_features, a.out_features,
                            a.in_features)));
  CRIBLE_TRY(const CudaEvent start, CudaEvent::create(CudaEvent::Timing::kOn));
  CRIBLE_TRY(const CudaEvent end, CudaEvent::create(CudaEvent::Timing::kOn));
  constexpr int kRuns = 3;
  const cublasLtMatmulAlgo_t* best = nullptr;
  double best_ms = 0;
  for (int i = 0; i < found; ++i) {
    if (!multiply(stream, a, p, candidates[static_cast<size_t>(i)].algo))
      continue;  // warm-up, and whether it can
    CRIBLE_RETURN_IF_ERROR(start.record(stream));
    for (int run = 0; run < kRuns; ++run) {
      CRIBLE_RETURN_IF_ERROR(multiply(stream, a, p, candidates[static_cast<size_t>(i)].algo));
    }
    CRIBLE_RETURN_IF_ERROR(end.record(stream));
    CRIBLE_RETURN_IF_ERROR(end.synchronize());
    CRIBLE_TRY(const double ms, CudaEvent::elapsed_ms(start, end));
    if (best == nullptr || ms < best_ms) {
      best = &candidates[static_cast<size_t>(i)].algo;
      best_ms = ms;
    }
  }
  if (best == nullptr) {
    return fail(ErrorCode::kUnsupported, "cuBLASLt has no algorithm for [{}, {}] x [{}, {}]", a.rows,
                a.in_features, a.out_features, a.in_features);
  }
  return *best;
}

Status Matmul::tune(const CudaStream& stream, MatmulArgs args, int64_t max_rows) {
  CHECK(args.in_features % 16 == 0 && args.out_features % 16 == 0, "a matmul of {} x {}", args.out_features,
        args.in_features);
  std::map<int, cublasLtMatmulAlgo_t>& algorithms = impl_->chosen[key_of(args)];
  for (int bucket = kSmallestBucket; bucket <= bucket_of(max_rows); ++bucket) {
    if (algorithms.contains(bucket)) continue;
    args.rows = std::min<int64_t>(max_rows, int64_t{1} << bucket);
    CRIBLE_TRY(algorithms[bucket], impl_->measure(stream, args));
  }
  return {};
}

Status Matmul::run(const CudaStream& stream, const MatmulArgs& args) const {
  if (args.rows == 0) return {};
  const auto shape = impl_->chosen.find(key_of(args));
  CHECK(shape != impl_->chosen.end(), "matmul {} x {} was not tuned", args.out_features, args.in_features);
  const auto algorithm = shape->second.find(bucket_of(args.rows));
  CHECK(algorithm != shape->second.end(), "matmul {} x {} was not tuned for {} rows", args.out_features,
        args.in_features, args.rows);
  CRIBLE_TRY(Problem p, describe(args));
  return impl_->multiply(stream, args, p, algorithm->second);
}

}  // namespace crible::cuda
