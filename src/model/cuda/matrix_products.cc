#include "model/cuda/matrix_products.h"

#include <algorithm>

#include "base/units.h"
#include "device/cuda/cuda_status.h"
#include "ops/matmul/int4_arrange_cuda.h"
#include "ops/matmul/int4_pack_cuda.h"

namespace crible::cuda {
namespace {

// Of a 4-bit matrix, unpacked at once: some hundred multiprocessors' worth of tiles, yet a small share of
// memory.
constexpr int64_t kUnpackedBytes = 128 * kMiB;
// Above this many rows cuBLASLt gains more than unpacking costs: for qwen3-32b, 15.6 ms per 128 rows of a step
// against 13.4 and 27 for unpacking.
constexpr int64_t kMaxArrangedRows = 768;
// A block of rows in which a row's bits do not depend on the others.
constexpr int64_t kSameBitsRows = 64;

// Rows of a 4-bit matrix to unpack at once: equal pieces.
int64_t piece_rows(int64_t rows, int64_t columns) {
  int64_t pieces = ceil_div(rows * columns * 2, kUnpackedBytes);
  while (rows % (pieces * kInt4TileRows) != 0) ++pieces;
  return rows / pieces;
}

MatmulArgs bf16_piece(const DeviceMatrix& matrix, const __nv_bfloat16* unpacked, const __nv_bfloat16* x,
                      int64_t rows, __nv_bfloat16* out, bool accumulate) {
  return {.x = x,
          .rows = rows,
          .weight = unpacked,
          .out_features = piece_rows(matrix.rows, matrix.columns),
          .in_features = matrix.columns,
          .out = out,
          .out_stride = matrix.rows,
          .accumulate = accumulate};
}

}  // namespace

int64_t MatrixProducts::padded_rows(WeightFormat format, int64_t max_tokens) {
  if (format.type == WeightType::kInt4) return ceil_div(max_tokens, kLargestInt4Block) * kLargestInt4Block;
  return fp8_padded_rows(max_tokens);
}

MatrixProducts::Room MatrixProducts::lay_out(DeviceArena& arena, const DecoderShape& s, WeightFormat format,
                                             int64_t max_tokens) {
  Room room;
  if (format.type == WeightType::kFp8) {
    const int64_t widest = std::max({s.embedding, s.query_size(), s.feed_forward});
    room.quantised = arena.slice<uint8_t>(max_tokens * widest);
    room.scales = arena.slice<float>(max_tokens * (format.group == 0 ? 1 : ceil_div(widest, kFp8Block)));
  }
  if (format.type == WeightType::kInt4) {
    const auto elements = [](int64_t rows, int64_t columns) { return piece_rows(rows, columns) * columns; };
    room.unpacked = arena.slice<__nv_bfloat16>(
        std::max({elements(s.qkv_size(), s.embedding), elements(s.embedding, s.query_size()),
                  elements(2 * s.feed_forward, s.embedding), elements(s.embedding, s.feed_forward),
                  kInt4SumBytes / static_cast<int64_t>(sizeof(__nv_bfloat16))}));
    const int64_t rows = std::min(max_tokens, kMaxArrangedRows);
    const int64_t widest = std::max({s.embedding, s.query_size(), s.feed_forward});  // the last for fused_down()
    room.arranged = arena.slice<uint8_t>(arranged_bytes(rows, widest, kLargestInt4Block));
    room.counters = arena.slice<int>(kInt4Counters);
  }
  return room;
}

Result<MatrixProducts> MatrixProducts::create(MatmulRule rule) {
  CRIBLE_TRY(Matmul matmul, Matmul::create(rule));
  prepare_int4_matmul();
  return MatrixProducts(std::move(matmul), rule);
}

// Whether so many rows of x meet 4-bit weights as they are, in one product.
bool MatrixProducts::arranges(int64_t rows) const {
  return rows <= (rule_ == MatmulRule::kSameBits ? kSameBitsRows : kMaxArrangedRows);
}
int64_t MatrixProducts::block_rows(int64_t rows) const {
  return rule_ == MatmulRule::kSameBits ? kSameBitsRows : int4_block_rows(rows);
}

Fp8Rows MatrixProducts::quantised(const DeviceMatrix& next) const {
  if (next.type != WeightType::kFp8) return {};
  return {room_.quantised, room_.scales, next.group != 0};
}

Status MatrixProducts::tune(const CudaStream& stream, const DeviceMatrix& matrix, const __nv_bfloat16* x,
                            __nv_bfloat16* out, bool accumulate, int64_t max_rows) {
  if (matrix.type == WeightType::kInt4) {
    CRIBLE_CUDA_RETURN_IF_ERROR(
        cudaMemsetAsync(room_.counters, 0, kInt4Counters * sizeof(int), stream.get()));
    if (arranges(max_rows) || rule_ == MatmulRule::kSameBits) return {};
    return matmul_.tune(stream, bf16_piece(matrix, room_.unpacked, x, 0, out, accumulate), max_rows);
  }
  return matmul_.tune(stream, product_of(matrix, x, 0, out, accumulate), max_rows);
}

Status MatrixProducts::tune_gated(const CudaStream& stream, const DeviceMatrix& gate_up, const __nv_bfloat16* x,
                                  __nv_bfloat16* both, __nv_bfloat16* gated, const DeviceMatrix& next,
                                  int64_t max_rows) {
  if (gate_up.type == WeightType::kInt4) return tune(stream, gate_up, x, both, false, max_rows);
  return matmul_.tune_gated(
      stream,
      {.product = product_of(gate_up, x, 0, both, false), .gated = gated, .quantised = quantised(next)}, max_rows);
}

// FP8 with a scale per row adds up as most servers do: in the tensor cores.
MatmulArgs MatrixProducts::product_of(const DeviceMatrix& matrix, const __nv_bfloat16* x, int64_t rows,
                                      __nv_bfloat16* out, bool accumulate) const {
  const bool fp8 = matrix.type == WeightType::kFp8;
  return {.type = matrix.type,
          .x = fp8 ? static_cast<const void*>(room_.quantised) : x,
          .x_scale = fp8 ? room_.scales : nullptr,
          .rows = rows,
          .weight = matrix.data,
          .weight_scale = matrix.scale,
          .block_scales = fp8 && matrix.group != 0,
          .out_features = matrix.rows,
          .in_features = matrix.columns,
          .out = out,
          .accumulate = accumulate,
          .fast_sums = fp8 && matrix.group == 0,
          .settled_weight = true};
}

void MatrixProducts::norm(const CudaStream& stream, RmsNormArgs args, const DeviceMatrix& next) const {
  if (next.type == WeightType::kInt4 && arranges(args.rows)) {
    CHECK(args.row_indices == nullptr && args.x_stride == args.columns, "rows apart");
    arrange(stream, {.x = args.x,
                     .rows = args.rows,
                     .columns = args.columns,
                     .block = block_rows(args.rows),
                     .out = args.out,
                     .norm_weight = args.weight,
                     .epsilon = args.epsilon});
    return;
  }
  args.quantised = quantised(next);
  rms_norm(stream, args);
}

Status MatrixProducts::run(const CudaStream& stream, const DeviceMatrix& matrix, const __nv_bfloat16* x,
                           Operand operand, int64_t rows, __nv_bfloat16* out, bool accumulate) const {
  if (matrix.type == WeightType::kInt4) return run_int4(stream, matrix, x, operand, rows, out, accumulate);
  if (matrix.type == WeightType::kFp8 && operand == Operand::kPlain)
    quantize_rows(stream, x, rows, matrix.columns, quantised(matrix));
  return matmul_.run(stream, product_of(matrix, x, rows, out, accumulate));
}

void MatrixProducts::arrange_rows(const CudaStream& stream, const __nv_bfloat16* x, int64_t rows,
                                  int64_t columns) const {
  arrange(stream, {.x = x, .rows = rows, .columns = columns, .block = block_rows(rows), .out = room_.arranged});
}

void MatrixProducts::multiply_arranged(const CudaStream& stream, Int4Epilogue epilogue, const DeviceMatrix& matrix,
                                       const void* x, int64_t rows, __nv_bfloat16* out, bool arranges) const {
  int4_matmul(stream, epilogue,
              {.x = x,
               .rows = rows,
               .block = block_rows(rows),
               .weight = matrix.int4(),
               .out = out,
               .out_stride = epilogue == Int4Epilogue::kSiluMul ? matrix.rows / 2 : matrix.rows,
               .arranges = arranges,
               .meeting = {.counters = room_.counters, .sums = room_.unpacked}});
}

void MatrixProducts::multiply_in_passes(const CudaStream& stream, Int4Epilogue epilogue,
                                        const DeviceMatrix& matrix, const __nv_bfloat16* x, int64_t rows,
                                        __nv_bfloat16* out) const {
  const int64_t stride = epilogue == Int4Epilogue::kSiluMul ? matrix.rows / 2 : matrix.rows;
  for (int64_t first = 0; first < rows; first += kSameBitsRows) {
    const int64_t count = std::min(kSameBitsRows, rows - first);
    arrange_rows(stream, x + first * matrix.columns, count, matrix.columns);
    multiply_arranged(stream, epilogue, matrix, room_.arranged, count, out + first * stride, false);
  }
}

Status MatrixProducts::run_int4(const CudaStream& stream, const DeviceMatrix& matrix, const __nv_bfloat16* x,
                                Operand operand, int64_t rows, __nv_bfloat16* out, bool accumulate) const {
  const Int4Epilogue epilogue = accumulate ? Int4Epilogue::kAddResidual : Int4Epilogue::kStore;
  if (arranges(rows)) {
    const bool plain = operand == Operand::kPlain;
    if (plain) arrange_rows(stream, x, rows, matrix.columns);
    multiply_arranged(stream, epilogue, matrix, plain ? room_.arranged : x, rows, out, false);
    return {};
  }
  if (rule_ == MatmulRule::kSameBits) {
    multiply_in_passes(stream, epilogue, matrix, x, rows, out);
    return {};
  }
  const int64_t piece = piece_rows(matrix.rows, matrix.columns);
  for (int64_t first = 0; first < matrix.rows; first += piece) {
    unpack_int4(stream, matrix.int4(), first, piece, room_.unpacked);
    CRIBLE_RETURN_IF_ERROR(
        matmul_.run(stream, bf16_piece(matrix, room_.unpacked, x, rows, out + first, accumulate)));
  }
  return {};
}

Status MatrixProducts::gated_product(const CudaStream& stream, const DeviceMatrix& gate_up,
                                     const __nv_bfloat16* x, int64_t rows, __nv_bfloat16* both,
                                     __nv_bfloat16* gated, const DeviceMatrix& next) const {
  const bool int4 = gate_up.type == WeightType::kInt4 && next.type == WeightType::kInt4;
  if (int4 && arranges(rows)) {
    multiply_arranged(stream, Int4Epilogue::kSiluMul, gate_up, x, rows, gated, /*arranges=*/true);
    return {};
  }
  if (int4 && rule_ == MatmulRule::kSameBits) {
    multiply_in_passes(stream, Int4Epilogue::kSiluMul, gate_up, x, rows, gated);
    return {};
  }
  if (gate_up.type != WeightType::kInt4) {
    return matmul_.run_gated(stream, {.product = product_of(gate_up, x, rows, both, false),
                                      .gated = gated,
                                      .quantised = quantised(next)});
  }
  CRIBLE_RETURN_IF_ERROR(run(stream, gate_up, x, Operand::kMade, rows, both, false));
  silu_mul(
      stream,
      {.gate_up = both, .out = gated, .rows = rows, .columns = next.columns, .quantised = quantised(next)});
  return {};
}

}  // namespace crible::cuda
