#include "model/cuda/decoder.h"

#include <algorithm>

#include "device/cuda/gpu_test.h"
#include "model/cuda/decode_graphs.h"
#include "model/cuda/text_step.h"
#include "model/cuda/uploaded_reference.h"

namespace crible::cuda {
namespace {

DecoderShape tiny(int64_t heads, int64_t kv_heads, int64_t head_size, bool qk_norm, bool bias, bool tied,
                  RopePairing pairing) {
  return {.layers = 3,
          .embedding = 256,
          .feed_forward = 384,
          .heads = heads,
          .kv_heads = kv_heads,
          .head_size = head_size,
          .vocabulary = 512,
          .context_length = 512,
          .qk_norm = qk_norm,
          .qkv_bias = bias,
          .tied = tied,
          .epsilon = 1e-6f,
          .rope_base = 10000.0,
          .pairing = pairing};
}

struct Route {
  int64_t sequences;
  DecodePath path;
  KvType kv = KvType::kBf16;
};

constexpr int64_t kDecodes = 4;
constexpr int64_t kMaxSequences = 11;

// Sequences and what the float64 decoder says after each of their tokens, made once per model.
struct Texts {
  std::vector<std::vector<int32_t>> tokens;
  std::vector<std::vector<std::vector<double>>> logits;
  std::vector<int64_t> prompt;

  Texts(RandomValues& random, const ReferenceDecoder& reference) {
    for (int64_t i = 0; i < kMaxSequences; ++i) {
      // The first is long enough for FlashAttention-3, whose second chunk has all but one of its tokens.
      prompt.push_back(i == 0 ? 400 : random.integer(2, 60));
      std::vector<int32_t> sequence;
      for (int64_t t = 0; t < prompt.back() + kDecodes; ++t) {
        sequence.push_back(static_cast<int32_t>(random.integer(0, reference.shape.vocabulary - 1)));
      }
      logits.push_back(reference.logits(sequence));
      tokens.push_back(std::move(sequence));
    }
  }
};

class DecoderCuda : public GpuTest {
 protected:
  static constexpr StepLimits kLimits = {
      .max_tokens = 1024, .max_sequences = 32, .max_logit_rows = 32, .max_blocks = 1024};

  // Prompts in two chunks, then decode steps through graphs. Returns the relative distances of the rows of
  // logits from the float64 decoder's, in ascending order, NaN last.
  std::vector<double> distances(const Texts& texts, const DecoderWeights& weights, const Route& run) {
    const DecoderShape& s = weights.shape();
    const auto& tokens = texts.tokens;
    const auto& expected = texts.logits;
    const auto& prompt = texts.prompt;
    Decoder decoder =
        Decoder::create(stream(), weights, plain_rope_table(weights.shape()), kLimits, {.kv_type = run.kv})
            .value();
    const KvPool cache = KvPool::create(s, 32 * 32, run.kv).value();
    EXPECT_EQ(cudaMemset(cache.data(), 0xFF, static_cast<size_t>(cache.bytes())), cudaSuccess);
    const DeviceArray<float> logits(static_cast<size_t>(kLimits.max_logit_rows * s.vocabulary));
    StepBatch batch = StepBatch::create(kLimits).value();
    DecodeGraphs graphs(decoder, cache, StepBatch::create(kLimits).value(), logits.data(), run.path);
    std::vector<double> found;
    const auto compare = [&](const std::vector<int64_t>& order, const std::vector<int64_t>& ends) {
      finish();
      const std::vector<double> all = to_doubles(logits.host());
      for (size_t row = 0; row < order.size(); ++row) {
        const auto begin = all.begin() + static_cast<int64_t>(row) * s.vocabulary;
        found.push_back(relative_distance(
            {begin, begin + s.vocabulary},
            expected[static_cast<size_t>(order[row])][static_cast<size_t>(ends[row] - 1)]));
      }
    };
    for (int chunk = 0; chunk < 2; ++chunk) {
      TextStep step;
      std::vector<int64_t> order, ends;
      const auto bounds = [&](int64_t i) {
        const int64_t middle = i % 3 == 0 ? 1 : prompt[static_cast<size_t>(i)] / 2;
        return chunk == 0 ? std::pair<int64_t, int64_t>{0, middle}
                          : std::pair<int64_t, int64_t>{middle, prompt[static_cast<size_t>(i)]};
      };
      for (const bool single : {true, false}) {
        for (int64_t i = 0; i < run.sequences; ++i) {
          const auto [begin, end] = bounds(i);
          if ((end - begin == 1) != single) continue;
          step.add(i, tokens[static_cast<size_t>(i)], begin, end);
          order.push_back(i);
          ends.push_back(end);
        }
      }
      EXPECT_TRUE(batch.send(stream(), step.view()));
      EXPECT_TRUE(decoder.plan(stream(), batch.plan_input(false)));
      EXPECT_TRUE(decoder.forward(stream(), batch.device(), cache, logits.data()));
      compare(order, ends);
    }
    for (int64_t d = 0; d < kDecodes; ++d) {
      TextStep step;
      std::vector<int64_t> order, ends;
      for (int64_t i = 0; i < run.sequences; ++i) {
        step.add(i, tokens[static_cast<size_t>(i)], prompt[static_cast<size_t>(i)] + d,
                 prompt[static_cast<size_t>(i)] + d + 1);
        order.push_back(i);
        ends.push_back(prompt[static_cast<size_t>(i)] + d + 1);
      }
      const Status ran = graphs.run(stream(), step.view());
      EXPECT_TRUE(ran) << ran.error().message;
      compare(order, ends);
    }
    std::sort(found.begin(), found.end(), [](double a, double b) { return std::isnan(b) ? !std::isnan(a) : a < b; });
    return found;
  }
};

// Each of the 3 layers adds two BF16-rounded terms to a BF16 residual and rounds about six intermediate
// results: some 25 independent roundings of relative size 2^-9 on average give √25 · 2^-9 = 1%; the bound is
// three times that.
constexpr double kBf16Bound = 0.03;
// An FP8 weight errs by up to 2^-4 and on average a third of it, at random: 2% of a product, four products a
// layer.
constexpr double kFp8Bound = 0.15;

TEST_F(DecoderCuda, AgreesWithFloat64OnEveryPath) {
  RandomValues random(1);
  const DecoderShape shapes[] = {tiny(8, 2, 64, false, false, true, RopePairing::kInterleaved),
                                 tiny(4, 2, 128, true, false, false, RopePairing::kHalves),
                                 tiny(6, 1, 64, false, true, false, RopePairing::kHalves)};
  for (const DecoderShape& shape : shapes) {
    const ReferenceDecoder reference(random, shape);
    const Texts texts(random, reference);
    for (const WeightType type : {WeightType::kBf16, WeightType::kFp8}) {
      const DecoderWeights weights = upload(reference, type);
      for (const Route& run :
           {Route{1, DecodePath::kBest}, Route{1, DecodePath::kUnfused}, Route{5, DecodePath::kBest},
            Route{8, DecodePath::kBest}, Route{11, DecodePath::kBest},
            Route{5, DecodePath::kBest, KvType::kFp8}, Route{11, DecodePath::kBest, KvType::kFp8}}) {
        const double d = distances(texts, weights, run).back();
        const bool exact_types = type == WeightType::kBf16 && run.kv == KvType::kBf16;
        EXPECT_LE(d, exact_types ? kBf16Bound : kFp8Bound) << run.sequences << " sequences";
        std::printf("heads %ld/%ld of %ld, %s, cache %s, %ld sequences, %s: largest relative distance %.4f\n",
                    shape.heads, shape.kv_heads, shape.head_size, type == WeightType::kBf16 ? "BF16" : "FP8",
                    run.kv == KvType::kBf16 ? "BF16" : "FP8", run.sequences,
                    run.path == DecodePath::kBest ? "best path" : "unfused", d);
      }
    }
  }
}

// Keys and values beyond what E4M3 holds, 448: with scales they err as those of ordinary size do, without they are cut
// off. The factor is a power of two, so that all else is as before.
TEST_F(DecoderCuda, ScalesOfAnFp8CacheHoldWhatEightBitsDoNot) {
  constexpr float kFactor = 512;
  RandomValues random(4);
  const DecoderShape shape = tiny(8, 2, 64, true, false, true, RopePairing::kHalves);
  ReferenceDecoder reference(random, shape);
  for (ReferenceLayer& layer : reference.layers) {
    for (float& x : layer.q_norm) x /= kFactor;
    for (float& x : layer.k_norm) x *= kFactor;
    const auto first_value = static_cast<int64_t>(layer.qkv.size()) - shape.kv_size() * shape.embedding;
    std::for_each(layer.qkv.begin() + first_value, layer.qkv.end(), [](float& x) { x *= kFactor; });
    for (float& x : layer.output) x /= kFactor;
  }
  const Texts texts(random, reference);
  DecoderWeights weights = upload(reference, WeightType::kBf16);
  // Each layer its own; the largest value of a layer is about five deviations.
  const std::vector<KvScales> scales = {{5.75f, 11.0f}, {9.0f, 6.5f}, {21.0f, 8.0f}};
  for (const bool scaled : {true, false}) {
    weights.set_kv_scales(scaled ? scales : std::vector<KvScales>(scales.size()));
    for (const Route& run : {Route{1, DecodePath::kBest, KvType::kFp8}, Route{1, DecodePath::kUnfused, KvType::kFp8},
                             Route{5, DecodePath::kBest, KvType::kFp8}, Route{11, DecodePath::kBest, KvType::kFp8}}) {
      const double d = distances(texts, weights, run).back();
      std::printf("FP8 cache, %s, %ld sequences, %s: largest relative distance %.4f\n", scaled ? "scaled" : "cut off",
                  run.sequences, run.path == DecodePath::kBest ? "best path" : "unfused", d);
      if (scaled) {
        EXPECT_LE(d, kFp8Bound) << run.sequences << " sequences";
      } else {
        EXPECT_GT(d, kFp8Bound) << run.sequences << " sequences";
      }
    }
    // Of no use to a cache in BF16.
    EXPECT_LE(distances(texts, weights, {5, DecodePath::kBest}).back(), kBf16Bound);
  }
}

// Where two experts are nearly equal, rounding may choose the other, and that row is another mixture: one in some
// dozen rows and layers. The median is not touched by it.
TEST_F(DecoderCuda, AMixtureOfExpertsAgreesWithFloat64) {
  RandomValues random(2);
  DecoderShape shape = tiny(4, 2, 64, true, false, false, RopePairing::kHalves);
  shape.feed_forward = 0;
  shape.experts = 16;
  shape.experts_per_token = 4;
  shape.expert_feed_forward = 128;
  const ReferenceDecoder reference(random, shape);
  const Texts texts(random, reference);
  for (const WeightType type : {WeightType::kBf16, WeightType::kFp8}) {
    const DecoderWeights weights = upload(reference, type);
    for (const Route& run :
         {Route{1, DecodePath::kBest}, Route{5, DecodePath::kUnfused}, Route{11, DecodePath::kBest}}) {
      const std::vector<double> d = distances(texts, weights, run);
      EXPECT_LE(d[d.size() / 2], type == WeightType::kBf16 ? kBf16Bound : kFp8Bound)
          << run.sequences << " sequences";
      EXPECT_LE(d.back(), 0.7);
      std::printf("mixture, %s, %ld sequences: median relative distance %.4f, largest %.4f\n",
                  type == WeightType::kBf16 ? "BF16" : "FP8", run.sequences, d[d.size() / 2], d.back());
    }
  }
}

TEST_F(DecoderCuda, RandomWeightsGiveFiniteLogitsOfOrdinarySize) {
  DecoderShape shape = tiny(4, 2, 128, true, false, false, RopePairing::kHalves);
  for (const WeightType type : {WeightType::kBf16, WeightType::kFp8}) {
    DecoderWeights weights = DecoderWeights::allocate(shape, type).value();
    weights.fill_random(stream(), 3);
    Decoder decoder = Decoder::create(stream(), weights, plain_rope_table(weights.shape()), kLimits).value();
    const KvPool cache = KvPool::create(shape, 64).value();
    const DeviceArray<float> logits(static_cast<size_t>(kLimits.max_logit_rows * shape.vocabulary));
    DecodeGraphs graphs(decoder, cache, StepBatch::create(kLimits).value(), logits.data());
    TextStep step;
    step.add(0, {17}, 0, 1);
    ASSERT_TRUE(graphs.run(stream(), step.view()));
    finish();
    double squares = 0;
    const std::vector<float> all = logits.host();
    for (int64_t i = 0; i < shape.vocabulary; ++i)
      squares += std::pow(static_cast<double>(all[static_cast<size_t>(i)]), 2);
    const double size = std::sqrt(squares / static_cast<double>(shape.vocabulary));
    EXPECT_GT(size, 0.3);
    EXPECT_LT(size, 3.0);
  }
}

TEST(DecoderPlan, MemoryIsKnownBeforehand) {
  const DecoderShape shape = qwen3_8b();
  // 8.19 billion parameters in BF16; the matrices read per token are those without the embedding.
  EXPECT_NEAR(static_cast<double>(DecoderWeights::bytes_for(shape, WeightType::kBf16)), 16.38e9, 0.02e9);
  EXPECT_NEAR(2.0 * static_cast<double>(shape.matrix_elements()), 15.14e9, 0.01e9);
  EXPECT_EQ(KvPool::bytes_per_block(shape), 16 * 36 * 2 * 8 * 128 * 2);
  EXPECT_EQ(KvPool::bytes_per_block(shape, KvType::kFp8), 16 * 36 * 2 * 8 * 128);
  // 30.5 billion parameters, of which 3.3 (with the embedding) serve a token.
  const DecoderShape mixture = qwen3_30b_a3b();
  EXPECT_NEAR(static_cast<double>(DecoderWeights::bytes_for(mixture, WeightType::kBf16)), 61.07e9, 0.05e9);
  EXPECT_NEAR(static_cast<double>(mixture.matrix_elements()), 3.04e9, 0.01e9);
  EXPECT_GT(Decoder::arena_bytes(shape, {.max_tokens = 8192}),
            Decoder::arena_bytes(shape, {.max_tokens = 4096}));
}

}  // namespace
}  // namespace crible::cuda
