// crible_gpu: what this GPU can do, and what the decoder makes of it. Prints, beside each figure, the floor
// from bytes and operations and the share reached. Random weights; times are medians of graph replays or of
// whole steps.
//
//   crible_gpu [--fp8] [--only decode,prefill,hit,ceilings] [--sweep]
//   crible_gpu --decode ROWS,CONTEXT     one figure
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "base/units.h"
#include "model/cuda/gpu_bench/bench.h"

namespace {

struct Options {
  bool fp8 = false;
  bool sweep = false;
  std::string only = "ceilings,decode,prefill,hit";
  bool wants(const char* part) const { return only.find(part) != std::string::npos; }
};

int usage() {
  std::fprintf(stderr, "crible_gpu [--fp8] [--only ceilings,decode,prefill,hit,sample] [--sweep]\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--fp8") == 0) {
      options.fp8 = true;
    } else if (std::strcmp(argv[i], "--sweep") == 0) {
      options.sweep = true;
    } else if (std::strcmp(argv[i], "--only") == 0 && i + 1 < argc) {
      options.only = argv[++i];
    } else {
      return usage();
    }
  }
  using namespace crible::cuda;
  const auto type = options.fp8 ? WeightType::kFp8 : WeightType::kBf16;
  crible::Status done = [&]() -> crible::Status {
    CRIBLE_TRY(GpuBench bench, GpuBench::create());
    if (options.wants("ceilings")) CRIBLE_RETURN_IF_ERROR(bench.ceilings());
    CRIBLE_RETURN_IF_ERROR(bench.load(type));
    if (options.sweep) CRIBLE_RETURN_IF_ERROR(bench.sweep());
    if (options.wants("decode")) CRIBLE_RETURN_IF_ERROR(bench.decodes());
    if (options.wants("prefill")) CRIBLE_RETURN_IF_ERROR(bench.prefills());
    if (options.wants("hit")) CRIBLE_RETURN_IF_ERROR(bench.hit());
    if (options.wants("sample")) CRIBLE_RETURN_IF_ERROR(bench.samples());
    return {};
  }();
  if (done) return 0;
  std::fprintf(stderr, "crible_gpu: %s\n", done.error().message.c_str());
  return 1;
}
