// Moves the matrices of a checkpoint into device memory with several threads: each stages pieces in pinned
// memory of its own, two copies under way, and leaves to the GPU what it does better (quantising to FP8,
// ordering 4-bit weights). What a file holds in the target's own type is copied; other types are dequantised
// by the threads to BF16 first. Reads each byte of the files once.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"
#include "model/checkpoint.h"
#include "model/cuda/decoder_weights.h"

namespace crible::cuda {

// The rows [first_row, first_row + the source's rows) of the target.
struct MatrixUpload {
  std::string name;  // for messages
  StoredMatrix source;
  DeviceMatrix target;
  int64_t first_row = 0;
};

// The format that keeps a stored matrix as it is; BF16 where none does.
WeightFormat kept_format(const StoredMatrix& matrix);

// OK when a source can become its target. Reads no weights.
Status check_upload(const MatrixUpload& upload);

// threads: 0 for as many as the machine has use for. kCorrupt where a weight or scale is not a number.
Status upload_matrices(std::span<const MatrixUpload> uploads, int threads = 0);

}  // namespace crible::cuda
