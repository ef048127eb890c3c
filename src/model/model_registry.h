// The architectures this build computes, one row each. Adding a model is one file and one row.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "model/checkpoint.h"
#include "model/model.h"

namespace crible {

struct Architecture {
  std::string_view name;  // ConfigKeys::architecture()
  Result<std::unique_ptr<Model>> (*load)(Checkpoint& checkpoint, Stream& stream);
};

std::span<const Architecture> architectures();

}  // namespace crible
