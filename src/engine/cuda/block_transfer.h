// Content of KV blocks within a pool, and to and from the host. A block lies in every layer at the same distance
// from the layer's start.
#pragma once

#include <cstddef>
#include <span>

#include "device/cuda/cuda_stream.h"
#include "engine/kv_allocator.h"
#include "model/cuda/kv_pool.h"

namespace crible::cuda {

Status copy_blocks(const CudaStream& stream, const KvPool& pool, std::span<const BlockCopy> copies);
// Bytes of one block in all layers. Both wait for the GPU.
Status read_block(const CudaStream& stream, const KvPool& pool, BlockId block, std::span<std::byte> content);
Status write_block(const CudaStream& stream, const KvPool& pool, BlockId block, std::span<const std::byte> content);

}  // namespace crible::cuda
