#include "engine/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/units.h"

namespace crible {
namespace {

using ::testing::HasSubstr;

EngineConfig config_of(int64_t device_bytes, double utilization, int64_t max_model_len) {
  EngineConfig config;
  config.device_memory_bytes = device_bytes;
  config.gpu_memory_utilization = utilization;
  config.max_model_len = max_model_len;
  config.max_num_batched_tokens = 512;
  return config;
}

TEST(MemoryPlan, GivesWhatIsLeftToWholeBlocks) {
  const auto plan = plan_memory(config_of(1000'000, 0.5, 64), {.weight_bytes = 100'000, .activation_bytes = 50'000,
                                                               .kv_block_bytes = 30'000});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->budget_bytes, 500'000);
  EXPECT_EQ(plan->num_blocks, 11);
  EXPECT_EQ(plan->planned_bytes(), 480'000);
}

TEST(MemoryPlan, NeverExceedsTheBudgetAndWastesLessThanABlock) {
  std::mt19937_64 random(3);
  int planned = 0;
  for (int i = 0; i < 5000; ++i) {
    EngineConfig config = config_of(static_cast<int64_t>(random() % (4 * kGiB)), 0.01 + 0.0099 * (random() % 100),
                                    static_cast<int64_t>(random() % 9000));
    const bool stated = random() % 3 == 0;
    if (stated) config.kv_cache_memory_bytes = 1 + static_cast<int64_t>(random() % kGiB);
    const MemoryNeeds needs{.weight_bytes = static_cast<int64_t>(random() % kGiB),
                            .activation_bytes = static_cast<int64_t>(random() % kGiB),
                            .kv_block_bytes = 1 + static_cast<int64_t>(random() % kMiB)};
    const auto plan = plan_memory(config, needs);
    if (!plan) {
      EXPECT_EQ(plan.error().code, ErrorCode::kResourceExhausted);
      continue;
    }
    ++planned;
    EXPECT_LE(plan->planned_bytes(), plan->budget_bytes);
    EXPECT_GE(plan->num_blocks * config.block_size, config.max_model_len);
    const int64_t for_blocks = stated ? config.kv_cache_memory_bytes
                                      : plan->budget_bytes - needs.weight_bytes - needs.activation_bytes;
    EXPECT_LT(for_blocks - plan->kv_bytes, needs.kv_block_bytes);
  }
  EXPECT_GT(planned, 500);
}

TEST(MemoryPlan, NamesTheTermThatIsTooLargeAndTheRemedy) {
  const auto message = [](const EngineConfig& config, const MemoryNeeds& needs) {
    const auto plan = plan_memory(config, needs);
    return plan ? std::string("planned") : plan.error().message;
  };
  EngineConfig config = config_of(100 * kMiB, 0.5, 1024);
  EXPECT_THAT(message(config, {60 * kMiB, 1, 1}), HasSubstr("the weights take 60.0 MiB"));
  const std::string activations = message(config, {40 * kMiB, 20 * kMiB, 1});
  EXPECT_THAT(activations, HasSubstr("activations of a step of 512 tokens take 20.0 MiB"));
  EXPECT_THAT(activations, HasSubstr("lower max-num-batched-tokens"));
  const std::string context = message(config, {40 * kMiB, 1 * kMiB, kMiB});
  EXPECT_THAT(context, HasSubstr("9.0 MiB for 144 tokens"));
  EXPECT_THAT(context, HasSubstr("lower max-model-len to at most 144"));
  config.kv_cache_memory_bytes = 20 * kMiB;
  EXPECT_THAT(message(config, {40 * kMiB, 1 * kMiB, kMiB}), HasSubstr("kv-cache-memory-bytes is 20.0 MiB"));
}

}  // namespace
}  // namespace crible
