// Attention of whole batches without the rest of the step: what each kernel makes of decodes and prompts.
#include <cstdio>
#include <string>
#include <vector>

#include "base/units.h"
#include "device/cuda/cuda_status.h"
#include "model/cuda/gpu_bench/bench.h"
#include "ops/fill_random/fill_random_cuda.h"

namespace crible::cuda {

// Sequences with their blocks scattered over the pool, as host arrays.
struct AttentionSequences {
  std::string name;
  std::vector<int32_t> query_start = {0}, kv_start = {0}, kv_blocks, last_block_tokens, context_length;
  double pairs = 0;   // of a query and a key that it sees
  double tokens = 0;  // in the cache

  explicit AttentionSequences(std::string what) : name(std::move(what)) {}
  int64_t count() const { return static_cast<int64_t>(context_length.size()); }
  int64_t queries() const { return query_start.back(); }
  AttentionSequences& add(int64_t sequences, int32_t context, int32_t queries, int64_t pool_blocks) {
    constexpr int64_t kBlockTokens = 16;
    constexpr int64_t kStep = 4099;  // prime, and to no pool's size a divisor
    const auto blocks = static_cast<int32_t>(ceil_div(context, kBlockTokens));
    for (int64_t s = 0; s < sequences; ++s) {
      for (int32_t b = 0; b < blocks; ++b) {
        kv_blocks.push_back(
            static_cast<int32_t>(static_cast<int64_t>(kv_blocks.size()) * kStep % pool_blocks));
      }
      query_start.push_back(query_start.back() + queries);
      kv_start.push_back(kv_start.back() + blocks);
      last_block_tokens.push_back(context - (blocks - 1) * static_cast<int32_t>(kBlockTokens));
      context_length.push_back(context);
      pairs += queries * (context - 0.5 * (queries - 1));
      tokens += context;
    }
    return *this;
  }
};

namespace {

Result<DeviceBuffer> upload(const std::vector<int32_t>& values) {
  const auto bytes = static_cast<int64_t>(values.size() * sizeof(int32_t));
  CRIBLE_TRY(DeviceBuffer buffer, DeviceBuffer::allocate(bytes));
  CRIBLE_CUDA_RETURN_IF_ERROR(
      cudaMemcpy(buffer.data(), values.data(), static_cast<size_t>(bytes), cudaMemcpyHostToDevice));
  return buffer;
}

}  // namespace

Status GpuBench::attention_over(const AttentionSequences& sequences, const AttentionOptions& options,
                                const char* kernel) {
  const DecoderShape& s = weights_->shape();
  const bool decodes = sequences.queries() == sequences.count();
  CRIBLE_TRY(const DeviceBuffer query_start, upload(sequences.query_start));
  CRIBLE_TRY(const DeviceBuffer kv_start, upload(sequences.kv_start));
  CRIBLE_TRY(const DeviceBuffer kv_blocks, upload(sequences.kv_blocks));
  CRIBLE_TRY(const DeviceBuffer last_block_tokens, upload(sequences.last_block_tokens));
  CRIBLE_TRY(const DeviceBuffer q, DeviceBuffer::allocate(sequences.queries() * s.qkv_size() * 2));
  CRIBLE_TRY(const DeviceBuffer out, DeviceBuffer::allocate(sequences.queries() * s.query_size() * 2));
  fill_random(stream_, q.as<__nv_bfloat16>(), sequences.queries() * s.qkv_size(), 3, 0.0f, 1.0f);
  CRIBLE_TRY(PagedAttention attention,
             PagedAttention::create(s.attention(), {sequences.queries(), sequences.count()}, options));
  CRIBLE_RETURN_IF_ERROR(attention.plan(stream_, {.num_sequences = sequences.count(),
                                                  .query_start = sequences.query_start.data(),
                                                  .kv_start = sequences.kv_start.data(),
                                                  .context_length = sequences.context_length.data(),
                                                  .graph = decodes}));
  const AttentionBatch batch = {.query_start = query_start.as<int32_t>(),
                                .kv_start = kv_start.as<int32_t>(),
                                .kv_blocks = kv_blocks.as<int32_t>(),
                                .last_block_tokens = last_block_tokens.as<int32_t>()};
  CRIBLE_TRY(const CudaGraph graph, CudaGraph::capture(stream_, [&]() -> Status {
               for (int64_t i = 0; i < s.layers; ++i) {
                 CRIBLE_RETURN_IF_ERROR(attention.run(stream_, q.as<__nv_bfloat16>(), s.qkv_size(), batch,
                                                      model_->cache.layer(i), out.as<__nv_bfloat16>()));
               }
               return {};
             }));
  CRIBLE_TRY(const double ms, time_ms(5, [&] { return graph.launch(stream_); }));
  const auto layers = static_cast<double>(s.layers);
  const double token_bytes = static_cast<double>(2 * s.kv_size() * kv_element_bytes(options.kv_type));
  report(fmt::format("attention, {}, {}", sequences.name, kernel), ms,
         {.bytes = layers * token_bytes * sequences.tokens,
          .operations = layers * 4 * sequences.pairs * static_cast<double>(s.query_size())},
         fmt::format("{:.1f} us a layer", ms * 1e3 / layers));
  return {};
}

Status GpuBench::attentions() {
  const int64_t pool = model_->cache.num_blocks();
  const KvType type = model_->cache.type();
  std::vector<AttentionSequences> decodes, prompts;
  for (const int64_t rows : {16, 64, 128, 256}) {
    decodes.push_back(AttentionSequences(fmt::format("{} x 640", rows)).add(rows, 640, 1, pool));
  }
  decodes.push_back(AttentionSequences("16 x 1024").add(16, 1024, 1, pool));
  decodes.push_back(AttentionSequences("4 x 16000 and 124 x 512")
                        .add(2, 16000, 1, pool)
                        .add(124, 512, 1, pool)
                        .add(2, 16000, 1, pool));
  prompts.push_back(AttentionSequences("16 new behind 16000").add(1, 16016, 16, pool));
  prompts.push_back(AttentionSequences("64 new behind 16000").add(1, 16064, 64, pool));
  prompts.push_back(AttentionSequences("256 new behind 16000").add(1, 16256, 256, pool));
  prompts.push_back(AttentionSequences("512 new").add(1, 512, 512, pool));
  prompts.push_back(AttentionSequences("512 new behind 7000").add(1, 7512, 512, pool));
  prompts.push_back(AttentionSequences("2048 new").add(1, 2048, 2048, pool));
  prompts.push_back(AttentionSequences("2048 new behind 6144").add(1, 8192, 2048, pool));
  prompts.push_back(AttentionSequences("8192 new").add(1, 8192, 8192, pool));
  for (const AttentionSequences& sequences : decodes) {
    CRIBLE_RETURN_IF_ERROR(attention_over(sequences, {.kv_type = type, .direct_decode = false}, "FA2"));
    CRIBLE_RETURN_IF_ERROR(attention_over(sequences, {.kv_type = type}, "own"));
  }
  for (const AttentionSequences& sequences : prompts) {
    for (const auto& [kernel, name] : {std::pair(PromptKernel::kFlash2, "FA2"),
                                       {PromptKernel::kFlash3, "FA3"},
                                       {PromptKernel::kOwn, "own"}}) {
      CRIBLE_RETURN_IF_ERROR(attention_over(
          sequences,
          {.kv_type = type, .max_widened_blocks = type == KvType::kFp8 ? 2048 : 0, .prompts = kernel}, name));
    }
  }
  return {};
}

}  // namespace crible::cuda
