#include "ops/matmul/matmul_cuda.h"

#include <array>

#include "base/check.h"
#include "device/cuda/cuda_status.h"
#include "ops/matmul/cublaslt_matmul_cuda.h"

namespace crible::cuda {

Matmul::Matmul() : impl_(std::make_unique<Impl>()) {}
Matmul::Matmul(Matmul&&) noexcept = default;
Matmul& Matmul::operator=(Matmul&&) noexcept = default;
Matmul::~Matmul() = default;

int64_t Matmul::workspace_bytes() {
  return kMatmulWorkspaceBytes;
}

Result<Matmul> Matmul::create(MatmulRule rule) {
  Matmul matmul;
  matmul.impl_->rule = rule;
  CRIBLE_RETURN_IF_ERROR(cublaslt_status(cublasLtCreate(&matmul.impl_->handle), "start"));
  CRIBLE_TRY(matmul.impl_->workspace, DeviceBuffer::allocate(kMatmulWorkspaceBytes));
  return matmul;
}

Result<std::vector<cublasLtMatmulAlgo_t>> Matmul::Impl::candidates(const MatmulArgs& a, bool splits) const {
  CRIBLE_TRY(Problem p, describe(a));
  cublasLtMatmulPreferenceOpaque_t preference;
  CRIBLE_RETURN_IF_ERROR(cublaslt_status(cublasLtMatmulPreferenceInit(&preference), "prefer"));
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    return cublaslt_status(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value),
                           "prefer");
  };
  CRIBLE_RETURN_IF_ERROR(
      prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<size_t>(kMatmulWorkspaceBytes)));
  if (!splits) {
    CRIBLE_RETURN_IF_ERROR(prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                  static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_NONE)));
  }
  std::array<cublasLtMatmulHeuristicResult_t, kCandidates> found;
  int count = 0;
  CRIBLE_RETURN_IF_ERROR(cublaslt_status(
      cublasLtMatmulAlgoGetHeuristic(handle, &p.operation, &p.weight, &p.x, &p.out, &p.out, &preference,
                                     kCandidates, found.data(), &count),
      fmt::format("find algorithms for [{}, {}] x [{}, {}]", a.rows, a.in_features, a.out_features,
                  a.in_features)));
  std::vector<cublasLtMatmulAlgo_t> algorithms;
  for (int i = 0; i < count; ++i) algorithms.push_back(found[static_cast<size_t>(i)].algo);
  return algorithms;
}

Result<std::optional<double>> Matmul::Impl::time_ms(const CudaStream& stream, const MatmulArgs& a,
                                                    const cublasLtMatmulAlgo_t& algorithm, int runs) const {
  CRIBLE_TRY(Problem p, describe(a));
  if (!multiply(stream, a, p, algorithm)) return std::optional<double>();  // warm-up, and whether it can
  CRIBLE_TRY(const CudaEvent start, CudaEvent::create(CudaEvent::Timing::kOn));
  CRIBLE_TRY(const CudaEvent end, CudaEvent::create(CudaEvent::Timing::kOn));
  CRIBLE_RETURN_IF_ERROR(start.record(stream));
  for (int run = 0; run < runs; ++run) CRIBLE_RETURN_IF_ERROR(multiply(stream, a, p, algorithm));
  CRIBLE_RETURN_IF_ERROR(end.record(stream));
  CRIBLE_RETURN_IF_ERROR(end.synchronize());
  CRIBLE_TRY(const double ms, CudaEvent::elapsed_ms(start, end));
  return std::optional<double>(ms / runs);
}

Result<cublasLtMatmulAlgo_t> Matmul::Impl::measure(const CudaStream& stream, const MatmulArgs& a) const {
  constexpr int kRuns = 3;
  CRIBLE_TRY(const std::vector<cublasLtMatmulAlgo_t> algorithms, candidates(a, /*splits=*/true));
  const cublasLtMatmulAlgo_t* best = nullptr;
  double best_ms = 0;
  for (const cublasLtMatmulAlgo_t& algorithm : algorithms) {
    CRIBLE_TRY(const std::optional<double> ms, time_ms(stream, a, algorithm, kRuns));
    if (ms && (best == nullptr || *ms < best_ms)) {
      best = &algorithm;
      best_ms = *ms;
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
  if (impl_->rule == MatmulRule::kSameBits) {
    if (algorithms.contains(bucket_of(max_rows))) return {};
    return tune_same_bits(stream, *impl_, args, max_rows, algorithms);
  }
  for (int bucket = kSmallestBucket; bucket <= bucket_of(max_rows); ++bucket) {
    if (algorithms.contains(bucket)) continue;
    args.rows = std::min<int64_t>(max_rows, int64_t{1} << bucket);
    CRIBLE_TRY(algorithms[bucket], impl_->measure(stream, args));
  }
  return {};
}

void Matmul::choose_as(const Matmul& other) {
  CHECK(impl_->rule == other.impl_->rule, "algorithms chosen by another rule");
  impl_->chosen = other.impl_->chosen;
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
