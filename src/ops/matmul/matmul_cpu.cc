#include <algorithm>

#include "base/check.h"
#include "base/units.h"
#include "device/cpu/thread_pool.h"
#include "ops/matmul/matmul.h"
#include "ops/matmul/matmul_kernels.h"

namespace crible {
namespace {

constexpr int64_t kAlign = 64;
// Activations of one task stay in the second-level cache while every group of weights passes over them.
constexpr int64_t kActivationBytesPerTask = 160 * kKiB;
constexpr int64_t kRowsMultiple = 48;  // whole register tiles, whatever their height
constexpr int64_t kTasksPerThread = 4;  // evens out threads that the system slows down
// Fewer rows are quantised by the caller alone: cheaper than waking a worker.
constexpr int64_t kRowsPerQuantiseTask = 8;

bool is_quantised(DType dtype) { return dtype_block_size(dtype) > 1; }

const MatmulKernels& kernels_for(CpuIsa isa) {
#if defined(__x86_64__)
  if (isa == CpuIsa::kAvx512) return matmul_kernels_avx512();
  if (isa == CpuIsa::kAvx2) return matmul_kernels_avx2();
#endif
  return matmul_kernels_scalar();
}

MatmulKernel kernel_for(const MatmulKernels& kernels, DType dtype) {
  switch (dtype) {
    case DType::kF32: return kernels.f32;
    case DType::kF16: return kernels.f16;
    case DType::kBF16: return kernels.bf16;
    case DType::kQ8_0: return kernels.q8_0;
    case DType::kQ4_0: return kernels.q4_0;
    case DType::kQ4_1: return kernels.q4_1;
    default: break;
  }
  CHECK(false, "{} is not a weight type", dtype_name(dtype));
  return nullptr;
}

struct ScratchLayout {
  int64_t scales, sums, offsets, bytes;  // byte offsets of the arrays after the values
};
ScratchLayout scratch_layout(int64_t rows, int64_t columns) {
  const int64_t per_block = round_up(rows * (columns / kQuantBlock) * 4, kAlign);
  const int64_t scales = round_up(rows * columns * 2, kAlign);
  return {scales, scales + per_block, scales + 2 * per_block, scales + 3 * per_block};
}

QuantisedRows quantise(Stream& stream, const MatmulKernels& kernels, const MatmulArgs& args) {
  const int64_t columns = args.weight->columns();
  const int64_t blocks = columns / kQuantBlock;
  const ScratchLayout layout = scratch_layout(args.rows, columns);
  std::byte* scratch = stream.scratch(layout.bytes);
  const QuantisedRows all = {reinterpret_cast<int16_t*>(scratch), reinterpret_cast<float*>(scratch + layout.scales),
                             reinterpret_cast<float*>(scratch + layout.sums),
                             reinterpret_cast<int32_t*>(scratch + layout.offsets)};
  const int64_t tasks = ceil_div(args.rows, kRowsPerQuantiseTask);
  stream.pool().parallel_for(tasks, [&](int64_t task, int) {
    const int64_t begin = task * kRowsPerQuantiseTask;
    const int64_t rows = std::min(kRowsPerQuantiseTask, args.rows - begin);
    kernels.quantise_rows(args.x + begin * args.x_stride, args.x_stride, rows, columns,
                          {all.values + begin * columns, all.scales + begin * blocks, all.sums + begin * blocks,
                           all.offsets + begin * blocks});
  });
  return all;
}

}  // namespace

int64_t matmul_scratch_bytes(int64_t rows, DType dtype, int64_t out_features, int64_t in_features) {
  (void)out_features;
  return is_quantised(dtype) ? scratch_layout(rows, in_features).bytes : 0;
}

int64_t matmul_scratch_bytes(int64_t rows, const PackedMatrix& weight) {
  return matmul_scratch_bytes(rows, weight.dtype(), weight.rows(), weight.columns());
}

void matmul(Stream& stream, const MatmulArgs& args) {
  const PackedMatrix& weight = *args.weight;
  if (args.rows <= 0) return;
  const MatmulKernels& kernels = kernels_for(stream.isa());
  const MatmulKernel kernel = kernel_for(kernels, weight.dtype());

  MatmulTask whole = {};
  whole.weights = weight.data();
  whole.group_bytes = kPackRows * dtype_row_bytes(weight.dtype(), weight.columns());
  whole.columns = weight.columns();
  whole.x = args.x;
  whole.x_stride = args.x_stride;
  if (is_quantised(weight.dtype())) whole.quantised = quantise(stream, kernels, args);
  whole.out = args.out;
  whole.out_stride = args.out_stride;
  whole.out_columns = weight.rows();
  whole.bias = args.bias;
  whole.accumulate = args.accumulate;

  const int64_t row_bytes = weight.columns() * (is_quantised(weight.dtype()) ? 2 : 4);
  const int64_t rows_per_task = std::min(
      args.rows, std::clamp<int64_t>(kActivationBytesPerTask / row_bytes / kRowsMultiple * kRowsMultiple, kRowsMultiple, kMaxTaskRows));
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
    kernel(part);
  });
}

}  // namespace crible
