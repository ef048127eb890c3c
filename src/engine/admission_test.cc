#include "engine/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace crible {
namespace {

constexpr AdmissionLimits kLimits{.vocabulary = 100, .max_sequence_tokens = 20};

EngineRequest valid() {
  return {.prompt = {1, 2, 3}, .sampling = {.temperature = 0, .max_tokens = 5}};
}

TEST(Admission, CutsOutputToWhatTheContextLeaves) {
  EngineRequest request = valid();
  ASSERT_TRUE(admit(request, kLimits));
  EXPECT_EQ(request.sampling.max_tokens, 5);
  request.sampling.max_tokens = 1000;
  ASSERT_TRUE(admit(request, kLimits));
  EXPECT_EQ(request.sampling.max_tokens, 17);
}

TEST(Admission, RefusesWhatCanNeverRun) {
  const auto refused = [](auto change) {
    EngineRequest request = valid();
    change(request);
    const Status status = admit(request, kLimits);
    return !status && status.error().code == ErrorCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused([](auto& r) { r.prompt.clear(); }));
  EXPECT_TRUE(refused([](auto& r) { r.prompt.assign(20, 1); }));
  EXPECT_FALSE(refused([](auto& r) { r.prompt.assign(19, 1); }));
  EXPECT_TRUE(refused([](auto& r) { r.prompt[1] = 100; }));
  EXPECT_TRUE(refused([](auto& r) { r.prompt[2] = -1; }));
  EXPECT_TRUE(refused([](auto& r) { r.sampling.temperature = -0.1f; }));
  EXPECT_TRUE(refused([](auto& r) { r.sampling.temperature = NAN; }));
  EXPECT_TRUE(refused([](auto& r) { r.sampling.min_p = 1.5f; }));
  EXPECT_TRUE(refused([](auto& r) { r.sampling.min_p = NAN; }));
  EXPECT_TRUE(refused([](auto& r) { r.sampling.typical_p = 0; }));
  EXPECT_TRUE(refused([](auto& r) { r.sampling.repetition_penalty = 0; }));
  EXPECT_TRUE(refused([](auto& r) { r.sampling.presence_penalty = INFINITY; }));
  EXPECT_TRUE(refused([](auto& r) { r.sampling.frequency_penalty = NAN; }));
  EXPECT_TRUE(refused([](auto& r) { r.sampling.dry.base = 0.5f; }));
  EXPECT_TRUE(refused([](auto& r) { r.sampling.dry.allowed_length = 0; }));
  EXPECT_TRUE(refused([](auto& r) { r.sampling.dry.range = -2; }));
  EXPECT_TRUE(refused([](auto& r) { r.sampling.logit_bias = {{100, 1}}; }));
  EXPECT_TRUE(refused([](auto& r) { r.sampling.logit_bias = {{5, 101}}; }));
  EXPECT_TRUE(refused([](auto& r) { r.sampling.logit_bias = {{5, 1}, {6, 1}, {5, 2}}; }));
  EXPECT_FALSE(refused([](auto& r) { r.sampling.logit_bias = {{5, 1}, {6, 1}}; }));
  EXPECT_TRUE(refused([](auto& r) { r.sampling.min_tokens = 6; }));
  EXPECT_FALSE(refused([](auto& r) { r.sampling.min_tokens = 5; }));
  EXPECT_TRUE(refused([](auto& r) { r.sampling.logprobs = 21; }));
  EXPECT_TRUE(refused([](auto& r) { r.sampling.prompt_logprobs = -1; }));
  EXPECT_TRUE(refused([](auto& r) { r.n = 0; }));
  EXPECT_TRUE(refused([](auto& r) { r.n = 129; }));
  // With every token a stop token there is nothing to draw before min_tokens.
  EXPECT_TRUE(refused([](auto& r) {
    r.sampling.min_tokens = 1;
    for (TokenId id = 0; id < 100; ++id) r.sampling.stop_token_ids.push_back(id);
  }));
  EXPECT_TRUE(refused([](auto& r) { r.sampling.temperature = INFINITY; }));
  EXPECT_TRUE(refused([](auto& r) { r.sampling.top_p = 0; }));
  EXPECT_TRUE(refused([](auto& r) { r.sampling.top_p = 1.01f; }));
  EXPECT_TRUE(refused([](auto& r) { r.sampling.top_p = NAN; }));
  EXPECT_TRUE(refused([](auto& r) { r.sampling.top_k = -1; }));
  EXPECT_TRUE(refused([](auto& r) { r.sampling.max_tokens = 0; }));
  EXPECT_TRUE(refused([](auto& r) { r.sampling.stop_token_ids = {100}; }));
}

TEST(LiveChange, NamesTheSettingThatNeedsARestart) {
  EngineConfig from, to;
  to.max_num_seqs = 4;
  to.enable_prefix_caching = false;
  EXPECT_TRUE(check_live_change(from, to));
  to.threads = 3;
  const Status status = check_live_change(from, to);
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().message, ::testing::HasSubstr("threads cannot change from 0 to 3"));
}

}  // namespace
}  // namespace crible
