#define XXH_INLINE_ALL
#include "engine/prefix_cache_file.h"

#include <xxhash.h>

#include <array>
#include <cstring>
#include <fstream>
#include <string_view>
#include <vector>

#include "base/atomic_file.h"

namespace crible {
namespace {

constexpr std::array<char, 8> kMagic = {'C', 'R', 'I', 'B', 'P', 'F', 'X', '\n'};
// Raised with this layout, with that of blocks (ops/attention/attention.h), and whenever an operation's
// result changes in any bit: an old block beside new ones would make tokens depend on the cache.
constexpr uint32_t kVersion = 1;
constexpr uint32_t kMaxIdentityBytes = 4096;

struct Head {
  std::array<char, 8> magic = kMagic;
  uint32_t version = kVersion;
  uint32_t identity_bytes = 0;
  uint64_t blocks = 0;
  uint64_t block_bytes = 0;
  uint64_t checksum = 0;
};
static_assert(sizeof(Head) == 40);

struct BlockHead {
  BlockHash name;
  uint64_t checksum = 0;
};
static_assert(sizeof(BlockHead) == 24);

uint64_t head_checksum(Head head, std::string_view identity) {
  head.checksum = XXH3_64bits(identity.data(), identity.size());
  return XXH3_64bits(&head, sizeof head);
}

uint64_t block_checksum(const BlockHash& name, std::span<const std::byte> content) {
  return XXH3_64bits_withSeed(content.data(), content.size(), XXH3_64bits(&name, sizeof name));
}

template <typename T>
std::string_view bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

template <typename T>
bool read_value(std::istream& in, T& value) {
  return static_cast<bool>(in.read(reinterpret_cast<char*>(&value), sizeof value));
}

// Anything but a prefix cache under this name is somebody's mistake, and worth more than ours.
Status check_replaceable(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::array<char, 8> magic{};
  if (!in || !in.read(magic.data(), magic.size()) || magic == kMagic) return {};
  return fail(ErrorCode::kInvalidArgument,
              "{} exists and is no prefix cache; it is left as it is: name another file with --prefix-cache-file",
              path.string());
}

Result<Head> read_head(std::istream& in, const PrefixCacheScope& scope, uint64_t file_bytes) {
  const std::string name = scope.path.string();
  Head head;
  if (!read_value(in, head) || head.magic != kMagic) return fail(ErrorCode::kCorrupt, "{} is no prefix cache", name);
  if (head.version != kVersion) {
    return fail(ErrorCode::kUnsupported, "{} has version {} of the format, this program reads {}", name, head.version,
                kVersion);
  }
  if (head.identity_bytes > kMaxIdentityBytes) return fail(ErrorCode::kCorrupt, "the head of {} is damaged", name);
  std::string identity(head.identity_bytes, '\0');
  if (!in.read(identity.data(), head.identity_bytes) || head_checksum(head, identity) != head.checksum) {
    return fail(ErrorCode::kCorrupt, "the head of {} is damaged", name);
  }
  if (identity != scope.identity || head.block_bytes != static_cast<uint64_t>(scope.block_bytes)) {
    return fail(ErrorCode::kInvalidArgument, "{} belongs to another model or configuration: it is of [{}], this is [{}]",
                name, identity, scope.identity);
  }
  const uint64_t block_share = (file_bytes - sizeof head - identity.size()) / (sizeof(BlockHead) + head.block_bytes);
  if (head.blocks != block_share ||
      file_bytes != sizeof head + identity.size() + head.blocks * (sizeof(BlockHead) + head.block_bytes)) {
    return fail(ErrorCode::kCorrupt, "{} was cut off: its head tells of {} blocks, {} are there", name, head.blocks,
                block_share);
  }
  return head;
}

}  // namespace

std::string prefix_cache_identity(const BlockHash& weights, const StepRunner& runner, const EngineConfig& resolved,
                                  const MemoryPlan& plan) {
  const KvShape kv = runner.kv_shape();
  return fmt::format("weights {:016x}{:016x}, {} layers, {} KV heads of {}, kv-cache-dtype {}, block-size {}, {} bytes a "
                     "block, {}",
                     weights.high, weights.low, kv.layers, kv.kv_heads, kv.head_size, resolved.kv_cache_dtype,
                     resolved.block_size, plan.kv_block_bytes, runner.arithmetic());
}

Result<PrefixCacheSummary> save_prefix_cache(const PrefixCacheScope& scope, const KvAllocator& allocator,
                                             const StepRunner& runner) {
  const TimePoint start = now();
  CRIBLE_RETURN_IF_ERROR(check_replaceable(scope.path));
  const std::vector<CachedBlock> cached = allocator.cached_blocks();
  CRIBLE_TRY(AtomicFile file, AtomicFile::create(scope.path, 0600));
  Head head{.identity_bytes = static_cast<uint32_t>(scope.identity.size()),
            .blocks = cached.size(),
            .block_bytes = static_cast<uint64_t>(scope.block_bytes)};
  head.checksum = head_checksum(head, scope.identity);
  CRIBLE_RETURN_IF_ERROR(file.append(bytes_of(head)));
  CRIBLE_RETURN_IF_ERROR(file.append(scope.identity));
  std::vector<std::byte> content(static_cast<size_t>(scope.block_bytes));
  for (const CachedBlock& block : cached) {
    CRIBLE_RETURN_IF_ERROR(runner.read_block(block.block, content));
    CRIBLE_RETURN_IF_ERROR(file.append(bytes_of(BlockHead{block.name, block_checksum(block.name, content)})));
    CRIBLE_RETURN_IF_ERROR(file.append({reinterpret_cast<const char*>(content.data()), content.size()}));
  }
  CRIBLE_RETURN_IF_ERROR(file.commit());
  return PrefixCacheSummary{.blocks = std::ssize(cached),
                            .bytes = std::ssize(cached) * scope.block_bytes,
                            .seconds = to_seconds(now() - start)};
}

Result<PrefixCacheSummary> restore_prefix_cache(const PrefixCacheScope& scope, KvAllocator& allocator,
                                                StepRunner& runner) {
  const TimePoint start = now();
  std::error_code code;
  const uintmax_t file_bytes = std::filesystem::file_size(scope.path, code);
  std::ifstream in(scope.path, std::ios::binary);
  if (code || !in) return fail(ErrorCode::kNotFound, "there is no prefix cache in {} yet", scope.path.string());
  CRIBLE_TRY(const Head head, read_head(in, scope, file_bytes));

  const auto wanted = static_cast<uint64_t>(allocator.pool().num_blocks());
  const uint64_t skipped = head.blocks > wanted ? head.blocks - wanted : 0;
  in.seekg(static_cast<std::streamoff>(skipped * (sizeof(BlockHead) + head.block_bytes)), std::ios::cur);
  PrefixCacheSummary summary;
  std::vector<std::byte> content(static_cast<size_t>(scope.block_bytes));
  for (uint64_t b = skipped; b < head.blocks; ++b) {
    BlockHead block;
    if (!read_value(in, block) || !in.read(reinterpret_cast<char*>(content.data()), scope.block_bytes)) {
      return fail(ErrorCode::kIo, "{} cannot be read to its end", scope.path.string());
    }
    if (block_checksum(block.name, content) != block.checksum) {
      summary.damaged_blocks += 1;
      continue;
    }
    if (const auto place = allocator.adopt(block.name)) {
      CRIBLE_RETURN_IF_ERROR(runner.write_block(*place, content));
      summary.blocks += 1;
    }
  }
  summary.bytes = summary.blocks * scope.block_bytes;
  summary.seconds = to_seconds(now() - start);
  return summary;
}

}  // namespace crible
