#include "model/cuda/gpu_bench/write_checkpoint.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "base/units.h"

namespace crible::cuda {
namespace {

using nlohmann::json;

constexpr int64_t kPieceValues = 4 << 20;

struct Tensor {
  std::string name;
  std::vector<int64_t> shape;
  int64_t first = 0;  // BF16 values before it

  int64_t count() const { return shape.size() == 1 ? shape[0] : shape[0] * shape[1]; }
  // Norms are ones; matrices keep the size of what they multiply.
  float deviation() const {
    return shape.size() == 1 ? 0.0f : 1.0f / std::sqrt(static_cast<float>(shape[1]));
  }
};

std::vector<Tensor> tensors_of(const DecoderShape& s) {
  std::vector<Tensor> tensors = {{"model.embed_tokens.weight", {s.vocabulary, s.embedding}},
                                 {"model.norm.weight", {s.embedding}}};
  if (!s.tied) tensors.push_back({"lm_head.weight", {s.vocabulary, s.embedding}});
  for (int64_t i = 0; i < s.layers; ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i);
    const auto add = [&](const char* name, std::vector<int64_t> shape) {
      tensors.push_back({layer + name + ".weight", std::move(shape)});
    };
    add("input_layernorm", {s.embedding});
    add("post_attention_layernorm", {s.embedding});
    add("self_attn.q_norm", {s.head_size});
    add("self_attn.k_norm", {s.head_size});
    add("self_attn.q_proj", {s.query_size(), s.embedding});
    add("self_attn.k_proj", {s.kv_size(), s.embedding});
    add("self_attn.v_proj", {s.kv_size(), s.embedding});
    add("self_attn.o_proj", {s.embedding, s.query_size()});
    add("mlp.gate_proj", {s.feed_forward, s.embedding});
    add("mlp.up_proj", {s.feed_forward, s.embedding});
    add("mlp.down_proj", {s.embedding, s.feed_forward});
  }
  int64_t first = 0;
  for (Tensor& tensor : tensors) {
    tensor.first = first;
    first += tensor.count();
  }
  return tensors;
}

std::string header_of(const std::vector<Tensor>& tensors) {
  json table;
  for (const Tensor& t : tensors) {
    table[t.name] = {
        {"dtype", "BF16"}, {"shape", t.shape}, {"data_offsets", {2 * t.first, 2 * (t.first + t.count())}}};
  }
  std::string text = table.dump();
  text.append(static_cast<size_t>(round_up(static_cast<int64_t>(text.size()), 8)) - text.size(), ' ');
  const auto size = static_cast<uint64_t>(text.size());
  std::string header(sizeof size, '\0');
  std::memcpy(header.data(), &size, sizeof size);
  return header + text;
}

json config_of(const DecoderShape& s) {
  return {{"architectures", {"Qwen3ForCausalLM"}},
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
          {"torch_dtype", "bfloat16"}};
}

uint64_t mixed(uint64_t n) {
  uint64_t z = (n + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  return z ^ (z >> 27);
}

void fill(const Tensor& tensor, int64_t first, int64_t count, std::vector<uint16_t>& out) {
  out.resize(static_cast<size_t>(count));
  const float deviation = tensor.deviation();
  const float mean = deviation == 0 ? 1.0f : 0.0f;
  const float reach = deviation * std::sqrt(3.0f) * 0x1p-15f;
  for (int64_t i = 0; i < count; ++i) {
    const auto uniform =
        static_cast<float>(static_cast<int16_t>(mixed(static_cast<uint64_t>(tensor.first + first + i))));
    out[static_cast<size_t>(i)] =
        static_cast<uint16_t>(std::bit_cast<uint32_t>(mean + reach * uniform) >> 16);
  }
}

bool write_all(int file, const uint16_t* values, int64_t count, int64_t offset) {
  const auto* bytes = reinterpret_cast<const char*>(values);
  for (int64_t left = count * 2; left > 0;) {
    const ssize_t written = ::pwrite(file, bytes, static_cast<size_t>(left), offset);
    if (written <= 0) return false;
    bytes += written;
    offset += written;
    left -= written;
  }
  return true;
}

}  // namespace

Status write_random_checkpoint(const std::filesystem::path& folder, const DecoderShape& shape) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  std::ofstream(folder / "config.json") << config_of(shape).dump(2) << '\n';
  const std::vector<Tensor> tensors = tensors_of(shape);
  const std::string header = header_of(tensors);
  const std::filesystem::path path = folder / "model.safetensors";
  const int file = ::open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
  if (file < 0) return fail(ErrorCode::kIo, "cannot write {}: {}", path.string(), std::strerror(errno));
  struct Piece {
    const Tensor* tensor;
    int64_t first, count;
  };
  std::vector<Piece> pieces;
  for (const Tensor& t : tensors) {
    for (int64_t first = 0; first < t.count(); first += kPieceValues)
      pieces.push_back({&t, first, std::min(kPieceValues, t.count() - first)});
  }
  std::atomic<size_t> next = 0;
  std::atomic<bool> good =
      ::pwrite(file, header.data(), header.size(), 0) == static_cast<ssize_t>(header.size());
  {
    std::vector<std::jthread> workers;
    for (unsigned t = 0; t < std::max(1u, std::thread::hardware_concurrency()); ++t) {
      workers.emplace_back([&] {
        std::vector<uint16_t> values;
        for (size_t i = next++; i < pieces.size() && good; i = next++) {
          const Piece& p = pieces[i];
          fill(*p.tensor, p.first, p.count, values);
          const auto offset = static_cast<int64_t>(header.size()) + 2 * (p.tensor->first + p.first);
          if (!write_all(file, values.data(), p.count, offset)) good = false;
        }
      });
    }
  }
  ::close(file);
  if (!good) return fail(ErrorCode::kIo, "cannot write {}: {}", path.string(), std::strerror(errno));
  return {};
}

}  // namespace crible::cuda
