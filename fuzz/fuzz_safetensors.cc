// A safetensors file of any bytes: refused, or its tensors lie inside it and cover it.
#include <cstdint>

#include "base/check.h"
#include "format/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
  const auto tensors = crible::parse_safetensors(bytes, "fuzz.safetensors");
  if (!tensors) {
    CHECK(!tensors.error().message.empty());
    return 0;
  }
  size_t total = 0;
  for (const auto& tensor : *tensors) {
    if (!tensor.data.empty()) {
      CHECK(tensor.data.data() >= bytes.data());
      CHECK(tensor.data.data() + tensor.data.size() <= bytes.data() + bytes.size());
    }
    int64_t elements = 1;
    for (const int64_t dimension : tensor.shape) elements *= dimension;
    CHECK(elements == tensor.elements());
    total += tensor.data.size();
  }
  CHECK(total <= size);
  return 0;
}
