#include "ops/attention/attention_cuda.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/check.h"
#include "base/units.h"
#include "device/cuda/cuda_status.h"
#include "ops/attention/fixed_schedule_cuda.h"
#include "ops/attention/widen_blocks_cuda.h"
#include "ops/decode_attention/batched_decode_cuda.h"

namespace crible::cuda {
namespace {

// Which kernel takes prompts, as measured on one H100 (crible_gpu --only attention), microseconds for a layer
// of 32 heads over 8: 16 queries behind 16,000 tokens 37 by FlashAttention-2, 41 by the own kernel; 64
// queries 62, 54; prompts of 512 tokens 14 by FlashAttention-3, 17; of 2,048 98, 95; 2,048 behind 6,144 515,
// 386.
constexpr int64_t kFewRows = 64;
constexpr int32_t kFlash3Queries = 256;
constexpr int32_t kFlash3Context = 1024;
// Widening FP8 costs as much as it gains at about this many queries.
constexpr int32_t kWidenedQueries = 128;
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

int64_t widened_block_bytes(const AttentionShape& shape) {
  return 2 * shape.kv_heads * shape.block_size * shape.head_size *
         static_cast<int64_t>(sizeof(__nv_bfloat16));
}
bool decodes_directly(const AttentionShape& shape, const AttentionOptions& options) {
  return options.direct_decode && !options.fixed && batched_decode_fits(shape);
}
bool widens(const AttentionOptions& options) {
  return options.kv_type == KvType::kFp8 && !options.fixed && options.max_widened_blocks > 0;
}

using Flash2Run = Status (*)(const RunCall&, const Flash2Plan&, cudaStream_t);
Flash2Run flash2_kernel(int64_t head_size, KvType type, bool fixed) {
  const bool wide = head_size == 128;
  if (type == KvType::kBf16) {
    if (fixed) return wide ? flash2_run_fixed_128 : flash2_run_fixed_64;
    return wide ? flash2_run_128 : flash2_run_64;
  }
  if (fixed) return wide ? flash2_run_fixed_fp8_128 : flash2_run_fixed_fp8_64;
  return wide ? flash2_run_fp8_128 : flash2_run_fp8_64;
}

}  // namespace

int64_t PagedAttention::workspace_bytes(const AttentionShape& shape, const AttentionLimits& limits,
                                        const AttentionOptions& options) {
  const int64_t widened = widens(options) ? options.max_widened_blocks * (widened_block_bytes(shape) + 4) : 0;
  return partial_bytes(shape, limits) + batched_decode_counter_bytes() + 2 * kScheduleBytes + widened;
}

Result<PagedAttention::Section> PagedAttention::create_section() {
  CRIBLE_TRY(DeviceBuffer schedule, DeviceBuffer::allocate(kScheduleBytes));
  CRIBLE_TRY(PinnedBuffer first, PinnedBuffer::allocate(kScheduleBytes));
  CRIBLE_TRY(PinnedBuffer second, PinnedBuffer::allocate(kScheduleBytes));
  CRIBLE_TRY(CudaEvent first_copied, CudaEvent::create());
  CRIBLE_TRY(CudaEvent second_copied, CudaEvent::create());
  return Section{.flash2 = {},
                 .flash3 = {},
                 .prompt = {},
                 .prompt_plan = {},
                 .schedule = std::move(schedule),
                 .staging = {std::move(first), std::move(second)},
                 .copied = {std::move(first_copied), std::move(second_copied)}};
}

// The identity as a list of blocks, and room for what they hold.
Status PagedAttention::create_widened(const AttentionLimits& limits) {
  const int64_t blocks = options_.max_widened_blocks;
  CRIBLE_TRY(widened_, DeviceBuffer::allocate(blocks * widened_block_bytes(shape_)));
  CRIBLE_TRY(widened_blocks_, DeviceBuffer::allocate(blocks * 4));
  std::vector<int32_t> ids(static_cast<size_t>(blocks));
  std::iota(ids.begin(), ids.end(), 0);
  widened_start_.resize(static_cast<size_t>(limits.max_sequences + 1));
  return status_of(cudaMemcpy(widened_blocks_.data(), ids.data(), ids.size() * 4, cudaMemcpyHostToDevice),
                   "number the widened blocks");
}

// The shares of heads that are cut lie where those of split contexts lie at other times.
Status PagedAttention::create_direct() {
  CHECK(partial_.bytes() >= batched_decode_partial_bytes(shape_), "{} bytes", partial_.bytes());
  CRIBLE_TRY(direct_blocks_, batched_decode_blocks(shape_, options_.kv_type));
  CRIBLE_TRY(direct_counters_, DeviceBuffer::allocate(batched_decode_counter_bytes()));
  return status_of(cudaMemset(direct_counters_.data(), 0, static_cast<size_t>(direct_counters_.bytes())),
                   "clear the counters of attention");
}

Result<PagedAttention> PagedAttention::create(const AttentionShape& shape, const AttentionLimits& limits,
                                              const AttentionOptions& options) {
  if (shape.head_size != 64 && shape.head_size != 128) {
    return fail(ErrorCode::kUnsupported, "attention on the GPU has head sizes 64 and 128, not {}",
                shape.head_size);
  }
  CHECK(shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0, "{} heads over {}", shape.heads,
        shape.kv_heads);
  CRIBLE_TRY(DeviceBuffer partial, DeviceBuffer::allocate(partial_bytes(shape, limits)));
  CRIBLE_TRY(Section singles, create_section());
  CRIBLE_TRY(Section others, create_section());
  PagedAttention attention(shape, options, std::move(partial), std::move(singles), std::move(others));
  if (widens(options)) CRIBLE_RETURN_IF_ERROR(attention.create_widened(limits));
  prepare_prompt_attention();
  attention.prompt_blocks_ = prompt_attention_blocks();
  CHECK(attention.partial_.bytes() >= prompt_partial_bytes(shape, attention.prompt_blocks_), "{} bytes",
        attention.partial_.bytes());
  if (decodes_directly(shape, options)) CRIBLE_RETURN_IF_ERROR(attention.create_direct());
  return attention;
}

PagedAttention::Kernel PagedAttention::kernel_for_singles() const {
  if (options_.fixed) return Kernel::kFixed;
  return decodes_directly(shape_, options_) ? Kernel::kDirect : Kernel::kFlash2;
}

Status PagedAttention::plan(const CudaStream& stream, const AttentionPlanInput& input) {
  int64_t singles = 0;
  while (singles < input.num_sequences && input.query_start[singles + 1] - input.query_start[singles] == 1)
    ++singles;
  CHECK(!input.graph || singles == input.num_sequences, "a graph is for single queries");
  CRIBLE_RETURN_IF_ERROR(plan_section(stream, input, sections_[0], kernel_for_singles(), 0, singles));
  return plan_section(stream, input, sections_[1], kernel_for_prompts(input, singles), singles,
                      input.num_sequences - singles);
}

PagedAttention::Kernel PagedAttention::kernel_for_prompts(const AttentionPlanInput& input,
                                                          int64_t first) const {
  if (options_.fixed) return Kernel::kFixed;
  int32_t longest = 0, context = 0;
  for (int64_t s = first; s < input.num_sequences; ++s) {
    longest = std::max(longest, input.query_start[s + 1] - input.query_start[s]);
    context = std::max(context, input.context_length[s]);
  }
  const int64_t blocks = input.kv_start[input.num_sequences] - input.kv_start[first];
  const bool fp8 = options_.kv_type == KvType::kFp8;
  if (fp8 && blocks > options_.max_widened_blocks) return Kernel::kFlash2;
  const bool flash3_fits = shape_.head_size == 128;
  switch (options_.prompts) {
    case PromptKernel::kFlash2: return Kernel::kFlash2;
    case PromptKernel::kFlash3: return flash3_fits ? Kernel::kFlash3 : Kernel::kFlash2;
    case PromptKernel::kOwn: return Kernel::kPrompt;
    case PromptKernel::kBest: break;
  }
  // Fewer rows leave most of a tile empty.
  if (longest * (shape_.heads / shape_.kv_heads) <= kFewRows) return Kernel::kFlash2;
  if (fp8 && longest < kWidenedQueries) return Kernel::kFlash2;
  if (flash3_fits && longest >= kFlash3Queries && context <= kFlash3Context) return Kernel::kFlash3;
  return Kernel::kPrompt;
}

// The schedule as the kernel reads it, in one copy.
Status PagedAttention::send_prompt_plan(const CudaStream& stream, const PlanCall& call,
                                        Section& section) const {
  const auto sequences = static_cast<size_t>(call.num_sequences);
  plan_prompts(shape_,
               {.query_start = {call.query_start, sequences + 1},
                .kv_start = {call.kv_start, sequences + 1},
                .context_length = {call.context_length, sequences}},
               prompt_blocks_, &section.prompt);
  const PromptSchedule& s = section.prompt;
  int64_t bytes = 0;
  const auto place = [&](const auto& values) {
    const int64_t at = bytes;
    const size_t size = values.size() * sizeof(values[0]);
    bytes += round_up(static_cast<int64_t>(size), int64_t{16});
    if (bytes <= call.schedule_bytes)
      std::memcpy(static_cast<std::byte*>(call.staging) + at, values.data(), size);
    return static_cast<std::byte*>(call.schedule) + at;
  };
  section.prompt_plan = {.blocks = prompt_blocks_,
                         .merges = static_cast<int>(s.merges.size()),
                         .start = reinterpret_cast<const int32_t*>(place(s.start)),
                         .units = reinterpret_cast<const PromptUnit*>(place(s.units)),
                         .merged = reinterpret_cast<const PromptMerge*>(place(s.merges))};
  if (bytes > call.schedule_bytes) {
    return fail(ErrorCode::kResourceExhausted, "plan attention: {} parts need {} of {} bytes", s.units.size(),
                bytes, call.schedule_bytes);
  }
  return status_of(cudaMemcpyAsync(call.schedule, call.staging, static_cast<size_t>(bytes),
                                   cudaMemcpyHostToDevice, stream.get()),
                   "send the schedule of attention");
}

Status PagedAttention::plan_section(const CudaStream& stream, const AttentionPlanInput& input,
                                    Section& section, Kernel kernel, int64_t first, int64_t count) {
  section.kernel = count == 0 ? Kernel::kNone : kernel;
  section.alone = count == input.num_sequences;
  section.first_sequence = first;
  section.num_sequences = count;
  if (section.kernel == Kernel::kNone || section.kernel == Kernel::kDirect) return {};
  section.num_rows = input.query_start[first + count] - input.query_start[first];
  section.first_block = input.kv_start[first];
  section.num_blocks = input.kv_start[first + count] - section.first_block;
  const size_t slot = static_cast<size_t>(section.next);
  section.next = 1 - section.next;
  CRIBLE_RETURN_IF_ERROR(section.copied[slot].synchronize());
  const int32_t* kv_start = input.kv_start + first;
  if ((kernel == Kernel::kFlash3 || kernel == Kernel::kPrompt) && options_.kv_type == KvType::kFp8) {
    for (int64_t s = 0; s <= count; ++s)
      widened_start_[static_cast<size_t>(s)] = kv_start[s] - static_cast<int32_t>(section.first_block);
    kv_start = widened_start_.data();
  }
  const PlanCall call = {.shape = shape_,
                         .num_sequences = count,
                         .num_rows = section.num_rows,
                         .query_start = input.query_start + first,
                         .kv_start = kv_start,
                         .context_length = input.context_length + first,
                         .partial = partial_.data(),
                         .partial_bytes = partial_.bytes(),
                         .schedule = section.schedule.data(),
                         .staging = section.staging[slot].data(),
                         .schedule_bytes = section.schedule.bytes(),
                         .graph = input.graph};
  if (kernel == Kernel::kPrompt) {
    CRIBLE_RETURN_IF_ERROR(send_prompt_plan(stream, call, section));
  } else if (kernel == Kernel::kFlash3) {
    CRIBLE_RETURN_IF_ERROR(flash3_plan(call, stream.get(), &section.flash3));
  } else if (kernel == Kernel::kFixed) {
    CRIBLE_RETURN_IF_ERROR(flash2_fixed_plan(call, options_.kv_type, stream.get(), &section.flash2));
  } else {
    CRIBLE_RETURN_IF_ERROR(flash2_plan(call, stream.get(), &section.flash2));
  }
  return section.copied[slot].record(stream);
}

KvCache PagedAttention::widen(const CudaStream& stream, const Section& section, const AttentionBatch& batch,
                              const KvCache& cache) const {
  auto* k = widened_.as<__nv_bfloat16>();
  widen_blocks(stream, shape_, cache, batch.kv_blocks + section.first_block, section.num_blocks, k);
  const int64_t half = shape_.kv_heads * shape_.block_size * shape_.head_size;
  return {.k = k, .v = k + half, .block_stride = 2 * half};
}

Status PagedAttention::run(const CudaStream& stream, const __nv_bfloat16* q, int64_t q_stride,
                           const AttentionBatch& batch, const KvCache& cache, __nv_bfloat16* out) const {
  CHECK(cache.type == options_.kv_type, "planned for another type of cache");
  for (const Section& section : sections_) {
    if (section.kernel == Kernel::kNone) continue;
    CRIBLE_RETURN_IF_ERROR(run_section(stream, section, q, q_stride, batch, cache, out));
  }
  return {};
}

Status PagedAttention::run_section(const CudaStream& stream, const Section& section, const __nv_bfloat16* q,
                                   int64_t q_stride, const AttentionBatch& batch, const KvCache& cache,
                                   __nv_bfloat16* out) const {
  const int64_t first = section.first_sequence;
  if (section.kernel == Kernel::kDirect) {
    batched_decode(stream, {.q = q + first * q_stride,
                            .q_stride = q_stride,
                            .out = out + first * shape_.heads * shape_.head_size,
                            .rows = section.num_sequences,
                            .kv_start = batch.kv_start + first,
                            .kv_blocks = batch.kv_blocks,
                            .last_block_tokens = batch.last_block_tokens + first,
                            .shape = shape_,
                            .cache = cache,
                            // A prompt of the same step might write blocks that a decode shares.
                            .settled = section.alone,
                            .blocks = direct_blocks_,
                            .partial = partial_.as<float>(),
                            .counters = direct_counters_.as<int32_t>()});
    return {};
  }
  RunCall call = {.shape = shape_,
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
  const bool own = section.kernel == Kernel::kPrompt;
  if (!own && section.kernel != Kernel::kFlash3) {
    const Flash2Run kernel = flash2_kernel(shape_.head_size, cache.type, section.kernel == Kernel::kFixed);
    return kernel(call, section.flash2, stream.get());
  }
  const bool widened = cache.type == KvType::kFp8;
  if (widened) {
    call.cache = widen(stream, section, batch, cache);
    call.kv_blocks = widened_blocks_.as<int32_t>();
  }
  if (!own) return flash3_run_128(call, section.flash3, stream.get());
  prompt_attention(stream, {.q = q,
                            .q_stride = q_stride,
                            .out = out,
                            .kv_blocks = call.kv_blocks,
                            .shape = shape_,
                            .cache = call.cache,
                            .plan = section.prompt_plan,
                            .partial = partial_.as<float>()});
  return {};
}

}  // namespace crible::cuda
