// The weights of one linear layer of a quantised Hugging Face checkpoint, as they lie in the file, and
// their conversion into a type that the kernels have. Knows no tensor names.
//
// AWQ (Lin et al. 2023, layout of AutoAWQ's gemm): qweight [in, out/8], qzeros [groups, out/8], eight
// nibbles to a word in the order of outputs 0 2 4 6 1 3 5 7; scales [groups, out].
// GPTQ (Frantar et al. 2022, layout of AutoGPTQ): qweight [in·bits/32, out], inputs packed from the low
// bits up; qzeros [groups, out·bits/32], outputs packed likewise; scales [groups, out]; g_idx [in] names
// each input's group. Both: w[out, in] = (q - zero) · scale.
// FP8: e4m3 [out, in] and a scale per tensor, per output or per rectangle; w = value · scale.
//
// What becomes of them. Where 32 inputs share a scale and zero point, (q - zero)·scale is a ggml block:
// - four bits, all zero points 8: Q4_0, exact;
// - four bits, others: Q4_1 with minimum -zero·scale. Exact but for the minimum's rounding to half,
//   at most 2^-11·zero·scale: under 0.8% of a step, less than a product in half would lose;
// - eight bits, all zero points 128: Q8_0, exact.
// Else (groups mixed by act-order, other zero points of eight bits) half: error 2^-11 of each weight.
// FP8 becomes Q8_0, whose error of at most 1/254 of a block's largest weight adds some 4% to the variance
// of e4m3's own rounding (2.6% of a weight, root mean square), at half the bytes of BF16; where rows
// are no whole blocks, BF16 (error 2^-8 of each weight).
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"
#include "device/stream.h"
#include "ops/matmul/matmul.h"

namespace crible {

// A 16- or 32-bit float array of a file, aligned to nothing.
class FloatView {
 public:
  // dtype: F32, F16 or BF16.
  FloatView() = default;
  FloatView(DType dtype, const std::byte* data) : dtype_(dtype), data_(data) {}
  float operator[](int64_t index) const;
  DType dtype() const { return dtype_; }
  const std::byte* data() const { return data_; }

 private:
  DType dtype_ = DType::kF32;
  const std::byte* data_ = nullptr;
};

struct GroupQuantised {
  enum class Layout { kAwq, kGptq };
  Layout layout = Layout::kAwq;
  int64_t rows = 0;     // outputs
  int64_t columns = 0;  // inputs
  int64_t bits = 4;
  int64_t groups = 0;
  int64_t group_size = 0;        // inputs to a group where group_index is null
  const std::byte* qweight = nullptr;
  const std::byte* qzeros = nullptr;
  FloatView scales;              // [groups, rows]
  const std::byte* group_index = nullptr;  // int32 [columns], each in [0, groups); null: in order
  bool zeros_less_one = false;   // GPTQ's first format
};

// Whether every group is group_size neighbours, whatever group_index says.
bool groups_in_order(const GroupQuantised& layer);

struct ScaledFp8 {
  int64_t rows = 0;
  int64_t columns = 0;
  const std::byte* values = nullptr;  // e4m3 [rows, columns]
  FloatView scales;                   // [ceil(rows / block_rows), ceil(columns / block_columns)]
  int64_t block_rows = 1;
  int64_t block_columns = 1;
};

// One matrix of converted weights; data points into storage.
struct ConvertedMatrix {
  std::unique_ptr<std::byte[]> storage;
  MatrixSource source;
};

// kUnsupported when a weight is beyond half's range.
Result<ConvertedMatrix> convert(const GroupQuantised& layer, Stream& stream);
// kCorrupt when a weight is not a number.
Result<ConvertedMatrix> convert(const ScaledFp8& layer, Stream& stream);

// OCP 8-bit floating point, E4M3: no infinities, 0x7f and 0xff are NaN.
float e4m3_to_float(uint8_t bits);

}  // namespace crible
