#include "model/hf_checkpoint.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>
#include <set>
#include <span>
#include <tuple>

#include "base/log.h"
#include "base/units.h"
#include "format/safetensors.h"
#include "model/hf_config.h"
#include "model/quantised_linear.h"

namespace crible {
namespace {

constexpr std::string_view kWeight = ".weight";

std::optional<DType> float_dtype(SafetensorsType type) {
  switch (type) {
    case SafetensorsType::kF32: return DType::kF32;
    case SafetensorsType::kF16: return DType::kF16;
    case SafetensorsType::kBF16: return DType::kBF16;
    default: return std::nullopt;
  }
}

// What may stay unused: buffers that the architecture computes itself, scales of activations, and of keys and values
// where the cache does not hold eight-bit floats.
bool is_expendable(std::string_view name) {
  constexpr auto kEndings = std::to_array<std::string_view>(
      {".rotary_emb.inv_freq", ".input_scale", ".output_scale", ".k_scale", ".v_scale", ".q_scale",
       ".kv_scale", ".prob_scale", ".prob_output_scale"});
  return std::any_of(kEndings.begin(), kEndings.end(), [&](std::string_view end) { return name.ends_with(end); });
}

class HfCheckpoint final : public Checkpoint {
 public:
  HfCheckpoint(std::string path, HfConfig config, Safetensors tensors, Stream& stream)
      : Checkpoint(std::move(path), config.keys), hf_(std::move(config)), tensors_(std::move(tensors)),
        stream_(stream) {}

  RopePairing rope_pairing() const override { return RopePairing::kHalves; }
  bool has(std::string_view name) const override;
  Result<int64_t> rows(const std::string& name) const override;
  Result<MatrixSource> matrix(const std::string& name, int64_t rows, int64_t columns) override;
  Result<std::vector<MatrixSource>> experts(const std::string& name, int64_t count, int64_t rows,
                                            int64_t columns) override;
  Result<StoredMatrix> stored(const std::string& name, int64_t rows, int64_t columns) override;
  Result<std::vector<StoredMatrix>> stored_experts(const std::string& name, int64_t count, int64_t rows,
                                                   int64_t columns) override;
  QuantizationScheme quantization() const override { return hf_.quantization; }
  Result<std::vector<float>> vector(const std::string& name, int64_t elements) override;
  Result<KvScales> kv_scales(int64_t layer) override;
  void release() override { converted_.clear(); }
  Status check_all_taken() const override;
  std::vector<TensorSummary> tensors() const override;
  // A head that is not tied must be there: an architecture would take the embedding in its place.
  Status check_head() const;

 private:
  // "blk.0.attn_q.weight" -> "model.layers.0.self_attn.q_proj", ".weight"
  struct Name {
    std::string stem;
    std::string ending;
  };
  std::optional<Name> translate(std::string_view name, int64_t expert = 0) const;
  Result<Name> known(const std::string& name, int64_t expert = 0) const;
  Result<const SafetensorsTensor*> take(const std::string& name, const std::vector<int64_t>& shape);
  Result<StoredMatrix> take_stored(const Name& name, int64_t rows, int64_t columns);
  Result<MatrixSource> take_matrix(const Name& name, int64_t rows, int64_t columns);
  MatrixSource aligned(MatrixSource source);
  Result<MatrixSource> plain(const std::string& name, DType dtype, int64_t rows, int64_t columns);
  Result<ScaledFp8> fp8(const std::string& stem, int64_t rows, int64_t columns);
  Result<GroupQuantised> grouped(const std::string& stem, int64_t rows, int64_t columns);
  Result<int64_t> count_groups(const std::string& stem, int64_t columns) const;
  Result<const std::byte*> take_group_index(const std::string& stem, int64_t columns, int64_t groups);
  Result<float> take_kv_scale(std::span<const std::string> names);
  Result<FloatView> take_floats(const std::string& name, const std::vector<int64_t>& shape);
  Result<MatrixSource> keep(Result<ConvertedMatrix> matrix, const std::string& stem);

  HfConfig hf_;
  Safetensors tensors_;
  Stream& stream_;
  std::set<std::string, std::less<>> taken_;
  std::vector<std::unique_ptr<std::byte[]>> converted_;  // since the last release()
};

std::optional<HfCheckpoint::Name> HfCheckpoint::translate(std::string_view name, int64_t expert) const {
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  auto stem = hf_tensor_stem(*hf_.family, name.substr(0, dot), expert);
  if (!stem || (*stem == "lm_head" && hf_.tied_embeddings)) return std::nullopt;
  return Name{std::move(*stem), std::string(name.substr(dot))};
}

Result<HfCheckpoint::Name> HfCheckpoint::known(const std::string& name, int64_t expert) const {
  auto found = translate(name, expert);
  if (!found) return fail(ErrorCode::kCorrupt, "{}: such folders hold nothing for the tensor {}", path(), name);
  return std::move(*found);
}

bool HfCheckpoint::has(std::string_view name) const {
  const auto found = translate(name);
  if (!found) return false;
  if (tensors_.find(found->stem + found->ending) != nullptr) return true;
  return found->ending == kWeight && tensors_.find(found->stem + ".qweight") != nullptr;
}

Result<int64_t> HfCheckpoint::rows(const std::string& name) const {
  CRIBLE_TRY(const Name hf, known(name));
  const SafetensorsTensor* tensor = tensors_.find(hf.stem + hf.ending);
  if (tensor == nullptr) return fail(ErrorCode::kCorrupt, "{}: the tensor {} is missing", path(), hf.stem + hf.ending);
  if (tensor->shape.empty()) {
    return fail(ErrorCode::kCorrupt, "{}: the tensor {} is a single number", path(), tensor->name);
  }
  return tensor->shape[0];
}

Result<const SafetensorsTensor*> HfCheckpoint::take(const std::string& name, const std::vector<int64_t>& shape) {
  const SafetensorsTensor* tensor = tensors_.find(name);
  if (tensor == nullptr) return fail(ErrorCode::kCorrupt, "{}: the tensor {} is missing", path(), name);
  if (tensor->shape != shape) {
    return fail(ErrorCode::kCorrupt, "{}: the tensor {} has shape {} but config.json asks for {}", path(), name,
                tensor->shape, shape);
  }
  taken_.insert(name);
  return tensor;
}

Result<MatrixSource> HfCheckpoint::matrix(const std::string& name, int64_t rows, int64_t columns) {
  CRIBLE_TRY(const Name hf, known(name));
  return take_matrix(hf, rows, columns);
}

Result<std::vector<MatrixSource>> HfCheckpoint::experts(const std::string& name, int64_t count, int64_t rows,
                                                        int64_t columns) {
  std::vector<MatrixSource> experts;
  for (int64_t expert = 0; expert < count; ++expert) {
    CRIBLE_TRY(const Name hf, known(name, expert));
    CRIBLE_TRY(const MatrixSource source, take_matrix(hf, rows, columns));
    experts.push_back(source);
  }
  return experts;
}

Result<StoredMatrix> HfCheckpoint::stored(const std::string& name, int64_t rows, int64_t columns) {
  CRIBLE_TRY(std::vector<StoredMatrix> one, stored_experts(name, 1, rows, columns));
  return std::move(one[0]);
}

Result<std::vector<StoredMatrix>> HfCheckpoint::stored_experts(const std::string& name, int64_t count,
                                                               int64_t rows, int64_t columns) {
  std::vector<StoredMatrix> matrices;
  for (int64_t i = 0; i < count; ++i) {
    CRIBLE_TRY(const Name hf, known(name, i));
    CRIBLE_TRY(StoredMatrix matrix, take_stored(hf, rows, columns));
    if (!std::holds_alternative<MatrixSource>(matrix)) count_matrix(hf_.quantization.name, rows * columns);
    matrices.push_back(std::move(matrix));
  }
  return matrices;
}

Result<StoredMatrix> HfCheckpoint::take_stored(const Name& name, int64_t rows, int64_t columns) {
  const std::string full = name.stem + name.ending;
  const SafetensorsTensor* tensor = tensors_.find(full);
  if (tensor == nullptr && tensors_.find(name.stem + ".qweight") != nullptr) {
    CRIBLE_TRY(const GroupQuantised layer, grouped(name.stem, rows, columns));
    return layer;
  }
  if (tensor == nullptr) return fail(ErrorCode::kCorrupt, "{}: the tensor {} is missing", path(), full);
  if (tensor->type == SafetensorsType::kF8E4M3) {
    CRIBLE_TRY(const ScaledFp8 layer, fp8(name.stem, rows, columns));
    return layer;
  }
  const auto dtype = float_dtype(tensor->type);
  if (!dtype) {
    return fail(ErrorCode::kUnsupported, "{}: the tensor {} has type {}; F32, F16, BF16 and F8_E4M3 are supported",
                path(), full, safetensors_type_name(tensor->type));
  }
  CRIBLE_TRY(const MatrixSource source, plain(full, *dtype, rows, columns));
  return source;
}

Result<MatrixSource> HfCheckpoint::take_matrix(const Name& name, int64_t rows, int64_t columns) {
  CRIBLE_TRY(const StoredMatrix matrix, take_stored(name, rows, columns));
  if (const auto* source = std::get_if<MatrixSource>(&matrix)) return aligned(*source);
  if (const auto* layer = std::get_if<GroupQuantised>(&matrix)) return keep(convert(*layer, stream_), name.stem);
  return keep(convert(std::get<ScaledFp8>(matrix), stream_), name.stem);
}

// The format aligns nothing; those who read the matrix may.
MatrixSource HfCheckpoint::aligned(MatrixSource source) {
  if (reinterpret_cast<uintptr_t>(source.data) % static_cast<size_t>(dtype_block_bytes(source.dtype)) == 0) {
    return source;
  }
  const auto bytes = static_cast<size_t>(source.rows * dtype_row_bytes(source.dtype, source.columns));
  converted_.push_back(std::make_unique_for_overwrite<std::byte[]>(bytes));
  std::memcpy(converted_.back().get(), source.data, bytes);
  source.data = converted_.back().get();
  return source;
}

Result<MatrixSource> HfCheckpoint::plain(const std::string& name, DType dtype, int64_t rows, int64_t columns) {
  CRIBLE_TRY(const SafetensorsTensor* tensor, take(name, {rows, columns}));
  count_matrix(safetensors_type_name(tensor->type), rows * columns);
  return MatrixSource{.dtype = dtype, .rows = rows, .columns = columns, .data = tensor->data.data()};
}

Result<FloatView> HfCheckpoint::take_floats(const std::string& name, const std::vector<int64_t>& shape) {
  CRIBLE_TRY(const SafetensorsTensor* tensor, take(name, shape));
  const auto dtype = float_dtype(tensor->type);
  if (!dtype) {
    return fail(ErrorCode::kUnsupported, "{}: the tensor {} has type {}; F32, F16 or BF16 is needed", path(), name,
                safetensors_type_name(tensor->type));
  }
  return FloatView(*dtype, tensor->data.data());
}

Result<MatrixSource> HfCheckpoint::keep(Result<ConvertedMatrix> matrix, const std::string& stem) {
  if (!matrix) {
    return tl::unexpected<Error>(with_context(matrix.error(), fmt::format("{}: {}", path(), stem)));
  }
  count_matrix(hf_.quantization.name, matrix->source.rows * matrix->source.columns);
  converted_.push_back(std::move(matrix->storage));
  return matrix->source;
}

Result<ScaledFp8> HfCheckpoint::fp8(const std::string& stem, int64_t rows, int64_t columns) {
  if (hf_.quantization.method != QuantizationMethod::kFp8) {
    return fail(ErrorCode::kCorrupt, "{}: {}.weight is FP8 but config.json does not say so", path(), stem);
  }
  CRIBLE_TRY(const SafetensorsTensor* weight, take(stem + std::string(kWeight), {rows, columns}));
  ScaledFp8 layer{.rows = rows, .columns = columns, .values = weight->data.data()};
  std::string name = stem + ".weight_scale_inv";
  if (tensors_.find(name) == nullptr) name = stem + ".weight_scale";
  const SafetensorsTensor* scale = tensors_.find(name);
  if (scale == nullptr) return fail(ErrorCode::kCorrupt, "{}: the tensor {} is missing", path(), name);
  std::vector<int64_t> shape = scale->shape;
  if (scale->elements() == 1) {
    layer.block_rows = rows;
    layer.block_columns = columns;
  } else if (hf_.quantization.block_rows > 0) {
    layer.block_rows = hf_.quantization.block_rows;
    layer.block_columns = hf_.quantization.block_columns;
    shape = {ceil_div(rows, layer.block_rows), ceil_div(columns, layer.block_columns)};
  } else {
    layer.block_columns = columns;
    shape = scale->shape.size() == 1 ? std::vector<int64_t>{rows} : std::vector<int64_t>{rows, 1};
  }
  CRIBLE_TRY(layer.scales, take_floats(name, shape));
  return layer;
}

Result<int64_t> HfCheckpoint::count_groups(const std::string& stem, int64_t columns) const {
  const int64_t size = hf_.quantization.group_size == -1 ? columns : hf_.quantization.group_size;
  if (columns % size != 0) {
    return fail(ErrorCode::kUnsupported, "{}: {} has {} inputs, no whole groups of {}", path(), stem, columns, size);
  }
  return columns / size;
}

// Null where the groups follow each other.
Result<const std::byte*> HfCheckpoint::take_group_index(const std::string& stem, int64_t columns, int64_t groups) {
  const std::string name = stem + ".g_idx";
  if (tensors_.find(name) == nullptr) return nullptr;
  CRIBLE_TRY(const SafetensorsTensor* tensor, take(name, {columns}));
  if (tensor->type != SafetensorsType::kI32) {
    return fail(ErrorCode::kCorrupt, "{}: the tensor {} has type {}; I32 is needed", path(), name,
                safetensors_type_name(tensor->type));
  }
  for (int64_t c = 0; c < columns; ++c) {
    int32_t group;
    std::memcpy(&group, tensor->data.data() + c * 4, sizeof group);
    if (group < 0 || group >= groups) {
      return fail(ErrorCode::kCorrupt, "{}: {} puts input {} into group {} of {}", path(), name, c, group, groups);
    }
  }
  return tensor->data.data();
}

Result<GroupQuantised> HfCheckpoint::grouped(const std::string& stem, int64_t rows, int64_t columns) {
  const QuantizationScheme& scheme = hf_.quantization;
  const bool awq = scheme.method == QuantizationMethod::kAwq;
  if (!awq && scheme.method != QuantizationMethod::kGptq) {
    return fail(ErrorCode::kCorrupt, "{}: {}.qweight is packed but config.json names neither awq nor gptq", path(),
                stem);
  }
  const int64_t per_word = 32 / scheme.bits;
  if (rows % per_word != 0 || columns % per_word != 0) {
    return fail(ErrorCode::kUnsupported, "{}: {} of {} outputs and {} inputs does not fill words of {}", path(), stem,
                rows, columns, per_word);
  }
  CRIBLE_TRY(const int64_t groups, count_groups(stem, columns));
  const auto words = [&](const char* ending, std::vector<int64_t> shape) -> Result<const std::byte*> {
    CRIBLE_TRY(const SafetensorsTensor* tensor, take(stem + ending, shape));
    if (tensor->type == SafetensorsType::kI32 || tensor->type == SafetensorsType::kU32) return tensor->data.data();
    return fail(ErrorCode::kCorrupt, "{}: the tensor {} has type {}; I32 is needed", path(), tensor->name,
                safetensors_type_name(tensor->type));
  };
  GroupQuantised layer{.layout = awq ? GroupQuantised::Layout::kAwq : GroupQuantised::Layout::kGptq,
                       .rows = rows, .columns = columns, .bits = scheme.bits, .groups = groups,
                       .group_size = columns / groups, .zeros_less_one = scheme.zeros_less_one};
  CRIBLE_TRY(layer.qweight, awq ? words(".qweight", {columns, rows / per_word})
                                : words(".qweight", {columns / per_word, rows}));
  CRIBLE_TRY(layer.qzeros, words(".qzeros", {groups, rows / per_word}));
  CRIBLE_TRY(layer.scales, take_floats(stem + ".scales", {groups, rows}));
  if (!awq) {
    CRIBLE_TRY(layer.group_index, take_group_index(stem, columns, groups));
  }
  return layer;
}

Result<std::vector<float>> HfCheckpoint::vector(const std::string& name, int64_t elements) {
  CRIBLE_TRY(const Name hf, known(name));
  CRIBLE_TRY(const FloatView view, take_floats(hf.stem + hf.ending, {elements}));
  count_vector(elements);
  // Gemma's norms multiply by 1 + w and such folders hold w.
  const bool one_more = hf_.family->four_norms && hf.ending == kWeight && hf.stem.ends_with("norm");
  std::vector<float> values(static_cast<size_t>(elements));
  for (int64_t i = 0; i < elements; ++i) values[static_cast<size_t>(i)] = view[i] + (one_more ? 1.0f : 0.0f);
  return values;
}

// The first of the names that is there; a value that is not above 0 means that nothing was measured, as vLLM has it.
Result<float> HfCheckpoint::take_kv_scale(std::span<const std::string> names) {
  for (const std::string& name : names) {
    const SafetensorsTensor* tensor = tensors_.find(name);
    if (tensor == nullptr) continue;
    if (tensor->elements() != 1) {
      log_warning("{}: {} has {} elements; keys and values are scaled by one number a layer here, so it is not used",
                  path(), name, tensor->elements());
      return 1.0f;
    }
    CRIBLE_TRY(const FloatView view, take_floats(name, tensor->shape));
    if (!std::isfinite(view[0])) return fail(ErrorCode::kCorrupt, "{}: {} is not finite", path(), name);
    return view[0] > 0 ? view[0] : 1.0f;
  }
  return 1.0f;
}

// Each way in which quantisers name them: with the projection (AutoFP8, ModelOpt), with the attention (vLLM,
// compressed-tensors), as the projection's output, one for both.
Result<KvScales> HfCheckpoint::kv_scales(int64_t layer) {
  KvScales scales;
  for (const auto& [part, letter, scale] :
       {std::tuple{"attn_k", 'k', &scales.k}, std::tuple{"attn_v", 'v', &scales.v}}) {
    CRIBLE_TRY(const Name projection, known(fmt::format("blk.{}.{}{}", layer, part, kWeight)));
    const std::string attention = projection.stem.substr(0, projection.stem.rfind('.'));
    const auto names = std::to_array<std::string>({fmt::format("{}.{}_scale", projection.stem, letter),
                                                   fmt::format("{}.attn.{}_scale", attention, letter),
                                                   fmt::format("{}.{}_scale", attention, letter),
                                                   fmt::format("{}.qkv_proj.{}_scale", attention, letter),
                                                   fmt::format("{}.output_scale", projection.stem),
                                                   fmt::format("{}.kv_scale", attention)});
    CRIBLE_TRY(*scale, take_kv_scale(names));
  }
  return scales;
}

Status HfCheckpoint::check_head() const {
  if (hf_.tied_embeddings || has("output.weight")) return {};
  return fail(ErrorCode::kCorrupt, "{}: the tensor lm_head.weight is missing and config.json does not tie it to the "
              "embedding (tie_word_embeddings)", path());
}

Status HfCheckpoint::check_all_taken() const {
  for (const auto& [name, tensor] : tensors_.tensors()) {
    if (taken_.contains(name) || is_expendable(name)) continue;
    if (name == "lm_head.weight" && hf_.tied_embeddings) continue;  // a copy that tying overrules
    // GPTQ's writer gives every layer a bias; nought changes nothing.
    if (name.ends_with(".bias") && std::all_of(tensor.data.begin(), tensor.data.end(),
                                               [](std::byte b) { return b == std::byte{0}; })) {
      continue;
    }
    return fail(ErrorCode::kUnsupported,
                "{}: the tensor {} has no place in this architecture, so the model cannot be computed as it was made",
                path(), name);
  }
  return {};
}

std::vector<TensorSummary> HfCheckpoint::tensors() const {
  std::map<std::string, TensorSummary> summaries;
  constexpr auto kParts = std::to_array<std::string_view>(
      {".qweight", ".qzeros", ".scales", ".g_idx", ".weight_scale", ".weight_scale_inv"});
  for (const auto& [name, tensor] : tensors_.tensors()) {
    if (is_expendable(name)) continue;
    const auto part = std::find_if(kParts.begin(), kParts.end(), [&](std::string_view p) { return name.ends_with(p); });
    const bool eight_bit = tensor.type == SafetensorsType::kF8E4M3;
    const std::string whole =
        part == kParts.end() ? name : name.substr(0, name.size() - part->size()) + std::string(kWeight);
    TensorSummary& summary = summaries[whole];
    summary.name = whole;
    summary.file_bytes += static_cast<int64_t>(tensor.data.size());
    if (part == kParts.end() || *part == ".qweight") {
      summary.type = part == kParts.end() && !eight_bit ? safetensors_type_name(tensor.type) : hf_.quantization.name;
      summary.elements = tensor.elements();
      if (part != kParts.end() && hf_.quantization.bits > 0) summary.elements *= 32 / hf_.quantization.bits;
    }
  }
  std::vector<TensorSummary> list;
  for (auto& [name, summary] : summaries) {
    const DType dtype = hf_.quantization.memory_type;
    summary.memory_bytes = summary.type == hf_.quantization.name ? dtype_row_bytes(dtype, summary.elements)
                                                                 : summary.file_bytes;
    list.push_back(std::move(summary));
  }
  return list;
}

}  // namespace

Result<std::unique_ptr<Checkpoint>> open_hf_checkpoint(const std::filesystem::path& folder, Stream& stream) {
  CRIBLE_TRY(HfConfig config, read_hf_config(folder));
  CRIBLE_TRY(Safetensors tensors, Safetensors::open_folder(folder));
  auto checkpoint =
      std::make_unique<HfCheckpoint>(folder.string(), std::move(config), std::move(tensors), stream);
  CRIBLE_RETURN_IF_ERROR(checkpoint->check_head());
  return checkpoint;
}

}  // namespace crible
