// The rotary table on the GPU: (cosine, sine) pairs of every position and frequency, rounded from double.
// The rotation itself is done where q and k pass anyway: kv_write_cuda.cu and decode_attention_cuda.cu,
// through rope_rotate.cuh.
#pragma once

#include <vector_types.h>

#include <cstdint>

#include "base/result.h"
#include "device/cuda/device_buffer.h"
#include "ops/rope/rope.h"

namespace crible::cuda {

struct RopeView {
  const float2* table = nullptr;  // [positions, head_size / 2]
  int positions = 0;
  bool interleaved = false;  // pairs (0,1), (2,3), ...; otherwise (0, d/2), (1, d/2 + 1), ...
};

class DeviceRopeTable {
 public:
  DeviceRopeTable() = default;
  // The whole head is rotated: table.rotary_size is the head size.
  static Result<DeviceRopeTable> upload(const RopeTable& table, RopePairing pairing);
  RopeView view() const;

 private:
  DeviceBuffer buffer_;
  int positions_ = 0;
  bool interleaved_ = false;
};

}  // namespace crible::cuda
