#include "ops/matmul/matmul_cuda.h"

#include <array>

#include "base/check.h"
#include "device/cuda/cuda_status.h"
#include "ops/machine_ceiling_cuda.h"
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
  CRIBLE_TRY(matmul.impl_->tiled, TiledProducts::create());
  return matmul;
}

Result<std::vector<ProductChoice>> Matmul::Impl::candidates(const MatmulArgs& a, bool splits) const {
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
  std::vector<ProductChoice> choices;
  for (int i = 0; i < count; ++i) choices.push_back({.algorithm = found[static_cast<size_t>(i)].algo});
  for (const int kernel : tiled.candidates(a, /*gated=*/false, /*whole=*/!splits))
    choices.push_back({.tiled = kernel});
  return choices;
}

Result<std::optional<double>> Matmul::Impl::time_ms(const CudaStream& stream,
                                                    const std::function<Status()>& enqueue) const {
  constexpr size_t kRuns = 3;
  if (!enqueue()) return std::optional<double>();  // warm-up, and whether it can
  CRIBLE_TRY(const CudaEvent start, CudaEvent::create(CudaEvent::Timing::kOn));
  CRIBLE_TRY(const CudaEvent end, CudaEvent::create(CudaEvent::Timing::kOn));
  std::array<double, kRuns> ms;
  for (double& run : ms) {
    read_all(stream, workspace.data(), kMatmulWorkspaceBytes, workspace.as<uint32_t>());
    CRIBLE_RETURN_IF_ERROR(start.record(stream));
    CRIBLE_RETURN_IF_ERROR(enqueue());
    CRIBLE_RETURN_IF_ERROR(end.record(stream));
    CRIBLE_RETURN_IF_ERROR(end.synchronize());
    CRIBLE_TRY(run, CudaEvent::elapsed_ms(start, end));
  }
  std::sort(ms.begin(), ms.end());
  return std::optional<double>(ms[kRuns / 2]);
}

Result<ProductChoice> Matmul::Impl::measure(const CudaStream& stream, const MatmulArgs& a) const {
  CRIBLE_TRY(const std::vector<ProductChoice> choices, candidates(a, /*splits=*/true));
  const ProductChoice* best = nullptr;
  double best_ms = 0;
  for (const ProductChoice& choice : choices) {
    CRIBLE_TRY(const std::optional<double> ms, time_ms(stream, [&] { return multiply(stream, a, choice); }));
    if (ms && (best == nullptr || *ms < best_ms)) {
      best = &choice;
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
  ProductChoices& choices = impl_->chosen[key_of(args)];
  if (impl_->rule == MatmulRule::kSameBits) {
    if (choices.contains(bucket_of(max_rows))) return {};
    return tune_same_bits(stream, *impl_, args, max_rows, choices);
  }
  for (int bucket = kSmallestBucket; bucket <= bucket_of(max_rows); ++bucket) {
    if (choices.contains(bucket)) continue;
    args.rows = std::min<int64_t>(max_rows, int64_t{1} << bucket);
    CRIBLE_TRY(choices[bucket], impl_->measure(stream, args));
  }
  return {};
}

void Matmul::choose_as(const Matmul& other) {
  CHECK(impl_->rule == other.impl_->rule, "algorithms chosen by another rule");
  impl_->chosen = other.impl_->chosen;
  impl_->gated = other.impl_->gated;
}

Status Matmul::run(const CudaStream& stream, const MatmulArgs& args) const {
  if (args.rows == 0) return {};
  const auto shape = impl_->chosen.find(key_of(args));
  CHECK(shape != impl_->chosen.end(), "matmul {} x {} was not tuned", args.out_features, args.in_features);
  const auto choice = shape->second.find(bucket_of(args.rows));
  CHECK(choice != shape->second.end(), "matmul {} x {} was not tuned for {} rows", args.out_features,
        args.in_features, args.rows);
  return impl_->multiply(stream, args, choice->second);
}

}  // namespace crible::cuda
