#include "model/cuda/weight_upload.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/units.h"
#include "device/cuda/cuda_status.h"
#include "ops/half.h"
#include "ops/matmul/dequantize.h"
#include "ops/matmul/int4_pack_cuda.h"

namespace crible::cuda {
namespace {

constexpr int64_t kStagingBytes = 8 * kMiB;
// PCIe is full with fewer; conversion is not.
constexpr int kMaxThreads = 16;

// A piece of work for one thread. rows: of the source; all of them where the GPU needs the whole matrix.
struct Piece {
  const MatrixUpload* upload;
  int64_t first_row;
  int64_t rows;
};

// Maps the pages that hold these bytes at once instead of fault by fault. Only advice.
void populate(const std::byte* data, int64_t bytes) {
#ifdef MADV_POPULATE_READ
  static const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const uintptr_t begin = reinterpret_cast<uintptr_t>(data) / page * page;
  const uintptr_t end = reinterpret_cast<uintptr_t>(data) + static_cast<uintptr_t>(bytes);
  (void)::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_POPULATE_READ);
#else
  (void)data, (void)bytes;
#endif
}

// Rounds to nearest even. False when a value is not a finite number.
bool round_to_bf16(const float* values, int64_t count, uint16_t* out) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const auto bits = std::bit_cast<uint32_t>(values[i]);
    largest = std::max(largest, bits & 0x7FFFFFFFu);
    out[i] = static_cast<uint16_t>((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
  }
  return largest < 0x7F800000u;
}
bool has_fp8_nan(const std::byte* values, int64_t count) {
  uint8_t found = 0;
  for (int64_t i = 0; i < count; ++i)
    found |= static_cast<uint8_t>((std::to_integer<uint8_t>(values[i]) & 0x7F) == 0x7F);
  return found != 0;
}
bool all_finite(const FloatView& scales, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    // As FP16, which the tiles hold.
    if (!(std::abs(scales[i]) <= 65504.0f)) return false;
  }
  return true;
}

int64_t bytes_of(const FloatView& view, int64_t count) {
  return count * dtype_block_bytes(view.dtype());
}

// One thread's stream, staging memory and scratch.
class Worker {
 public:
  static Result<Worker> create() {
    CRIBLE_TRY(CudaStream stream, CudaStream::create());
    CRIBLE_TRY(Stream cpu, Stream::create_cpu(1));
    Worker worker(std::move(stream), std::move(cpu));
    for (Slot& slot : worker.slots_) {
      CRIBLE_TRY(slot.memory, PinnedBuffer::allocate(kStagingBytes));
      CRIBLE_TRY(CudaEvent sent, CudaEvent::create());
      slot.sent.emplace(std::move(sent));
    }
    return worker;
  }
  Status run(const Piece& piece) {
    const MatrixUpload& u = *piece.upload;
    if (u.target.type == WeightType::kInt4) return keep_int4(u);
    if (const auto* fp8 = std::get_if<ScaledFp8>(&u.source);
        fp8 != nullptr && u.target.type == WeightType::kFp8) {
      return keep_fp8(u, *fp8, piece);
    }
    if (const auto* source = std::get_if<MatrixSource>(&u.source)) return convert_rows(u, *source, piece);
    const Result<ConvertedMatrix> matrix = std::holds_alternative<GroupQuantised>(u.source)
                                               ? convert(std::get<GroupQuantised>(u.source), cpu_)
                                               : convert(std::get<ScaledFp8>(u.source), cpu_);
    if (!matrix) return tl::unexpected<Error>(with_context(matrix.error(), u.name));
    return convert_rows(u, matrix->source, piece);
  }
  Status finish() { return stream_.synchronize(); }

 private:
  struct Slot {
    PinnedBuffer memory;
    std::optional<CudaEvent> sent;
  };

  Worker(CudaStream stream, Stream cpu) : stream_(std::move(stream)), cpu_(std::move(cpu)), slots_(2) {}

  // Staging memory whose last copy has ended.
  Result<Slot*> free_slot() {
    Slot& slot = slots_[next_];
    next_ = (next_ + 1) % slots_.size();
    CRIBLE_RETURN_IF_ERROR(slot.sent->synchronize());
    return &slot;
  }
  Status send(const Slot& slot, void* target, int64_t bytes) {
    CRIBLE_RETURN_IF_ERROR(status_of(cudaMemcpyAsync(target, slot.memory.data(), static_cast<size_t>(bytes),
                                                     cudaMemcpyHostToDevice, stream_.get()),
                                     "upload weights"));
    return slot.sent->record(stream_);
  }
  // Bytes of a file to the device as they are. check: whether a staged piece is sound.
  template <typename Check>
  Status copy(const std::byte* source, int64_t bytes, void* target, Check&& check) {
    for (int64_t start = 0; start < bytes; start += kStagingBytes) {
      const int64_t count = std::min(kStagingBytes, bytes - start);
      CRIBLE_TRY(Slot * slot, free_slot());
      populate(source + start, count);
      std::memcpy(slot->memory.data(), source + start, static_cast<size_t>(count));
      CRIBLE_RETURN_IF_ERROR(check(slot->memory.as<std::byte>(), count));
      CRIBLE_RETURN_IF_ERROR(send(*slot, static_cast<std::byte*>(target) + start, count));
    }
    return {};
  }
  Status copy(const std::byte* source, int64_t bytes, void* target) {
    return copy(source, bytes, target, [](const std::byte*, int64_t) { return Status(); });
  }
  // Device memory of this thread's own; its last use is ordered before on the stream.
  Result<std::byte*> scratch(int64_t bytes) {
    if (scratch_.bytes() < bytes) {
      CRIBLE_RETURN_IF_ERROR(stream_.synchronize());
      scratch_ = DeviceBuffer();
      CRIBLE_TRY(scratch_, DeviceBuffer::allocate(bytes));
    }
    return scratch_.as<std::byte>();
  }

  Status convert_rows(const MatrixUpload& u, const MatrixSource& source, const Piece& piece);
  Status to_bf16(const MatrixSource& source, int64_t row, int64_t rows, const std::string& name,
                 uint16_t* out);
  Status keep_fp8(const MatrixUpload& u, const ScaledFp8& layer, const Piece& piece);
  Status send_fp8_scales(const MatrixUpload& u, const ScaledFp8& layer);
  Status keep_int4(const MatrixUpload& u);

  CudaStream stream_;
  Stream cpu_;
  std::vector<Slot> slots_;
  size_t next_ = 0;
  DeviceBuffer scratch_;
  std::vector<float> values_;
  std::vector<std::byte> row_;
};

Status Worker::to_bf16(const MatrixSource& source, int64_t row, int64_t rows, const std::string& name,
                       uint16_t* out) {
  const int64_t row_bytes = dtype_row_bytes(source.dtype, source.columns);
  const auto alignment = static_cast<size_t>(dtype_block_bytes(source.dtype));
  values_.resize(static_cast<size_t>(source.columns));
  for (int64_t r = row; r < row + rows; ++r) {
    const std::byte* from = source.data + r * row_bytes;
    if (reinterpret_cast<uintptr_t>(from) % std::min<size_t>(alignment, 4) != 0) {
      row_.assign(from, from + row_bytes);
      from = row_.data();
    }
    dequantize(source.dtype, from, source.columns, values_.data());
    if (!round_to_bf16(values_.data(), source.columns, out + (r - row) * source.columns))
      return fail(ErrorCode::kCorrupt, "{}: a weight is not a finite number", name);
  }
  return {};
}

Status Worker::convert_rows(const MatrixUpload& u, const MatrixSource& source, const Piece& piece) {
  const DeviceMatrix& m = u.target;
  const int64_t row_bytes = dtype_row_bytes(source.dtype, m.columns);
  const int64_t at_once = std::max<int64_t>(1, kStagingBytes / (2 * m.columns));
  CHECK(2 * m.columns <= kStagingBytes, "rows of {}", m.columns);
  const bool fp8 = m.type == WeightType::kFp8;
  if (!fp8 && source.dtype == DType::kBF16) {
    return copy(source.data + piece.first_row * row_bytes, piece.rows * row_bytes,
                static_cast<uint16_t*>(m.data) + (u.first_row + piece.first_row) * m.columns);
  }
  for (int64_t row = piece.first_row; row < piece.first_row + piece.rows; row += at_once) {
    const int64_t rows = std::min(at_once, piece.first_row + piece.rows - row);
    CRIBLE_TRY(Slot * slot, free_slot());
    populate(source.data + row * row_bytes, rows * row_bytes);
    if (source.dtype == DType::kBF16) {
      std::memcpy(slot->memory.data(), source.data + row * row_bytes, static_cast<size_t>(rows * row_bytes));
    } else {
      CRIBLE_RETURN_IF_ERROR(to_bf16(source, row, rows, u.name, slot->memory.as<uint16_t>()));
    }
    const int64_t to = (u.first_row + row) * m.columns;
    if (!fp8) {
      CRIBLE_RETURN_IF_ERROR(send(*slot, static_cast<uint16_t*>(m.data) + to, rows * m.columns * 2));
      continue;
    }
    CRIBLE_TRY(std::byte * wide, scratch(kStagingBytes));
    CRIBLE_RETURN_IF_ERROR(send(*slot, wide, rows * m.columns * 2));
    quantize_rows(stream_, reinterpret_cast<const __nv_bfloat16*>(wide), rows, m.columns,
                  {.data = static_cast<uint8_t*>(m.data) + to, .scale = m.scale + u.first_row + row});
  }
  return {};
}

Status Worker::keep_fp8(const MatrixUpload& u, const ScaledFp8& layer, const Piece& piece) {
  if (piece.first_row == 0) CRIBLE_RETURN_IF_ERROR(send_fp8_scales(u, layer));
  const int64_t start = piece.first_row * layer.columns;
  return copy(layer.values + start, piece.rows * layer.columns,
              static_cast<uint8_t*>(u.target.data) + u.first_row * layer.columns + start,
              [&](const std::byte* values, int64_t count) -> Status {
                if (!has_fp8_nan(values, count)) return {};
                return fail(ErrorCode::kCorrupt, "{}: a weight is not a number", u.name);
              });
}

Status Worker::send_fp8_scales(const MatrixUpload& u, const ScaledFp8& layer) {
  std::vector<float> scales;
  int64_t offset = u.first_row;
  const int64_t blocks = ceil_div(layer.columns, layer.block_columns);
  if (u.target.group == 0) {
    for (int64_t r = 0; r < layer.rows; ++r) scales.push_back(layer.scales[r / layer.block_rows * blocks]);
  } else {
    const int64_t stride = u.target.scale_stride();
    offset = u.first_row / layer.block_rows * stride;
    scales.assign(static_cast<size_t>(layer.rows / layer.block_rows * stride), 0.0f);
    for (int64_t r = 0; r < layer.rows / layer.block_rows; ++r) {
      for (int64_t c = 0; c < blocks; ++c)
        scales[static_cast<size_t>(r * stride + c)] = layer.scales[r * blocks + c];
    }
  }
  if (!std::all_of(scales.begin(), scales.end(), [](float s) { return std::isfinite(s); }))
    return fail(ErrorCode::kCorrupt, "{}: a scale is not a number", u.name);
  return copy(reinterpret_cast<const std::byte*>(scales.data()), static_cast<int64_t>(scales.size() * 4),
              u.target.scale + offset);
}

// The whole matrix goes into scratch as the file has it; the GPU puts it in order.
Status Worker::keep_int4(const MatrixUpload& u) {
  RawInt4 raw;
  if (const auto* source = std::get_if<MatrixSource>(&u.source)) {
    const int64_t bytes = source->rows * dtype_row_bytes(DType::kQ4_0, source->columns);
    CRIBLE_TRY(std::byte * blocks, scratch(bytes));
    CRIBLE_RETURN_IF_ERROR(copy(source->data, bytes, blocks));
    raw = {.source = Int4Source::kQ4_0,
           .rows = source->rows,
           .columns = source->columns,
           .group = 32,
           .qweight = blocks};
  } else {
    const auto& layer = std::get<GroupQuantised>(u.source);
    const int64_t scales = layer.groups * layer.rows;
    if (!all_finite(layer.scales, scales)) {
      return fail(ErrorCode::kUnsupported, "{}: a scale is not a number of half precision", u.name);
    }
    const int64_t weight_bytes = layer.rows * layer.columns / 2;
    const int64_t zero_bytes = round_up(scales / 2, 16);
    const int64_t scale_bytes = bytes_of(layer.scales, scales);
    CRIBLE_TRY(std::byte * words, scratch(weight_bytes + zero_bytes + scale_bytes));
    std::byte* zeros = words + weight_bytes;
    CRIBLE_RETURN_IF_ERROR(copy(layer.qweight, weight_bytes, words));
    CRIBLE_RETURN_IF_ERROR(copy(layer.qzeros, scales / 2, zeros));
    CRIBLE_RETURN_IF_ERROR(copy(layer.scales.data(), scale_bytes, zeros + zero_bytes));
    raw = {.source = layer.layout == GroupQuantised::Layout::kAwq ? Int4Source::kAwq : Int4Source::kGptq,
           .rows = layer.rows,
           .columns = layer.columns,
           .group = layer.group_size,
           .qweight = words,
           .qzeros = zeros,
           .scales = zeros + zero_bytes,
           .scale_type = layer.scales.dtype() == DType::kF16    ? Int4ScaleType::kF16
                         : layer.scales.dtype() == DType::kBF16 ? Int4ScaleType::kBf16
                                                                : Int4ScaleType::kF32,
           .zeros_less_one = layer.zeros_less_one};
  }
  pack_int4(stream_, raw, u.target.int4(), u.first_row);
  return {};
}

int64_t rows_of(const StoredMatrix& matrix) {
  return std::visit([](const auto& m) { return m.rows; }, matrix);
}

// Matrices whose rows can be taken apart are: the embedding alone would keep one thread busy for long.
std::vector<Piece> pieces_of(std::span<const MatrixUpload> uploads) {
  std::vector<Piece> pieces;
  for (const MatrixUpload& u : uploads) {
    const int64_t rows = rows_of(u.source);
    const bool whole = u.target.type == WeightType::kInt4 ||
                       std::holds_alternative<GroupQuantised>(u.source) ||
                       (std::holds_alternative<ScaledFp8>(u.source) && u.target.type != WeightType::kFp8);
    const int64_t step = whole ? rows : std::max<int64_t>(1, 4 * kStagingBytes / (2 * u.target.columns));
    for (int64_t row = 0; row < rows; row += step) pieces.push_back({&u, row, std::min(step, rows - row)});
  }
  return pieces;
}

}  // namespace

WeightFormat kept_format(const StoredMatrix& matrix) {
  if (const auto* source = std::get_if<MatrixSource>(&matrix)) {
    const bool fits = source->dtype == DType::kQ4_0 && int4_fits(source->rows, source->columns, 32);
    return fits ? WeightFormat(WeightType::kInt4, 32) : WeightType::kBf16;
  }
  if (const auto* layer = std::get_if<GroupQuantised>(&matrix)) {
    const bool fits = layer->bits == 4 && int4_fits(layer->rows, layer->columns, layer->group_size) &&
                      groups_in_order(*layer);
    return fits ? WeightFormat(WeightType::kInt4, int4_stored_group(layer->group_size)) : WeightType::kBf16;
  }
  const auto& layer = std::get<ScaledFp8>(matrix);
  if (layer.columns % kFp8Block != 0) return WeightType::kBf16;
  if (layer.block_columns == layer.columns) return WeightType::kFp8;
  const bool blocks =
      layer.block_rows == kFp8Block && layer.block_columns == kFp8Block && layer.rows % kFp8Block == 0;
  return blocks ? WeightFormat(WeightType::kFp8, static_cast<int>(kFp8Block)) : WeightType::kBf16;
}

Status check_upload(const MatrixUpload& u) {
  const WeightFormat kept = kept_format(u.source);
  const DeviceMatrix& m = u.target;
  if (m.type == WeightType::kInt4 && (kept.type != WeightType::kInt4 || kept.group % m.group != 0)) {
    return fail(ErrorCode::kUnsupported,
                "{}: not in 4 bits in groups of a multiple of {} as the model's other matrices are", u.name,
                m.group);
  }
  if (m.type != WeightType::kFp8) return {};
  if (std::holds_alternative<GroupQuantised>(u.source)) {
    return fail(ErrorCode::kUnsupported, "{}: weights of {} bits are not quantised again to FP8", u.name,
                std::get<GroupQuantised>(u.source).bits);
  }
  const bool stored_fp8 = std::holds_alternative<ScaledFp8>(u.source);
  if ((stored_fp8 || m.group != 0) && (kept.type != WeightType::kFp8 || kept.group != m.group)) {
    return fail(ErrorCode::kUnsupported,
                "{}: not in FP8 with the scales that the model's other matrices have", u.name);
  }
  return {};
}

Status upload_matrices(std::span<const MatrixUpload> uploads, int threads) {
  const std::vector<Piece> pieces = pieces_of(uploads);
  if (threads == 0)
    threads = std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMaxThreads);
  int device = 0;
  CRIBLE_CUDA_RETURN_IF_ERROR(cudaGetDevice(&device));
  std::atomic<size_t> next = 0;
  std::mutex mutex;
  Status first;
  const auto work = [&]() -> Status {
    CRIBLE_CUDA_RETURN_IF_ERROR(cudaSetDevice(device));
    CRIBLE_TRY(Worker worker, Worker::create());
    for (size_t i = next++; i < pieces.size(); i = next++) CRIBLE_RETURN_IF_ERROR(worker.run(pieces[i]));
    return worker.finish();
  };
  {
    std::vector<std::jthread> workers;
    for (int t = 0; t < threads; ++t) {
      workers.emplace_back([&] {
        const Status done = work();
        if (done) return;
        next = pieces.size();  // the others stop after their piece
        const std::lock_guard lock(mutex);
        if (first) first = done;
      });
    }
  }
  return first;
}

}  // namespace crible::cuda
