// Each matrix product of a layer alone, as a step calls it, over the weights of all layers; and the passes
// between them.
#include <cstdio>
#include <string>

#include "base/units.h"
#include "model/cuda/gpu_bench/bench.h"
#include "model/cuda/gpu_bench/host_step.h"
#include "model/cuda/matrix_products.h"
#include "ops/fill_random/fill_random_cuda.h"
#include "ops/kv_write/kv_write_cuda.h"
#include "ops/matmul/tiled_product_cuda.h"
#include "ops/rms_norm/rms_norm_cuda.h"
#include "ops/rope/rope.h"
#include "ops/silu_mul/silu_mul_cuda.h"

namespace crible::cuda {
namespace {

constexpr int64_t kRows[] = {64, 128, 256, 512, 2048, 8192};
constexpr int64_t kMostRows = 8192;

}  // namespace

// Operands and results of the products of this file, for kMostRows rows.
struct GpuBench::ProductMemory {
  DeviceBuffer x, x_scale, both, out;
  Matmul matmul;
  TiledProducts tiled;

  static Result<ProductMemory> create(const CudaStream& stream, const DecoderShape& s) {
    const int64_t widest = std::max({s.embedding, s.query_size(), s.feed_forward});
    CRIBLE_TRY(DeviceBuffer x, DeviceBuffer::allocate(kMostRows * widest * 2));
    CRIBLE_TRY(DeviceBuffer x_scale, DeviceBuffer::allocate(kMostRows * ceil_div(widest, kFp8Block) * 4));
    CRIBLE_TRY(DeviceBuffer both,
               DeviceBuffer::allocate(kMostRows * std::max(2 * s.feed_forward, s.qkv_size()) * 2));
    CRIBLE_TRY(DeviceBuffer out, DeviceBuffer::allocate(kMostRows * widest * 2));
    CRIBLE_TRY(Matmul matmul, Matmul::create());
    CRIBLE_TRY(TiledProducts tiled, TiledProducts::create());
    fill_random(stream, both.as<__nv_bfloat16>(), both.bytes() / 2, 3, 0.0f, 1.0f);
    fill_random(stream, out.as<__nv_bfloat16>(), out.bytes() / 2, 4, 0.0f, 1.0f);
    return ProductMemory{std::move(x),   std::move(x_scale), std::move(both),
                         std::move(out), std::move(matmul),  std::move(tiled)};
  }
  void fill_x(const CudaStream& stream, WeightType type) {
    if (type == WeightType::kFp8) {
      fill_random_fp8(stream, x.as<uint8_t>(), x.bytes(), 5);
      fill_constant(stream, x_scale.as<float>(), x_scale.bytes() / 4, 0.01f);
    } else {
      fill_random(stream, x.as<__nv_bfloat16>(), x.bytes() / 2, 5, 0.0f, 1.0f);
    }
  }
};

Status GpuBench::over_layers(const std::string& what, const Floor& of_one,
                             const std::function<Status(const DecoderLayer&)>& enqueue) {
  CRIBLE_TRY(const CudaGraph graph, CudaGraph::capture(stream_, [&]() -> Status {
               for (const DecoderLayer& layer : weights_->layers()) CRIBLE_RETURN_IF_ERROR(enqueue(layer));
               return {};
             }));
  CRIBLE_TRY(const double ms, time_ms(1, [&] { return graph.launch(stream_); }));
  const auto layers = static_cast<double>(weights_->shape().layers);
  report(what, ms / layers, of_one, fmt::format("{:.1f} us", ms * 1e3 / layers));
  return {};
}

MatmulArgs GpuBench::product_args(const ProductMemory& memory, const DeviceMatrix& m, int64_t rows,
                                  ProductUse use) {
  const bool fp8 = m.type == WeightType::kFp8;
  return {.type = m.type,
          .x = memory.x.data(),
          .x_scale = fp8 ? memory.x_scale.as<float>() : nullptr,
          .rows = rows,
          .weight = m.data,
          .weight_scale = m.scale,
          .block_scales = fp8 && m.group != 0,
          .out_features = m.rows,
          .in_features = m.columns,
          .out = use == ProductUse::kAccumulate ? memory.out.data() : memory.both.data(),
          .accumulate = use == ProductUse::kAccumulate,
          .fast_sums = fp8 && m.group == 0,
          .settled_weight = true};
}

Status GpuBench::product_alone(ProductMemory& memory, const char* name,
                               const DeviceMatrix DecoderLayer::*matrix, ProductUse use) {
  const DeviceMatrix& first = weights_->layers()[0].*matrix;
  const MatmulArgs any_rows = product_args(memory, first, 0, use);
  const auto gated_args = [&](const MatmulArgs& product) {
    return GatedMatmulArgs{.product = product, .gated = memory.out.as<__nv_bfloat16>(), .quantised = {}};
  };
  const bool gated = use == ProductUse::kGated;
  CRIBLE_RETURN_IF_ERROR(gated ? memory.matmul.tune_gated(stream_, gated_args(any_rows), kMostRows)
                               : memory.matmul.tune(stream_, any_rows, kMostRows));
  for (const int64_t rows : kRows) {
    CRIBLE_RETURN_IF_ERROR(over_layers(fmt::format("{}, {} rows", name, rows),
                                       {.bytes = static_cast<double>(first.bytes()),
                                        .operations = 2.0 * static_cast<double>(rows * first.elements())},
                                       [&](const DecoderLayer& layer) {
                                         const MatmulArgs args =
                                             product_args(memory, layer.*matrix, rows, use);
                                         return gated ? memory.matmul.run_gated(stream_, gated_args(args))
                                                      : memory.matmul.run(stream_, args);
                                       }));
  }
  return {};
}

Status GpuBench::tiles_alone(ProductMemory& memory, const char* name,
                             const DeviceMatrix DecoderLayer::*matrix, ProductUse use) {
  const DeviceMatrix& first = weights_->layers()[0].*matrix;
  const bool gated = use == ProductUse::kGated;
  for (const int64_t rows : kRows) {
    const std::span<const TiledKernel> kernels =
        memory.tiled.kernels(product_args(memory, first, rows, use), gated);
    for (const int k :
         memory.tiled.candidates(product_args(memory, first, rows, use), gated, /*whole=*/false)) {
      const TiledKernel& kernel = kernels[static_cast<size_t>(k)];
      constexpr const char* kShares[] = {"", ", weight shared", ", x shared"};
      CRIBLE_RETURN_IF_ERROR(
          over_layers(fmt::format("{}, {} rows: {} x {}{}, {} parts, {} clusters", name, rows, kernel.rows,
                                  kernel.columns, kShares[static_cast<int>(kernel.share)], kernel.split,
                                  kernel.most_clusters),
                      {.bytes = static_cast<double>(first.bytes()),
                       .operations = 2.0 * static_cast<double>(rows * first.elements())},
                      [&](const DecoderLayer& layer) {
                        MatmulArgs args = product_args(memory, layer.*matrix, rows, use);
                        if (gated) args.out = memory.out.data();
                        memory.tiled.run(stream_, k, args, gated);
                        return Status();
                      }));
    }
  }
  return {};
}

Status GpuBench::passes_alone(ProductMemory& memory) {
  const DecoderShape& s = weights_->shape();
  CRIBLE_TRY(const DeviceRopeTable rope, DeviceRopeTable::upload(plain_rope_table(s), s.pairing));
  for (const int64_t rows : kRows) {
    const auto moved = [&](int64_t elements) {
      return Floor{.bytes = 2.0 * static_cast<double>(rows * elements)};
    };
    CRIBLE_RETURN_IF_ERROR(over_layers(fmt::format("norm, {} rows", rows), moved(2 * s.embedding),
                                       [&](const DecoderLayer& layer) {
                                         rms_norm(stream_, {.x = memory.both.as<__nv_bfloat16>(),
                                                            .x_stride = s.embedding,
                                                            .out = memory.out.as<__nv_bfloat16>(),
                                                            .out_stride = s.embedding,
                                                            .weight = layer.attention_norm,
                                                            .rows = rows,
                                                            .columns = s.embedding,
                                                            .epsilon = s.epsilon});
                                         return Status();
                                       }));
    CRIBLE_RETURN_IF_ERROR(
        over_layers(fmt::format("gate, {} rows", rows), moved(3 * s.feed_forward), [&](const DecoderLayer&) {
          silu_mul(stream_, {.gate_up = memory.both.as<__nv_bfloat16>(),
                             .out = memory.out.as<__nv_bfloat16>(),
                             .rows = rows,
                             .columns = s.feed_forward});
          return Status();
        }));
    const HostStep step(1, rows, rows);
    StepBatch& batch = model_->prefill_batch;
    CRIBLE_RETURN_IF_ERROR(batch.send(stream_, step.view()));
    CRIBLE_RETURN_IF_ERROR(stream_.synchronize());
    CRIBLE_RETURN_IF_ERROR(over_layers(fmt::format("rope and cache write, {} rows", rows),
                                       moved(2 * s.qkv_size()), [&](const DecoderLayer& layer) {
                                         kv_write(stream_, {.qkv = memory.both.as<__nv_bfloat16>(),
                                                            .tokens = rows,
                                                            .positions = batch.device().positions,
                                                            .slots = batch.device().slots,
                                                            .q_norm = layer.q_norm,
                                                            .k_norm = layer.k_norm,
                                                            .epsilon = s.epsilon,
                                                            .rope = rope.view(),
                                                            .shape = s.attention(),
                                                            .cache = model_->cache.layer(0)});
                                         return Status();
                                       }));
  }
  return {};
}

Status GpuBench::products(bool every_tile) {
  if (weights_->type() == WeightType::kInt4 || weights_->shape().experts > 0) return {};
  CRIBLE_TRY(ProductMemory memory, ProductMemory::create(stream_, weights_->shape()));
  if (!every_tile) CRIBLE_RETURN_IF_ERROR(passes_alone(memory));
  memory.fill_x(stream_, weights_->type());
  const auto measure = [&](const char* name, const DeviceMatrix DecoderLayer::*matrix, ProductUse use) {
    return every_tile ? tiles_alone(memory, name, matrix, use) : product_alone(memory, name, matrix, use);
  };
  CRIBLE_RETURN_IF_ERROR(measure("qkv", &DecoderLayer::qkv, ProductUse::kStore));
  CRIBLE_RETURN_IF_ERROR(measure("output", &DecoderLayer::output, ProductUse::kAccumulate));
  CRIBLE_RETURN_IF_ERROR(measure("gate_up", &DecoderLayer::gate_up, ProductUse::kStore));
  CRIBLE_RETURN_IF_ERROR(measure("gate_up, gated", &DecoderLayer::gate_up, ProductUse::kGated));
  return measure("down", &DecoderLayer::down, ProductUse::kAccumulate);
}

}  // namespace crible::cuda
