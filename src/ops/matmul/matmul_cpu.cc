#include <algorithm>

#include "base/check.h"
#include "base/units.h"
#include "device/cpu/thread_pool.h"
#include "ops/matmul/block_packing.h"
#include "ops/matmul/matmul.h"
#include "ops/matmul/matmul_kernels.h"
#include "ops/matmul/quantised_rows.h"

namespace crible {
namespace {

// Activations of one task stay in the second-level cache while every group of weights passes over them.
constexpr int64_t kActivationBytesPerTask = 160 * kKiB;
constexpr int64_t kRowsMultiple = 48;  // whole register tiles, whatever their height
constexpr int64_t kTasksPerThread = 4;  // evens out threads that the system slows down

// Tile registers gain a third where there are enough rows and nearly all of the tiles are rows; few rows on many threads
// lose to the time that splitting their bytes takes.
bool fills_tiles(int64_t rows) { return rows >= 3 * kRowTile && rows * 8 >= round_up(rows, kRowTile) * 7; }

bool is_quantised(DType dtype) { return dtype_block_size(dtype) > 1; }

struct Family {
  const FloatKernels& floats;
  const BlockKernels& blocks;
  const SuperBlockKernels& super_blocks;
};

Family family_of(CpuIsa isa) {
#if defined(__x86_64__)
  if (isa >= CpuIsa::kAvx512) return {float_kernels_avx512(), block_kernels_avx512(), super_block_kernels_avx512()};
  if (isa == CpuIsa::kAvx2) return {float_kernels_avx2(), block_kernels_avx2(), super_block_kernels_avx2()};
#endif
  return {float_kernels_scalar(), block_kernels_scalar(), super_block_kernels_scalar()};
}

MatmulKernel kernel_of(const Family& family, DType dtype) {
  switch (dtype) {
    case DType::kF32: return family.floats.f32;
    case DType::kF16: return family.floats.f16;
    case DType::kBF16: return family.floats.bf16;
    case DType::kQ8_0: return family.blocks.q8_0;
    case DType::kQ4_0: return family.blocks.q4_0;
    case DType::kQ4_1: return family.blocks.q4_1;
    case DType::kQ5_0: return family.blocks.q5_0;
    case DType::kQ5_1: return family.blocks.q5_1;
    case DType::kQ4_K: return family.super_blocks.q4_k;
    case DType::kQ5_K: return family.super_blocks.q5_k;
    case DType::kQ6_K: return family.super_blocks.q6_k;
    default: break;
  }
  CHECK(false, "{} is not a weight type", dtype_name(dtype));
  return nullptr;
}

}  // namespace

QuantiseRowsKernel quantise_rows_kernel(CpuIsa isa) {
#if defined(__x86_64__)
  if (isa >= CpuIsa::kAvx512) return quantise_rows_avx512;
  if (isa == CpuIsa::kAvx2) return quantise_rows_avx2;
#endif
  return quantise_rows_scalar;
}

MatmulKernel matmul_kernel(CpuIsa isa, DType dtype) { return kernel_of(family_of(isa), dtype); }

MatmulMethod matmul_method(CpuIsa isa, DType dtype, [[maybe_unused]] int64_t rows) {
  if (!is_quantised(dtype)) return {nullptr, false, matmul_kernel(isa, dtype)};
#if defined(__x86_64__)
  if (isa == CpuIsa::kAmx && fills_tiles(rows)) {
    const Family tiles = {float_kernels_avx512(), block_kernels_amx(), super_block_kernels_amx()};
    return {dtype == DType::kQ8_0 ? quantise_rows_amx_bytes : quantise_rows_amx_nibbles, true, kernel_of(tiles, dtype)};
  }
#endif
  return {quantise_rows_kernel(isa), false, matmul_kernel(isa, dtype)};
}

int64_t matmul_rows_per_task(DType dtype, int64_t rows, int64_t columns) {
  const int64_t row_bytes = columns * (is_quantised(dtype) ? 2 : 4);
  const int64_t fitting = kActivationBytesPerTask / row_bytes / kRowsMultiple * kRowsMultiple;
  return std::min(rows, std::clamp(fitting, kRowsMultiple, kMaxTaskRows));
}

int64_t matmul_scratch_bytes(int64_t rows, DType dtype, int64_t out_features, int64_t in_features) {
  (void)out_features;
  return is_quantised(dtype) ? quantised_rows_bytes(rows, in_features) : 0;
}

int64_t matmul_scratch_bytes(int64_t rows, const PackedMatrix& weight) {
  return matmul_scratch_bytes(rows, weight.dtype(), weight.rows(), weight.columns());
}

void matmul(Stream& stream, const MatmulArgs& args) {
  const PackedMatrix& weight = *args.weight;
  if (args.rows <= 0) return;
  const MatmulMethod method = matmul_method(stream.isa(), weight.dtype(), args.rows);
  const int64_t columns = weight.columns();

  MatmulTask whole = {};
  whole.weights = weight.data();
  whole.group_bytes = kPackRows * packed_row_bytes(weight.dtype(), columns);
  whole.columns = columns;
  whole.x = args.x;
  whole.x_stride = args.x_stride;
  if (method.quantise != nullptr) {
    whole.quantised = place_quantised_rows(stream.scratch(quantised_rows_bytes(args.rows, columns)), args.rows, columns);
    quantise_rows(stream, args.x, args.x_stride, args.rows, columns, whole.quantised, method);
  }
  whole.out = args.out;
  whole.out_stride = args.out_stride;
  whole.out_columns = weight.rows();
  whole.bias = args.bias;
  whole.accumulate = args.accumulate;

  const int64_t rows_per_task = matmul_rows_per_task(weight.dtype(), args.rows, columns);
  const int64_t row_tasks = ceil_div(args.rows, rows_per_task);
  const int64_t groups = ceil_div(weight.rows(), kPackRows);
  const int64_t wanted = ceil_div(stream.threads() * kTasksPerThread, row_tasks);
  const int64_t groups_per_task = ceil_div(groups, std::min(groups, wanted));
  const int64_t group_tasks = ceil_div(groups, groups_per_task);

  stream.pool().parallel_for(row_tasks * group_tasks, [&](int64_t task, int) {
    MatmulTask part = whole;
    part.group_begin = task % group_tasks * groups_per_task;
    part.group_end = std::min(groups, part.group_begin + groups_per_task);
    part.row_begin = task / group_tasks * rows_per_task;
    part.row_end = std::min(args.rows, part.row_begin + rows_per_task);
    method.multiply(part);
  });
}

}  // namespace crible
