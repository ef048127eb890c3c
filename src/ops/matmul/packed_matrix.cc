#include <cstring>

#include "base/check.h"
#include "base/units.h"
#include "device/cpu/thread_pool.h"
#include "ops/half.h"
#include "ops/matmul/matmul.h"
#include "ops/matmul/matmul_kernels.h"

namespace crible {
namespace {

bool is_weight_dtype(DType dtype) { return dtype != DType::kI32 && dtype <= DType::kQ4_1; }

uint16_t load_u16(const std::byte* p) {
  uint16_t value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

// Bytes of scales (and minima) before the values of one source block.
int64_t header_bytes(DType dtype) {
  switch (dtype) {
    case DType::kQ8_0:
    case DType::kQ4_0: return 2;
    case DType::kQ4_1: return 4;
    default: return 0;
  }
}

uint32_t nibble(const std::byte* values, int64_t k) {
  // ggml: byte i holds element i in its low and element i + 16 in its high nibble.
  const uint32_t byte = std::to_integer<uint32_t>(values[k % 16]);
  return k < 16 ? byte & 0xFu : byte >> 4;
}

// Place of element k0 + i of a row among the four bytes of its Q8_0 word.
constexpr int64_t kQ8ByteOf[4] = {0, 2, 1, 3};

// Writes one source block of row `lane` into its packed block.
void pack_block(DType dtype, const std::byte* source, std::byte* block, int64_t lane) {
  const int64_t header = header_bytes(dtype);
  for (int64_t h = 0; h < header; h += 2) {
    std::memcpy(block + h * kPackRows + lane * 2, source + h, 2);
  }
  std::byte* values = block + header * kPackRows;
  switch (dtype) {
    case DType::kF32: std::memcpy(values + lane * 4, source, 4); return;
    case DType::kF16:
    case DType::kBF16: std::memcpy(values + lane * 2, source, 2); return;
    case DType::kQ8_0:
      for (int64_t k = 0; k < kQuantBlock; ++k) {
        values[(k / 4 * kPackRows + lane) * 4 + kQ8ByteOf[k % 4]] = source[header + k];
      }
      return;
    case DType::kQ4_0:
    case DType::kQ4_1:
      for (int64_t word = 0; word < 4; ++word) {
        uint32_t packed = 0;
        for (int64_t i = 0; i < 8; ++i) {
          packed |= nibble(source + header, word * 8 + i) << (i / 2 * 4 + i % 2 * 16);
        }
        std::memcpy(values + (word * kPackRows + lane) * 4, &packed, sizeof packed);
      }
      return;
    default: break;
  }
  CHECK(false, "{} is not a weight type", dtype_name(dtype));
}

// The float32 values of one packed block of row `lane`.
void unpack_block(DType dtype, const std::byte* block, int64_t lane, float* out) {
  const std::byte* values = block + header_bytes(dtype) * kPackRows;
  const auto half_at = [&](int64_t index) { return half_to_float(load_u16(block + (index * kPackRows + lane) * 2)); };
  switch (dtype) {
    case DType::kF32: std::memcpy(out, values + lane * 4, 4); return;
    case DType::kF16: *out = half_to_float(load_u16(values + lane * 2)); return;
    case DType::kBF16: *out = bfloat16_to_float(load_u16(values + lane * 2)); return;
    case DType::kQ8_0: {
      const float scale = half_at(0);
      for (int64_t k = 0; k < kQuantBlock; ++k) {
        const std::byte value = values[(k / 4 * kPackRows + lane) * 4 + kQ8ByteOf[k % 4]];
        out[k] = scale * static_cast<float>(std::to_integer<int8_t>(value));
      }
      return;
    }
    case DType::kQ4_0:
    case DType::kQ4_1: {
      const float scale = half_at(0);
      const float minimum = dtype == DType::kQ4_1 ? half_at(1) : 0.0f;
      const int centre = dtype == DType::kQ4_0 ? 8 : 0;
      for (int64_t k = 0; k < kQuantBlock; ++k) {
        uint32_t word;
        std::memcpy(&word, values + (k / 8 * kPackRows + lane) * 4, sizeof word);
        const int q = static_cast<int>(word >> (k % 8 / 2 * 4 + k % 2 * 16) & 0xFu);
        out[k] = static_cast<float>(q - centre) * scale;
        if (dtype == DType::kQ4_1) out[k] += minimum;
      }
      return;
    }
    default: break;
  }
  CHECK(false, "{} is not a weight type", dtype_name(dtype));
}

}  // namespace

int64_t PackedMatrix::packed_bytes(DType dtype, int64_t rows, int64_t columns) {
  return round_up(rows, kPackRows) * dtype_row_bytes(dtype, columns);
}

Result<PackedMatrix> PackedMatrix::pack(std::span<const MatrixSource> sources, Stream& stream) {
  CHECK(!sources.empty(), "pack needs at least one source matrix");
  PackedMatrix matrix;
  matrix.dtype_ = sources[0].dtype;
  matrix.columns_ = sources[0].columns;
  for (const MatrixSource& source : sources) {
    if (source.dtype != matrix.dtype_ || source.columns != matrix.columns_) {
      return fail(ErrorCode::kInvalidArgument, "matrices stacked for one product differ: {} of width {} and {} of width {}",
                  dtype_name(matrix.dtype_), matrix.columns_, dtype_name(source.dtype), source.columns);
    }
    matrix.rows_ += source.rows;
  }
  const int64_t block = dtype_block_size(matrix.dtype_);
  if (!is_weight_dtype(matrix.dtype_) || matrix.columns_ <= 0 || matrix.columns_ % block != 0) {
    return fail(ErrorCode::kUnsupported, "a weight matrix of type {} and width {} cannot be used: the width must be a positive multiple of {}",
                dtype_name(matrix.dtype_), matrix.columns_, block);
  }
  CRIBLE_TRY(matrix.buffer_, Buffer::allocate(packed_bytes(matrix.dtype_, matrix.rows_, matrix.columns_)));

  const int64_t block_bytes = dtype_block_bytes(matrix.dtype_);
  const int64_t blocks = matrix.columns_ / block;
  const int64_t row_bytes = blocks * block_bytes;
  stream.pool().parallel_for(ceil_div(matrix.rows_, kPackRows), [&](int64_t group, int) {
    std::byte* out = matrix.buffer_.as<std::byte>() + group * kPackRows * row_bytes;
    std::memset(out, 0, static_cast<size_t>(kPackRows * row_bytes));
    for (int64_t lane = 0; lane < kPackRows; ++lane) {
      int64_t row = group * kPackRows + lane;
      if (row >= matrix.rows_) break;
      const MatrixSource* source = sources.data();
      while (row >= source->rows) row -= (source++)->rows;
      for (int64_t b = 0; b < blocks; ++b) {
        pack_block(matrix.dtype_, source->data + row * row_bytes + b * block_bytes,
                   out + b * block_bytes * kPackRows, lane);
      }
    }
  });
  return matrix;
}

void PackedMatrix::dequantize_row(int64_t row, float* out) const {
  CHECK(row >= 0 && row < rows_, "row {} of a matrix of {} rows", row, rows_);
  const int64_t block = dtype_block_size(dtype_);
  const int64_t block_bytes = dtype_block_bytes(dtype_) * kPackRows;
  const int64_t blocks = columns_ / block;
  const std::byte* group = data() + row / kPackRows * blocks * block_bytes;
  for (int64_t b = 0; b < blocks; ++b) {
    unpack_block(dtype_, group + b * block_bytes, row % kPackRows, out + b * block);
  }
}

}  // namespace crible
