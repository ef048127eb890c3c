#include "ops/matmul/matmul_cuda.h"

#include <array>
#include <cmath>
#include <limits>

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
  CRIBLE_RETURN_IF_ERROR(
      cublaslt_status(cublasLtMatmulAlgoGetHeuristic(handle, &p.operation, &p.weight, &p.x, &p.out, &p.out,
                                                     &preference, kCandidates, found.data(), &count),
                      fmt::format("find algorithms for [{}, {}] x [{}, {}]", a.rows, a.in_features,
                                  a.out_features, a.in_features)));
  std::vector<ProductChoice> choices;
  for (int i = 0; i < count; ++i) choices.push_back({.algorithm = found[static_cast<size_t>(i)].algo});
  for (const int kernel : tiled.candidates(a, /*gated=*/false, /*whole=*/!splits))
    choices.push_back({.tiled = kernel});
  return choices;
}

Result<double> Matmul::Impl::burst_ms(const CudaStream& stream, const MatmulArgs& a,
                                      const std::function<Status()>& enqueue) const {
  // Long products are told apart by one run.
  const int burst = a.rows <= 1024 ? 3 : 1;
  const int64_t x_bytes = a.rows * a.in_features * (a.type == WeightType::kBf16 ? 2 : 1);
  CRIBLE_TRY(const CudaEvent start, CudaEvent::create(CudaEvent::Timing::kOn));
  CRIBLE_TRY(const CudaEvent end, CudaEvent::create(CudaEvent::Timing::kOn));
  CRIBLE_RETURN_IF_ERROR(start.record(stream));
  for (int run = 0; run < burst; ++run) {
    read_into_cache(stream, workspace.data(), kMatmulWorkspaceBytes, workspace.as<uint32_t>());
    read_into_cache(stream, a.x, x_bytes, workspace.as<uint32_t>());
    CRIBLE_RETURN_IF_ERROR(enqueue());
  }
  CRIBLE_RETURN_IF_ERROR(end.record(stream));
  CRIBLE_RETURN_IF_ERROR(end.synchronize());
  CRIBLE_TRY(const double ms, CudaEvent::elapsed_ms(start, end));
  return ms / burst;
}

Result<std::vector<double>> Matmul::Impl::time_ms(const CudaStream& stream, const MatmulArgs& a,
                                                  const std::vector<std::function<Status()>>& ways) const {
  constexpr size_t kRounds = 3;
  constexpr double kFarBehind = 1.25;
  constexpr double kLeastMs = 1e-3;
  std::vector<std::vector<double>> bursts(ways.size());
  std::vector<double> median(ways.size(), std::numeric_limits<double>::infinity());
  // A kernel's first launch loads it: not measured. It also tells whether a way is one.
  std::vector<bool> kept;
  for (const auto& enqueue : ways) kept.push_back(enqueue().has_value());
  for (size_t round = 0; round < kRounds; ++round) {
    CRIBLE_TRY(const double filling_ms, burst_ms(stream, a, [] { return Status(); }));
    for (size_t i = 0; i < ways.size(); ++i) {
      if (!kept[i]) continue;
      CRIBLE_TRY(const double ms, burst_ms(stream, a, ways[i]));
      // The difference of two times of a tiny product may be noise alone.
      bursts[i].push_back(std::max(ms - filling_ms, kLeastMs));
      std::vector<double> sorted = bursts[i];
      std::sort(sorted.begin(), sorted.end());
      median[i] = sorted[(sorted.size() - 1) / 2];
    }
    const double best = *std::min_element(median.begin(), median.end());
    for (size_t i = 0; i < ways.size(); ++i) {
      if (!(median[i] <= kFarBehind * best)) {
        kept[i] = false;
        median[i] = std::numeric_limits<double>::infinity();
      }
    }
  }
  return median;
}

Result<ProductChoice> Matmul::Impl::measure(const CudaStream& stream, const MatmulArgs& a) const {
  CRIBLE_TRY(const std::vector<ProductChoice> choices, candidates(a, /*splits=*/true));
  std::vector<std::function<Status()>> ways;
  for (const ProductChoice& choice : choices)
    ways.push_back([&, choice] { return multiply(stream, a, choice); });
  CRIBLE_TRY(const std::vector<double> ms, time_ms(stream, a, ways));
  const auto best = std::min_element(ms.begin(), ms.end());
  if (best == ms.end() || !std::isfinite(*best)) {
    return fail(ErrorCode::kUnsupported, "cuBLASLt has no algorithm for [{}, {}] x [{}, {}]", a.rows,
                a.in_features, a.out_features, a.in_features);
  }
  return choices[static_cast<size_t>(best - ms.begin())];
}

Result<ProductChoice> Matmul::Impl::extend(const MatmulArgs& a, const ProductChoice& fewer) const {
  if (fewer.tiled >= 0) return fewer;
  CRIBLE_TRY(const std::vector<ProductChoice> choices, candidates(a, /*splits=*/true));
  if (choices.empty()) {
    return fail(ErrorCode::kUnsupported, "no algorithm for [{}, {}] x [{}, {}]", a.rows, a.in_features, a.out_features,
                a.in_features);
  }
  return choices.front();
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
    CRIBLE_TRY(choices[bucket], bucket > kLargestMeasured ? impl_->extend(args, choices.at(bucket - 1))
                                                         : impl_->measure(stream, args));
  }
  return {};
}

MatmulChoices Matmul::choices() const {
  return {std::make_shared<MatmulChoices::Tables>(*impl_)};
}

void Matmul::choose_as(const MatmulChoices& other) {
  if (other.tables != nullptr && other.tables->rule == impl_->rule) {
    static_cast<MatmulChoices::Tables&>(*impl_) = *other.tables;
  }
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
