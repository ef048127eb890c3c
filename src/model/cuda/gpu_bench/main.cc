// crible_gpu: what this GPU can do, and what the decoder makes of it. Prints, beside each figure, the floor
// from bytes and operations and the share reached. Random weights; times are medians of graph replays or of
// whole steps.
//
//   crible_gpu [--model qwen3-8b|qwen3-32b|qwen3-30b-a3b] [--fp8|--fp8-blocks|--int4] [--kv-cache-dtype fp8]
//              [--deterministic] [--only decode,prefill,...] [--sweep]
//   crible_gpu --load PATH [--fp8]        from a checkpoint to a decoder that is ready
//   crible_gpu --write FOLDER [--model ..]  a checkpoint with random BF16 weights, for --load
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>

#include "base/units.h"
#include "model/cuda/gpu_bench/bench.h"
#include "model/cuda/gpu_bench/start.h"
#include "model/cuda/gpu_bench/write_checkpoint.h"

namespace {

struct Options {
  crible::cuda::WeightFormat format;
  std::string model = "qwen3-8b";
  crible::cuda::DecoderOptions decoder;
  bool sweep = false;
  std::string load;   // a checkpoint's path
  std::string write;  // a folder
  std::string only = "ceilings,decode,prefill,hit";
  // As the checkpoint has its weights, unless another is named.
  std::optional<crible::cuda::WeightFormat> load_format() const {
    if (format == crible::cuda::WeightFormat()) return std::nullopt;
    return format;
  }
  bool wants(const char* part) const { return only.find(part) != std::string::npos; }
};

int usage() {
  std::fprintf(stderr,
               "crible_gpu [--model qwen3-8b|qwen3-32b|qwen3-30b-a3b] [--fp8|--fp8-blocks|--int4] "
               "[--kv-cache-dtype bf16|fp8] [--deterministic] "
               "[--only ceilings,decode,prefill,hit,sample,products,tiles,attention] [--sweep] [--load PATH] [--write FOLDER]\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--fp8") == 0) {
      options.format = crible::cuda::WeightType::kFp8;
    } else if (std::strcmp(argv[i], "--fp8-blocks") == 0) {
      options.format = {crible::cuda::WeightType::kFp8, 128};
    } else if (std::strcmp(argv[i], "--int4") == 0) {
      options.format = crible::cuda::WeightType::kInt4;
    } else if (std::strcmp(argv[i], "--deterministic") == 0) {
      options.decoder.deterministic = true;
    } else if (std::strcmp(argv[i], "--kv-cache-dtype") == 0 && i + 1 < argc) {
      const std::string type = argv[++i];
      if (type != "bf16" && type != "fp8") return usage();
      if (type == "fp8") options.decoder.kv_type = crible::cuda::KvType::kFp8;
    } else if (std::strcmp(argv[i], "--model") == 0 && i + 1 < argc) {
      options.model = argv[++i];
    } else if (std::strcmp(argv[i], "--load") == 0 && i + 1 < argc) {
      options.load = argv[++i];
    } else if (std::strcmp(argv[i], "--write") == 0 && i + 1 < argc) {
      options.write = argv[++i];
    } else if (std::strcmp(argv[i], "--sweep") == 0) {
      options.sweep = true;
    } else if (std::strcmp(argv[i], "--only") == 0 && i + 1 < argc) {
      options.only = argv[++i];
    } else {
      return usage();
    }
  }
  using namespace crible::cuda;
  const BenchModel* model = find_bench_model(options.model);
  if (model == nullptr) return usage();
  crible::Status done = [&]() -> crible::Status {
    if (!options.write.empty()) return write_random_checkpoint(options.write, model->shape);
    if (!options.load.empty()) return measure_start(options.load, options.load_format());
    CRIBLE_TRY(GpuBench bench, GpuBench::create());
    if (options.wants("ceilings")) CRIBLE_RETURN_IF_ERROR(bench.ceilings());
    CRIBLE_RETURN_IF_ERROR(bench.load(*model, options.format, options.decoder));
    if (options.sweep) CRIBLE_RETURN_IF_ERROR(bench.sweep());
    if (options.wants("decode")) CRIBLE_RETURN_IF_ERROR(bench.decodes());
    if (options.wants("prefill")) CRIBLE_RETURN_IF_ERROR(bench.prefills());
    if (options.wants("hit")) CRIBLE_RETURN_IF_ERROR(bench.hit());
    if (options.wants("products")) CRIBLE_RETURN_IF_ERROR(bench.products(/*every_tile=*/false));
    if (options.wants("tiles")) CRIBLE_RETURN_IF_ERROR(bench.products(/*every_tile=*/true));
    if (options.wants("attention")) CRIBLE_RETURN_IF_ERROR(bench.attentions());
    if (options.wants("sample")) CRIBLE_RETURN_IF_ERROR(bench.samples());
    return {};
  }();
  if (done) return 0;
  std::fprintf(stderr, "crible_gpu: %s\n", done.error().message.c_str());
  return 1;
}
