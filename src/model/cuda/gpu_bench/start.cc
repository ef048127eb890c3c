#include "model/cuda/gpu_bench/start.h"

#include <chrono>
#include <cstdio>

#include "base/units.h"
#include "model/cuda/decoder.h"
#include "model/cuda/load_decoder.h"
#include "model/model_registry.h"

namespace crible::cuda {
namespace {

class Stopwatch {
 public:
  void lap(const char* what) {
    const auto now = std::chrono::steady_clock::now();
    std::printf("  %-44s %8.3f s\n", what, std::chrono::duration<double>(now - last_).count());
    std::fflush(stdout);
    last_ = now;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace

Status measure_start(const std::filesystem::path& path, std::optional<WeightFormat> format) {
  constexpr StepLimits kLimits = {
      .max_tokens = 8192, .max_sequences = 256, .max_logit_rows = 256, .max_blocks = 12288};
  Stopwatch watch;
  CRIBLE_TRY(const CudaStream stream, CudaStream::create());
  watch.lap("CUDA's context and a stream");
  CRIBLE_TRY(Stream cpu, Stream::create_cpu(0));
  CRIBLE_TRY(const std::unique_ptr<Checkpoint> checkpoint, open_checkpoint(path, cpu));
  CRIBLE_TRY(const DecoderDescription description, describe(*checkpoint));
  watch.lap("the checkpoint's table");
  const auto start = std::chrono::steady_clock::now();
  CRIBLE_TRY(const LoadedDecoder loaded, load_decoder_weights(*checkpoint, description, format));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  watch.lap("weights");
  std::printf("  %s of weights, %.2f GB/s\n", format_bytes(loaded.weights.bytes()).c_str(),
              static_cast<double>(loaded.weights.bytes()) / took.count() * 1e-9);
  CRIBLE_TRY(const Decoder decoder, Decoder::create(stream, loaded.weights, loaded.rope, kLimits));
  CRIBLE_RETURN_IF_ERROR(stream.synchronize());
  watch.lap("the decoder: memory, kernels, algorithms");
  return {};
}

}  // namespace crible::cuda
