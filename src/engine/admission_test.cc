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
