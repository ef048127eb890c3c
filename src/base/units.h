// Strong types and sizes. TokenId is a plain integer because kernels and JSON pass arrays of it.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <string>

namespace crible {

using TokenId = int32_t;

template <typename Tag, typename Int>
struct StrongId {
  Int value{};
  auto operator<=>(const StrongId&) const = default;
};

using BlockId = StrongId<struct BlockTag, int32_t>;  // index of a KV block in the pool
using SeqId = StrongId<struct SeqTag, int64_t>;      // unique for the life of an engine

inline constexpr int64_t kKiB = 1024;
inline constexpr int64_t kMiB = 1024 * kKiB;
inline constexpr int64_t kGiB = 1024 * kMiB;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t multiple) { return ceil_div(a, multiple) * multiple; }

// "1.50 GiB", "12.0 MiB", "640 B".
std::string format_bytes(int64_t bytes);

}  // namespace crible

template <typename Tag, typename Int>
struct std::hash<crible::StrongId<Tag, Int>> {
  size_t operator()(crible::StrongId<Tag, Int> id) const { return std::hash<Int>{}(id.value); }
};
