// SHA-256 (FIPS 180-4) of a file: the name of a model that no rename can change.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/result.h"

namespace crible::study {

class Sha256 {
 public:
  void update(std::string_view data);
  std::string hex_digest();  // ends the computation

 private:
  void compress(const unsigned char* block);

  std::array<uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<unsigned char, 64> block_{};
  size_t filled_ = 0;
  uint64_t bytes_ = 0;
};

Result<std::string> sha256_of_file(const std::filesystem::path& path);

}  // namespace crible::study
