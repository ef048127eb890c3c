#include <algorithm>
#include <vector>

#include "base/check.h"
#include "base/units.h"
#include "device/cpu/thread_pool.h"
#include "ops/matmul/block_packing.h"
#include "ops/matmul/matmul.h"

namespace crible {
namespace {

Status check_sources(std::span<const MatrixSource> sources) {
  const DType dtype = sources[0].dtype;
  const int64_t columns = sources[0].columns;
  for (const MatrixSource& source : sources) {
    if (source.dtype != dtype || source.columns != columns) {
      return fail(ErrorCode::kInvalidArgument, "matrices stacked for one product differ: {} of width {} and {} of width {}",
                  dtype_name(dtype), columns, dtype_name(source.dtype), source.columns);
    }
  }
  const int64_t block = dtype_block_size(dtype);
  if (dtype == DType::kI8 || dtype == DType::kI32 || columns <= 0 || columns % block != 0) {
    return fail(ErrorCode::kUnsupported,
                "a weight matrix of type {} and width {} cannot be used: the width must be a positive multiple of {}; "
                "convert the model to a type with smaller blocks",
                dtype_name(dtype), columns, block);
  }
  return {};
}

}  // namespace

int64_t PackedMatrix::packed_bytes(DType dtype, int64_t rows, int64_t columns) {
  return round_up(rows, kPackRows) * packed_row_bytes(dtype, columns);
}

Result<PackedMatrix> PackedMatrix::pack(std::span<const MatrixSource> sources, Stream& stream) {
  CHECK(!sources.empty(), "pack needs at least one source matrix");
  CRIBLE_RETURN_IF_ERROR(check_sources(sources));
  PackedMatrix matrix;
  matrix.dtype_ = sources[0].dtype;
  matrix.columns_ = sources[0].columns;
  std::vector<int64_t> ends;  // row after each source's last
  for (const MatrixSource& source : sources) ends.push_back(matrix.rows_ += source.rows);
  CRIBLE_TRY(matrix.buffer_, Buffer::allocate(packed_bytes(matrix.dtype_, matrix.rows_, matrix.columns_), &stream.pool()));

  const int64_t group_bytes = kPackRows * packed_row_bytes(matrix.dtype_, matrix.columns_);
  const int64_t row_bytes = dtype_row_bytes(matrix.dtype_, matrix.columns_);
  const std::vector<std::byte> zeros(matrix.rows_ % kPackRows == 0 ? 0 : static_cast<size_t>(row_bytes));  // absent rows
  stream.pool().parallel_for(ceil_div(matrix.rows_, kPackRows), [&](int64_t group, int) {
    const std::byte* rows[kPackRows];
    const int64_t first = group * kPackRows, count = std::min(kPackRows, matrix.rows_ - first);
    size_t source = static_cast<size_t>(std::upper_bound(ends.begin(), ends.end(), first) - ends.begin());
    for (int64_t lane = 0; lane < count; ++lane) {
      while (first + lane >= ends[source]) ++source;
      const int64_t row = first + lane - (ends[source] - sources[source].rows);
      rows[lane] = sources[source].data + row * row_bytes;
    }
    std::fill(rows + count, rows + kPackRows, zeros.data());
    pack_group(stream.isa(), matrix.dtype_, rows, matrix.columns_, matrix.buffer_.as<std::byte>() + group * group_bytes);
  });
  return matrix;
}

void PackedMatrix::dequantize_row(int64_t row, float* out) const {
  CHECK(row >= 0 && row < rows_, "row {} of a matrix of {} rows", row, rows_);
  const int64_t group_bytes = kPackRows * packed_row_bytes(dtype_, columns_);
  unpack_row(dtype_, data() + row / kPackRows * group_bytes, row % kPackRows, columns_, out);
}

}  // namespace crible
