// For tests: a small llama model with random weights, as GGUF bytes. Keys and tensors can be changed
// before writing, so that every way a file can be wrong is one line.
#pragma once

#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <variant>
#include <vector>

#include "base/atomic_file.h"
#include "base/check.h"
#include "format/gguf.h"

namespace crible {

struct TinyLlamaShape {
  int64_t embedding = 32;
  int64_t feed_forward = 48;
  int64_t heads = 4;
  int64_t kv_heads = 2;
  int64_t head_size = 8;
  int64_t layers = 2;
  int64_t vocabulary = 50;
  int64_t context = 64;
  bool tied = true;
};

struct TinyTensor {
  std::vector<int64_t> shape;  // fastest dimension first
  std::vector<float> values;
  GgmlType type = GgmlType::kF32;  // anything but F32 is written as zeros of the right size
};

class TinyLlamaFile {
 public:
  using Key = std::variant<uint32_t, float, std::string>;
  std::map<std::string, Key> keys;
  std::map<std::string, TinyTensor> tensors;

  explicit TinyLlamaFile(const TinyLlamaShape& s = {}) {
    const auto u32 = [](int64_t value) { return static_cast<uint32_t>(value); };
    keys = {{"general.architecture", std::string("llama")},
            {"llama.context_length", u32(s.context)},
            {"llama.embedding_length", u32(s.embedding)},
            {"llama.block_count", u32(s.layers)},
            {"llama.feed_forward_length", u32(s.feed_forward)},
            {"llama.attention.head_count", u32(s.heads)},
            {"llama.attention.head_count_kv", u32(s.kv_heads)},
            {"llama.attention.key_length", u32(s.head_size)},
            {"llama.attention.value_length", u32(s.head_size)},
            {"llama.attention.layer_norm_rms_epsilon", 1e-5f},
            {"llama.rope.freq_base", 10000.0f}};
    add("token_embd.weight", {s.embedding, s.vocabulary});
    if (!s.tied) add("output.weight", {s.embedding, s.vocabulary});
    add("output_norm.weight", {s.embedding});
    for (int64_t i = 0; i < s.layers; ++i) {
      const std::string block = "blk." + std::to_string(i) + ".";
      add(block + "attn_norm.weight", {s.embedding});
      add(block + "attn_q.weight", {s.embedding, s.heads * s.head_size});
      add(block + "attn_k.weight", {s.embedding, s.kv_heads * s.head_size});
      add(block + "attn_v.weight", {s.embedding, s.kv_heads * s.head_size});
      add(block + "attn_output.weight", {s.heads * s.head_size, s.embedding});
      add(block + "ffn_norm.weight", {s.embedding});
      add(block + "ffn_gate.weight", {s.embedding, s.feed_forward});
      add(block + "ffn_up.weight", {s.embedding, s.feed_forward});
      add(block + "ffn_down.weight", {s.feed_forward, s.embedding});
    }
  }

  void add(const std::string& name, std::vector<int64_t> shape) {
    int64_t count = 1;
    for (const int64_t d : shape) count *= d;
    std::normal_distribution<float> normal(0, 1.0f / std::sqrt(static_cast<float>(shape[0])));
    TinyTensor tensor{std::move(shape), std::vector<float>(static_cast<size_t>(count))};
    for (float& v : tensor.values) v = tensor.shape.size() == 1 ? 1.0f + 0.3f * normal(random_) : normal(random_);
    tensors[name] = std::move(tensor);
  }

  std::string bytes() const {
    std::string out = "GGUF";
    put<uint32_t>(out, 3);
    put<uint64_t>(out, tensors.size());
    put<uint64_t>(out, keys.size());
    for (const auto& [name, value] : keys) put_key(out, name, value);
    uint64_t offset = 0;
    for (const auto& [name, tensor] : tensors) {
      put_text(out, name);
      put<uint32_t>(out, static_cast<uint32_t>(tensor.shape.size()));
      for (const int64_t d : tensor.shape) put<uint64_t>(out, static_cast<uint64_t>(d));
      put<uint32_t>(out, static_cast<uint32_t>(tensor.type));
      put<uint64_t>(out, offset);
      offset += padded(data_bytes(tensor));
    }
    out.resize(padded(out.size()));
    for (const auto& [name, tensor] : tensors) {
      const size_t start = out.size();
      out.resize(start + padded(data_bytes(tensor)));
      if (tensor.type == GgmlType::kF32) std::memcpy(out.data() + start, tensor.values.data(), data_bytes(tensor));
    }
    return out;
  }

  // A file that lives as long as the returned path is in use; the caller removes it.
  std::filesystem::path write(const std::string& name) const {
    const auto path = std::filesystem::temp_directory_path() / (name + "_" + std::to_string(::getpid()) + ".gguf");
    CHECK(write_file_atomic(path, bytes()).has_value(), "cannot write {}", path.string());
    return path;
  }

 private:
  static size_t padded(size_t size) { return (size + 31) / 32 * 32; }
  static size_t data_bytes(const TinyTensor& tensor) {
    const GgmlTypeInfo* info = ggml_type_info(tensor.type);
    size_t elements = 1;
    for (const int64_t d : tensor.shape) elements *= static_cast<size_t>(d);
    return elements / static_cast<size_t>(info->block_size) * static_cast<size_t>(info->block_bytes);
  }
  template <typename T>
  static void put(std::string& out, T value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  static void put_text(std::string& out, std::string_view text) {
    put<uint64_t>(out, text.size());
    out.append(text);
  }
  static void put_key(std::string& out, const std::string& name, const Key& value) {
    put_text(out, name);
    if (const auto* integer = std::get_if<uint32_t>(&value)) {
      put<uint32_t>(out, 4);
      put(out, *integer);
    } else if (const auto* number = std::get_if<float>(&value)) {
      put<uint32_t>(out, 6);
      put(out, *number);
    } else {
      put<uint32_t>(out, 8);
      put_text(out, std::get<std::string>(value));
    }
  }

  std::mt19937 random_{42};
};

}  // namespace crible
