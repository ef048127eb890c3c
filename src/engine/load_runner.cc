#include "engine/cpu_runner.h"
#include "engine/step_runner.h"
#ifdef CRIBLE_CUDA
#include "device/cuda/cuda_status.h"
#include "engine/cuda/cuda_runner.h"
#include "engine/cuda/parallel_runner.h"
#endif

namespace crible {

#ifdef CRIBLE_CUDA
Result<std::unique_ptr<StepRunner>> load_runner(const std::filesystem::path& model, const EngineConfig& requested) {
  const bool wants_cuda =
      requested.device == "cuda" || (requested.device == "auto" && cuda::device_available().has_value());
  if (!wants_cuda) return CpuRunner::load(model, requested);
  return requested.tensor_parallel_size > 1 ? cuda::ParallelRunner::load(model, requested)
                                            : cuda::CudaRunner::load(model, requested);
}
#else
Result<std::unique_ptr<StepRunner>> load_runner(const std::filesystem::path& model, const EngineConfig& requested) {
  if (requested.device == "cuda") {
    return fail(ErrorCode::kUnsupported, "device is cuda but this program was built without CUDA; build the preset "
                                         "cuda, or ask for --device cpu");
  }
  return CpuRunner::load(model, requested);
}
#endif

}  // namespace crible
