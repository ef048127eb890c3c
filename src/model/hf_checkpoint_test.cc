#include "model/hf_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/check.h"
#include "model/model.h"

namespace crible {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

const std::filesystem::path kGolden = std::filesystem::path(CRIBLE_SOURCE_DIR) / "tests/golden";

class HfCheckpointTest : public ::testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove_all(folder_); }
  // The weights of a golden folder under its config.json with changes.
  std::filesystem::path changed(const std::string& model, const json& changes) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    json config = json::parse(read_file(kGolden / model / "config.json").value());
    config.update(changes);
    CHECK(write_file_atomic(folder_ / "config.json", config.dump()).has_value(), "cannot write");
    std::filesystem::create_symlink(kGolden / model / "model.safetensors", folder_ / "model.safetensors");
    return folder_;
  }
  // The same with float32 tensors more, of shape [size] or, where that is 1 and `scalar`, [].
  std::filesystem::path extended(const std::string& model, const std::map<std::string, std::vector<float>>& more,
                                 bool scalar = false) {
    changed(model, json::object());
    std::filesystem::remove(folder_ / "model.safetensors");
    const std::string file = read_file(kGolden / model / "model.safetensors").value();
    uint64_t size = 0;
    std::memcpy(&size, file.data(), sizeof size);
    json table = json::parse(file.substr(sizeof size, size));
    std::string data = file.substr(sizeof size + size);
    for (const auto& [name, values] : more) {
      json shape = json::array();
      if (!scalar || values.size() != 1) shape.push_back(values.size());
      table[name] = {{"dtype", "F32"}, {"shape", shape},
                     {"data_offsets", {data.size(), data.size() + values.size() * sizeof(float)}}};
      data.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    }
    const std::string header = table.dump();
    size = header.size();
    const std::string start(reinterpret_cast<const char*>(&size), sizeof size);
    CHECK(write_file_atomic(folder_ / "model.safetensors", start + header + data).has_value(), "cannot write");
    return folder_;
  }
  std::string error_of(const std::filesystem::path& path) {
    const auto model = load_model(path, stream_);
    return model ? "no error" : model.error().message;
  }

  std::filesystem::path folder_ = std::filesystem::temp_directory_path() / ("hf_" + std::to_string(::getpid()));
  Stream stream_ = std::move(*Stream::create_cpu(2));
};

TEST_F(HfCheckpointTest, NamesTheTensorThatIsMissingExtraOrMisshapen) {
  EXPECT_EQ(error_of(changed("models/llama", json::object())), "no error");
  EXPECT_THAT(error_of(changed("models/llama", {{"num_hidden_layers", 3}})),
              HasSubstr("the tensor model.layers.2.input_layernorm.weight is missing"));
  EXPECT_THAT(error_of(changed("models/llama", {{"num_hidden_layers", 1}})),
              HasSubstr("the tensor model.layers.1.input_layernorm.weight has no place in this architecture"));
  EXPECT_THAT(error_of(changed("models/llama", {{"intermediate_size", 41}})),
              HasSubstr("mlp.gate_proj.weight has shape [40, 32] but config.json asks for [41, 32]"));
  EXPECT_THAT(error_of(changed("models/qwen3", {{"tie_word_embeddings", false}})),
              HasSubstr("the tensor lm_head.weight is missing and config.json does not tie it"));
  EXPECT_THAT(error_of(changed("models/llama", {{"vocab_size", 49}})), HasSubstr("vocab_size is 49"));
}

TEST_F(HfCheckpointTest, QuantisedTensorsMustBeWhatTheConfigurationSays) {
  const json awq = {{"quant_method", "awq"}, {"bits", 4}, {"group_size", 32}};
  EXPECT_EQ(error_of(changed("quantised/llama_awq", json::object())), "no error");
  EXPECT_THAT(error_of(changed("quantised/llama_awq", {{"quantization_config", nullptr}})),
              HasSubstr("q_proj.qweight is packed but config.json names neither awq nor gptq"));
  EXPECT_THAT(error_of(changed("quantised/llama_awq", {{"quantization_config", {{"quant_method", "hqq"}}}})),
              HasSubstr("quant_method 'hqq' is not supported"));
  json other_group = awq;
  other_group["group_size"] = 64;
  EXPECT_THAT(error_of(changed("quantised/llama_awq", {{"quantization_config", other_group}})),
              HasSubstr("q_proj.qzeros has shape [2, 8] but config.json asks for [1, 8]"));
  other_group["group_size"] = 48;
  EXPECT_THAT(error_of(changed("quantised/llama_awq", {{"quantization_config", other_group}})),
              HasSubstr("has 64 inputs, no whole groups of 48"));
  EXPECT_THAT(error_of(changed("quantised/llama_gptq", {{"quantization_config", awq}})), HasSubstr("has shape"));
  EXPECT_THAT(error_of(changed("quantised/llama_fp8", {{"quantization_config", nullptr}})),
              HasSubstr("q_proj.weight is FP8 but config.json does not say so"));
}

TEST_F(HfCheckpointTest, SaysWhatAModelIsWhereThereIsNone) {
  EXPECT_THAT(error_of("/no/such/folder"), HasSubstr("there is no such file or folder"));
  EXPECT_THAT(error_of(std::filesystem::path(CRIBLE_SOURCE_DIR) / "src"), HasSubstr("src holds no config.json"));
  EXPECT_THAT(error_of(kGolden / "models"), HasSubstr("is a folder; name the GGUF file in it"));
  const auto folder = changed("models/llama", json::object());
  std::filesystem::remove(folder / "model.safetensors");
  EXPECT_THAT(error_of(folder), HasSubstr("holds no safetensors"));
}

// As each kind of quantiser names them, of one number or of a list of one.
TEST_F(HfCheckpointTest, ReadsTheScalesOfKeysAndValues) {
  const std::string attention = "model.layers.1.self_attn.";
  const auto scales = [&](const std::map<std::string, std::vector<float>>& more, bool scalar) {
    const auto checkpoint = open_checkpoint(extended("models/llama", more, scalar), stream_).value();
    EXPECT_EQ(checkpoint->kv_scales(0).value(), KvScales{});
    return checkpoint->kv_scales(1).value();
  };
  const auto pairs = std::to_array<std::pair<std::string, std::string>>({{"k_proj.k_scale", "v_proj.v_scale"},
                                                                         {"attn.k_scale", "attn.v_scale"},
                                                                         {"k_scale", "v_scale"},
                                                                         {"qkv_proj.k_scale", "qkv_proj.v_scale"},
                                                                         {"k_proj.output_scale", "v_proj.output_scale"}});
  for (const auto& [k, v] : pairs) {
    for (const bool scalar : {true, false}) {
      EXPECT_EQ(scales({{attention + k, {3.5f}}, {attention + v, {0.125f}}}, scalar), (KvScales{3.5f, 0.125f})) << k;
      EXPECT_EQ(scales({{attention + v, {2.0f}}}, scalar), (KvScales{1, 2})) << v;
    }
  }
  EXPECT_EQ(scales({{attention + "kv_scale", {7.0f}}}, true), (KvScales{7, 7}));
  // What was not measured, and what is not one number a layer.
  EXPECT_EQ(scales({{attention + "attn.k_scale", {-1.0f}}, {attention + "attn.v_scale", {0.0f}}}, true), KvScales{});
  EXPECT_EQ(scales({{attention + "attn.k_scale", {2.0f, 3.0f}}, {attention + "attn.v_scale", {5.0f}}}, false),
            (KvScales{1, 5}));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto broken = open_checkpoint(extended("models/llama", {{attention + "k_scale", {nan}}}), stream_).value();
  EXPECT_THAT(broken->kv_scales(1).error().message, HasSubstr("self_attn.k_scale is not finite"));
}

// Who keeps keys and values in another type has no use for them.
TEST_F(HfCheckpointTest, ScalesOfKeysAndValuesAreNoTensorsTooMany) {
  EXPECT_EQ(error_of(extended("models/llama", {{"model.layers.0.self_attn.attn.k_scale", {2.0f}},
                                               {"model.layers.0.self_attn.kv_scale", {2.0f}},
                                               {"model.layers.1.self_attn.v_proj.v_scale", {2.0f}}})),
            "no error");
}

// GGUF of llama has its query and key rows permuted; every other file has them in halves.
TEST_F(HfCheckpointTest, TellsHowHeadsAreRotated) {
  const auto pairing = [&](const std::string& name) {
    return (*open_checkpoint(kGolden / "models" / name, stream_))->rope_pairing();
  };
  EXPECT_EQ(pairing("llama"), RopePairing::kHalves);
  EXPECT_EQ(pairing("llama.gguf"), RopePairing::kInterleaved);
  EXPECT_EQ(pairing("qwen2"), RopePairing::kHalves);
  EXPECT_EQ(pairing("qwen2.gguf"), RopePairing::kHalves);
}

TEST_F(HfCheckpointTest, GemmaNormsAreThoseOfGguf) {
  const auto folder = open_checkpoint(kGolden / "models" / "gemma3", stream_);
  const auto file = open_checkpoint(kGolden / "models" / "gemma3.gguf", stream_);
  for (const auto& [name, size] : {std::pair{"blk.0.attn_norm.weight", 32}, {"blk.0.attn_q_norm.weight", 8},
                                   {"blk.5.post_ffw_norm.weight", 32}, {"output_norm.weight", 32}}) {
    EXPECT_EQ((*folder)->vector(name, size).value(), (*file)->vector(name, size).value()) << name;
  }
}

}  // namespace
}  // namespace crible
