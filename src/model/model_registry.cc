#include "model/model_registry.h"

#include <string>

#include "model/architectures.h"
#include "model/decoder.h"

namespace crible {

std::span<const Architecture> architectures() {
  static constexpr Architecture kTable[] = {
      {"gemma2", describe_gemma2},
      {"gemma3", describe_gemma3},
      {"llama", describe_llama},
      {"qwen2", describe_qwen2},
      {"qwen3", describe_qwen3},
      {"qwen3moe", describe_qwen3_moe},
  };
  return kTable;
}

Result<DecoderDescription> describe(const Checkpoint& checkpoint) {
  const std::string& name = checkpoint.config().architecture();
  std::string known;
  for (const Architecture& architecture : architectures()) {
    if (architecture.name == name) return architecture.describe(checkpoint);
    known += (known.empty() ? "" : ", ") + std::string(architecture.name);
  }
  return fail(ErrorCode::kUnsupported, "{}: the architecture '{}' is not supported; this build computes: {}",
              checkpoint.path(), name, known);
}

Result<std::unique_ptr<Model>> load_model(const std::filesystem::path& path, Stream& stream) {
  return load_model(path, stream, LoadFormat::kAuto);
}

Result<std::unique_ptr<Model>> load_model(const std::filesystem::path& path, Stream& stream, LoadFormat format) {
  CRIBLE_TRY(const std::unique_ptr<Checkpoint> checkpoint, open_checkpoint(path, stream, format));
  CRIBLE_TRY(DecoderDescription description, describe(*checkpoint));
  return load_decoder(*checkpoint, std::move(description), stream);
}

}  // namespace crible
