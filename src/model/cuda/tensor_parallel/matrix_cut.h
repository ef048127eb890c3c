// A rectangle of a checkpoint's matrix as a matrix of its own, in the same type: whole rows of plain values are
// pointed at, everything else is copied to memory of this. Cuts between blocks, packed words and scales only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/checkpoint.h"
#include "model/cuda/tensor_parallel/shard_plan.h"

namespace crible::cuda {

struct CutMatrix {
  StoredMatrix matrix;  // points into storage and into the checkpoint
  std::vector<std::unique_ptr<std::byte[]>> storage;
  int64_t copied_bytes = 0;
};

// OK where cut_matrix() succeeds; reads no weights.
Status check_cut(const StoredMatrix& matrix, const Range& rows, const Range& columns, const std::string& name);
// kUnsupported with `name` where the edge of the rectangle would divide what belongs together.
Result<CutMatrix> cut_matrix(const StoredMatrix& matrix, const Range& rows, const Range& columns,
                             const std::string& name);

}  // namespace crible::cuda
