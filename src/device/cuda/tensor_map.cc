#include "device/cuda/tensor_map.h"

#include "base/check.h"
#include "device/cuda/cuda_status.h"

namespace crible::cuda {
namespace {

using EncodeTiled = decltype(&cuTensorMapEncodeTiled);

// The driver's library is not linked: the runtime knows where it is.
EncodeTiled find_encoder() {
  constexpr unsigned kSince = 12000;
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
  CRIBLE_CUDA_CHECK(
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, kSince, cudaEnableDefault, &result));
  CHECK(result == cudaDriverEntryPointSuccess && found != nullptr,
        "the driver cannot describe tensors: it is too old");
  return reinterpret_cast<EncodeTiled>(found);
}

int element_bytes(CUtensorMapDataType type) {
  switch (type) {
    case CU_TENSOR_MAP_DATA_TYPE_UINT8: return 1;
    case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16: return 2;
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32: return 4;
    default: break;
  }
  CHECK(false, "a matrix of type {}", static_cast<int>(type));
  return 0;
}

}  // namespace

CUtensorMap make_tensor_map(const void* matrix, const MatrixBox& box) {
  static const EncodeTiled encode = find_encoder();
  const int row_bytes = box.box_columns * element_bytes(box.type);
  CHECK(row_bytes % 16 == 0 && box.box_columns <= 256, "a box of {} bytes a row", row_bytes);
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(box.columns), static_cast<cuuint64_t>(box.rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(box.stride_bytes)};
  const cuuint32_t box_sizes[2] = {static_cast<cuuint32_t>(box.box_columns),
                                   static_cast<cuuint32_t>(box.box_rows)};
  const cuuint32_t steps[2] = {1, 1};
  CUtensorMap map;
  const CUresult error = encode(&map, box.type, 2, const_cast<void*>(matrix), sizes, strides, box_sizes,
                                steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                row_bytes == 128  ? CU_TENSOR_MAP_SWIZZLE_128B
                                : row_bytes == 64 ? CU_TENSOR_MAP_SWIZZLE_64B
                                                  : CU_TENSOR_MAP_SWIZZLE_NONE,
                                CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  CHECK(error == CUDA_SUCCESS, "a matrix [{}, {}] in rows of {} bytes cannot be copied by tensor: error {}",
        box.rows, box.columns, box.stride_bytes, static_cast<int>(error));
  return map;
}

}  // namespace crible::cuda
