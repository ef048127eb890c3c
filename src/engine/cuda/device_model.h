// A model on one or several GPUs, as the settings want it: opened, described, its weights loaded or made up.
#pragma once

#include <filesystem>
#include <span>

#include "config/engine_config.h"
#include "engine/engine_service.h"
#include "model/cuda/load_decoder.h"

namespace crible::cuda {

struct DeviceModel {
  DecoderShares shares;
  EngineModelInfo info;  // of the whole model
  int64_t kv_heads = 0;  // of the whole model
};

// Rank r of the model on devices[r].
Result<DeviceModel> load_device_model(const std::filesystem::path& path, const EngineConfig& requested,
                                      std::span<const int> devices);

// What is loaded with the first steps and with the graphs of all batch sizes: kernels, cuBLASLt's, the graphs
// themselves. Measured after serving: docs/benchmarks/gpu.md.
inline constexpr int64_t kGrowingRuntimeBytes = 640LL << 20;

}  // namespace crible::cuda
