#include "model/dummy_checkpoint.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "device/cpu/thread_pool.h"
#include "model/hf_config.h"
#include "ops/half.h"

namespace crible {
namespace {

// The n-th of a sequence of well mixed 64-bit numbers (splitmix64, Steele et al. 2014).
uint64_t mixed(uint64_t seed, uint64_t n) {
  uint64_t z = seed + (n + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// A tensor's own seed (FNV-1a of its name).
uint64_t seed_of(std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3u;
  return hash;
}

// Uniform in [-1, 1): lane 0..3 of a mixed number.
float unit(uint64_t number, int lane) {
  return static_cast<float>(static_cast<int16_t>(number >> (16 * lane))) * 0x1p-15f;
}

void store_half(std::byte* to, uint16_t half) { std::memcpy(to, &half, sizeof half); }

void fill_floats(DType dtype, uint64_t seed, int64_t first, int64_t columns, float deviation, std::byte* to) {
  const float reach = deviation * std::sqrt(3.0f);  // of a uniform distribution with that deviation
  for (int64_t c = 0; c < columns; ++c) {
    const auto index = static_cast<uint64_t>(first + c);
    const float value = reach * unit(mixed(seed, index / 4), static_cast<int>(index % 4));
    if (dtype == DType::kF32) {
      std::memcpy(to + c * 4, &value, sizeof value);
    } else {
      store_half(to + c * 2, dtype == DType::kF16 ? float_to_half(value)
                                                  : static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16));
    }
  }
}

// Blocks of 32: random integers behind one scale. Of Q8_0 they deviate by 73.9, of Q4_1 by 4.61 around 7.5.
void fill_blocks(DType dtype, uint64_t seed, int64_t first, int64_t columns, float deviation, std::byte* to) {
  const int64_t block_bytes = dtype_block_bytes(dtype), header = dtype == DType::kQ8_0 ? 2 : 4;
  const float scale = deviation / (dtype == DType::kQ8_0 ? 73.9f : 4.61f);
  for (int64_t c = 0; c < columns; c += 32, to += block_bytes) {
    store_half(to, float_to_half(scale));
    if (dtype == DType::kQ4_1) store_half(to + 2, float_to_half(-7.5f * scale));
    for (int64_t at = header; at < block_bytes; at += 8) {
      const uint64_t bits = mixed(seed, static_cast<uint64_t>((first + c) + at / 8));
      std::memcpy(to + at, &bits, sizeof bits);
    }
  }
}

class DummyCheckpoint final : public Checkpoint {
 public:
  DummyCheckpoint(std::string path, HfConfig config, Stream& stream)
      : Checkpoint(std::move(path), config.keys), hf_(std::move(config)), stream_(stream) {}

  RopePairing rope_pairing() const override { return RopePairing::kHalves; }
  bool has(std::string_view name) const override;
  Result<int64_t> rows(const std::string& name) const override;
  Result<MatrixSource> matrix(const std::string& name, int64_t rows, int64_t columns) override;
  Result<std::vector<MatrixSource>> experts(const std::string& name, int64_t count, int64_t rows,
                                            int64_t columns) override;
  Result<std::vector<float>> vector(const std::string& name, int64_t elements) override;
  QuantizationScheme quantization() const override { return hf_.quantization; }
  void release() override { made_.clear(); }
  Status check_all_taken() const override { return {}; }
  std::vector<TensorSummary> tensors() const override { return {}; }

 private:
  bool has_bias(std::string_view stem) const;
  DType type_of(std::string_view name, int64_t columns) const;

  HfConfig hf_;
  Stream& stream_;
  std::vector<std::unique_ptr<std::byte[]>> made_;  // since the last release()
};

bool DummyCheckpoint::has_bias(std::string_view stem) const {
  const auto ends = [&](std::initializer_list<std::string_view> parts) {
    return std::any_of(parts.begin(), parts.end(), [&](std::string_view p) { return stem.ends_with(p); });
  };
  if (ends({".attn_q", ".attn_k", ".attn_v"})) return hf_.attention_bias || hf_.family->architecture == "qwen2";
  if (ends({".attn_output"})) return hf_.attention_bias;
  return hf_.mlp_bias && ends({".ffn_gate", ".ffn_up", ".ffn_down"});
}

bool DummyCheckpoint::has(std::string_view name) const {
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return false;
  const std::string_view stem = name.substr(0, dot);
  if (name.substr(dot) == ".bias") return has_bias(stem);
  if (stem == "output") return !hf_.tied_embeddings;
  if (stem.ends_with(".ffn_gate_inp")) {
    const int64_t layer = std::atoll(std::string(stem.substr(4)).c_str());  // behind "blk."
    return config().has("expert_count") && !hf_.dense_layers.contains(layer);
  }
  return hf_tensor_stem(*hf_.family, stem).has_value();
}

Result<int64_t> DummyCheckpoint::rows(const std::string& name) const {
  if (name != "token_embd.weight") {
    return fail(ErrorCode::kUnsupported, "{}: made-up weights know the rows of token_embd.weight only, not of {}",
                path(), name);
  }
  CRIBLE_TRY(const int64_t vocabulary, config().integer("vocab_size"));
  if (vocabulary < 1 || vocabulary > INT32_MAX) {
    return fail(ErrorCode::kUnsupported, "{}: vocab_size is {}", path(), vocabulary);
  }
  return vocabulary;
}

// What the real weights would be converted to (quantised_linear.h). Embedding, head and router stay as they are.
DType DummyCheckpoint::type_of(std::string_view name, int64_t columns) const {
  const bool linear = name.starts_with("blk.") && name.find("ffn_gate_inp") == std::string_view::npos;
  const QuantizationScheme& scheme = hf_.quantization;
  if (!linear || scheme.method == QuantizationMethod::kNone) return hf_.dtype;
  return columns % dtype_block_size(scheme.memory_type) == 0 ? scheme.memory_type : hf_.dtype;
}

Result<MatrixSource> DummyCheckpoint::matrix(const std::string& name, int64_t rows, int64_t columns) {
  const DType dtype = type_of(name, columns);
  const int64_t row_bytes = dtype_row_bytes(dtype, columns);
  made_.push_back(std::make_unique_for_overwrite<std::byte[]>(static_cast<size_t>(rows * row_bytes)));
  std::byte* data = made_.back().get();
  const uint64_t seed = seed_of(name);
  const float deviation = 1 / std::sqrt(static_cast<float>(columns));
  stream_.pool().parallel_for(rows, [&](int64_t row, int) {
    const auto fill = dtype_block_size(dtype) == 1 ? fill_floats : fill_blocks;
    fill(dtype, seed, row * columns, columns, deviation, data + row * row_bytes);
  });
  count_matrix(dtype_name(dtype), rows * columns);
  return MatrixSource{.dtype = dtype, .rows = rows, .columns = columns, .data = data};
}

Result<std::vector<MatrixSource>> DummyCheckpoint::experts(const std::string& name, int64_t count, int64_t rows,
                                                           int64_t columns) {
  std::vector<MatrixSource> experts;
  for (int64_t expert = 0; expert < count; ++expert) {
    CRIBLE_TRY(const MatrixSource source, matrix(fmt::format("{}.{}", name, expert), rows, columns));
    experts.push_back(source);
  }
  return experts;
}

// Norms are nearly 1, biases small.
Result<std::vector<float>> DummyCheckpoint::vector(const std::string& name, int64_t elements) {
  const float centre = name.ends_with(".bias") ? 0.0f : 1.0f;
  const uint64_t seed = seed_of(name);
  std::vector<float> values(static_cast<size_t>(elements));
  for (size_t i = 0; i < values.size(); ++i) values[i] = centre + 0.1f * unit(mixed(seed, i), 0);
  count_vector(elements);
  return values;
}

}  // namespace

Result<std::unique_ptr<Checkpoint>> open_dummy_checkpoint(const std::filesystem::path& path, Stream& stream) {
  std::error_code error;
  const std::filesystem::path folder = path.filename() == "config.json" ? path.parent_path() : path;
  if (!std::filesystem::exists(folder / "config.json", error)) {
    return fail(ErrorCode::kNotFound, "load-format dummy makes weights up from a config.json, but {} holds none; name "
                "a folder that does", path.string());
  }
  CRIBLE_TRY(HfConfig config, read_hf_config(folder));
  return std::make_unique<DummyCheckpoint>(path.string(), std::move(config), stream);
}

}  // namespace crible
