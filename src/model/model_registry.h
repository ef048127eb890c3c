// The architectures this build computes, one row each. Adding a model is one file and one row.
#pragma once

#include <span>
#include <string_view>

#include "model/checkpoint.h"
#include "model/decoder_traits.h"

namespace crible {

struct Architecture {
  std::string_view name;  // ConfigKeys::architecture()
  Result<DecoderDescription> (*describe)(const Checkpoint& checkpoint);
};

std::span<const Architecture> architectures();

// By the architecture that the checkpoint names; an error lists those known.
Result<DecoderDescription> describe(const Checkpoint& checkpoint);

}  // namespace crible
