// Where an architecture reads its weights and its configuration from, whatever the container: a GGUF
// file or a Hugging Face folder. Tensors go by GGUF's names ("blk.0.attn_q.weight"), each asked for
// with the shape that the architecture wants; at the end check_all_taken() names any that nobody took,
// because a tensor that is not used means a model that is not computed as made.
// What differs between containers is either evened out here (Gemma's norm weights are GGUF's 1 + w) or
// told (rope_pairing). Used by one thread, while a model is loaded.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "model/config_keys.h"
#include "model/kv_scales.h"
#include "model/quantised_linear.h"
#include "model/quantization_scheme.h"
#include "ops/matmul/matmul.h"
#include "ops/rope/rope.h"

namespace crible {

enum class LoadFormat {
  kAuto,   // as the path shows
  kDummy,  // made-up weights of the shape that config.json states
};

// A tensor as it lies in the files.
struct TensorSummary {
  std::string name;
  std::string type;  // "Q4_K", "BF16", "awq 4 bit"
  int64_t elements = 0;
  int64_t file_bytes = 0;
  int64_t memory_bytes = 0;  // once loaded, near enough for a plan
};

// A matrix as the files hold it.
using StoredMatrix = std::variant<MatrixSource, GroupQuantised, ScaledFp8>;

class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  const std::string& path() const { return path_; }
  const ConfigKeys& config() const { return config_; }
  // How the elements of a query or key head are paired for rotation.
  virtual RopePairing rope_pairing() const = 0;

  virtual bool has(std::string_view name) const = 0;
  // Rows of a matrix before it is taken: the vocabulary is the rows of token_embd.weight.
  virtual Result<int64_t> rows(const std::string& name) const = 0;
  // [rows, columns] in a type that matmul takes. The bytes stay valid until release().
  virtual Result<MatrixSource> matrix(const std::string& name, int64_t rows, int64_t columns) = 0;
  // The same matrix before any conversion, for those who keep quantised weights as they are: no long work, and
  // the bytes, aligned to nothing, stay valid as long as the checkpoint.
  virtual Result<StoredMatrix> stored(const std::string& name, int64_t rows, int64_t columns) {
    CRIBLE_TRY(MatrixSource source, matrix(name, rows, columns));
    return source;
  }
  // How the files say their weights are quantised.
  virtual QuantizationScheme quantization() const { return {}; }
  // [count, rows, columns]: one matrix per expert, of equal type ("blk.0.ffn_gate_exps.weight").
  virtual Result<std::vector<MatrixSource>> experts(const std::string& name, int64_t count, int64_t rows,
                                                    int64_t columns) = 0;
  // The same before any conversion, as stored().
  virtual Result<std::vector<StoredMatrix>> stored_experts(const std::string& name, int64_t count, int64_t rows,
                                                           int64_t columns) {
    CRIBLE_TRY(const std::vector<MatrixSource> sources, experts(name, count, rows, columns));
    return std::vector<StoredMatrix>(sources.begin(), sources.end());
  }
  // [elements] as float32.
  virtual Result<std::vector<float>> vector(const std::string& name, int64_t elements) = 0;

  // For keys and values of a layer in eight-bit floats; 1 where the files state none.
  virtual Result<KvScales> kv_scales(int64_t /*layer*/) { return KvScales{}; }

  // Frees what was converted for the matrices given so far: call it once a layer is packed, so that
  // loading needs the memory of one layer beside the packed weights.
  virtual void release() {}

  virtual Status check_all_taken() const = 0;
  // All tensors of the files; what belongs to one quantised matrix counts as one. None of made-up weights.
  virtual std::vector<TensorSummary> tensors() const = 0;
  int64_t parameters() const { return parameters_; }
  // Type of most elements taken as matrices, "Q4_1".
  std::string dominant_type() const;

 protected:
  Checkpoint(std::string path, ConfigKeys config) : path_(std::move(path)), config_(std::move(config)) {}
  void count_vector(int64_t elements) { parameters_ += elements; }
  void count_matrix(const std::string& type, int64_t elements) {
    parameters_ += elements;
    elements_by_type_[type] += elements;
  }

 private:
  std::string path_;
  ConfigKeys config_;
  std::map<std::string, int64_t> elements_by_type_;
  int64_t parameters_ = 0;
};

// Opens a GGUF file, or a folder with config.json and safetensors. The stream's threads convert
// quantised weights; it must outlive the checkpoint.
Result<std::unique_ptr<Checkpoint>> open_checkpoint(const std::filesystem::path& path, Stream& stream,
                                                    LoadFormat format = LoadFormat::kAuto);

}  // namespace crible
