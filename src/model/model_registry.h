// The architectures this build computes, one row each. Adding a model is one file and one row.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "format/gguf.h"
#include "model/model.h"

namespace crible {

struct Architecture {
  std::string_view name;  // general.architecture
  Result<std::unique_ptr<Model>> (*load)(const GgufFile& file, Stream& stream);
};

std::span<const Architecture> architectures();

}  // namespace crible
