#include "model/cuda/gpu_bench/bench.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "base/units.h"
#include "device/cuda/cuda_status.h"
#include "device/cuda/device_properties.h"
#include "model/cuda/gpu_bench/host_step.h"
#include "ops/decode_attention/decode_attention_cuda.h"
#include "ops/fill_random/fill_random_cuda.h"
#include "ops/machine_ceiling_cuda.h"
#include "ops/sample/sample_cuda.h"

namespace crible::cuda {
namespace {

constexpr StepLimits kLimits = {
    .max_tokens = 8192, .max_sequences = 256, .max_logit_rows = 256, .max_blocks = 12288};

const char* name_of(WeightFormat format) {
  switch (format.type) {
    case WeightType::kBf16: return "BF16";
    case WeightType::kFp8:
      return format.group == 0 ? "FP8 with a BF16 head" : "FP8 in blocks of 128 x 128 with a BF16 head";
    case WeightType::kInt4: return "4 bits in groups of 128 with a BF16 head";
  }
  return "";
}

}  // namespace

const BenchModel* find_bench_model(const std::string& name) {
  static const BenchModel kModels[] = {{"qwen3-8b", qwen3_8b(), 12288},
                                       {"qwen3-32b", qwen3_32b(), 4096},
                                       {"qwen3-30b-a3b", qwen3_30b_a3b(), 10496}};
  for (const BenchModel& model : kModels) {
    if (name == model.name) return &model;
  }
  return nullptr;
}

Result<GpuBench> GpuBench::create() {
  CRIBLE_TRY(const DeviceProperties p, device_properties());
  std::printf("%s, %d multiprocessors, %s (%s free), L2 %s\n", p.name.c_str(), p.multiprocessors,
              format_bytes(p.total_bytes).c_str(), format_bytes(p.free_bytes).c_str(),
              format_bytes(p.l2_bytes).c_str());
  CRIBLE_TRY(CudaStream stream, CudaStream::create());
  return GpuBench(std::move(stream));
}

Result<double> GpuBench::time_ms(int runs, const std::function<Status()>& enqueue) const {
  CRIBLE_TRY(const CudaEvent start, CudaEvent::create(CudaEvent::Timing::kOn));
  CRIBLE_TRY(const CudaEvent end, CudaEvent::create(CudaEvent::Timing::kOn));
  constexpr int kRepetitions = 5;
  std::vector<double> times;
  for (int i = -1; i < kRepetitions; ++i) {  // the first is the warm-up
    CRIBLE_RETURN_IF_ERROR(start.record(stream_));
    for (int r = 0; r < runs; ++r) CRIBLE_RETURN_IF_ERROR(enqueue());
    CRIBLE_RETURN_IF_ERROR(end.record(stream_));
    CRIBLE_RETURN_IF_ERROR(end.synchronize());
    CRIBLE_TRY(const double ms, CudaEvent::elapsed_ms(start, end));
    if (i >= 0) times.push_back(ms / runs);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

void GpuBench::report(const std::string& what, double ms, const Floor& floor, const std::string& note) const {
  // The tensor cores take FP8 at twice the rate of BF16.
  const bool fp8 = weights_ != nullptr && weights_->type() == WeightType::kFp8;
  const double rate = operations_per_s_ * (fp8 ? 2 : 1);
  const double floor_ms = std::max(floor.bytes / read_bytes_per_s_, floor.operations / rate) * 1e3;
  std::printf("%-52s %9.3f ms   floor %8.3f   share %3.0f%%   %6.2f TB/s %6.0f TFLOP/s   %s\n", what.c_str(),
              ms, floor_ms, 100 * floor_ms / ms, floor.bytes / ms * 1e-9, floor.operations / ms * 1e-9,
              note.c_str());
  std::fflush(stdout);
}

Status GpuBench::ceilings() {
  constexpr int64_t kBytes = 8 * kGiB;
  constexpr int64_t kSide = 8192;
  CRIBLE_TRY(const DeviceBuffer buffer, DeviceBuffer::allocate(kBytes));
  fill_random(stream_, buffer.as<__nv_bfloat16>(), kBytes / 2, 1, 0.0f, 1.0f);
  CRIBLE_TRY(const double read_ms, time_ms(3, [&] {
               read_all(stream_, buffer.data(), kBytes, buffer.as<uint32_t>());
               return Status();
             }));
  read_bytes_per_s_ = static_cast<double>(kBytes) / read_ms * 1e3;
  CRIBLE_TRY(Matmul matmul, Matmul::create());
  auto* x = buffer.as<__nv_bfloat16>();
  const MatmulArgs product = {.x = x,
                              .rows = kSide,
                              .weight = x + kSide * kSide,
                              .out_features = kSide,
                              .in_features = kSide,
                              .out = x + 2 * kSide * kSide};
  CRIBLE_RETURN_IF_ERROR(matmul.tune(stream_, product, kSide));
  CRIBLE_TRY(const double product_ms, time_ms(10, [&] { return matmul.run(stream_, product); }));
  operations_per_s_ = 2.0 * kSide * kSide * kSide / product_ms * 1e3;
  std::printf("ceilings: read %.3f TB/s (8 GiB), BF16 matmul of side 8192 %.0f TFLOP/s\n",
              read_bytes_per_s_ * 1e-12, operations_per_s_ * 1e-12);
  return {};
}

Status GpuBench::load(const BenchModel& model, WeightFormat format, const DecoderOptions& options) {
  model_.reset();
  const DecoderShape& shape = model.shape;
  CRIBLE_TRY(DecoderWeights weights, DecoderWeights::allocate(shape, format));
  weights.fill_random(stream_, 1);
  CRIBLE_TRY(KvPool cache, KvPool::create(shape, model.pool_blocks, options.kv_type));
  if (options.kv_type == KvType::kBf16) {
    fill_random(stream_, static_cast<__nv_bfloat16*>(cache.data()), cache.bytes() / 2, 2, 0.0f, 1.0f);
  } else {
    fill_random_fp8(stream_, static_cast<uint8_t*>(cache.data()), cache.bytes(), 2);
  }
  CRIBLE_TRY(DeviceBuffer logits, DeviceBuffer::allocate(kLimits.max_logit_rows * shape.vocabulary * 4));
  CRIBLE_TRY(StepBatch batch, StepBatch::create(kLimits));
  auto holder = std::make_unique<DecoderWeights>(std::move(weights));
  weights_ = std::move(holder);
  CRIBLE_TRY(Decoder decoder, Decoder::create(stream_, *weights_, plain_rope_table(shape), kLimits, options));
  model_ = std::make_unique<Model>(
      Model{std::move(cache), std::move(logits), std::move(decoder), std::move(batch)});
  std::printf("%s, random weights, %s, KV cache in %s%s: weights %s, KV pool %s, working memory %s\n",
              model.name, name_of(format), options.kv_type == KvType::kFp8 ? "FP8" : "BF16",
              options.deterministic ? ", deterministic" : "", format_bytes(weights_->bytes()).c_str(),
              format_bytes(model_->cache.bytes()).c_str(),
              format_bytes(Decoder::arena_bytes(shape, kLimits, format)).c_str());
  return stream_.synchronize();
}

GpuBench::Floor GpuBench::floor_of(int64_t sequences, int64_t queries, int64_t context) const {
  const DecoderShape& s = weights_->shape();
  const double head = static_cast<double>(s.vocabulary * s.embedding);
  const double layers = static_cast<double>(s.matrix_elements()) - head;
  const double tokens = static_cast<double>(sequences * queries);
  const double kv_token =
      static_cast<double>(s.layers * 2 * s.kv_size() * kv_element_bytes(model_->cache.type()));
  // Causal: the first query of a sequence sees context - queries + 1 keys, the last all of them.
  const double pairs = tokens * (static_cast<double>(context) - 0.5 * static_cast<double>(queries - 1));
  // The tokens of a prompt may all choose the same experts; those of different sequences do not.
  return {.bytes = static_cast<double>(weights_->matrix_bytes(sequences)) +
                   static_cast<double>(sequences * context) * kv_token,
          .operations = 2 * layers * tokens + 2 * head * static_cast<double>(sequences) +
                        4 * pairs * static_cast<double>(s.query_size() * s.layers)};
}

bool GpuBench::in_pool(int64_t sequences, int64_t context) const {
  return sequences * ceil_div(context, 16) <= model_->cache.num_blocks();
}

Result<DecodeGraphs> GpuBench::graphs(DecodePath path) const {
  // Decodes only: small arrays, so that a step sends little.
  StepLimits limits = kLimits;
  limits.max_tokens = limits.max_sequences;
  CRIBLE_TRY(StepBatch batch, StepBatch::create(limits));
  return DecodeGraphs(model_->decoder, model_->cache, std::move(batch), model_->logits.as<float>(), path);
}

Status GpuBench::decode(DecodeGraphs& graphs, int64_t rows, int64_t context, const char* path) {
  if (!in_pool(rows, context)) return {};
  const HostStep step(rows, 1, context);
  CRIBLE_TRY(const double ms, time_ms(10, [&] { return graphs.run(stream_, step.view()); }));
  report(fmt::format("decode, {} sequences, context {}, {}", rows, context, path), ms,
         floor_of(rows, 1, context), fmt::format("{:.0f} tokens/s", static_cast<double>(rows) / ms * 1e3));
  return {};
}

Status GpuBench::decodes() {
  CRIBLE_TRY(DecodeGraphs best, graphs(DecodePath::kBest));
  CRIBLE_TRY(DecodeGraphs unfused, graphs(DecodePath::kUnfused));
  const bool deterministic = model_->decoder.options().deterministic;
  const char* few = deterministic ? "deterministic" : "fused";
  const char* many = deterministic ? "deterministic" : "captured";
  for (const int64_t rows : {1, 2, 4, 8}) CRIBLE_RETURN_IF_ERROR(decode(best, rows, 1024, few));
  CRIBLE_RETURN_IF_ERROR(decode(best, 1, 128, few));
  CRIBLE_RETURN_IF_ERROR(decode(best, 1, 16384, few));
  for (const int64_t rows : {1, 8, 16, 32, 64}) CRIBLE_RETURN_IF_ERROR(decode(unfused, rows, 1024, many));
  for (const int64_t rows : {32, 64, 128, 256}) CRIBLE_RETURN_IF_ERROR(decode(unfused, rows, 640, many));
  return {};
}

Status GpuBench::prefill(int64_t tokens, int64_t cached, const char* what) {
  if (!in_pool(1, cached + tokens)) return {};
  Model& m = *model_;
  const HostStep step(1, tokens, cached + tokens);
  CRIBLE_TRY(const double ms, time_ms(3, [&]() -> Status {
               CRIBLE_RETURN_IF_ERROR(m.prefill_batch.send(stream_, step.view()));
               CRIBLE_RETURN_IF_ERROR(m.decoder.plan(stream_, m.prefill_batch.plan_input(false)));
               return m.decoder.forward(stream_, m.prefill_batch.device(), m.cache, m.logits.as<float>());
             }));
  report(fmt::format("{}: {} new tokens behind {}", what, tokens, cached), ms,
         floor_of(1, tokens, cached + tokens),
         fmt::format("{:.0f} tokens/s", static_cast<double>(tokens) / ms * 1e3));
  return {};
}

Status GpuBench::prefills() {
  for (const int64_t tokens : {128, 512, 2048, 8192}) CRIBLE_RETURN_IF_ERROR(prefill(tokens, 0, "prefill"));
  return prefill(2048, 6144, "prefill");
}

Status GpuBench::hit() {
  return prefill(64, 16000, "HIT");
}

Status GpuBench::samples() {
  const int64_t vocabulary = weights_->shape().vocabulary;
  CRIBLE_TRY(const DeviceBuffer parameters,
             DeviceBuffer::allocate(256 * static_cast<int64_t>(sizeof(SampleRow))));
  CRIBLE_TRY(const DeviceBuffer tokens, DeviceBuffer::allocate(256 * 4));
  struct Case {
    const char* name;
    SampleRow row;
  };
  for (const Case& c : {Case{"greedy", {.temperature = 0}},
                        {"temperature", {}},
                        {"top-k 50", {.top_k = 50}},
                        {"top-k 50, top-p 0.9", {.top_p = 0.9f, .top_k = 50}}}) {
    for (const int64_t rows : {1, 256}) {
      const std::vector<SampleRow> host(static_cast<size_t>(rows), c.row);
      CRIBLE_CUDA_RETURN_IF_ERROR(cudaMemcpy(parameters.data(), host.data(), host.size() * sizeof(SampleRow),
                                             cudaMemcpyHostToDevice));
      CRIBLE_TRY(const double ms, time_ms(20, [&] {
                   sample(stream_, {.logits = model_->logits.as<float>(),
                                    .rows = rows,
                                    .vocabulary = vocabulary,
                                    .parameters = parameters.as<SampleRow>(),
                                    .tokens = tokens.as<int32_t>()});
                   return Status();
                 }));
      report(fmt::format("sample {} rows, {}", rows, c.name), ms,
             {.bytes = static_cast<double>(rows * vocabulary * 4)}, "");
    }
  }
  return penalised_samples();
}

// Histories that the device keeps: each token drawn is counted in its row's. Penalties that take nothing off, so that
// the same token is drawn over and over and the histories grow by that one.
Status GpuBench::penalised_samples() {
  constexpr int64_t kRows = 256, kTokens = 4000, kStride = history_words(kTokens + 1);
  const int64_t vocabulary = weights_->shape().vocabulary;
  std::vector<uint32_t> histories(static_cast<size_t>(kRows * kStride), 0);
  std::vector<SampleRow> host(kRows, {.temperature = 0});
  for (int64_t row = 0; row < kRows; ++row) {
    host[static_cast<size_t>(row)].lists = {.slot = static_cast<int32_t>(row), .kept = 1};
    uint32_t* history = &histories[static_cast<size_t>(row * kStride)];
    history[0] = kTokens;
    for (int64_t i = 0; i < kTokens; ++i) history[2 + 2 * i] = static_cast<uint32_t>(i * 31 % vocabulary);
  }
  CRIBLE_TRY(const DeviceBuffer slots, DeviceBuffer::allocate(std::ssize(histories) * 4));
  CRIBLE_TRY(const DeviceBuffer parameters, DeviceBuffer::allocate(kRows * static_cast<int64_t>(sizeof(SampleRow))));
  CRIBLE_TRY(const DeviceBuffer tokens, DeviceBuffer::allocate(kRows * 4));
  CRIBLE_CUDA_RETURN_IF_ERROR(
      cudaMemcpy(slots.data(), histories.data(), histories.size() * 4, cudaMemcpyHostToDevice));
  CRIBLE_CUDA_RETURN_IF_ERROR(
      cudaMemcpy(parameters.data(), host.data(), host.size() * sizeof(SampleRow), cudaMemcpyHostToDevice));
  for (const int64_t rows : {int64_t{1}, kRows}) {
    CRIBLE_TRY(const double ms, time_ms(20, [&] {
                 sample(stream_, {.logits = model_->logits.as<float>(),
                                  .rows = rows,
                                  .vocabulary = vocabulary,
                                  .parameters = parameters.as<SampleRow>(),
                                  .tokens = tokens.as<int32_t>(),
                                  .histories = slots.as<uint32_t>(),
                                  .history_stride = kStride});
                 return Status();
               }));
    report(fmt::format("sample {} rows, greedy + a kept history of {} tokens", rows, kTokens), ms,
           {.bytes = static_cast<double>(rows * (vocabulary * 4 + 2 * kTokens * 8))}, "");
  }
  return {};
}

}  // namespace crible::cuda
