#include "ops/rope/rope_table_cuda.h"

#include <cuda_runtime_api.h>

#include <vector>

#include "device/cuda/cuda_status.h"

namespace crible::cuda {

Result<DeviceRopeTable> DeviceRopeTable::upload(const RopeTable& table, RopePairing pairing) {
  const size_t half = static_cast<size_t>(table.rotary_size / 2);
  std::vector<float2> pairs(half * static_cast<size_t>(table.max_positions));
  std::vector<float> cosine(half);
  std::vector<float> sine(half);
  for (size_t p = 0; p < static_cast<size_t>(table.max_positions); ++p) {
    table.row(static_cast<int64_t>(p), cosine.data(), sine.data());
    for (size_t i = 0; i < half; ++i) pairs[p * half + i] = {cosine[i], sine[i]};
  }
  const size_t bytes = pairs.size() * sizeof(float2);
  DeviceRopeTable result;
  CRIBLE_TRY(result.buffer_, DeviceBuffer::allocate(static_cast<int64_t>(bytes)));
  CRIBLE_CUDA_RETURN_IF_ERROR(cudaMemcpy(result.buffer_.data(), pairs.data(), bytes, cudaMemcpyHostToDevice));
  result.positions_ = static_cast<int>(table.max_positions);
  result.interleaved_ = pairing == RopePairing::kInterleaved;
  return result;
}

RopeView DeviceRopeTable::view() const {
  return {.table = buffer_.as<float2>(), .positions = positions_, .interleaved = interleaved_};
}

}  // namespace crible::cuda
