// For tests: a small random model as a Hugging Face folder, its layers' matrices as the kinds of checkpoint
// have them. Tensors can be changed before writing, so that every way a folder can be wrong is one line.
#pragma once

#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/check.h"
#include "model/cuda/decoder_shape.h"
#include "ops/gpu_values.h"
#include "ops/matmul/int4_gpu_case.h"

namespace crible::cuda {

enum class FolderKind {
  kBf16,
  kF16,
  kAwq,           // groups of 64
  kGptq,          // groups of 128, an index that is in order
  kGptqActOrder,  // groups of 128, mixed
  kFp8Tensor,     // a scale per matrix
  kFp8Channels,   // a scale per output
  kFp8Blocks,     // a scale per 128 x 128
};
inline constexpr FolderKind kAllFolderKinds[] = {
    FolderKind::kBf16,         FolderKind::kF16,       FolderKind::kAwq,         FolderKind::kGptq,
    FolderKind::kGptqActOrder, FolderKind::kFp8Tensor, FolderKind::kFp8Channels, FolderKind::kFp8Blocks};

class RandomHfFolder {
 public:
  struct Tensor {
    std::string type;
    std::vector<int64_t> shape;
    std::string bytes;
  };
  std::map<std::string, Tensor> tensors;
  nlohmann::json config;

  RandomHfFolder(RandomValues& random, const DecoderShape& s, FolderKind kind)
      : random_(random), kind_(kind) {
    config = {{"architectures", {"Qwen3ForCausalLM"}},
              {"model_type", "qwen3"},
              {"hidden_act", "silu"},
              {"hidden_size", s.embedding},
              {"intermediate_size", s.feed_forward},
              {"num_hidden_layers", s.layers},
              {"num_attention_heads", s.heads},
              {"num_key_value_heads", s.kv_heads},
              {"head_dim", s.head_size},
              {"vocab_size", s.vocabulary},
              {"max_position_embeddings", s.context_length},
              {"rms_norm_eps", s.epsilon},
              {"rope_theta", s.rope_base},
              {"attention_bias", false},
              {"tie_word_embeddings", s.tied},
              {"torch_dtype", kind == FolderKind::kF16 ? "float16" : "bfloat16"}};
    describe_quantisation();
    floats("model.embed_tokens.weight", {s.vocabulary, s.embedding}, 0, 1);
    floats("model.norm.weight", {s.embedding}, 1, 0.2f);
    if (!s.tied) matrix_of_floats("lm_head", s.vocabulary, s.embedding);
    for (int64_t i = 0; i < s.layers; ++i) {
      const std::string layer = fmt::format("model.layers.{}.", i);
      floats(layer + "input_layernorm.weight", {s.embedding}, 1, 0.2f);
      floats(layer + "post_attention_layernorm.weight", {s.embedding}, 1, 0.2f);
      floats(layer + "self_attn.q_norm.weight", {s.head_size}, 1, 0.2f);
      floats(layer + "self_attn.k_norm.weight", {s.head_size}, 1, 0.2f);
      matrix(layer + "self_attn.q_proj", s.query_size(), s.embedding);
      matrix(layer + "self_attn.k_proj", s.kv_size(), s.embedding);
      matrix(layer + "self_attn.v_proj", s.kv_size(), s.embedding);
      matrix(layer + "self_attn.o_proj", s.embedding, s.query_size());
      matrix(layer + "mlp.gate_proj", s.feed_forward, s.embedding);
      matrix(layer + "mlp.up_proj", s.feed_forward, s.embedding);
      matrix(layer + "mlp.down_proj", s.embedding, s.feed_forward);
    }
  }

  // A folder of this name among the temporary files; the caller removes it.
  std::filesystem::path write(const std::string& name) const {
    const auto folder =
        std::filesystem::temp_directory_path() / fmt::format("crible_{}_{}", name, ::getpid());
    std::filesystem::create_directories(folder);
    std::ofstream(folder / "config.json") << config.dump();
    nlohmann::json table;
    size_t end = 0;
    for (const auto& [tensor_name, t] : tensors) {
      table[tensor_name] = {
          {"dtype", t.type}, {"shape", t.shape}, {"data_offsets", {end, end + t.bytes.size()}}};
      end += t.bytes.size();
    }
    // Not padded: tensors lie at odd addresses, as the format allows.
    const std::string header = table.dump();
    const uint64_t size = header.size();
    std::ofstream file(folder / "model.safetensors", std::ios::binary);
    file.write(reinterpret_cast<const char*>(&size), sizeof size);
    file << header;
    for (const auto& [tensor_name, t] : tensors) file << t.bytes;
    CHECK(file.good(), "cannot write {}", folder.string());
    return folder;
  }

 private:
  template <typename T>
  void add(const std::string& name, const char* type, std::vector<int64_t> shape,
           const std::vector<T>& values) {
    tensors[name] = {type, std::move(shape),
                     std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T))};
  }
  void describe_quantisation() {
    if (kind_ == FolderKind::kAwq) {
      config["quantization_config"] = {{"quant_method", "awq"},
                                       {"bits", 4},
                                       {"group_size", 64},
                                       {"version", "gemm"},
                                       {"zero_point", true}};
    }
    if (kind_ == FolderKind::kGptq || kind_ == FolderKind::kGptqActOrder) {
      config["quantization_config"] = {{"quant_method", "gptq"},
                                       {"bits", 4},
                                       {"group_size", 128},
                                       {"desc_act", kind_ == FolderKind::kGptqActOrder},
                                       {"sym", false}};
    }
    if (kind_ == FolderKind::kFp8Tensor || kind_ == FolderKind::kFp8Blocks) {
      config["quantization_config"] = {{"quant_method", "fp8"}, {"fmt", "e4m3"}};
      if (kind_ == FolderKind::kFp8Blocks) config["quantization_config"]["weight_block_size"] = {128, 128};
    }
    if (kind_ == FolderKind::kFp8Channels) {
      config["quantization_config"] = nlohmann::json::parse(
          R"({"quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": {"group_0":
              {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "symmetric": true,
               "strategy": "channel"}}}})");
    }
  }
  void floats(const std::string& name, std::vector<int64_t> shape, float mean, float deviation) {
    int64_t count = 1;
    for (const int64_t extent : shape) count *= extent;
    std::vector<float> values = random_.normals(count, deviation);
    for (float& v : values) v += mean;
    if (kind_ != FolderKind::kF16) return add(name, "BF16", std::move(shape), to_bf16(values));
    std::vector<__half> halves;
    for (const float v : values) halves.push_back(__float2half_rn(v));
    add(name, "F16", std::move(shape), halves);
  }
  void matrix_of_floats(const std::string& stem, int64_t rows, int64_t columns) {
    floats(stem + ".weight", {rows, columns}, 0, 1.0f / std::sqrt(static_cast<float>(columns)));
  }
  void matrix(const std::string& stem, int64_t rows, int64_t columns) {
    switch (kind_) {
      case FolderKind::kBf16:
      case FolderKind::kF16: return matrix_of_floats(stem, rows, columns);
      case FolderKind::kAwq:
      case FolderKind::kGptq:
      case FolderKind::kGptqActOrder: return four_bits(stem, rows, columns);
      case FolderKind::kFp8Tensor: return eight_bits(stem, rows, columns, rows, columns);
      case FolderKind::kFp8Channels: return eight_bits(stem, rows, columns, 1, columns);
      case FolderKind::kFp8Blocks: return eight_bits(stem, rows, columns, 128, 128);
    }
  }
  void four_bits(const std::string& stem, int64_t rows, int64_t columns) {
    const bool awq = kind_ == FolderKind::kAwq;
    const int64_t group = awq ? 64 : 128;
    Int4Case c(random_, rows, columns, group, 1.0f / std::sqrt(static_cast<float>(columns)));
    // Zero points around the middle, as trained weights have them: no matrix is all of one sign.
    for (uint8_t& zero : c.zeros) zero = static_cast<uint8_t>(5 + zero % 6);
    const int64_t groups = columns / group;
    if (awq) {
      add(stem + ".qweight", "I32", {columns, rows / 8}, c.awq_weights());
      add(stem + ".qzeros", "I32", {groups, rows / 8}, c.awq_zeros());
    } else {
      add(stem + ".qweight", "I32", {columns / 8, rows}, c.gptq_weights());
      add(stem + ".qzeros", "I32", {groups, rows / 8}, c.gptq_zeros(true));
      std::vector<int32_t> index;
      for (int64_t k = 0; k < columns; ++k)
        index.push_back(
            static_cast<int32_t>(kind_ == FolderKind::kGptqActOrder ? (k * 7) % columns / group : k / group));
      add(stem + ".g_idx", "I32", {columns}, index);
    }
    add(stem + ".scales", "F16", {groups, rows}, c.scales);
  }
  void eight_bits(const std::string& stem, int64_t rows, int64_t columns, int64_t block_rows,
                  int64_t block_columns) {
    std::vector<uint8_t> values;
    for (int64_t i = 0; i < rows * columns; ++i)
      values.push_back(__nv_cvt_float_to_fp8(100 * random_.normal(), __NV_SATFINITE, __NV_E4M3));
    const int64_t scale_rows = rows / block_rows, scale_columns = columns / block_columns;
    std::vector<float> scales;
    for (int64_t i = 0; i < scale_rows * scale_columns; ++i) {
      scales.push_back(
          static_cast<float>((0.5 + random_.uniform()) / 100 / std::sqrt(static_cast<double>(columns))));
    }
    add(stem + ".weight", "F8_E4M3", {rows, columns}, values);
    const bool single = scales.size() == 1;
    const bool blocks = kind_ == FolderKind::kFp8Blocks;
    add(stem + (blocks ? ".weight_scale_inv" : ".weight_scale"), "F32",
        single && !blocks ? std::vector<int64_t>{} : std::vector<int64_t>{scale_rows, scale_columns}, scales);
  }

  RandomValues& random_;
  FolderKind kind_;
};

}  // namespace crible::cuda
