#include "model/cuda/tensor_parallel/matrix_cut.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "base/check.h"
#include "base/units.h"

namespace crible::cuda {
namespace {

constexpr int64_t kWordBits = 32;
constexpr int64_t kWordBytes = 4;

// A stored array of rows, and the part of each that is wanted, in bytes.
struct Strip {
  const std::byte* data;
  int64_t row_bytes;
  Range rows;
  Range bytes;  // within a row
};

Range times(const Range& range, int64_t factor) { return {range.first * factor, range.count * factor}; }

// In units of `unit` elements; nothing where the range is no whole number of them.
std::optional<Range> in_units(const Range& range, int64_t unit) {
  if (range.first % unit != 0 || range.count % unit != 0) return std::nullopt;
  return Range{range.first / unit, range.count / unit};
}
// Likewise, for a range that may end with the dimension's last, smaller unit.
std::optional<Range> in_blocks(const Range& range, int64_t unit, int64_t size) {
  if (range.first % unit != 0 || (range.count % unit != 0 && range.end() != size)) return std::nullopt;
  return Range{range.first / unit, ceil_div(range.count, unit)};
}

tl::unexpected<Error> divided(const std::string& name, const char* dimension, const Range& range,
                              std::string_view what) {
  return fail(ErrorCode::kUnsupported, "{}: a rank's {} {} to {} divide {}; use a smaller tensor-parallel-size", name,
              dimension, range.first, range.end() - 1, what);
}

class Cutter {
 public:
  // copies: false where only the rectangle's edges are checked.
  Cutter(const Range& rows, const Range& columns, const std::string& name, bool copies)
      : rows_(rows), columns_(columns), name_(name), copies_(copies) {}

  Result<CutMatrix> operator()(const MatrixSource& source) {
    const int64_t block = dtype_block_size(source.dtype);
    const std::optional<Range> blocks = in_units(columns_, block);
    if (!blocks) {
      return divided(name_, "columns", columns_, fmt::format("a block of {} of {}", block, dtype_name(source.dtype)));
    }
    const int64_t row_bytes = dtype_row_bytes(source.dtype, source.columns);
    MatrixSource part = {.dtype = source.dtype, .rows = rows_.count, .columns = columns_.count, .data = nullptr};
    part.data = take({source.data, row_bytes, rows_, times(*blocks, dtype_block_bytes(source.dtype))});
    return finish(part);
  }

  Result<CutMatrix> operator()(const ScaledFp8& source) {
    const std::optional<Range> down = in_blocks(rows_, std::min(source.block_rows, source.rows), source.rows);
    // One scale for the whole dimension is one for each part of it.
    const bool one_row = source.block_rows >= source.rows;
    const bool one_column = source.block_columns >= source.columns;
    const std::optional<Range> along = in_blocks(columns_, source.block_columns, source.columns);
    if (!one_row && !down) {
      return divided(name_, "rows", rows_, fmt::format("a block of {} that share a scale", source.block_rows));
    }
    if (!one_column && !along) {
      return divided(name_, "columns", columns_,
                     fmt::format("a block of {} that share a scale", source.block_columns));
    }
    ScaledFp8 part = source;
    part.rows = rows_.count;
    part.columns = columns_.count;
    part.values = take({source.values, source.columns, rows_, columns_});
    if (one_row) part.block_rows = rows_.count;
    if (one_column) part.block_columns = columns_.count;
    part.scales = take_scales(source.scales, one_column ? 1 : ceil_div(source.columns, source.block_columns),
                              one_row ? Range{0, 1} : *down, one_column ? Range{0, 1} : *along);
    return finish(part);
  }

  Result<CutMatrix> operator()(const GroupQuantised& source) {
    GroupQuantised part = source;
    part.rows = rows_.count;
    part.columns = columns_.count;
    const std::optional<Range> row_words = in_units(times(rows_, source.bits), kWordBits);
    if (!row_words) {
      return divided(name_, "rows", rows_, fmt::format("a word of {}-bit values", source.bits));
    }
    const Range row_bytes = times(*row_words, kWordBytes);
    const int64_t all_row_bytes = source.rows * source.bits / kWordBits * kWordBytes;
    if (source.layout == GroupQuantised::Layout::kAwq) {
      part.qweight = take({source.qweight, all_row_bytes, columns_, row_bytes});
    } else {
      const std::optional<Range> words = in_units(times(columns_, source.bits), kWordBits);
      if (!words) return divided(name_, "columns", columns_, fmt::format("a word of {}-bit values", source.bits));
      part.qweight = take({source.qweight, source.rows * kWordBytes, *words, times(rows_, kWordBytes)});
    }
    CRIBLE_TRY(const Range groups, take_groups(source, part));
    part.qzeros = take({source.qzeros, all_row_bytes, groups, row_bytes});
    part.scales = take_scales(source.scales, source.rows, groups, rows_);
    return finish(part);
  }

 private:
  // Whole rows stay where they are.
  const std::byte* take(const Strip& strip) {
    const std::byte* first = strip.data + strip.rows.first * strip.row_bytes + strip.bytes.first;
    if (!copies_ || strip.bytes.count == strip.row_bytes) return first;
    const int64_t bytes = strip.rows.count * strip.bytes.count;
    cut_.storage.push_back(std::make_unique_for_overwrite<std::byte[]>(static_cast<size_t>(bytes)));
    cut_.copied_bytes += bytes;
    std::byte* copy = cut_.storage.back().get();
    for (int64_t r = 0; r < strip.rows.count; ++r) {
      std::memcpy(copy + r * strip.bytes.count, first + r * strip.row_bytes, static_cast<size_t>(strip.bytes.count));
    }
    return copy;
  }
  // The groups that the columns are of. Mixed ones stay all, each column naming its own.
  Result<Range> take_groups(const GroupQuantised& source, GroupQuantised& part) {
    if (!groups_in_order(source)) {
      part.group_index = source.group_index + columns_.first * static_cast<int64_t>(sizeof(int32_t));
      return Range{0, source.groups};
    }
    part.group_index = nullptr;
    if (source.groups == 1) {
      part.group_size = columns_.count;
      return Range{0, 1};
    }
    const std::optional<Range> groups = in_units(columns_, source.group_size);
    if (!groups) {
      return divided(name_, "columns", columns_, fmt::format("a group of {} that share a scale", source.group_size));
    }
    part.groups = groups->count;
    return *groups;
  }
  FloatView take_scales(const FloatView& scales, int64_t width, const Range& rows, const Range& columns) {
    const int64_t bytes = dtype_block_bytes(scales.dtype());
    return {scales.dtype(), take({scales.data(), width * bytes, rows, times(columns, bytes)})};
  }
  template <typename Source>
  CutMatrix finish(const Source& part) {
    cut_.matrix = part;
    return std::move(cut_);
  }

  Range rows_;
  Range columns_;
  const std::string& name_;
  bool copies_;
  CutMatrix cut_ = {.matrix = MatrixSource{}, .storage = {}, .copied_bytes = 0};
};

int64_t rows_of(const StoredMatrix& matrix) {
  return std::visit([](const auto& m) { return m.rows; }, matrix);
}
int64_t columns_of(const StoredMatrix& matrix) {
  return std::visit([](const auto& m) { return m.columns; }, matrix);
}

}  // namespace

Status check_cut(const StoredMatrix& matrix, const Range& rows, const Range& columns, const std::string& name) {
  const Result<CutMatrix> cut = std::visit(Cutter(rows, columns, name, /*copies=*/false), matrix);
  if (!cut) return tl::unexpected<Error>(cut.error());
  return {};
}

Result<CutMatrix> cut_matrix(const StoredMatrix& matrix, const Range& rows, const Range& columns,
                             const std::string& name) {
  CHECK(rows.first >= 0 && rows.end() <= rows_of(matrix) && columns.first >= 0 && columns.end() <= columns_of(matrix),
        "{}: rows {} to {} and columns {} to {} of {} x {}", name, rows.first, rows.end(), columns.first,
        columns.end(), rows_of(matrix), columns_of(matrix));
  return std::visit(Cutter(rows, columns, name, /*copies=*/true), matrix);
}

}  // namespace crible::cuda
