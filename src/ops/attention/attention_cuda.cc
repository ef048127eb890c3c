#include "ops/attention/attention_cuda.h"

#include <algorithm>

#include "base/check.h"
#include "base/units.h"
#include "device/cuda/cuda_status.h"

namespace crible::cuda {
namespace {

// From this many queries on a sequence is long enough for FlashAttention-3, which does not split contexts.
constexpr int32_t kFlash3Queries = 256;
constexpr int64_t kScheduleBytes = 8 * kMiB;
constexpr int64_t kLeastPartialBytes = 64 * kMiB;

// What FlashInfer's planner reserves for split contexts when every sequence has one query: a partial
// result of every head per tile of 16 packed rows, at least two tiles per multiprocessor.
int64_t partial_bytes(const AttentionShape& shape, const AttentionLimits& limits) {
  constexpr int64_t kTileRows = 16;
  const int64_t group = shape.heads / shape.kv_heads;
  const int64_t rows = ceil_div(limits.max_sequences * kTileRows, group);
  return std::max(kLeastPartialBytes, rows * shape.heads * (shape.head_size + 1) * 4 + kMiB);
}

}  // namespace

int64_t PagedAttention::workspace_bytes(const AttentionShape& shape, const AttentionLimits& limits) {
  return partial_bytes(shape, limits) + 2 * kScheduleBytes;
}

Result<PagedAttention::Section> PagedAttention::create_section() {
  CRIBLE_TRY(DeviceBuffer schedule, DeviceBuffer::allocate(kScheduleBytes));
  CRIBLE_TRY(PinnedBuffer first, PinnedBuffer::allocate(kScheduleBytes));
  CRIBLE_TRY(PinnedBuffer second, PinnedBuffer::allocate(kScheduleBytes));
  CRIBLE_TRY(CudaEvent first_copied, CudaEvent::create());
  CRIBLE_TRY(CudaEvent second_copied, CudaEvent::create());
  return Section{.flash2 = {},
                 .flash3 = {},
                 .schedule = std::move(schedule),
                 .staging = {std::move(first), std::move(second)},
                 .copied = {std::move(first_copied), std::move(second_copied)}};
}

Result<PagedAttention> PagedAttention::create(const AttentionShape& shape, const AttentionLimits& limits) {
  if (shape.head_size != 64 && shape.head_size != 128) {
    return fail(ErrorCode::kUnsupported, "attention on the GPU has head sizes 64 and 128, not {}",
                shape.head_size);
  }
  CHECK(shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0, "{} heads over {}", shape.heads,
        shape.kv_heads);
  CRIBLE_TRY(DeviceBuffer partial, DeviceBuffer::allocate(partial_bytes(shape, limits)));
  CRIBLE_TRY(Section singles, create_section());
  CRIBLE_TRY(Section others, create_section());
  return PagedAttention(shape, std::move(partial), std::move(singles), std::move(others));
}

Status PagedAttention::plan(const CudaStream& stream, const AttentionPlanInput& input) {
  int64_t singles = 0;
  while (singles < input.num_sequences && input.query_start[singles + 1] - input.query_start[singles] == 1)
    ++singles;
  int32_t longest = 0;
  for (int64_t s = singles; s < input.num_sequences; ++s) {
    longest = std::max(longest, input.query_start[s + 1] - input.query_start[s]);
  }
  CHECK(!input.graph || singles == input.num_sequences, "a graph is for single queries");
  CRIBLE_RETURN_IF_ERROR(plan_section(stream, input, sections_[0], Kernel::kFlash2, 0, singles));
  const bool flash3 = longest >= kFlash3Queries && shape_.head_size == 128;
  return plan_section(stream, input, sections_[1], flash3 ? Kernel::kFlash3 : Kernel::kFlash2, singles,
                      input.num_sequences - singles);
}

Status PagedAttention::plan_section(const CudaStream& stream, const AttentionPlanInput& input,
                                    Section& section, Kernel kernel, int64_t first, int64_t count) {
  section.kernel = count == 0 ? Kernel::kNone : kernel;
  section.first_sequence = first;
  section.num_sequences = count;
  if (count == 0) return {};
  section.num_rows = input.query_start[first + count] - input.query_start[first];
  const size_t slot = static_cast<size_t>(section.next);
  section.next = 1 - section.next;
  CRIBLE_RETURN_IF_ERROR(section.copied[slot].synchronize());
  const PlanCall call = {.shape = shape_,
                         .num_sequences = count,
                         .num_rows = section.num_rows,
                         .query_start = input.query_start + first,
                         .kv_start = input.kv_start + first,
                         .context_length = input.context_length + first,
                         .partial = partial_.data(),
                         .partial_bytes = partial_.bytes(),
                         .schedule = section.schedule.data(),
                         .staging = section.staging[slot].data(),
                         .schedule_bytes = section.schedule.bytes(),
                         .graph = input.graph};
  CRIBLE_RETURN_IF_ERROR(kernel == Kernel::kFlash2 ? flash2_plan(call, stream.get(), &section.flash2)
                                                   : flash3_plan(call, stream.get(), &section.flash3));
  return section.copied[slot].record(stream);
}

Status PagedAttention::run(const CudaStream& stream, const __nv_bfloat16* q, int64_t q_stride,
                           const AttentionBatch& batch, const KvCache& cache, __nv_bfloat16* out) const {
  for (const Section& section : sections_) {
    if (section.kernel == Kernel::kNone) continue;
    const int64_t first = section.first_sequence;
    const RunCall call = {.shape = shape_,
                          .q = q,
                          .q_stride = q_stride,
                          .out = out,
                          // Sequences before this section have one query each.
                          .first_row = first,
                          .num_sequences = section.num_sequences,
                          .num_rows = section.num_rows,
                          .cache = cache,
                          .query_start = batch.query_start + first,
                          .kv_start = batch.kv_start + first,
                          .kv_blocks = batch.kv_blocks,
                          .last_block_tokens = batch.last_block_tokens + first,
                          .partial = partial_.data(),
                          .schedule = section.schedule.data()};
    const bool wide = shape_.head_size == 128;
    if (section.kernel == Kernel::kFlash2) {
      CRIBLE_RETURN_IF_ERROR((wide ? flash2_run_128 : flash2_run_64)(call, section.flash2, stream.get()));
    } else {
      CRIBLE_RETURN_IF_ERROR(flash3_run_128(call, section.flash3, stream.get()));
    }
  }
  return {};
}

}  // namespace crible::cuda
