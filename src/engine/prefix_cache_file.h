// The prefix cache in a file, so that a server that starts again still has its prefixes. Keys and values
// only, under the names of their blocks: neither text nor token ids. Everything read is checked (magic,
// version, identity, size, a checksum of the head and of each block): what is not as it was written is
// left out, and the cache is as cold as if there had been no file.
//
// Layout, little-endian: 8 bytes magic, u32 version, u32 bytes of the identity, u64 blocks, u64 bytes of a
// block, u64 XXH3 of all of these and of the identity; the identity; then for each block, longest unused
// first: 16 bytes name, u64 XXH3 of name and content, content.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.h"
#include "engine/engine_service.h"
#include "engine/kv_allocator.h"
#include "engine/step_runner.h"

namespace crible {

// All that the bits of a block depend on beside its tokens. Readable: a refusal shows both.
std::string prefix_cache_identity(const BlockHash& weights, const StepRunner& runner, const EngineConfig& resolved,
                                  const MemoryPlan& plan);

struct PrefixCacheScope {
  std::filesystem::path path;
  std::string identity;
  int64_t block_bytes = 0;
};

// Whole or not at all, readable for the user alone. Refuses to replace a file that is no prefix cache.
Result<PrefixCacheSummary> save_prefix_cache(const PrefixCacheScope& scope, const KvAllocator& allocator,
                                             const StepRunner& runner);
// Into empty blocks; the most recently used if they are not all wanted. Damaged blocks are left out and
// counted. kNotFound if there is no file.
Result<PrefixCacheSummary> restore_prefix_cache(const PrefixCacheScope& scope, KvAllocator& allocator,
                                                StepRunner& runner);

}  // namespace crible
