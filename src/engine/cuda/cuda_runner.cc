#include "engine/cuda/cuda_runner.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/units.h"
#include "device/cuda/device_properties.h"
#include "engine/cuda/device_workspace.h"

namespace crible::cuda {

Result<std::unique_ptr<StepRunner>> CudaRunner::load(const std::filesystem::path& path,
                                                     const EngineConfig& requested) {
  CRIBLE_TRY(const DeviceProperties device, device_properties());
  constexpr int kDevice[] = {0};
  CRIBLE_TRY(std::vector<Rank> ranks, open_ranks(kDevice));
  const TimePoint start = now();
  CRIBLE_TRY(DeviceModel model, load_device_model(path, requested, kDevice));
  log_info("{}: {} of {} weights in {:.2f} s", device.name, format_bytes(model.info.weight_bytes),
           model.info.quantization, to_seconds(now() - start));
  std::unique_ptr<CudaRunner> runner(new CudaRunner(std::move(ranks), std::move(model)));
  CRIBLE_RETURN_IF_ERROR(runner->measure_memory());
  return runner;
}

MemoryNeeds CudaRunner::workspace_needs(const DecoderWeights& weights, const EngineConfig& resolved) const {
  return DeviceWorkspace::needs(weights, resolved);
}

Result<std::unique_ptr<GpuWorkspace>> CudaRunner::make_workspace(const EngineConfig& resolved, const MemoryPlan& plan,
                                                                 MatmulChoices& choices) {
  const DecoderShares& shares = device_model().shares;
  return DeviceWorkspace::create(ranks()[0].stream, shares.ranks[0], shares.rope, resolved, plan, choices);
}

// The choice of algorithms is measured, so bits are those of one process.
std::string CudaRunner::arithmetic() const { return fmt::format("cuda sm_90a, {} weights", model().quantization); }

}  // namespace crible::cuda
