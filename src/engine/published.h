// One value written by one thread and read by any, without a lock on the writer's side: a sequence
// lock over relaxed atomic words (Boehm 2012). A reader repeats while a write is under way.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <type_traits>

namespace crible {

template <typename T>
class Published {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % sizeof(uint64_t) == 0);

 public:
  // The writer's thread only.
  void store(const T& value) {
    const auto words = std::bit_cast<Words>(value);
    const uint64_t version = version_.load(std::memory_order_relaxed);
    version_.store(version + 1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
    for (size_t i = 0; i < words.size(); ++i) words_[i].store(words[i], std::memory_order_relaxed);
    version_.store(version + 2, std::memory_order_release);
  }

  T load() const {
    while (true) {
      const uint64_t before = version_.load(std::memory_order_acquire);
      Words words;
      for (size_t i = 0; i < words.size(); ++i) words[i] = words_[i].load(std::memory_order_acquire);
      if (version_.load(std::memory_order_relaxed) == before && before % 2 == 0) return std::bit_cast<T>(words);
    }
  }

 private:
  using Words = std::array<uint64_t, sizeof(T) / sizeof(uint64_t)>;
  std::atomic<uint64_t> version_{0};  // odd while a write is under way
  std::array<std::atomic<uint64_t>, std::tuple_size_v<Words>> words_{};
};

}  // namespace crible
