// How the schedule of the fused kernels was found.
#include <cstdio>
#include <string>

#include "base/units.h"
#include "device/cuda/cuda_status.h"
#include "model/cuda/gpu_bench/bench.h"
#include "model/cuda/gpu_bench/host_step.h"
#include "ops/decode_attention/decode_attention_cuda.h"
#include "ops/fill_random/fill_random_cuda.h"
#include "ops/matmul/int4_arrange_cuda.h"
#include "ops/rope/rope.h"

namespace crible::cuda {

Status GpuBench::linear_alone(const char* name, DecodeEpilogue epilogue,
                              const DeviceMatrix DecoderLayer::*matrix) {
  const DecoderShape& s = weights_->shape();
  const DeviceMatrix& first = weights_->layers()[0].*matrix;
  CRIBLE_TRY(const DeviceBuffer x, DeviceBuffer::allocate(first.columns * 2));
  CRIBLE_TRY(const DeviceBuffer out, DeviceBuffer::allocate(first.rows * 4));
  CRIBLE_TRY(const DeviceBuffer shares, DeviceBuffer::allocate(kDecodeShares * 8));
  CRIBLE_CUDA_RETURN_IF_ERROR(
      cudaMemsetAsync(shares.data(), 0, static_cast<size_t>(shares.bytes()), stream_.get()));
  CRIBLE_TRY(const CudaGraph graph, CudaGraph::capture(stream_, [&] {
               for (const DecoderLayer& layer : weights_->layers()) {
                 const DeviceMatrix& m = layer.*matrix;
                 const int64_t outputs = epilogue == DecodeEpilogue::kSiluMul ? m.rows / 2 : m.rows;
                 const bool norm = m.columns == s.embedding && epilogue != DecodeEpilogue::kAddResidual;
                 decode_linear(stream_, m.type, epilogue,
                               {.x = x.as<__nv_bfloat16>(),
                                .x_stride = m.columns,
                                .rows = 1,
                                .norm_weight = norm ? layer.attention_norm : nullptr,
                                .epsilon = s.epsilon,
                                .weight = m.data,
                                .weight_scale = m.scale,
                                .group = m.group,
                                .out = out.data(),
                                .out_stride = outputs,
                                .out_features = static_cast<int>(outputs),
                                .in_features = static_cast<int>(m.columns),
                                .shares = shares.as<uint64_t>()});
               }
               return Status();
             }));
  CRIBLE_TRY(const double ms, time_ms(5, [&] { return graph.launch(stream_); }));
  report(fmt::format("{} alone, {} layers", name, s.layers), ms,
         {.bytes = static_cast<double>(s.layers * first.bytes())},
         fmt::format("{:.2f} us each", ms * 1e3 / static_cast<double>(s.layers)));
  return {};
}

Status GpuBench::int4_alone(const char* name, Int4Epilogue epilogue,
                            const DeviceMatrix DecoderLayer::*matrix) {
  constexpr int64_t kMostRows = 512;
  const DeviceMatrix& first = weights_->layers()[0].*matrix;
  const int64_t outputs = epilogue == Int4Epilogue::kSiluMul ? first.rows / 2 : first.rows;
  CRIBLE_TRY(const DeviceBuffer x,
             DeviceBuffer::allocate(arranged_bytes(kMostRows, first.columns, kLargestInt4Block)));
  CRIBLE_TRY(const DeviceBuffer out, DeviceBuffer::allocate(kMostRows * outputs * 2));
  CRIBLE_TRY(const DeviceBuffer counters, DeviceBuffer::allocate(kInt4Counters * 4));
  CRIBLE_TRY(const DeviceBuffer sums, DeviceBuffer::allocate(kInt4SumBytes));
  fill_random(stream_, x.as<__nv_bfloat16>(), x.bytes() / 2, 3, 0.0f, 1.0f);
  fill_random(stream_, out.as<__nv_bfloat16>(), out.bytes() / 2, 4, 0.0f, 1.0f);
  CRIBLE_CUDA_RETURN_IF_ERROR(
      cudaMemsetAsync(counters.data(), 0, static_cast<size_t>(counters.bytes()), stream_.get()));
  for (const int64_t rows : {1, 8, 16, 32, 64, 128, 256, 512}) {
    CRIBLE_TRY(const CudaGraph graph, CudaGraph::capture(stream_, [&] {
                 for (const DecoderLayer& layer : weights_->layers()) {
                   int4_matmul(stream_, epilogue,
                               {.x = x.data(),
                                .rows = rows,
                                .block = int4_block_rows(rows),
                                .weight = (layer.*matrix).int4(),
                                .out = out.as<__nv_bfloat16>(),
                                .out_stride = outputs,
                                .meeting = {.counters = counters.as<int>(), .sums = sums.data()}});
                 }
                 return Status();
               }));
    CRIBLE_TRY(const double ms, time_ms(3, [&] { return graph.launch(stream_); }));
    const auto layers = static_cast<double>(weights_->shape().layers);
    report(fmt::format("{}, {} rows at once", name, rows), ms,
           {.bytes = layers * static_cast<double>(first.bytes()),
            .operations = 2 * layers * static_cast<double>(rows * first.elements())},
           fmt::format("{:.2f} us each", ms * 1e3 / layers));
  }
  return {};
}

Status GpuBench::attention_alone(int64_t context) {
  const DecoderShape& s = weights_->shape();
  const HostStep step(1, 1, context);
  StepBatch& batch = model_->prefill_batch;
  CRIBLE_RETURN_IF_ERROR(batch.send(stream_, step.view()));
  CRIBLE_TRY(const DeviceBuffer qkv, DeviceBuffer::allocate(s.qkv_size() * 2));
  CRIBLE_TRY(const DeviceBuffer out, DeviceBuffer::allocate(s.query_size() * 2));
  CRIBLE_TRY(const DeviceRopeTable rope, DeviceRopeTable::upload(plain_rope_table(s), s.pairing));
  for (const int cluster : {4, 8, 16}) {
    CRIBLE_TRY(const CudaGraph graph, CudaGraph::capture(stream_, [&] {
                 for (int64_t i = 0; i < s.layers; ++i) {
                   decode_attention(stream_,
                                    {.qkv = qkv.as<__nv_bfloat16>(),
                                     .out = out.as<__nv_bfloat16>(),
                                     .rows = 1,
                                     .q_norm = weights_->layers()[0].q_norm,
                                     .k_norm = weights_->layers()[0].k_norm,
                                     .epsilon = s.epsilon,
                                     .rope = rope.view(),
                                     .slots = batch.device().slots,
                                     .context_length = batch.device().context_length,
                                     .kv_start = batch.device().attention.kv_start,
                                     .kv_blocks = batch.device().attention.kv_blocks,
                                     .shape = s.attention(),
                                     .cache = model_->cache.layer(i)},
                                    cluster);
                 }
                 return Status();
               }));
    CRIBLE_TRY(const double ms, time_ms(5, [&] { return graph.launch(stream_); }));
    report(fmt::format("attention alone, context {}, cluster {}", context, cluster), ms,
           {.bytes = static_cast<double>(s.layers * 2 * s.kv_size() * 2 * context)},
           fmt::format("{:.2f} us each", ms * 1e3 / static_cast<double>(s.layers)));
  }
  return {};
}

Status GpuBench::sweep() {
  CRIBLE_RETURN_IF_ERROR(linear_alone("qkv", DecodeEpilogue::kStore, &DecoderLayer::qkv));
  CRIBLE_RETURN_IF_ERROR(linear_alone("output", DecodeEpilogue::kAddResidual, &DecoderLayer::output));
  CRIBLE_RETURN_IF_ERROR(linear_alone("gate_up", DecodeEpilogue::kSiluMul, &DecoderLayer::gate_up));
  CRIBLE_RETURN_IF_ERROR(linear_alone("down", DecodeEpilogue::kAddResidual, &DecoderLayer::down));
  if (weights_->type() == WeightType::kInt4) {
    CRIBLE_RETURN_IF_ERROR(int4_alone("qkv", Int4Epilogue::kStore, &DecoderLayer::qkv));
    CRIBLE_RETURN_IF_ERROR(int4_alone("output", Int4Epilogue::kAddResidual, &DecoderLayer::output));
    CRIBLE_RETURN_IF_ERROR(int4_alone("gate_up", Int4Epilogue::kSiluMul, &DecoderLayer::gate_up));
    CRIBLE_RETURN_IF_ERROR(int4_alone("down", Int4Epilogue::kAddResidual, &DecoderLayer::down));
  }
  for (const int64_t context : {1024, 16384}) CRIBLE_RETURN_IF_ERROR(attention_alone(context));
  CRIBLE_TRY(DecodeGraphs best, graphs(DecodePath::kBest));
  FusedSchedule& schedule = model_->decoder.fused_schedule();
  const FusedSchedule chosen = schedule;
  const HostStep step(1, 1, 1024);
  const auto measure = [&](const std::string& what) -> Status {
    best.clear();
    CRIBLE_TRY(const double ms, time_ms(10, [&] { return best.run(stream_, step.view()); }));
    report(what, ms, floor_of(1, 1, 1024), "");
    schedule = chosen;
    return {};
  };
  CRIBLE_RETURN_IF_ERROR(measure("as chosen"));
  struct Kind {
    const char* name;
    int FusedSchedule::*prefetch;
  };
  for (const Kind& kind : {Kind{"qkv", &FusedSchedule::qkv_prefetch},
                           {"output", &FusedSchedule::output_prefetch},
                           {"gate_up", &FusedSchedule::gate_up_prefetch},
                           {"down", &FusedSchedule::down_prefetch}}) {
    for (const int kilobytes : {0, 64, 128, 256}) {
      schedule.*kind.prefetch = kilobytes * 1024;
      CRIBLE_RETURN_IF_ERROR(measure(fmt::format("{}: prefetch {} KB", kind.name, kilobytes)));
    }
  }
  for (const int cluster : {4, 8, 16}) {
    schedule.attention_cluster = cluster;
    CRIBLE_RETURN_IF_ERROR(measure(fmt::format("attention in clusters of {}", cluster)));
  }
  return {};
}

}  // namespace crible::cuda
