// For tests: reads the golden files of tokenizers, and hashes numbers as the scripts that make them do.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace crible {

class GoldenReader {
 public:
  explicit GoldenReader(std::string_view bytes) : bytes_(bytes) {}
  std::string_view take(size_t size) {
    if (size > bytes_.size()) throw std::runtime_error("golden file is cut short");
    const std::string_view taken = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return taken;
  }
  uint32_t take_u32() {
    uint32_t value;
    std::memcpy(&value, take(4).data(), 4);
    return value;
  }
  uint8_t take_u8() { return static_cast<uint8_t>(take(1)[0]); }
  bool at_end() const { return bytes_.empty(); }

 private:
  std::string_view bytes_;
};

// FNV-1a (64 bit) over the numbers as 4 bytes each, its halves xored.
inline uint32_t hash_numbers(const std::vector<int32_t>& numbers) {
  uint64_t value = 0xCBF29CE484222325ull;
  for (const int32_t number : numbers) {
    for (int shift = 0; shift < 32; shift += 8) {
      value = (value ^ ((static_cast<uint32_t>(number) >> shift) & 0xFF)) * 0x100000001B3ull;
    }
  }
  return static_cast<uint32_t>(value >> 32) ^ static_cast<uint32_t>(value);
}

// CRC-32 (ISO 3309, as zlib has it) over the numbers as 4 bytes each.
inline uint32_t crc32_numbers(const std::vector<int32_t>& numbers) {
  uint32_t value = 0xFFFFFFFFu;
  for (const int32_t number : numbers) {
    for (int shift = 0; shift < 32; shift += 8) {
      value ^= (static_cast<uint32_t>(number) >> shift) & 0xFF;
      for (int bit = 0; bit < 8; ++bit) value = value & 1 ? value >> 1 ^ 0xEDB88320u : value >> 1;
    }
  }
  return ~value;
}

}  // namespace crible
