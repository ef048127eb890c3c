#include "engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine/hash_model.h"

namespace crible {
namespace {

EngineConfig small_config() {
  EngineConfig config;
  config.device_memory_bytes = 64 * kMiB;
  config.threads = 1;
  config.max_num_seqs = 1;
  config.max_num_batched_tokens = 64;
  config.kv_cache_memory_bytes = 20 * kHashBlockBytes;
  return config;
}

class EngineTest : public ::testing::Test {
 protected:
  EngineTest() {
    auto engine = Engine::create(std::make_unique<HashModel>(), std::move(*Stream::create_cpu(1)), small_config());
    EXPECT_TRUE(engine) << engine.error().message;
    engine_ = std::move(*engine);
  }

  void add(int64_t id, int64_t prompt, int64_t output) {
    EngineRequest request{.prompt = std::vector<TokenId>(static_cast<size_t>(prompt), 1),
                          .sampling = {.temperature = 0, .max_tokens = output},
                          .on_output = [this, id](const TokenOutput& event) {
                            if (last_.size() <= static_cast<size_t>(id)) last_.resize(static_cast<size_t>(id) + 1);
                            last_[static_cast<size_t>(id)] = event;
                          }};
    engine_->add(make_sequences(SeqId{id}, std::move(request), 0, 16));
  }
  void steps(int count) {
    while (count-- > 0) {
      EXPECT_TRUE(engine_->step());
      engine_->deliver();
    }
  }
  const TokenOutput& last(int64_t id) const { return last_.at(static_cast<size_t>(id)); }

  std::unique_ptr<Engine> engine_;
  std::vector<TokenOutput> last_;
};

TEST_F(EngineTest, ShorterContextEndsWhatNoLongerFits) {
  add(1, 40, 120);
  add(2, 70, 10);
  add(3, 20, 100);
  steps(30);
  EXPECT_EQ(last(1).output_tokens, 30);
  EngineConfig config = small_config();
  config.max_model_len = 64;
  ASSERT_TRUE(engine_->reconfigure(config));
  engine_->deliver();
  EXPECT_EQ(last(1).finish, FinishReason::kLength);
  EXPECT_EQ(last(1).output_tokens, 30);
  EXPECT_EQ(last(2).finish, FinishReason::kError);
  EXPECT_THAT(last(2).error->message, ::testing::HasSubstr("has 70 tokens but max-model-len was changed to 64"));
  while (engine_->has_work()) steps(1);
  EXPECT_EQ(last(3).finish, FinishReason::kLength);
  EXPECT_EQ(last(3).output_tokens, 44);
  EXPECT_EQ(engine_->stats().finished_error, 1);
  EXPECT_EQ(engine_->stats().finished_length, 2);
}

TEST_F(EngineTest, CountersGoOnOverReconfiguration) {
  add(1, 40, 3);
  steps(3);
  add(2, 40, 3);
  steps(3);
  const EngineStats before = engine_->stats();
  EXPECT_EQ(before.prefix_queries_tokens, 80);
  EXPECT_EQ(before.prefix_hit_tokens, 32);
  EXPECT_EQ(before.computed_prompt_tokens, 48);
  ASSERT_TRUE(engine_->reconfigure(small_config()));
  const EngineStats after = engine_->stats();
  EXPECT_EQ(after.prefix_queries_tokens, before.prefix_queries_tokens);
  EXPECT_EQ(after.prefix_hit_tokens, before.prefix_hit_tokens);
  EXPECT_EQ(after.computed_prompt_tokens, before.computed_prompt_tokens);
  EXPECT_EQ(after.generation_tokens, 6);
  EXPECT_EQ(after.prompt_tokens, 80);
  EXPECT_EQ(after.steps, 6);
  EXPECT_EQ(after.reconfigurations, 1);
}

TEST_F(EngineTest, WhatIsInEffectIsReadBackFromWhatRuns) {
  EngineConfig config = small_config();
  config.max_num_seqs = 3;
  config.max_num_batched_tokens = 40;
  config.scheduling_policy = "priority";
  config.long_prefill_token_threshold = 7;
  config.max_long_partial_prefills = 2;
  config.enable_prefix_caching = false;
  config.kv_cache_dtype = "f32";
  config.kv_cache_memory_bytes = 41 * kHashBlockBytes;  // 20 blocks of twice the size, and a half
  ASSERT_TRUE(engine_->reconfigure(config));
  const EngineDescription& description = engine_->description();
  EXPECT_EQ(description.effective.kv_cache_memory_bytes, 40 * kHashBlockBytes);
  EXPECT_EQ(description.effective.scheduling_policy, "priority");
  EXPECT_EQ(description.effective.long_prefill_token_threshold, 7);
  EXPECT_EQ(description.effective.kv_cache_dtype, "f32");
  EXPECT_EQ(engine_fields().to_json(description.effective), engine_fields().to_json(description.resolved.config));
}

TEST_F(EngineTest, EveryCacheTypeIsReadBackByItsName) {
  const Field<EngineConfig>* field = *engine_fields().find("kv-cache-dtype");
  for (const std::string_view type : field->choices) {
    if (type == "fp8") continue;  // a GPU's
    EngineConfig config = small_config();
    config.kv_cache_dtype = type;
    config.kv_cache_memory_bytes = kMiB;
    ASSERT_TRUE(engine_->reconfigure(config)) << type;
    EXPECT_EQ(engine_->description().effective.kv_cache_dtype, type == "auto" ? "f16" : type);
  }
}

TEST_F(EngineTest, CountsStepsByTheirTokens) {
  add(1, 40, 3);
  steps(3);
  const EngineStats stats = engine_->stats();
  EXPECT_EQ(stats.steps_by_tokens[0], 2);  // of 1 token
  EXPECT_EQ(stats.steps_by_tokens[4], 1);  // of 33 to 64
  EXPECT_EQ(stats.step_tokens, 42);
}

TEST_F(EngineTest, ForgottenPrefixesAreComputedAgain) {
  add(1, 40, 1);
  steps(1);
  engine_->reset_prefix_cache();
  add(2, 40, 1);
  steps(1);
  EXPECT_EQ(last(2).cached_tokens, 0);
  add(3, 40, 1);
  steps(1);
  EXPECT_EQ(last(3).cached_tokens, 32);
}

TEST_F(EngineTest, FaultyContentIsNotShared) {
  const auto add_with_fault = [this](int64_t id) {
    EngineRequest request{.prompt = std::vector<TokenId>(40, 1), .sampling = {.temperature = 0, .max_tokens = 1},
                          .on_output = [this, id](const TokenOutput& event) {
                            last_.resize(10);
                            last_[static_cast<size_t>(id)] = event;
                          }};
    request.prompt[3] = kHashFault;
    engine_->add(make_sequences(SeqId{id}, std::move(request), 0, 16));
  };
  add_with_fault(1);
  steps(1);
  EXPECT_EQ(last(1).finish, FinishReason::kError);
  EXPECT_EQ(last(1).token, -1);
  add_with_fault(2);
  steps(1);
  EXPECT_EQ(last(2).cached_tokens, 0);
}

TEST_F(EngineTest, EventsCarryWhenTheRequestWasQueuedAndScheduled) {
  const TimePoint before = now();
  add(1, 20, 2);
  add(2, 20, 2);
  steps(1);
  const TimePoint middle = now();
  EXPECT_GE(last(1).queued, before);
  EXPECT_GE(last(1).scheduled, last(1).queued);
  EXPECT_GE(last(1).time, last(1).scheduled);
  steps(3);
  EXPECT_LT(last(2).queued, middle);
  EXPECT_GT(last(2).scheduled, middle);
}

}  // namespace
}  // namespace crible
