// What DecoderOptions::deterministic promises: a text's logits have the same bits however its tokens are cut
// into steps, whatever stands beside it, from the cache or computed anew.
#include <algorithm>
#include <cstring>
#include <map>

#include "device/cuda/gpu_test.h"
#include "model/cuda/decode_graphs.h"
#include "model/cuda/decoder.h"
#include "model/cuda/text_step.h"
#include "ops/random_values.h"

namespace crible::cuda {
namespace {

constexpr StepLimits kLimits = {
    .max_tokens = 1024, .max_sequences = 32, .max_logit_rows = 32, .max_blocks = 1024};
constexpr int64_t kTokens = 420;  // of the text that is looked at
constexpr int64_t kDecoded = 6;   // its last tokens, always one by one
constexpr int64_t kCompanions = 20;

DecoderShape shape_with_heads(int64_t heads, int64_t kv_heads, int64_t head_size) {
  return {.layers = 3,
          .embedding = 512,
          .feed_forward = 1024,
          .heads = heads,
          .kv_heads = kv_heads,
          .head_size = head_size,
          .vocabulary = 768,
          .context_length = 512,
          .qk_norm = true};
}

// Logits by position, as they came.
using Logits = std::map<int64_t, std::vector<float>>;

class DecoderDeterministicCuda : public GpuTest {
 protected:
  struct Setting {
    DecoderShape shape;
    WeightType weights;
    KvType kv;
  };

  void make(const Setting& setting) {
    weights_.emplace(DecoderWeights::allocate(setting.shape, setting.weights).value());
    weights_->fill_random(stream(), 5);
    decoder_.emplace(Decoder::create(stream(), *weights_, plain_rope_table(setting.shape), kLimits,
                                     {.kv_type = setting.kv, .deterministic = true})
                         .value());
    cache_.emplace(KvPool::create(setting.shape, 32 * (kCompanions + 1), setting.kv).value());
    logits_.emplace(static_cast<size_t>(kLimits.max_logit_rows * setting.shape.vocabulary));
    batch_.emplace(StepBatch::create(kLimits).value());
    graphs_.emplace(*decoder_, *cache_, StepBatch::create(kLimits).value(), logits_->data());
  }

  // Text 0 in steps that end at `ends`, each with `companions` other texts at random places of theirs.
  Logits run(RandomValues& random, const std::vector<std::vector<int32_t>>& texts,
             const std::vector<int64_t>& ends, int64_t companions) {
    EXPECT_EQ(cudaMemset(cache_->data(), 0xFF, static_cast<size_t>(cache_->bytes())), cudaSuccess);
    std::vector<int64_t> done(texts.size(), 0);
    Logits found;
    for (const int64_t end : ends) {
      struct Part {
        int64_t text, begin, end;
      };
      std::vector<Part> parts = {{0, done[0], end}};
      const bool decode = end - done[0] == 1;
      for (int64_t i = 1; i <= companions; ++i) {
        int64_t& at = done[static_cast<size_t>(i)];
        if (at >= kTokens - 1) at = 0;
        // Beside a decoded token others are decoded, too, so that the step is a graph's, or not.
        const bool single = decode ? companions % 2 == 0 : random.integer(0, 2) == 0;
        const int64_t next = single ? at + 1 : std::min(kTokens, at + random.integer(2, 40));
        parts.push_back({i, at, next});
        at = next;
      }
      std::stable_partition(parts.begin(), parts.end(), [](const Part& p) { return p.end - p.begin == 1; });
      TextStep step;
      for (const Part& p : parts) step.add(p.text, texts[static_cast<size_t>(p.text)], p.begin, p.end);
      const bool all_single = static_cast<size_t>(step.view().num_tokens) == parts.size();
      if (all_single) {
        EXPECT_TRUE(graphs_->run(stream(), step.view()));
      } else {
        EXPECT_TRUE(batch_->send(stream(), step.view()));
        EXPECT_TRUE(decoder_->plan(stream(), batch_->plan_input(false)));
        EXPECT_TRUE(decoder_->forward(stream(), batch_->device(), *cache_, logits_->data()));
      }
      finish();
      const auto own = std::find_if(parts.begin(), parts.end(), [](const Part& p) { return p.text == 0; });
      const std::vector<float> all = logits_->host();
      const int64_t vocabulary = decoder_->shape().vocabulary;
      const auto row = all.begin() + (own - parts.begin()) * vocabulary;
      found[end] = {row, row + vocabulary};
      done[0] = end;
    }
    return found;
  }

 private:
  std::optional<DecoderWeights> weights_;
  std::optional<Decoder> decoder_;
  std::optional<KvPool> cache_;
  std::optional<DeviceArray<float>> logits_;
  std::optional<StepBatch> batch_;
  std::optional<DecodeGraphs> graphs_;
};

TEST_F(DecoderDeterministicCuda, ATextsLogitsHaveTheSameBitsInEveryCompany) {
  RandomValues random(7);
  std::vector<std::vector<int32_t>> texts(kCompanions + 1);
  for (std::vector<int32_t>& text : texts) {
    for (int64_t t = 0; t < kTokens; ++t) text.push_back(static_cast<int32_t>(random.integer(0, 767)));
  }
  const DecoderShape wide = shape_with_heads(8, 2, 128), narrow = shape_with_heads(6, 2, 64);
  for (const Setting& setting :
       {Setting{wide, WeightType::kBf16, KvType::kBf16}, Setting{wide, WeightType::kFp8, KvType::kFp8},
        Setting{narrow, WeightType::kBf16, KvType::kFp8}, Setting{narrow, WeightType::kFp8, KvType::kBf16}}) {
    make(setting);
    std::vector<int64_t> decoded;
    for (int64_t t = kTokens - kDecoded; t < kTokens; ++t) decoded.push_back(t + 1);
    const auto with_prompt = [&](std::vector<int64_t> ends) {
      ends.insert(ends.end(), decoded.begin(), decoded.end());
      return ends;
    };
    const int64_t prompt = kTokens - kDecoded;
    const Logits alone = run(random, texts, with_prompt({prompt}), 0);
    int64_t compared = 0, different = 0;
    const auto compare = [&](const Logits& other) {
      for (const auto& [position, values] : alone) {
        const auto found = other.find(position);
        if (found == other.end()) continue;
        ++compared;
        different +=
            std::memcmp(values.data(), found->second.data(), values.size() * sizeof(float)) != 0 ? 1 : 0;
      }
    };
    compare(run(random, texts, with_prompt({prompt}), 7));
    compare(run(random, texts, with_prompt({prompt}), kCompanions));
    for (int round = 0; round < 8; ++round) {
      std::vector<int64_t> ends;
      for (int64_t at = 0; at < prompt;) {
        at = std::min(prompt, at + random.integer(1, round % 2 == 0 ? 60 : 300));
        ends.push_back(at);
      }
      compare(run(random, texts, with_prompt(ends), random.integer(0, kCompanions)));
    }
    EXPECT_EQ(compared, 10 * (kDecoded + 1));
    EXPECT_EQ(different, 0) << "heads of " << setting.shape.head_size << ", "
                            << (setting.weights == WeightType::kFp8 ? "FP8" : "BF16") << " weights, "
                            << (setting.kv == KvType::kFp8 ? "FP8" : "BF16") << " cache";
  }
}

}  // namespace
}  // namespace crible::cuda
