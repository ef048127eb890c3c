#include "engine/cuda/device_model.h"

#include "base/check.h"
#include "base/log.h"
#include "device/cuda/device_properties.h"
#include "device/stream.h"
#include "engine/memory_plan.h"
#include "model/checkpoint.h"
#include "model/model_registry.h"

namespace crible::cuda {
namespace {

std::optional<WeightFormat> requested_format(const EngineConfig& requested) {
  if (requested.quantization == "bf16") return WeightFormat(WeightType::kBf16);
  if (requested.quantization == "fp8") return WeightFormat(WeightType::kFp8);
  return std::nullopt;
}

Result<DecoderShares> load_weights(Checkpoint& checkpoint, const DecoderDescription& description,
                                   const EngineConfig& requested, std::span<const int> devices) {
  const std::optional<WeightFormat> format = requested_format(requested);
  const auto allow = [&](int64_t bytes) -> Status {
    CRIBLE_TRY(const DeviceProperties device, device_properties());
    return check_weights_fit(requested, bytes, device.total_bytes, device.free_bytes);
  };
  if (requested.load_format != "dummy") return load_decoder_shares(checkpoint, description, format, devices, allow);
  CRIBLE_TRY(const DecoderShape shape, decoder_shape(checkpoint, description));
  return dummy_decoder_shares(checkpoint, description,
                              format.value_or(configured_format(checkpoint.quantization(), shape)), devices,
                              allow);
}

std::string_view name_of(WeightType type) {
  switch (type) {
    case WeightType::kBf16: return "BF16";
    case WeightType::kFp8: return "FP8";
    case WeightType::kInt4: return "INT4";
  }
  CHECK(false, "weights of type {}", static_cast<int>(type));
}

}  // namespace

Result<DeviceModel> load_device_model(const std::filesystem::path& path, const EngineConfig& requested,
                                      std::span<const int> devices) {
  CRIBLE_TRY(Stream host, Stream::create_cpu(static_cast<int>(requested.threads)));
  const bool dummy = requested.load_format == "dummy";
  CRIBLE_TRY(const std::unique_ptr<Checkpoint> checkpoint,
             open_checkpoint(path, host, dummy ? LoadFormat::kDummy : LoadFormat::kAuto));
  CRIBLE_TRY(const DecoderDescription description, describe(*checkpoint));
  CRIBLE_TRY(const DecoderShape whole, decoder_shape(*checkpoint, description));
  CRIBLE_TRY(DecoderShares shares, load_weights(*checkpoint, description, requested, devices));
  int64_t weight_bytes = 0;
  for (const DecoderWeights& rank : shares.ranks) weight_bytes += rank.bytes();
  EngineModelInfo info = {.architecture = description.config.architecture,
                          .quantization = std::string(name_of(shares.ranks[0].type())),
                          .path = checkpoint->path(),
                          .parameters = checkpoint->parameters() > 0 ? checkpoint->parameters() : whole.parameters(),
                          .weight_bytes = weight_bytes,
                          .context_length = description.config.context_length,
                          .vocabulary = description.config.vocabulary,
                          .layers = description.config.layers};
  return DeviceModel{std::move(shares), std::move(info), whole.kv_heads};
}

}  // namespace crible::cuda
