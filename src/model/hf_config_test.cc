#include "model/hf_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/check.h"

namespace crible {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

json llama() {
  return {{"model_type", "llama"},         {"hidden_size", 64},       {"num_hidden_layers", 3},
          {"intermediate_size", 96},       {"num_attention_heads", 4}, {"num_key_value_heads", 2},
          {"max_position_embeddings", 512}, {"rms_norm_eps", 1e-5},    {"vocab_size", 48},
          {"rope_theta", 500000.0},        {"hidden_act", "silu"},    {"torch_dtype", "float16"},
          {"transformers_version", "4.44"}, {"_name_or_path", "x"},    {"use_cache", true}};
}

json with(json config, const json& changes) {
  config.update(changes);
  return config;
}

HfConfig parsed(const json& config) {
  auto result = parse_hf_config(config.dump(), "config.json");
  CHECK(result.has_value(), "{}", result.error().message);
  return std::move(*result);
}

std::string error_of(const json& config) {
  const auto result = parse_hf_config(config.dump(), "config.json");
  return result ? "no error" : result.error().message;
}

TEST(HfConfigTest, SpellsSettingsAsGgufDoes) {
  const HfConfig config = parsed(llama());
  EXPECT_EQ(config.keys.architecture(), "llama");
  EXPECT_EQ(config.keys.integer("block_count").value(), 3);
  EXPECT_EQ(config.keys.integer("attention.head_count_kv").value(), 2);
  EXPECT_EQ(config.keys.number("rope.freq_base").value(), 500000.0);
  EXPECT_EQ(config.keys.spelling("block_count"), "num_hidden_layers");
  EXPECT_FALSE(config.keys.has("attention.key_length"));
  EXPECT_FALSE(config.keys.has("attention.sliding_window"));
  EXPECT_EQ(config.dtype, DType::kF16);
  EXPECT_FALSE(config.tied_embeddings);
  EXPECT_EQ(config.quantization.method, QuantizationMethod::kNone);
  EXPECT_THAT(config.keys.integer("expert_count").error().message, HasSubstr("does not state llama.expert_count"));
}

TEST(HfConfigTest, KnowsBothSpellingsOfRopeScaling) {
  const json scaling = {{"factor", 8.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0},
                        {"original_max_position_embeddings", 128}};
  json old_style = with(llama(), {{"rope_scaling", with(scaling, {{"rope_type", "llama3"}})}});
  json new_style = with(llama(), {{"rope_parameters", with(scaling, {{"rope_type", "llama3"}, {"rope_theta", 500000.0}})}});
  new_style.erase("rope_theta");
  for (const json& style : {old_style, new_style}) {
    const ConfigKeys keys = parsed(style).keys;
    EXPECT_EQ(keys.text("rope.scaling.type").value(), "llama3");
    EXPECT_EQ(keys.number("rope.scaling.factor").value(), 8.0);
    EXPECT_EQ(keys.number("rope.freq_base").value(), 500000.0);
    EXPECT_EQ(keys.integer("rope.scaling.original_context_length").value(), 128);
  }
  // Without a length of its own, a scaling starts from the stated context.
  const ConfigKeys yarn = parsed(with(llama(), {{"rope_scaling", {{"type", "yarn"}, {"factor", 4.0}}}})).keys;
  EXPECT_EQ(yarn.integer("rope.scaling.original_context_length").value(), 512);
  EXPECT_THAT(error_of(with(llama(), {{"rope_scaling", {{"type", "yarn"}, {"mystery", 1}}}})),
              HasSubstr("rope_scaling.mystery is not known"));
}

TEST(HfConfigTest, WindowsFollowEachFamilysRule) {
  const auto pattern = [](const json& config) { return parsed(config).keys.booleans("attention.sliding_window_pattern").value(); };
  const json mistral = with(llama(), {{"model_type", "mistral"}, {"sliding_window", 128}});
  EXPECT_EQ(parsed(mistral).keys.integer("attention.sliding_window").value(), 128);
  EXPECT_FALSE(parsed(mistral).keys.has("attention.sliding_window_pattern"));
  EXPECT_FALSE(parsed(with(mistral, {{"sliding_window", nullptr}})).keys.has("attention.sliding_window"));

  json qwen = with(llama(), {{"model_type", "qwen2"}, {"sliding_window", 128}, {"max_window_layers", 1}});
  EXPECT_FALSE(parsed(qwen).keys.has("attention.sliding_window"));
  qwen["use_sliding_window"] = true;
  EXPECT_EQ(pattern(qwen), (std::vector<bool>{false, true, true}));
  qwen["layer_types"] = {"sliding_attention", "full_attention", "sliding_attention"};
  EXPECT_EQ(pattern(qwen), (std::vector<bool>{true, false, true}));
  qwen["layer_types"] = {"sliding_attention", "full_attention"};
  EXPECT_THAT(error_of(qwen), HasSubstr("layer_types has 2 entries for 3 layers"));
  qwen["layer_types"] = {"linear_attention", "full_attention", "full_attention"};
  EXPECT_THAT(error_of(qwen), HasSubstr("layer_types holds \"linear_attention\""));
  qwen["layer_types"] = {"sliding_attention", "full_attention", "full_attention"};
  qwen["use_sliding_window"] = false;
  EXPECT_THAT(error_of(qwen), HasSubstr("no sliding_window is in use"));

  json gemma = with(llama(), {{"model_type", "gemma3_text"}, {"sliding_window", 128}, {"sliding_window_pattern", 3},
                              {"hidden_activation", "gelu_pytorch_tanh"}, {"rope_local_base_freq", 10000.0},
                              {"query_pre_attn_scalar", 256}});
  EXPECT_EQ(pattern(gemma), (std::vector<bool>{true, true, false}));
  const HfConfig config = parsed(gemma);
  EXPECT_TRUE(config.tied_embeddings);
  EXPECT_EQ(config.keys.number("attention.scale").value(), 0.0625);
  EXPECT_EQ(config.keys.integer("attention.key_length").value(), 256);
  EXPECT_EQ(config.keys.number("rope.freq_base_swa").value(), 10000.0);
}

TEST(HfConfigTest, NamesWhatItDoesNotKnow) {
  EXPECT_THAT(error_of(with(llama(), {{"model_type", "mamba"}})),
              HasSubstr("the model_type 'mamba' is not supported; this build computes: llama, mistral, qwen2"));
  EXPECT_THAT(error_of(json::object()), HasSubstr("it has no model_type"));
  EXPECT_THAT(error_of(json::array()), HasSubstr("it is not a JSON object"));
  EXPECT_THAT(error_of(with(llama(), {{"attn_output_gate", true}})), HasSubstr("the setting attn_output_gate is not known"));
  EXPECT_EQ(error_of(with(llama(), {{"attn_output_gate", false}, {"logit_scale", nullptr}})), "no error");
  EXPECT_THAT(error_of(with(llama(), {{"hidden_act", "relu"}})), HasSubstr("hidden_act \"relu\" is not supported for llama; silu is"));
  EXPECT_THAT(error_of(with(llama(), {{"hidden_size", json::object({{"a", 1}})}})), HasSubstr("hidden_size has the value"));
  EXPECT_THAT(error_of(with(llama(), {{"tie_word_embeddings", "yes"}})), HasSubstr("tie_word_embeddings must be"));
}

TEST(HfConfigTest, QuantizationIsCheckedBeforeAnyWeight) {
  const auto scheme = [](const json& q) { return parsed(with(llama(), {{"quantization_config", q}})).quantization; };
  const auto refused = [](const json& q) { return error_of(with(llama(), {{"quantization_config", q}})); };
  const json awq = {{"quant_method", "awq"}, {"bits", 4}, {"group_size", 128}, {"version", "gemm"}, {"zero_point", true}};
  EXPECT_EQ(scheme(awq).method, QuantizationMethod::kAwq);
  EXPECT_THAT(refused(with(awq, {{"bits", 3}})), HasSubstr("AWQ of 3 bits is not supported; 4 is"));
  EXPECT_THAT(refused(with(awq, {{"version", "gemv"}})), HasSubstr("layout 'gemv'"));
  EXPECT_THAT(refused(with(awq, {{"zero_point", false}})), HasSubstr("without zero points"));
  EXPECT_THAT(refused(with(awq, {{"group_size", 0}})), HasSubstr("group_size 0"));
  const json gptq = {{"quant_method", "gptq"}, {"bits", 8}, {"group_size", -1}, {"desc_act", true}};
  EXPECT_TRUE(scheme(gptq).zeros_less_one);
  EXPECT_FALSE(scheme(with(gptq, {{"checkpoint_format", "gptq_v2"}})).zeros_less_one);
  EXPECT_THAT(refused(with(gptq, {{"checkpoint_format", "marlin"}})), HasSubstr("layout 'marlin'"));
  EXPECT_THAT(refused(with(gptq, {{"bits", 2}})), HasSubstr("GPTQ of 2 bits"));
  EXPECT_THAT(refused(with(gptq, {{"bits", "4"}})), HasSubstr("bits must be an integer"));
  const json fp8 = {{"quant_method", "fp8"}, {"weight_block_size", {128, 64}}};
  EXPECT_EQ(scheme(fp8).block_rows, 128);
  EXPECT_EQ(scheme(fp8).block_columns, 64);
  EXPECT_THAT(refused(with(fp8, {{"fmt", "e5m2"}})), HasSubstr("FP8 of the kind e5m2"));
  EXPECT_THAT(refused(with(fp8, {{"weight_block_size", {128}}})), HasSubstr("must be two numbers"));
  const auto compressed = [](const json& weights) {
    return json{{"quant_method", "compressed-tensors"}, {"format", "float-quantized"},
                {"config_groups", {{"group_0", {{"weights", weights}}}}}};
  };
  EXPECT_EQ(scheme(compressed({{"num_bits", 8}, {"type", "float"}})).method, QuantizationMethod::kFp8);
  EXPECT_THAT(refused(compressed({{"num_bits", 8}, {"type", "int"}})), HasSubstr("config_groups.group_0: only symmetric"));
  EXPECT_THAT(refused(with(compressed({}), {{"format", "pack-quantized"}})), HasSubstr("format 'pack-quantized'"));
  EXPECT_THAT(refused({{"quant_method", "bitsandbytes"}}), HasSubstr("quant_method 'bitsandbytes' is not supported"));
  EXPECT_THAT(refused("awq"), HasSubstr("it must be an object"));
}

}  // namespace
}  // namespace crible
