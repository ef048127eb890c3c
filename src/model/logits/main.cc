// crible_logits MODEL [CHUNK]: reads token ids from standard input, runs them as one sequence in chunks
// and writes the logits after every position to standard output, float32, row by row. What
// tools/float64_forward.py compares with its own forward pass.
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <iterator>
#include <numeric>

#include "device/buffer.h"
#include "model/model.h"

namespace crible {
namespace {

constexpr int64_t kBlockSize = 16;

// One sequence in consecutive blocks, all positions of a chunk wanted.
class ChunkRunner {
 public:
  static Result<ChunkRunner> create(const Model& model, Stream& stream, int64_t tokens, int64_t chunk) {
    ChunkRunner runner(model, stream, tokens, chunk);
    const StepLimits limits{.max_tokens = chunk, .max_logit_rows = chunk};
    const KvShape shape = model.kv_shape();
    const int64_t layer_bytes = runner.num_blocks_ * kv_cache_block_bytes(DType::kF16, kBlockSize, shape.kv_heads,
                                                                          shape.head_size);
    CRIBLE_RETURN_IF_ERROR(stream.reserve_scratch(model.scratch_bytes(limits, stream.threads())));
    CRIBLE_TRY(runner.arena_, Buffer::allocate(model.arena_bytes(limits)));
    CRIBLE_TRY(runner.logits_, Buffer::allocate(chunk * model.info().vocabulary * 4));
    CRIBLE_TRY(runner.cache_, Buffer::allocate(shape.layers * layer_bytes));
    for (int64_t layer = 0; layer < shape.layers; ++layer) {
      std::byte* k = runner.cache_.as<std::byte>() + layer * layer_bytes;
      runner.layers_.push_back({.k = k, .v = k + layer_bytes / 2, .dtype = DType::kF16,
                                .num_blocks = runner.num_blocks_, .block_size = kBlockSize,
                                .kv_heads = shape.kv_heads, .head_size = shape.head_size});
    }
    return runner;
  }

  std::span<const float> run(std::span<const TokenId> ids, int64_t first) {
    const auto count = static_cast<int64_t>(ids.size());
    for (int64_t i = 0; i < count; ++i) {
      positions_[static_cast<size_t>(i)] = static_cast<int32_t>(first + i);
      slots_[static_cast<size_t>(i)] = first + i;
    }
    const int32_t query_start[] = {0, static_cast<int32_t>(count)};
    const auto context_length = static_cast<int32_t>(first + count);
    const BatchView batch{.num_tokens = count, .num_sequences = 1, .block_size = kBlockSize,
                          .block_table_stride = num_blocks_, .token_ids = ids.data(),
                          .positions = positions_.data(), .slot_mapping = slots_.data(),
                          .query_start = query_start, .context_length = &context_length,
                          .block_table = block_table_.data(), .num_logit_rows = count,
                          .logit_rows = rows_.data()};
    model_->forward(*stream_, batch, {.cache = layers_,
                                      .arena = {arena_.as<std::byte>(), static_cast<size_t>(arena_.bytes())},
                                      .logits = logits_.as<float>()});
    stream_->synchronize();
    return {logits_.as<float>(), static_cast<size_t>(count * model_->info().vocabulary)};
  }

 private:
  ChunkRunner(const Model& model, Stream& stream, int64_t tokens, int64_t chunk)
      : model_(&model), stream_(&stream), num_blocks_(ceil_div(tokens, kBlockSize)),
        positions_(static_cast<size_t>(chunk)), slots_(static_cast<size_t>(chunk)),
        rows_(static_cast<size_t>(chunk)), block_table_(static_cast<size_t>(num_blocks_)) {
    std::iota(rows_.begin(), rows_.end(), 0);
    std::iota(block_table_.begin(), block_table_.end(), 0);
  }

  const Model* model_;
  Stream* stream_;
  int64_t num_blocks_;
  std::vector<int32_t> positions_;
  std::vector<int64_t> slots_;
  std::vector<int32_t> rows_;
  std::vector<int32_t> block_table_;
  Buffer arena_, logits_, cache_;
  std::vector<KvCacheView> layers_;
};

Status write_logits(const char* path, int64_t chunk) {
  CRIBLE_TRY(Stream stream, Stream::create_cpu(0));
  CRIBLE_TRY(const std::unique_ptr<Model> model, load_model(path, stream));
  const std::vector<TokenId> ids{std::istream_iterator<TokenId>(std::cin), {}};
  const auto count = static_cast<int64_t>(ids.size());
  for (const TokenId id : ids) {
    if (id < 0 || id >= model->info().vocabulary) {
      return fail(ErrorCode::kInvalidArgument, "token id {} is outside the vocabulary of {}", id,
                  model->info().vocabulary);
    }
  }
  if (count == 0 || count > model->info().context_length) {
    return fail(ErrorCode::kInvalidArgument, "{} token ids on standard input; the model takes 1 to {}", count,
                model->info().context_length);
  }
  CRIBLE_TRY(ChunkRunner runner, ChunkRunner::create(*model, stream, count, chunk));
  for (int64_t first = 0; first < count; first += chunk) {
    const auto length = static_cast<size_t>(std::min(chunk, count - first));
    const auto logits = runner.run(std::span(ids).subspan(static_cast<size_t>(first), length), first);
    if (std::fwrite(logits.data(), sizeof(float), logits.size(), stdout) != logits.size()) {
      return fail(ErrorCode::kIo, "standard output does not take the logits");
    }
  }
  return {};
}

}  // namespace
}  // namespace crible

int main(int argc, char** argv) {
  const int64_t chunk = argc > 2 ? std::atoll(argv[2]) : 128;
  if (argc < 2 || argc > 3 || chunk < 1) {
    std::fprintf(stderr, "usage: crible_logits MODEL [CHUNK] < token-ids > logits\n");
    return 2;
  }
  if (const auto status = crible::write_logits(argv[1], chunk); !status) {
    std::fprintf(stderr, "crible_logits: %s\n", status.error().message.c_str());
    return 1;
  }
  return 0;
}
