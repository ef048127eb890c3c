// A loaded model: immutable weights and one forward pass as a sequence of operations. Knows no request
// and no scheduler; owns neither the cache nor the working memory, which change with the engine's
// configuration while the weights stay. One implementation per architecture (model_registry.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "device/stream.h"
#include "ops/attention/attention.h"
#include "ops/batch_view.h"

namespace crible {

struct ModelInfo {
  std::string architecture;  // "llama"
  std::string quantization;  // type of most matrix elements, "Q4_1"
  std::string path;
  int64_t parameters = 0;
  int64_t context_length = 0;
  int64_t vocabulary = 0;
  int64_t layers = 0;
};

struct KvShape {
  int64_t layers = 0;
  int64_t kv_heads = 0;
  int64_t head_size = 0;
};

// The largest step that forward() will be asked for.
struct StepLimits {
  int64_t max_tokens = 1;
  int64_t max_logit_rows = 1;
};

struct ForwardBuffers {
  std::span<const KvCacheView> cache;  // one per layer
  std::span<std::byte> arena;          // at least arena_bytes(), 64-byte aligned; content undefined
  float* logits;                       // [batch.num_logit_rows, vocabulary]
};

class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelInfo& info() const = 0;
  virtual KvShape kv_shape() const = 0;
  virtual int64_t weight_bytes() const = 0;
  virtual int64_t arena_bytes(const StepLimits& limits) const = 0;
  // Stream scratch that the operations of a step need at most.
  virtual int64_t scratch_bytes(const StepLimits& limits, int threads) const = 0;
  // Writes the keys and values of all tokens of the batch, and the logits of its logit rows.
  // Allocates nothing.
  virtual void forward(Stream& stream, const BatchView& batch, const ForwardBuffers& buffers) const = 0;
};

enum class LoadFormat;  // checkpoint.h

// Reads a GGUF file or a Hugging Face folder, checks it against its architecture and packs its weights
// on the stream's threads.
Result<std::unique_ptr<Model>> load_model(const std::filesystem::path& path, Stream& stream);
Result<std::unique_ptr<Model>> load_model(const std::filesystem::path& path, Stream& stream, LoadFormat format);

}  // namespace crible
