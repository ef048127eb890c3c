// out[t] = table[token_ids[t]] on the GPU, BF16. Moves 4·tokens·columns bytes. A token id below -1 stands for
// drawn[-2 - id], which the step before left on the device. An id out of range, drawn or not, gives a row of
// zeros: a padded row of a captured step holds none of the vocabulary.
// Limits: columns a multiple of 8.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "device/cuda/cuda_stream.h"

namespace crible::cuda {

struct EmbedArgs {
  const __nv_bfloat16* table = nullptr;  // [vocabulary, columns]
  const int32_t* token_ids = nullptr;    // [tokens]
  const int32_t* drawn = nullptr;        // [rows of the step before]; null if no id refers to it
  __nv_bfloat16* out = nullptr;          // [tokens, columns]
  int64_t tokens = 0;
  int64_t columns = 0;
  int64_t vocabulary = 0;
};

void embed(const CudaStream& stream, const EmbedArgs& args);

}  // namespace crible::cuda
