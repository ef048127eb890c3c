#include "model/cuda/tensor_parallel/parallel_decoder.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "device/cuda/device_scope.h"
#include "device/cuda/gpu_test.h"
#include "model/cuda/decode_graphs.h"
#include "model/cuda/tensor_parallel/reference_share.h"
#include "model/cuda/text_step.h"
#include "model/cuda/uploaded_reference.h"
#include "ops/add/add_cuda.h"

namespace crible::cuda {
namespace {

constexpr StepLimits kLimits = {.max_tokens = 256, .max_sequences = 16, .max_logit_rows = 16, .max_blocks = 512};
constexpr int64_t kBlocks = 12 * 32;
constexpr int64_t kDecodes = 3;
// As a whole decoder's (decoder_cuda_test.cc), with one more rounding of each of the N - 1 sums of a block, of the
// size of a summand: less than the roundings that are there.
constexpr double kBf16Bound = 0.03;

// vocabulary: such that shares are padded.
DecoderShape small(bool tied, bool mixture) {
  DecoderShape shape = {.layers = 3,
                        .embedding = 256,
                        .feed_forward = 1024,
                        .heads = 8,
                        .kv_heads = 2,
                        .head_size = 64,
                        .vocabulary = 500,
                        .context_length = 512,
                        .qk_norm = true,
                        .qkv_bias = true,
                        .tied = tied,
                        .rope_base = 10000.0};
  if (mixture) {
    shape.feed_forward = 0;
    shape.experts = 16;
    shape.experts_per_token = 4;
    shape.expert_feed_forward = 512;
  }
  return shape;
}

struct Texts {
  std::vector<std::vector<int32_t>> tokens;
  std::vector<std::vector<std::vector<double>>> logits;

  Texts(RandomValues& random, const ReferenceDecoder& reference, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      tokens.emplace_back();
      const int64_t length = random.integer(2, 20) + kDecodes;
      for (int64_t t = 0; t < length; ++t) {
        tokens.back().push_back(static_cast<int32_t>(random.integer(0, reference.shape.vocabulary - 1)));
      }
      logits.push_back(reference.logits(tokens.back()));
    }
  }

  // Prompts, then decodes. run: one step, gives [rows, vocabulary]. Relative distances of all rows, ascending.
  std::vector<double> distances(
      const std::function<std::vector<double>(const BatchView&, bool decodes_only)>& run) const {
    std::vector<double> found;
    for (int64_t step_index = 0; step_index <= kDecodes; ++step_index) {
      TextStep step;
      std::vector<size_t> ends;
      for (size_t i = 0; i < tokens.size(); ++i) {
        const int64_t end = std::ssize(tokens[i]) - kDecodes + step_index;
        step.add(static_cast<int64_t>(i), tokens[i], step_index == 0 ? 0 : end - 1, end);
        ends.push_back(static_cast<size_t>(end));
      }
      const std::vector<double> all = run(step.view(), step_index > 0);
      for (size_t i = 0; i < ends.size(); ++i) {
        const auto& expected = logits[i][ends[i] - 1];
        const auto begin = all.begin() + static_cast<int64_t>(i) * std::ssize(expected);
        found.push_back(relative_distance({begin, begin + std::ssize(expected)}, expected));
      }
    }
    std::sort(found.begin(), found.end(),
              [](double a, double b) { return std::isnan(b) ? !std::isnan(a) : a < b; });
    return found;
  }
};

void expect_near(const std::vector<double>& distances, bool mixture, const std::string& what) {
  // Near-equal experts may change places in a row of a mixture: the median tells.
  EXPECT_LE(mixture ? distances[distances.size() / 2] : distances.back(), kBf16Bound) << what;
  std::printf("%s: relative distance %.4f median, %.4f largest\n", what.c_str(), distances[distances.size() / 2],
              distances.back());
}

// All ranks on one GPU, sums and logits put together by kernels and copies: everything but NCCL.
class RanksOnOneGpu {
 public:
  RanksOnOneGpu(const CudaStream& stream, const ReferenceDecoder& reference, int64_t count) : stream_(stream) {
    const ShardPlan plan = ShardPlan::create(reference.shape, count).value();
    for (int64_t r = 0; r < count; ++r) {
      weights_.push_back(upload(share_of(reference, plan, r), WeightType::kBf16));
    }
    for (const DecoderWeights& w : weights_) {
      const RopeTable rope = plain_rope_table(w.shape());
      decoders_.push_back(Decoder::create(stream, w, rope, kLimits, {}, decoders_.empty() ? MatmulChoices() : decoders_[0].choices())
                              .value());
      pools_.push_back(KvPool::create(w.shape(), kBlocks).value());
      EXPECT_EQ(cudaMemset(pools_.back().data(), 0xFF, static_cast<size_t>(pools_.back().bytes())), cudaSuccess);
      shares_.emplace_back(static_cast<size_t>(kLimits.max_logit_rows * w.shape().head_rows()));
      arrays_.push_back(StepBatch::create(kLimits).value());
    }
  }
  bool fused_fits(int64_t rows) const { return decoders_[0].fused_fits(rows); }

  std::vector<double> run(const BatchView& batch, bool fused) {
    for (size_t r = 0; r < decoders_.size(); ++r) {
      EXPECT_TRUE(arrays_[r].send(stream_, batch));
      if (fused) continue;
      EXPECT_TRUE(decoders_[r].plan(stream_, arrays_[r].plan_input(false)));
    }
    const Status done = enqueue_in_lockstep(
        decoders_[0].shape(), {.tokens = batch.num_tokens, .logit_rows = batch.num_logit_rows},
        [&](int64_t rank, int64_t part) {
          const auto r = static_cast<size_t>(rank);
          return decoders_[r].enqueue_part(stream_, arrays_[r].device(), pools_[r], shares_[r].data(), part, fused);
        },
        [&](const Collective& collective) {
          if (collective.kind == CollectiveKind::kSum) sum(collective.elements);
          return Status();
        });
    EXPECT_TRUE(done) << done.error().message;
    EXPECT_TRUE(stream_.synchronize());
    return joined(batch.num_logit_rows);
  }

 private:
  void sum(int64_t elements) {
    __nv_bfloat16* first = decoders_[0].sums();
    for (size_t r = 1; r < decoders_.size(); ++r) add(stream_, decoders_[r].sums(), elements, first);
    for (size_t r = 1; r < decoders_.size(); ++r) {
      EXPECT_EQ(cudaMemcpyAsync(decoders_[r].sums(), first, static_cast<size_t>(elements) * 2,
                                cudaMemcpyDeviceToDevice, stream_.get()),
                cudaSuccess);
    }
  }
  std::vector<double> joined(int64_t rows) const {
    const DecoderShape& s = decoders_[0].shape();
    std::vector<double> all(static_cast<size_t>(rows * s.vocabulary));
    for (size_t r = 0; r < shares_.size(); ++r) {
      const std::vector<float> share = shares_[r].host();
      const int64_t first = static_cast<int64_t>(r) * s.head_rows();
      for (int64_t row = 0; row < rows; ++row) {
        for (int64_t c = 0; c < s.head_rows() && first + c < s.vocabulary; ++c) {
          all[static_cast<size_t>(row * s.vocabulary + first + c)] =
              static_cast<double>(share[static_cast<size_t>(row * s.head_rows() + c)]);
        }
      }
    }
    return all;
  }

  const CudaStream& stream_;
  std::vector<DecoderWeights> weights_;
  std::vector<Decoder> decoders_;
  std::vector<KvPool> pools_;
  std::vector<DeviceArray<float>> shares_;
  std::vector<StepBatch> arrays_;
};

using ParallelDecoderCuda = GpuTest;

TEST_F(ParallelDecoderCuda, RanksOnOneGpuAddUpToFloat64OnEveryPath) {
  RandomValues random(1);
  for (const bool mixture : {false, true}) {
    for (const bool tied : {false, true}) {
      const ReferenceDecoder reference(random, small(tied, mixture));
      for (const int64_t sequences : {1, 3, 12}) {
        const Texts texts(random, reference, sequences);
        // Four ranks share two KV heads.
        for (const int64_t count : {1, 2, 4}) {
          RanksOnOneGpu ranks(stream(), reference, count);
          for (const bool want_fused : {false, true}) {
            const bool fused = want_fused && ranks.fused_fits(sequences);
            if (want_fused && !fused) continue;
            const std::string what = fmt::format("{}{}, {} sequences, {} ranks, {}", mixture ? "mixture" : "dense",
                                                 tied ? " tied" : "", sequences, count, fused ? "fused" : "unfused");
            expect_near(texts.distances([&](const BatchView& batch, bool decodes_only) {
              return ranks.run(batch, decodes_only && fused);
            }),
                        mixture, what);
          }
        }
      }
    }
  }
}

// Needs GPUs that NCCL can connect.
TEST_F(ParallelDecoderCuda, SeveralGpusAgreeWithFloat64) {
  int gpus = 0;
  ASSERT_EQ(cudaGetDeviceCount(&gpus), cudaSuccess);
  if (gpus < 2) GTEST_SKIP() << "skipped: needs 2 GPUs, found " << gpus;
  RandomValues random(2);
  for (const bool mixture : {false, true}) {
    const ReferenceDecoder reference(random, small(/*tied=*/mixture, mixture));
    for (int64_t count = 2; count <= std::min(gpus, 4); count *= 2) {
      const ShardPlan plan = ShardPlan::create(reference.shape, count).value();
      const std::vector<int> devices = first_gpus(count).value();
      GpuGroup group = GpuGroup::create(devices).value();
      std::vector<DecoderWeights> weights;
      std::vector<CudaStream> streams;
      for (const int device : devices) {
        const DeviceScope scope(device);
        weights.push_back(upload(share_of(reference, plan, device), WeightType::kBf16));
        streams.push_back(CudaStream::create().value());
      }
      std::vector<ParallelDecoder::RankPlace> places;
      for (size_t r = 0; r < devices.size(); ++r) places.push_back({devices[r], &streams[r], &weights[r]});
      ParallelDecoder decoder = ParallelDecoder::create(places, plain_rope_table(reference.shape), group, kLimits,
                                                        {}, kBlocks)
                                    .value();
      for (const bool graphs : {false, true}) {
        while (graphs && decoder.capture_next(12).value()) {
        }
        for (const int64_t sequences : {1, 3, 12}) {
          const Texts texts(random, reference, sequences);
          const auto step = [&](const BatchView& batch, bool decodes_only) {
            const Status ran = decoder.run(batch, decodes_only);
            EXPECT_TRUE(ran) << ran.error().message;
            std::vector<std::vector<float>> logits;
            for (int64_t r = 0; r < count; ++r) {
              const DeviceScope scope(decoder.device(r));
              EXPECT_TRUE(decoder.stream(r).synchronize());
              logits.emplace_back(static_cast<size_t>(batch.num_logit_rows * reference.shape.vocabulary));
              EXPECT_EQ(cudaMemcpy(logits.back().data(), decoder.logits(r), logits.back().size() * sizeof(float),
                                   cudaMemcpyDeviceToHost),
                        cudaSuccess);
              // Every rank draws for itself.
              EXPECT_EQ(logits.back(), logits.front()) << "rank " << r;
            }
            return std::vector<double>(logits[0].begin(), logits[0].end());
          };
          expect_near(texts.distances(step), mixture,
                      fmt::format("{} GPUs, {}, {} sequences{}", count, mixture ? "mixture" : "dense", sequences,
                                  graphs ? ", graphs" : ""));
        }
      }
      EXPECT_TRUE(group.check());
    }
  }
}

TEST(GpuGroup, SaysHowManyGpusThereAre) {
  const auto devices = first_gpus(65);
  ASSERT_FALSE(devices);
  EXPECT_NE(devices.error().message.find("tensor-parallel-size is 65 but this process sees"), std::string::npos)
      << devices.error().message;
}

}  // namespace
}  // namespace crible::cuda
