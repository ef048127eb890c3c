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
  CRIBLE_TRY(const GgufFile file, GgufFile::open(path));
  CRIBLE_TRY(const std::string_view name, file.get_string("general.architecture"));
  std::string known;
  for (const Architecture& architecture : architectures()) {
    if (architecture.name == name) return architecture.load(file, stream);
    known += (known.empty() ? "" : ", ") + std::string(architecture.name);
  }
  return fail(ErrorCode::kUnsupported, "{}: the architecture '{}' is not supported; this build computes: {}",
              file.path(), name, known);
}

}  // namespace crible
