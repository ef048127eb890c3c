#include "model/model_registry.h"

#include <string>

#include "model/llama.h"

namespace crible {

std::span<const Architecture> architectures() {
  static constexpr Architecture kTable[] = {
      {"llama", load_llama},
  };
  return kTable;
}

Result<std::unique_ptr<Model>> load_model(const std::filesystem::path& path, Stream& stream) {
  CRIBLE_TRY(const std::unique_ptr<Checkpoint> checkpoint, open_checkpoint(path, stream));
  const std::string& name = checkpoint->config().architecture();
  std::string known;
  for (const Architecture& architecture : architectures()) {
    if (architecture.name == name) return architecture.load(*checkpoint, stream);
    known += (known.empty() ? "" : ", ") + std::string(architecture.name);
  }
  return fail(ErrorCode::kUnsupported, "{}: the architecture '{}' is not supported; this build computes: {}",
              checkpoint->path(), name, known);
}

}  // namespace crible
