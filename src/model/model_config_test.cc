#include "model/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "model/model_registry.h"

namespace crible {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A configuration without weights.
class ConfigOnly final : public Checkpoint {
 public:
  explicit ConfigOnly(ConfigKeys keys) : Checkpoint("model", std::move(keys)) {}

  RopePairing rope_pairing() const override { return RopePairing::kHalves; }
  bool has(std::string_view) const override { return false; }
  Result<int64_t> rows(const std::string&) const override { return 300; }
  Result<MatrixSource> matrix(const std::string& name, int64_t, int64_t) override { return none(name); }
  Result<std::vector<MatrixSource>> experts(const std::string& name, int64_t, int64_t, int64_t) override {
    return none(name);
  }
  Result<std::vector<float>> vector(const std::string& name, int64_t) override { return none(name); }
  Status check_all_taken() const override { return {}; }
  std::vector<TensorSummary> tensors() const override { return {}; }

 private:
  static tl::unexpected<Error> none(const std::string& name) { return fail(ErrorCode::kNotFound, "no {}", name); }
};

struct Change {
  template <typename T>
  Change(std::string k, const T& v) : key(std::move(k)) {
    if constexpr (std::is_same_v<T, int>) {
      value = int64_t{v};
    } else if constexpr (std::is_convertible_v<T, std::string>) {
      value = std::string(v);
    } else {
      value = v;
    }
  }
  std::string key;
  ConfigValue value;
};

// A model of six layers with the keys that every model has, and with `changes`.
ConfigOnly config_of(const std::string& architecture, const std::vector<Change>& changes = {}) {
  std::vector<Change> all = {{"context_length", 4096},
                             {"block_count", 6},
                             {"embedding_length", 64},
                             {"feed_forward_length", 96},
                             {"attention.head_count", 4},
                             {"attention.head_count_kv", 2},
                             {"attention.layer_norm_rms_epsilon", 1e-6}};
  all.insert(all.end(), changes.begin(), changes.end());
  ConfigKeys keys("model", architecture);
  for (const auto& [key, value] : all) keys.set(key, value, architecture + "." + key);
  return ConfigOnly(std::move(keys));
}

ModelConfig read(const std::string& architecture, const std::vector<Change>& changes = {}) {
  const auto description = describe(config_of(architecture, changes));
  if (description) return description->config;
  ADD_FAILURE() << description.error().message;
  return {};
}

std::string error_of(const std::string& architecture, const std::vector<Change>& changes) {
  const auto description = describe(config_of(architecture, changes));
  return description ? "read" : description.error().message;
}

TEST(ModelConfig, TakesTheArchitecturesDefaults) {
  const ModelConfig llama = read("llama");
  EXPECT_EQ(llama.head_size, 16);
  EXPECT_EQ(llama.vocabulary, 300);
  EXPECT_EQ(llama.rope.base, 10'000);
  EXPECT_EQ(llama.attention_scale, 0.25);
  EXPECT_EQ(llama.window_of(0), 0);
  EXPECT_FALSE(llama.window_rope);

  const ModelConfig gemma = read("gemma3", {{"attention.sliding_window", 512}});
  EXPECT_EQ(gemma.rope.base, 1e6);
  ASSERT_TRUE(gemma.window_rope);
  EXPECT_EQ(gemma.window_rope->base, 1e4);
  EXPECT_EQ(gemma.window_of(4), 512);
  EXPECT_EQ(gemma.window_of(5), 0);
}

TEST(ModelConfig, KnowsWhichLayersHaveTheWindow) {
  const Change window{"attention.sliding_window", 7};
  EXPECT_THAT(read("llama", {window}).windowed, ElementsAre(true, true, true, true, true, true));
  EXPECT_THAT(read("gemma2", {window}).windowed, ElementsAre(true, false, true, false, true, false));
  EXPECT_THAT(read("gemma3", {window, {"attention.sliding_window_pattern", 3}}).windowed,
              ElementsAre(true, true, false, true, true, false));
  const std::vector<bool> layers = {false, true, true, false, false, true};
  EXPECT_EQ(read("qwen2", {window, {"attention.sliding_window_pattern", layers}}).windowed, layers);
  EXPECT_THAT(error_of("qwen2", {window, {"attention.sliding_window_pattern", std::vector<bool>(5)}}),
              HasSubstr("qwen2.attention.sliding_window_pattern lists 5 values; 6 are needed"));
}

// GGUF states no scale, and the largest Gemmas divide by another number than the root of the head's size.
TEST(ModelConfig, ScalesTheScoresOfTheLargestGemmasByTheirWidth) {
  const Change size{"attention.key_length", 8};
  EXPECT_EQ(read("gemma3", {size}).attention_scale, 1 / std::sqrt(8.0));
  EXPECT_EQ(read("gemma3", {size, {"block_count", 62}}).attention_scale, 0.25);
  EXPECT_EQ(read("gemma2", {size, {"block_count", 46}}).attention_scale, 0.25);
  EXPECT_EQ(read("gemma3", {size, {"block_count", 62}, {"attention.scale", 0.5}}).attention_scale, 0.5);
}

TEST(ModelConfig, ReadsWhatStretchesTheContext) {
  const std::vector<Change> yarn = {{"rope.scaling.type", "yarn"}, {"rope.scaling.factor", 4.0}};
  const auto with = [](std::vector<Change> changes, const Change& change) {
    changes.push_back(change);
    return changes;
  };
  RopeConfig rope = read("qwen3", yarn).rope;
  EXPECT_EQ(rope.scaling, RopeScaling::kYarn);
  EXPECT_EQ(rope.original_context, 4096);
  EXPECT_DOUBLE_EQ(rope.attention_factor, 0.1 * std::log(4.0) + 1);
  // GGUF: a factor of the usual growth. config.json: the growth itself, or two weights of its logarithm.
  EXPECT_DOUBLE_EQ(read("qwen3", with(yarn, {"rope.scaling.attn_factor", 0.5})).rope.attention_factor,
                   0.5 * (0.1 * std::log(4.0) + 1));
  EXPECT_EQ(read("qwen3", with(yarn, {"rope.scaling.attention_factor", 1.25})).rope.attention_factor, 1.25);
  rope = read("qwen3", with(with(yarn, {"rope.scaling.mscale", 2.0}), {"rope.scaling.mscale_all_dim", 0.5})).rope;
  EXPECT_DOUBLE_EQ(rope.attention_factor, (0.2 * std::log(4.0) + 1) / (0.05 * std::log(4.0) + 1));
  EXPECT_EQ(read("qwen3", with(yarn, {"rope.scaling.yarn_beta_fast", 24.0})).rope.beta_fast, 24);
  EXPECT_EQ(read("qwen3", with(yarn, {"rope.scaling.beta_slow", 2.0})).rope.beta_slow, 2);

  EXPECT_THAT(error_of("qwen3", {{"rope.scaling.type", "yarn"}}), HasSubstr("qwen3.rope.scaling.factor"));
  EXPECT_THAT(error_of("qwen3", with(yarn, {"rope.scaling.yarn_ext_factor", 0.5})),
              HasSubstr("qwen3.rope.scaling.yarn_ext_factor is 0.5; this build computes with 1 only"));
  EXPECT_THAT(error_of("qwen3", with(yarn, {"rope.scaling.yarn_log_multiplier", 0.1})),
              HasSubstr("the key qwen3.rope.scaling.yarn_log_multiplier is not known"));
  const std::vector<Change> llama3 = {{"rope.scaling.type", "llama3"}, {"rope.scaling.factor", 8.0},
                                      {"rope.scaling.low_freq_factor", 4.0}, {"rope.scaling.high_freq_factor", 1.0}};
  EXPECT_THAT(error_of("llama", llama3), HasSubstr("llama.rope.scaling.high_freq_factor is 1; it must be above"));
}

TEST(ModelConfig, RefusesWhatItWouldComputeWrongly) {
  EXPECT_THAT(error_of("llama", {{"attention.causal", false}}), HasSubstr("llama.attention.causal is false"));
  EXPECT_THAT(error_of("llama", {{"logit_scale", 0.1}}), HasSubstr("the key llama.logit_scale is not known"));
  EXPECT_THAT(error_of("qwen3moe", {}), HasSubstr("qwen3moe.expert_count is 0 or missing"));
  const std::vector<Change> mixture = {{"expert_count", 8}, {"expert_used_count", 2},
                                       {"expert_feed_forward_length", 32}};
  EXPECT_EQ(read("qwen3moe", mixture).experts_per_token, 2);
  const auto mixture_with = [&](const Change& change) {
    std::vector<Change> changes = mixture;
    changes.push_back(change);
    return changes;
  };
  EXPECT_THAT(error_of("qwen3moe", mixture_with({"expert_used_count", 9})),
              HasSubstr("qwen3moe.expert_used_count is 9; this build takes 1 to 8"));
  EXPECT_THAT(error_of("qwen3moe", mixture_with({"expert_shared_count", 1})), HasSubstr("expert_shared_count is 1"));
  EXPECT_THAT(error_of("qwen3moe", mixture_with({"expert_gating_func", 2})), HasSubstr("expert_gating_func is 2"));
}

}  // namespace
}  // namespace crible
