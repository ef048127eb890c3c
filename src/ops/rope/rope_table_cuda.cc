#include "ops/rope/rope_table_cuda.h"

#include <cuda_runtime_api.h>

#include <cmath>
#include <vector>

#include "device/cuda/cuda_status.h"

namespace crible::cuda {

Result<DeviceRopeTable> DeviceRopeTable::create(const std::vector<double>& inverse_frequencies, int64_t positions,
                                                double attention_factor, RopePairing pairing) {
  std::vector<float2> pairs;
  pairs.reserve(inverse_frequencies.size() * static_cast<size_t>(positions));
  for (int64_t p = 0; p < positions; ++p) {
    for (const double frequency : inverse_frequencies) {
      const double angle = static_cast<double>(p) * frequency;
      pairs.push_back({static_cast<float>(std::cos(angle) * attention_factor),
                       static_cast<float>(std::sin(angle) * attention_factor)});
    }
  }
  const size_t bytes = pairs.size() * sizeof(float2);
  DeviceRopeTable result;
  CRIBLE_TRY(result.buffer_, DeviceBuffer::allocate(static_cast<int64_t>(bytes)));
  CRIBLE_CUDA_RETURN_IF_ERROR(cudaMemcpy(result.buffer_.data(), pairs.data(), bytes, cudaMemcpyHostToDevice));
  result.positions_ = static_cast<int>(positions);
  result.interleaved_ = pairing == RopePairing::kInterleaved;
  return result;
}

RopeView DeviceRopeTable::view() const {
  return {.table = buffer_.as<float2>(), .positions = positions_, .interleaved = interleaved_};
}

}  // namespace crible::cuda
