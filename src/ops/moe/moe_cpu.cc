#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/units.h"
#include "device/cpu/thread_pool.h"
#include "ops/matmul/block_packing.h"
#include "ops/matmul/matmul_kernels.h"
#include "ops/matmul/quantised_rows.h"
#include "ops/moe/moe.h"
#include "ops/row_chunks.h"
#include "ops/silu_mul/silu_mul.h"

namespace crible {
namespace {

constexpr int64_t kAlign = 64;
// Enough that an expert of 128 gets rows to share its weights among, few enough that scratch stays small.
constexpr int64_t kRowsPerPass = 256;
constexpr int64_t kTasksPerThread = 4;

bool is_quantised(const PackedMatrix& matrix) { return dtype_block_size(matrix.dtype()) > 1; }

// A pass's arrays in scratch memory. A slot is one row's use of one expert; slots lie in the order of experts, and those of
// one expert in the order of rows.
struct Workspace {
  int32_t* slot_of;       // [rows, k]
  int32_t* row_of;        // [slots]
  int32_t* expert_begin;  // [experts + 1] first slot of each expert
  int32_t* task_begin;    // [experts + 1] first task of each expert
  std::byte* inputs;      // [slots, C] rows of x, as float32 or quantised; then the experts' outputs as float32
  float* gate_up;         // [slots, 2F]; the gated values take the place of gate
  std::byte* hidden;      // [slots, F] quantised
  int64_t bytes;
};

Workspace lay_out(std::byte* memory, int64_t rows, int64_t experts, int64_t k, int64_t columns, int64_t hidden) {
  const int64_t slots = rows * k;
  int64_t offset = 0;
  const auto take = [&](int64_t bytes) {
    std::byte* start = memory == nullptr ? nullptr : memory + offset;
    offset += round_up(bytes, kAlign);
    return start;
  };
  Workspace w = {};
  w.slot_of = reinterpret_cast<int32_t*>(take(slots * 4));
  w.row_of = reinterpret_cast<int32_t*>(take(slots * 4));
  w.expert_begin = reinterpret_cast<int32_t*>(take((experts + 1) * 4));
  w.task_begin = reinterpret_cast<int32_t*>(take((experts + 1) * 4));
  w.inputs = take(std::max(slots * columns * 4, quantised_rows_bytes(slots, columns)));
  w.gate_up = reinterpret_cast<float*>(take(slots * 2 * hidden * 4));
  w.hidden = take(quantised_rows_bytes(slots, hidden));
  w.bytes = offset;
  return w;
}

// Counts, then places: a counting sort, so that an expert's rows stay in order.
void group_by_expert(const Workspace& w, const int32_t* chosen, int64_t slots, int64_t experts, int64_t k) {
  std::fill_n(w.expert_begin, experts + 1, 0);
  for (int64_t s = 0; s < slots; ++s) {
    CHECK(chosen[s] >= 0 && chosen[s] < experts, "expert {} of {}", chosen[s], experts);
    ++w.expert_begin[chosen[s] + 1];
  }
  for (int64_t e = 0; e < experts; ++e) w.expert_begin[e + 1] += w.expert_begin[e];
  std::copy_n(w.expert_begin, experts, w.task_begin);  // next free slot, while placing
  for (int64_t s = 0; s < slots; ++s) {
    const int32_t slot = w.task_begin[chosen[s]]++;
    w.slot_of[s] = slot;
    w.row_of[slot] = static_cast<int32_t>(s / k);
  }
}

// Products of every active expert with its slots, in one parallel loop.
struct StackedProduct {
  const PackedMatrix* weights;  // [experts · out_columns, columns]
  const float* x;               // [slots, columns], float weights only
  int64_t x_stride;
  QuantisedRows quantised;      // quantised weights only
  float* out;
  int64_t out_stride;
};

void multiply(Stream& stream, const Workspace& w, int64_t experts, const StackedProduct& product) {
  const PackedMatrix& weights = *product.weights;
  const int64_t columns = weights.columns(), out_columns = weights.rows() / experts;
  const int64_t groups = out_columns / kPackRows;
  const int64_t group_bytes = kPackRows * packed_row_bytes(weights.dtype(), columns);
  const int64_t rows_per_task = matmul_rows_per_task(weights.dtype(), kRowsPerPass, columns);
  int64_t active = 0;
  for (int64_t e = 0; e < experts; ++e) active += w.expert_begin[e + 1] > w.expert_begin[e] ? 1 : 0;
  const int64_t group_tasks = std::min(groups, ceil_div(stream.threads() * kTasksPerThread, active));
  const int64_t groups_per_task = ceil_div(groups, group_tasks);
  w.task_begin[0] = 0;
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t row_tasks = ceil_div(w.expert_begin[e + 1] - w.expert_begin[e], rows_per_task);
    w.task_begin[e + 1] = w.task_begin[e] + static_cast<int32_t>(row_tasks * ceil_div(groups, groups_per_task));
  }
  const MatmulKernel kernel = matmul_kernel(stream.isa(), weights.dtype());
  stream.pool().parallel_for(w.task_begin[experts], [&](int64_t task, int) {
    const int64_t expert = std::upper_bound(w.task_begin, w.task_begin + experts + 1, task) - w.task_begin - 1;
    const int64_t within = task - w.task_begin[expert], tasks_per_rows = ceil_div(groups, groups_per_task);
    MatmulTask part = {};
    part.weights = weights.data() + expert * groups * group_bytes;
    part.group_bytes = group_bytes;
    part.columns = columns;
    part.x = product.x;
    part.x_stride = product.x_stride;
    part.quantised = product.quantised;
    part.out = product.out;
    part.out_stride = product.out_stride;
    part.out_columns = out_columns;
    part.group_begin = within % tasks_per_rows * groups_per_task;
    part.group_end = std::min(groups, part.group_begin + groups_per_task);
    part.row_begin = w.expert_begin[expert] + within / tasks_per_rows * rows_per_task;
    part.row_end = std::min<int64_t>(w.expert_begin[expert + 1], part.row_begin + rows_per_task);
    kernel(part);
  });
}

// Each slot's row of x, as the kernels of `weights` read it.
StackedProduct gather(Stream& stream, const Workspace& w, const ExpertsArgs& args, const float* x, int64_t slots,
                      const PackedMatrix& weights) {
  const int64_t columns = weights.columns();
  StackedProduct product = {};
  product.weights = &weights;
  if (is_quantised(weights)) {
    product.quantised = place_quantised_rows(w.inputs, slots, columns);
    const QuantiseRowsKernel kernel = quantise_rows_kernel(stream.isa());
    for_row_chunks(stream, slots, columns * 2, [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s) {
        kernel(x + w.row_of[s] * args.x_stride, args.x_stride, 1, columns, from_row(product.quantised, s, columns));
      }
    });
  } else {
    float* rows = reinterpret_cast<float*>(w.inputs);
    for_row_chunks(stream, slots, columns, [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s) {
        std::memcpy(rows + s * columns, x + w.row_of[s] * args.x_stride, static_cast<size_t>(columns) * sizeof(float));
      }
    });
    product.x = rows;
    product.x_stride = columns;
  }
  return product;
}

// out[r] (+)= Σ_j weight · the output of slot (r, j), in the order of j; a few columns at a time, so that sums stay close.
void combine(Stream& stream, const Workspace& w, const ExpertsArgs& args, int64_t first_row, int64_t rows) {
  constexpr int64_t kStep = 64;
  const int64_t columns = args.gate_up->columns(), k = args.experts_per_token;
  const float* outputs = reinterpret_cast<const float*>(w.inputs);
  for_row_chunks(stream, rows, columns * k, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      float* out = args.out + (first_row + r) * args.out_stride;
      const float* weights = args.weights + (first_row + r) * k;
      for (int64_t first = 0; first < columns; first += kStep) {
        const int64_t n = std::min(kStep, columns - first);
        float sums[kStep] = {};
        for (int64_t j = 0; j < k; ++j) {
          const float* y = outputs + w.slot_of[r * k + j] * columns + first;
          for (int64_t i = 0; i < n; ++i) sums[i] += weights[j] * y[i];
        }
        for (int64_t i = 0; i < n; ++i) out[first + i] = args.accumulate ? out[first + i] + sums[i] : sums[i];
      }
    }
  });
}

void pass(Stream& stream, const ExpertsArgs& args, int64_t first_row, int64_t rows) {
  const int64_t experts = args.experts, k = args.experts_per_token, slots = rows * k;
  const int64_t columns = args.gate_up->columns(), hidden = args.down->columns();
  const int64_t bytes = lay_out(nullptr, rows, experts, k, columns, hidden).bytes;
  const Workspace w = lay_out(stream.scratch(bytes), rows, experts, k, columns, hidden);
  group_by_expert(w, args.chosen + first_row * k, slots, experts, k);

  const float* x = args.x + first_row * args.x_stride;
  StackedProduct product = gather(stream, w, args, x, slots, *args.gate_up);
  product.out = w.gate_up;
  product.out_stride = 2 * hidden;
  multiply(stream, w, experts, product);
  if (args.up != nullptr) {
    const bool same_input = is_quantised(*args.up) == is_quantised(*args.gate_up);
    if (!same_input) product = gather(stream, w, args, x, slots, *args.up);
    product.weights = args.up;
    product.out = w.gate_up + hidden;
    product.out_stride = 2 * hidden;
    multiply(stream, w, experts, product);
  }
  silu_mul(stream, {.gate_up = w.gate_up, .gate_up_stride = 2 * hidden, .out = w.gate_up, .out_stride = 2 * hidden,
                    .rows = slots, .columns = hidden});

  StackedProduct down = {};
  down.weights = args.down;
  if (is_quantised(*args.down)) {
    down.quantised = place_quantised_rows(w.hidden, slots, hidden);
    quantise_rows(stream, w.gate_up, 2 * hidden, slots, hidden, down.quantised);
  } else {
    down.x = w.gate_up;
    down.x_stride = 2 * hidden;
  }
  down.out = reinterpret_cast<float*>(w.inputs);
  down.out_stride = columns;
  multiply(stream, w, experts, down);
  combine(stream, w, args, first_row, rows);
}

void check_shapes(const ExpertsArgs& args) {
  const int64_t columns = args.gate_up->columns(), hidden = args.down->columns(), experts = args.experts;
  const int64_t gate_rows = args.up == nullptr ? 2 * hidden : hidden;
  CHECK(args.gate_up->rows() == experts * gate_rows && args.down->rows() == experts * columns,
        "{} experts of width {} and {} hidden columns, but {} and {} stacked rows", experts, columns, hidden,
        args.gate_up->rows(), args.down->rows());
  CHECK(gate_rows % kPackRows == 0 && columns % kPackRows == 0, "an expert's {} and {} rows are no multiples of {}",
        gate_rows, columns, kPackRows);
  if (args.up != nullptr) {
    CHECK(args.up->rows() == experts * hidden && args.up->columns() == columns, "up differs from gate in shape");
  }
}

}  // namespace

int64_t experts_scratch_bytes(int64_t max_rows, int64_t experts, int64_t experts_per_token, int64_t columns,
                              int64_t hidden) {
  return lay_out(nullptr, std::min(max_rows, kRowsPerPass), experts, experts_per_token, columns, hidden).bytes;
}

void experts_feed_forward(Stream& stream, const ExpertsArgs& args) {
  check_shapes(args);
  for (int64_t first = 0; first < args.rows; first += kRowsPerPass) {
    pass(stream, args, first, std::min(kRowsPerPass, args.rows - first));
  }
}

}  // namespace crible
