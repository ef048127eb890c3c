#include "model/checkpoint.h"

#include <algorithm>

#include "format/safetensors.h"
#include "model/dummy_checkpoint.h"
#include "model/gguf_checkpoint.h"
#include "model/hf_checkpoint.h"

namespace crible {

std::string Checkpoint::dominant_type() const {
  const auto most = std::max_element(elements_by_type_.begin(), elements_by_type_.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == elements_by_type_.end() ? "none" : most->first;
}

Result<std::unique_ptr<Checkpoint>> open_checkpoint(const std::filesystem::path& path, Stream& stream,
                                                    LoadFormat format) {
  if (format == LoadFormat::kDummy) return open_dummy_checkpoint(path, stream);
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    return fail(ErrorCode::kNotFound, "cannot open {}: there is no such file or folder", path.string());
  }
  if (!std::filesystem::is_directory(path, error)) return open_gguf_checkpoint(path);
  const bool config = std::filesystem::exists(path / "config.json", error), weights = Safetensors::present_in(path);
  if (config && weights) return open_hf_checkpoint(path, stream);
  std::string gguf;
  for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
    if (entry.path().extension() == ".gguf") gguf = entry.path().string();
  }
  if (!gguf.empty()) {
    return fail(ErrorCode::kInvalidArgument, "{} is a folder; name the GGUF file in it, such as {}", path.string(),
                gguf);
  }
  return fail(ErrorCode::kNotFound, "{} holds no {}; a model is a GGUF file, or a folder with config.json and "
              "model.safetensors (or model.safetensors.index.json and its shards)", path.string(),
              config ? "safetensors" : "config.json");
}

}  // namespace crible
