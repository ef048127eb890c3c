// The rotary table on the GPU: (cosine, sine) pairs of every position and frequency, rounded from double.
// The rotation itself is done where q and k pass anyway: kv_write_cuda.cu and decode_attention_cuda.cu,
// through rope_rotate.cuh.
#pragma once

#include <vector_types.h>

#include <cstdint>
#include <vector>

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
  // inverse_frequencies: [head_size / 2], the whole head is rotated; attention_factor as in make_rope_table().
  static Result<DeviceRopeTable> create(const std::vector<double>& inverse_frequencies, int64_t positions,
                                        double attention_factor, RopePairing pairing);
  RopeView view() const;

 private:
  DeviceBuffer buffer_;
  int positions_ = 0;
  bool interleaved_ = false;
};

}  // namespace crible::cuda
