#include "model/checkpoint.h"

#include <algorithm>

#include "model/gguf_checkpoint.h"

namespace crible {

std::string Checkpoint::dominant_type() const {
  const auto most = std::max_element(elements_by_type_.begin(), elements_by_type_.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == elements_by_type_.end() ? "none" : most->first;
}

Result<std::unique_ptr<Checkpoint>> open_checkpoint(const std::filesystem::path& path, Stream&) {
  return open_gguf_checkpoint(path);
}

}  // namespace crible
