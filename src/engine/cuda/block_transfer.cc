#include "engine/cuda/block_transfer.h"

#include <cuda_runtime_api.h>

#include "base/check.h"
#include "device/cuda/cuda_status.h"

namespace crible::cuda {

Status copy_blocks(const CudaStream& stream, const KvPool& pool, std::span<const BlockCopy> copies) {
  const BlockLayout layout = pool.block_layout();
  for (const BlockCopy& copy : copies) {
    CRIBLE_CUDA_RETURN_IF_ERROR(cudaMemcpy2DAsync(
        pool.block(copy.to.value), static_cast<size_t>(layout.layer_stride), pool.block(copy.from.value),
        static_cast<size_t>(layout.layer_stride), static_cast<size_t>(layout.block_bytes),
        static_cast<size_t>(layout.layers), cudaMemcpyDeviceToDevice, stream.get()));
  }
  return {};
}

Status read_block(const CudaStream& stream, const KvPool& pool, BlockId block, std::span<std::byte> content) {
  const BlockLayout layout = pool.block_layout();
  CHECK(std::ssize(content) == layout.block_bytes * layout.layers, "a block has {} bytes", content.size());
  CRIBLE_CUDA_RETURN_IF_ERROR(cudaMemcpy2DAsync(
      content.data(), static_cast<size_t>(layout.block_bytes), pool.block(block.value),
      static_cast<size_t>(layout.layer_stride), static_cast<size_t>(layout.block_bytes),
      static_cast<size_t>(layout.layers), cudaMemcpyDeviceToHost, stream.get()));
  return stream.synchronize();
}

Status write_block(const CudaStream& stream, const KvPool& pool, BlockId block, std::span<const std::byte> content) {
  const BlockLayout layout = pool.block_layout();
  CHECK(std::ssize(content) == layout.block_bytes * layout.layers, "a block has {} bytes", content.size());
  CRIBLE_CUDA_RETURN_IF_ERROR(cudaMemcpy2DAsync(
      pool.block(block.value), static_cast<size_t>(layout.layer_stride), content.data(),
      static_cast<size_t>(layout.block_bytes), static_cast<size_t>(layout.block_bytes),
      static_cast<size_t>(layout.layers), cudaMemcpyHostToDevice, stream.get()));
  return stream.synchronize();
}

}  // namespace crible::cuda
