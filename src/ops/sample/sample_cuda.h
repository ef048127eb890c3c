// Chooses one token per row of logits on the GPU. Order: temperature, min-p, top-k, top-p, draw.
// temperature 0 is greedy: the lowest id among the largest logits. A row of which any logit is NaN or
// +infinity gives -1. The draw is the same Philox number of (seed, position) as on the CPU (sample.h) and
// walks the kept tokens in order of id, so tokens depend on a request's own seed and position alone.
//
// One block per row. Reads the row from L2 once for greedy, about 5 times for a plain draw, and about 10
// times more for each of top-k and top-p, whose bounds are found by an eight-way search over the float's
// ordered bits. Weights are summed as 40-bit fixed point, so no result depends on the order of additions.
#pragma once

#include <cstdint>

#include "device/cuda/cuda_stream.h"

namespace crible::cuda {

struct SampleRow {
  float temperature = 1.0f;  // 0 = greedy
  float top_p = 1.0f;        // (0, 1]; 1 = off
  float min_p = 0.0f;        // [0, 1]; 0 = off
  int32_t top_k = 0;         // 0 = off
  uint64_t seed = 0;
  int64_t position = 0;  // index of the token being drawn within its sequence
};

struct SampleArgs {
  const float* logits = nullptr;  // [rows, vocabulary]
  int64_t rows = 0;
  int64_t vocabulary = 0;
  const SampleRow* parameters = nullptr;  // [rows], on the device
  int32_t* tokens = nullptr;              // [rows], on the device
};

void sample(const CudaStream& stream, const SampleArgs& args);

}  // namespace crible::cuda
