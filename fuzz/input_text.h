// A fuzz input as text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

inline std::string_view input_text(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}
