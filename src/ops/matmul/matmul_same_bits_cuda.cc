// How MatmulRule::kSameBits chooses. Algorithms that do not split K add a row's products one step of K after
// the other; whether two of them take the same steps is not said anywhere, so it is observed: a pattern of
// 256 random rows is multiplied by every candidate, and those whose results have the same bits form a class.
// The class that loses least over all buckets of rows is taken, and each of its chosen algorithms must give
// the same bits again at the largest, the next smaller and the smallest number of rows of its bucket. A
// differing order of sums shows in about one of a thousand BF16 results, so that the pattern's million
// outputs reveal it.
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "device/cuda/cuda_status.h"
#include "ops/fill_random/fill_random_cuda.h"
#include "ops/matmul/cublaslt_matmul_cuda.h"
#include "ops/matmul/row_hashes_cuda.h"

namespace crible::cuda {
namespace {

struct Candidate {
  ProductChoice choice;
  std::vector<uint64_t> pattern;  // hashes of its results for the pattern's rows
  size_t of_class = 0;
  std::map<int, double> ms;  // by bucket, where it was measured
};

class SameBitsTuning {
 public:
  SameBitsTuning(const CudaStream& stream, const Matmul::Impl& impl, const MatmulArgs& args, int64_t max_rows)
      : stream_(stream), impl_(impl), args_(args), max_rows_(max_rows), last_(bucket_of(max_rows)) {}

  Status choose(ProductChoices& chosen) {
    CRIBLE_TRY(hashes_, DeviceBuffer::allocate(max_rows_ * 8));
    CRIBLE_RETURN_IF_ERROR(fill());
    for (int bucket = kSmallestBucket; bucket <= last_; ++bucket) CRIBLE_RETURN_IF_ERROR(collect(bucket));
    CRIBLE_TRY(const size_t best, best_class());
    for (int bucket = kSmallestBucket; bucket <= last_; ++bucket) {
      CRIBLE_TRY(chosen[bucket], best_of(best, bucket));
    }
    return {};
  }

 private:
  int64_t row_bytes() const { return args_.out_features * (args_.out_type == OutputType::kBf16 ? 2 : 4); }
  int64_t largest_rows(int bucket) const { return std::min<int64_t>(max_rows_, int64_t{1} << bucket); }
  MatmulArgs with_rows(int64_t rows) const {
    MatmulArgs a = args_;
    a.rows = rows;
    return a;
  }

  // Row r of x is row r mod 256 of the pattern.
  Status fill() {
    const int64_t rows = std::min(max_rows_, kPatternRows);
    auto* x = static_cast<std::byte*>(const_cast<void*>(args_.x));
    const int64_t x_row_bytes = args_.in_features * (args_.type == WeightType::kBf16 ? 2 : 1);
    constexpr uint64_t kSeed = 20;
    if (args_.type == WeightType::kBf16) {
      fill_random(stream_, reinterpret_cast<__nv_bfloat16*>(x), rows * args_.in_features, kSeed, 0.0f, 1.0f);
    } else {
      fill_random_fp8(stream_, reinterpret_cast<uint8_t*>(x), rows * args_.in_features, kSeed);
      fill_constant(stream_, const_cast<float*>(args_.x_scale), max_rows_, 1.0f / kFp8FillDeviation);
    }
    for (int64_t start = rows; start < max_rows_; start += rows) {
      const int64_t count = std::min(rows, max_rows_ - start);
      CRIBLE_CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(x + start * x_row_bytes, x,
                                                  static_cast<size_t>(count * x_row_bytes),
                                                  cudaMemcpyDeviceToDevice, stream_.get()));
    }
    return {};
  }

  // Hashes of the result's rows; none if the algorithm cannot.
  Result<std::vector<uint64_t>> multiply(const ProductChoice& choice, int64_t rows) {
    const MatmulArgs a = with_rows(rows);
    // 0x3F3F is 0.747: what a residual is rounded with shows.
    CRIBLE_CUDA_RETURN_IF_ERROR(
        cudaMemsetAsync(args_.out, 0x3F, static_cast<size_t>(rows * row_bytes()), stream_.get()));
    if (!impl_.multiply(stream_, a, choice)) return std::vector<uint64_t>();
    hash_rows(stream_, args_.out, rows, row_bytes(), hashes_.as<uint64_t>());
    std::vector<uint64_t> hashes(static_cast<size_t>(rows));
    CRIBLE_CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(hashes.data(), hashes_.data(), hashes.size() * 8,
                                                cudaMemcpyDeviceToHost, stream_.get()));
    CRIBLE_RETURN_IF_ERROR(stream_.synchronize());
    return hashes;
  }

  Result<double> measure(Candidate& candidate, int bucket) {
    if (!candidate.ms.contains(bucket)) {
      const MatmulArgs a = with_rows(largest_rows(bucket));
      CRIBLE_TRY(const std::vector<double> ms,
                 impl_.time_ms(stream_, a, {[&] { return impl_.multiply(stream_, a, candidate.choice); }}));
      candidate.ms[bucket] = ms[0];
    }
    return candidate.ms[bucket];
  }

  // The bucket's own candidates: those not met before are put into a class, and all are measured.
  Status collect(int bucket) {
    CRIBLE_TRY(const std::vector<ProductChoice> found,
               impl_.candidates(with_rows(largest_rows(bucket)), /*splits=*/false));
    for (const ProductChoice& choice : found) {
      const auto same = [&](const Candidate& c) { return c.choice == choice; };
      auto known = std::find_if(candidates_.begin(), candidates_.end(), same);
      if (known == candidates_.end()) {
        CRIBLE_TRY(std::vector<uint64_t> pattern, multiply(choice, std::min(max_rows_, kPatternRows)));
        if (pattern.empty()) continue;
        const auto alike = [&](const Candidate& c) { return c.pattern == pattern; };
        const auto relative = std::find_if(candidates_.begin(), candidates_.end(), alike);
        const size_t of_class = relative == candidates_.end() ? classes_++ : relative->of_class;
        candidates_.push_back(
            {.choice = choice, .pattern = std::move(pattern), .of_class = of_class, .ms = {}});
        known = candidates_.end() - 1;
      }
      CRIBLE_RETURN_IF_ERROR(measure(*known, bucket));
    }
    return {};
  }

  // Of the class's members that were measured at the bucket; of all of them, where none was.
  Result<double> class_ms(size_t of_class, int bucket) {
    double best = std::numeric_limits<double>::infinity();
    for (const Candidate& c : candidates_) {
      if (c.of_class == of_class && c.ms.contains(bucket)) best = std::min(best, c.ms.at(bucket));
    }
    if (std::isfinite(best)) return best;
    for (Candidate& c : candidates_) {
      if (c.of_class != of_class) continue;
      CRIBLE_TRY(const double ms, measure(c, bucket));
      best = std::min(best, ms);
    }
    return best;
  }

  // The class whose times multiply to the least.
  Result<size_t> best_class() {
    size_t best = classes_;
    double best_cost = std::numeric_limits<double>::infinity();
    for (size_t c = 0; c < classes_; ++c) {
      double cost = 0;
      for (int bucket = kSmallestBucket; bucket <= last_; ++bucket) {
        CRIBLE_TRY(const double ms, class_ms(c, bucket));
        cost += std::log(ms);
      }
      if (cost < best_cost) {
        best = c;
        best_cost = cost;
      }
    }
    if (best == classes_) return none(last_);
    return best;
  }

  tl::unexpected<Error> none(int bucket) const {
    return fail(ErrorCode::kUnsupported,
                "cuBLASLt has no algorithm for [{}, {}] x [{}, {}] whose rows do not depend on their number",
                largest_rows(bucket), args_.in_features, args_.out_features, args_.in_features);
  }

  Result<bool> agrees(const Candidate& candidate, int64_t rows) {
    CRIBLE_TRY(const std::vector<uint64_t> hashes, multiply(candidate.choice, rows));
    if (hashes.empty()) return false;
    for (size_t r = 0; r < hashes.size(); ++r) {
      if (hashes[r] != candidate.pattern[r % candidate.pattern.size()]) return false;
    }
    return true;
  }

  // The fastest of the class that keeps its bits over the bucket.
  Result<ProductChoice> best_of(size_t of_class, int bucket) {
    std::vector<const Candidate*> order;
    for (const Candidate& c : candidates_) {
      if (c.of_class == of_class && c.ms.contains(bucket) && std::isfinite(c.ms.at(bucket)))
        order.push_back(&c);
    }
    std::sort(order.begin(), order.end(),
              [&](const Candidate* a, const Candidate* b) { return a->ms.at(bucket) < b->ms.at(bucket); });
    const int64_t largest = largest_rows(bucket);
    const int64_t smallest =
        bucket == kSmallestBucket ? 1 : std::min(largest, (int64_t{1} << (bucket - 1)) + 1);
    for (const Candidate* c : order) {
      CRIBLE_TRY(const bool at_largest, agrees(*c, largest));
      CRIBLE_TRY(const bool below, agrees(*c, std::max(smallest, largest - 1)));
      CRIBLE_TRY(const bool at_smallest, agrees(*c, smallest));
      if (at_largest && below && at_smallest) return c->choice;
    }
    return none(bucket);
  }

  const CudaStream& stream_;
  const Matmul::Impl& impl_;
  MatmulArgs args_;
  int64_t max_rows_;
  int last_;  // bucket
  DeviceBuffer hashes_;
  std::vector<Candidate> candidates_;
  size_t classes_ = 0;
};

}  // namespace

Status tune_same_bits(const CudaStream& stream, const Matmul::Impl& impl, const MatmulArgs& args,
                      int64_t max_rows, ProductChoices& chosen) {
  return SameBitsTuning(stream, impl, args, max_rows).choose(chosen);
}

}  // namespace crible::cuda
