// The measurements of crible_gpu, each printed as one line of a table with its floor. Holds a model with
// random weights, its KV pool and a decoder, as a server would.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "device/cuda/cuda_stream.h"
#include "model/cuda/decode_graphs.h"
#include "model/cuda/decoder.h"
#include "ops/matmul/int4_matmul_cuda.h"

namespace crible::cuda {

struct BenchModel {
  const char* name;
  DecoderShape shape;
  int64_t pool_blocks;  // of its KV cache, that fit beside the weights
};
// By name; null if there is none.
const BenchModel* find_bench_model(const std::string& name);

struct AttentionSequences;

class GpuBench {
 public:
  static Result<GpuBench> create();

  // Read bandwidth and BF16 matmul rate, which the floors of the others are computed from.
  Status ceilings();
  Status load(const BenchModel& model, WeightFormat format, const DecoderOptions& options);
  Status decodes();
  Status prefills();
  // A prompt whose first 16,000 tokens are in the cache.
  Status hit();
  Status samples();
  // Each matrix product of a layer alone, and the passes between them, at 64 to 8,192 rows; or each product by every
  // tiled kernel.
  Status products(bool every_tile);
  // Attention over a batch alone, by each kernel that may be chosen.
  Status attentions();
  // Each fused kernel alone, over all layers; then the step under different schedules.
  Status sweep();

 private:
  struct Model {
    KvPool cache;
    DeviceBuffer logits;
    Decoder decoder;
    StepBatch prefill_batch;
  };
  struct Floor {
    double bytes = 0;
    double operations = 0;
  };

  explicit GpuBench(CudaStream stream) : stream_(std::move(stream)) {}
  // Median over repetitions of the time of `enqueue`, run `runs` times in a row; ms.
  Result<double> time_ms(int runs, const std::function<Status()>& enqueue) const;
  Status penalised_samples();
  void report(const std::string& what, double ms, const Floor& floor, const std::string& note) const;
  bool in_pool(int64_t sequences, int64_t context) const;
  Floor floor_of(int64_t sequences, int64_t queries, int64_t context) const;
  Status decode(DecodeGraphs& graphs, int64_t rows, int64_t context, const char* path);
  Status prefill(int64_t tokens, int64_t cached, const char* what);
  Result<DecodeGraphs> graphs(DecodePath path) const;
  Status linear_alone(const char* name, DecodeEpilogue epilogue, const DeviceMatrix DecoderLayer::*matrix);
  Status int4_alone(const char* name, Int4Epilogue epilogue, const DeviceMatrix DecoderLayer::*matrix);
  Status attention_alone(int64_t context);
  Status attention_over(const AttentionSequences& sequences, const AttentionOptions& options, const char* kernel);
  // The time of one of `enqueue`, which runs once a layer.
  Status over_layers(const std::string& what, const Floor& of_one,
                     const std::function<Status(const DecoderLayer&)>& enqueue);
  struct ProductMemory;
  enum class ProductUse : uint8_t { kStore, kAccumulate, kGated };
  static MatmulArgs product_args(const ProductMemory& memory, const DeviceMatrix& m, int64_t rows, ProductUse use);
  Status product_alone(ProductMemory& memory, const char* name, const DeviceMatrix DecoderLayer::*matrix,
                       ProductUse use);
  Status tiles_alone(ProductMemory& memory, const char* name, const DeviceMatrix DecoderLayer::*matrix, ProductUse use);
  Status passes_alone(ProductMemory& memory);

  CudaStream stream_;
  double read_bytes_per_s_ = 3.13e12;
  double operations_per_s_ = 789e12;
  std::unique_ptr<DecoderWeights> weights_;  // the decoder points to it
  std::unique_ptr<Model> model_;
};

}  // namespace crible::cuda
