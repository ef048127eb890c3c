#include <gtest/gtest.h>

#include <set>

#include "base/units.h"
#include "config/engine_config.h"
#include "config/resolve.h"
#include "config/server_config.h"

namespace crible {
namespace {

constexpr MachineLimits kMachine{.memory_bytes = 24 * kGiB, .cores = 2};
constexpr ModelLimits kModel{.context_length = 8192};

template <typename Config>
void expect_table_sound(const FieldTable<Config>& table) {
  std::set<std::string_view> names;
  for (const auto& f : table.fields()) {
    EXPECT_TRUE(names.insert(f.name).second) << f.name;
    EXPECT_FALSE(f.help.empty()) << f.name;
    // A default must pass its own rule.
    Config config;
    const auto value = field::to_json(FieldTable<Config>::get(config, f));
    const auto status = table.set_json(config, f.name, value);
    EXPECT_TRUE(status.has_value()) << (status ? "" : status.error().message);
  }
}

TEST(FieldTable, NamesAreUniqueAndDefaultsAreInRange) {
  expect_table_sound(engine_fields());
  expect_table_sound(server_fields());
}

TEST(FieldTable, JsonRoundTripKeepsEveryValue) {
  EngineConfig config;
  config.gpu_memory_utilization = 0.85;
  config.enable_prefix_caching = false;
  config.max_num_seqs = 48;
  config.kv_cache_dtype = "f32";
  EngineConfig read;
  ASSERT_TRUE(engine_fields().apply_json(read, engine_fields().to_json(config)));
  EXPECT_EQ(engine_fields().to_json(read), engine_fields().to_json(config));
}

TEST(FieldTable, UnknownNameIsAnErrorWithASuggestion) {
  EngineConfig config;
  const auto status = engine_fields().set_json(config, "max-num-seq", 4);
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find("did you mean 'max-num-seqs'"), std::string::npos) << status.error().message;
}

TEST(Resolve, DefaultsFollowTheDevice) {
  MachineLimits gpu = kMachine;
  gpu.gpu = true;
  const auto on_gpu = resolve(EngineConfig{}, gpu, kModel), on_cpu = resolve(EngineConfig{}, kMachine, kModel);
  ASSERT_TRUE(on_gpu && on_cpu);
  EXPECT_EQ(on_cpu->config.device, "cpu");
  EXPECT_EQ(on_cpu->config.max_num_seqs, 32);
  EXPECT_EQ(on_cpu->config.kv_cache_dtype, "f16");
  EXPECT_EQ(on_gpu->config.device, "cuda");
  EXPECT_EQ(on_gpu->config.max_num_seqs, 256);
  EXPECT_EQ(on_gpu->config.kv_cache_dtype, "bf16");
  EXPECT_EQ(on_gpu->config.device_memory_bytes, gpu.memory_bytes);
}

TEST(Resolve, RefusesWhatTheDeviceDoesNotHave) {
  MachineLimits gpu = kMachine;
  gpu.gpu = true;
  EngineConfig config;
  for (const char* type : {"f16", "f32", "int8"}) {
    config.kv_cache_dtype = type;
    EXPECT_TRUE(resolve(config, kMachine, kModel)) << type;
    EXPECT_FALSE(resolve(config, gpu, kModel)) << type;
  }
  config.kv_cache_dtype = "fp8";
  EXPECT_FALSE(resolve(config, kMachine, kModel));
  EXPECT_TRUE(resolve(config, gpu, kModel));
  config = {};
  config.quantization = "fp8";
  EXPECT_FALSE(resolve(config, kMachine, kModel));
  EXPECT_TRUE(resolve(config, gpu, kModel));
  config = {};
  config.tensor_parallel_size = 2;
  const auto on_cpu = resolve(config, kMachine, kModel);
  ASSERT_FALSE(on_cpu);
  EXPECT_NE(on_cpu.error().message.find("tensor-parallel-size is 2 but the device is a CPU"), std::string::npos);
  EXPECT_TRUE(resolve(config, gpu, kModel));
}

TEST(FieldTable, BadValuesNameTheRule) {
  EngineConfig config;
  const auto& table = engine_fields();
  for (const auto& [name, value] : std::vector<std::pair<std::string, nlohmann::json>>{
           {"gpu-memory-utilization", 1.5}, {"gpu-memory-utilization", "0.9"}, {"max-num-seqs", -1},
           {"max-num-seqs", 1.5}, {"max-num-seqs", true}, {"enable-prefix-caching", 1},
           {"kv-cache-dtype", "fp7"}, {"seed", -1}, {"max-num-seqs", nullptr}, {"max-num-seqs", 1e300}}) {
    const auto status = table.set_json(config, name, value);
    ASSERT_FALSE(status) << name << value;
    EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(status.error().message.find(name), std::string::npos) << status.error().message;
  }
  for (const auto& [name, text] : std::vector<std::pair<std::string, std::string>>{
           {"max-num-seqs", "12x"}, {"max-num-seqs", ""}, {"enable-prefix-caching", "yes!"}, {"port", "1e9"}}) {
    EXPECT_FALSE(table.set_text(config, name, text)) << name << text;
  }
}

TEST(FieldTable, ApplyIsAllOrNothing) {
  EngineConfig config;
  EXPECT_FALSE(engine_fields().apply_json(config, {{"max-num-seqs", 7}, {"nonsense", 1}}));
  EXPECT_EQ(config.max_num_seqs, EngineConfig().max_num_seqs);
}

TEST(Resolve, ListsEveryAdjustment) {
  const auto resolved = resolve(EngineConfig{}, kMachine, kModel);
  ASSERT_TRUE(resolved);
  const EngineConfig before;
  const auto requested = engine_fields().to_json(before), after = engine_fields().to_json(resolved->config);
  std::set<std::string> changed, listed;
  for (const auto& [key, value] : requested.items()) {
    if (after[key] != value) changed.insert(key);
  }
  for (const auto& a : resolved->adjustments) listed.insert(a.name);
  EXPECT_EQ(changed, listed);
  EXPECT_EQ(resolved->config.max_model_len, 8192);
  EXPECT_EQ(resolved->config.device_memory_bytes, 4 * kGiB);
}

TEST(Resolve, IsIdempotent) {
  const auto once = resolve(EngineConfig{}, kMachine, kModel);
  const auto twice = resolve(once->config, kMachine, kModel);
  ASSERT_TRUE(twice);
  EXPECT_TRUE(twice->adjustments.empty());
}

TEST(Resolve, ContradictionsAreErrorsThatSayWhatToDo) {
  EngineConfig too_long;
  too_long.max_model_len = 9000;
  EngineConfig small_budget;
  small_budget.max_num_batched_tokens = 16;
  EngineConfig whole_prompts;
  whole_prompts.enable_chunked_prefill = false;
  whole_prompts.max_num_batched_tokens = 4096;
  EngineConfig too_much_memory;
  too_much_memory.device_memory_bytes = 100 * kGiB;
  EngineConfig no_chunks_to_bound;
  no_chunks_to_bound.enable_chunked_prefill = false;
  no_chunks_to_bound.long_prefill_token_threshold = 64;
  EngineConfig nothing_for_short_prompts;
  nothing_for_short_prompts.max_num_batched_tokens = 512;
  nothing_for_short_prompts.long_prefill_token_threshold = 161;
  nothing_for_short_prompts.max_long_partial_prefills = 3;
  for (const auto& config : {too_long, small_budget, whole_prompts, too_much_memory, no_chunks_to_bound,
                             nothing_for_short_prompts}) {
    const auto resolved = resolve(config, kMachine, kModel);
    ASSERT_FALSE(resolved);
    EXPECT_EQ(resolved.error().code, ErrorCode::kInvalidArgument);
  }
}

TEST(Resolve, TheBudgetLeavesShortPromptsTheirShare) {
  EngineConfig config;
  config.long_prefill_token_threshold = 1000;
  config.max_long_partial_prefills = 2;
  EXPECT_EQ(resolve(config, kMachine, kModel)->config.max_num_batched_tokens, 32 + 2 * 2000);
  config.max_num_batched_tokens = 32 + 2000;
  EXPECT_TRUE(resolve(config, kMachine, kModel));
}

}  // namespace
}  // namespace crible
