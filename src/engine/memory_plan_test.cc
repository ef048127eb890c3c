#include "engine/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
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

ResolvedConfig resolved_of(const EngineConfig& requested) {
  auto resolved = resolve(requested, {.memory_bytes = 16 * kGiB, .cores = 2}, {.context_length = 8192});
  EXPECT_TRUE(resolved) << resolved.error().message;
  return std::move(*resolved);
}

Result<MemoryPlan> settle(const EngineConfig& requested, ResolvedConfig& resolved, int64_t block_bytes) {
  resolved = resolved_of(requested);
  return settle_memory(requested, resolved, [block_bytes](const EngineConfig& config) {
    return MemoryNeeds{.weight_bytes = 100 * kMiB, .activation_bytes = config.max_num_batched_tokens * kKiB,
                       .kv_block_bytes = block_bytes};
  });
}

std::string reason_of(const ResolvedConfig& resolved, std::string_view name) {
  for (const Adjustment& a : resolved.adjustments) {
    if (a.name == name) return a.reason;
  }
  return {};
}

TEST(SettleMemory, UnaskedTheKvCacheIsOfUsefulSizeAndAskedItIsWhatWasAsked) {
  ResolvedConfig resolved;
  EngineConfig requested;
  requested.max_num_seqs = 64;
  auto plan = settle(requested, resolved, 100 * kKiB);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->num_blocks, 64 * 512 / 16);
  EXPECT_EQ(resolved.config.kv_cache_memory_bytes, plan->kv_bytes);
  EXPECT_THAT(reason_of(resolved, "kv-cache-memory-bytes"), HasSubstr("64 sequences of 512 tokens"));
  // Blocks so large that one sequence of the model's context takes more than the most.
  plan = settle(requested, resolved, 4 * kMiB);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->kv_bytes, kGiB);
  EXPECT_EQ(resolved.config.max_model_len, 256 * 16);
  EXPECT_THAT(reason_of(resolved, "max-model-len"), HasSubstr("what the KV cache holds"));
  // A context that was asked for goes before the most.
  requested.max_model_len = 8192;
  plan = settle(requested, resolved, 4 * kMiB);
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->num_blocks, 512);
  EXPECT_EQ(resolved.config.max_model_len, 8192);
  requested.gpu_memory_utilization = 0.5;
  plan = settle(requested, resolved, 2 * kMiB);
  ASSERT_TRUE(plan);
  EXPECT_GT(plan->planned_bytes(), 2 * kGiB - 2 * kMiB - 100);
  EXPECT_THAT(reason_of(resolved, "kv-cache-memory-bytes"), HasSubstr("what gpu-memory-utilization leaves"));
  requested.kv_cache_memory_bytes = 1100 * kMiB + 1;
  plan = settle(requested, resolved, 2 * kMiB);
  ASSERT_TRUE(plan);
  EXPECT_EQ(resolved.config.kv_cache_memory_bytes, 1100 * kMiB);
}

TEST(SettleMemory, IsIdempotentAndListsEveryChange) {
  std::mt19937_64 random(9);
  int settled = 0;
  for (int i = 0; i < 2000; ++i) {
    EngineConfig requested;
    requested.max_num_seqs = 1 + static_cast<int64_t>(random() % 200);
    if (random() % 2) requested.max_model_len = 1 + static_cast<int64_t>(random() % 8192);
    if (random() % 3 == 0) requested.gpu_memory_utilization = 0.05 + 0.01 * static_cast<double>(random() % 90);
    if (random() % 3 == 0) requested.kv_cache_memory_bytes = 1 + static_cast<int64_t>(random() % (2 * kGiB));
    const auto block_bytes = static_cast<int64_t>(1 + random() % (8 * kMiB));
    ResolvedConfig resolved, again;
    if (!settle(requested, resolved, block_bytes)) continue;
    ++settled;
    ASSERT_TRUE(settle(resolved.config, again, block_bytes));
    EXPECT_TRUE(again.adjustments.empty()) << again.adjustments[0].name;
    const auto from = engine_fields().to_json(requested), to = engine_fields().to_json(resolved.config);
    for (const auto& [name, value] : from.items()) EXPECT_EQ(value != to[name], !reason_of(resolved, name).empty()) << name;
  }
  EXPECT_GT(settled, 500);
}

TEST(MemoryPlan, WeightsAreRefusedBeforeTheyAreLoaded) {
  constexpr int64_t kTotal = 80 * kGiB;
  EXPECT_TRUE(check_weights_fit({}, 60 * kGiB, kTotal, 79 * kGiB));
  const Status large = check_weights_fit({}, 73 * kGiB, kTotal, 79 * kGiB);  // nine tenths are 72 GiB
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().code, ErrorCode::kResourceExhausted);
  EXPECT_THAT(large.error().message, HasSubstr("gpu-memory-utilization 0.9 of device-memory-bytes 80"));
  EXPECT_FALSE(check_weights_fit(config_of(0, 0.5, 0), 41 * kGiB, kTotal, 79 * kGiB));
  EXPECT_FALSE(check_weights_fit(config_of(16 * kGiB, 0, 0), 15 * kGiB, kTotal, 79 * kGiB));
  const Status busy = check_weights_fit({}, 60 * kGiB, kTotal, 40 * kGiB);
  ASSERT_FALSE(busy);
  EXPECT_THAT(busy.error().message, HasSubstr("other programs hold the rest"));
}

}  // namespace
}  // namespace crible
