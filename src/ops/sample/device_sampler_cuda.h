// Draws the tokens of a step on the GPU: sends the rows' parameters, enqueues the choice, brings tokens and
// log-probabilities back. Everything goes through one stream, in this order for every step:
//   send() · enqueue() · fetch_async() · (the caller waits) · the results that fetch_async() named
// Step N + 1 may be sent, enqueued and fetched while the results of N are read: there are two sets of staging
// and of results. The histories of penalties stay on the device, which counts in them what it draws
// (history_slots.h); what else depends on the last token (DRY) must be known when a row is sent. Allocates
// nothing and does not wait for the GPU, but for staging still being copied two steps later. Owned and used by
// one thread.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "device/cuda/cuda_stream.h"
#include "device/cuda/device_buffer.h"
#include "ops/sample/history_slots.h"
#include "ops/sample/sample.h"

namespace crible::cuda {

struct DeviceSamplerLimits {
  int64_t max_rows = 1;
  int64_t vocabulary = 1;
  int64_t logits_stride = 0;  // elements between rows of logits; 0: vocabulary
  int32_t max_logprobs = 0;  // largest SampleRow::logprobs
  // Room for the adjustments of a step's rows. A step with more is drawn in several rounds, each of which
  // waits for the copy of the one two before; a single row always fits.
  int64_t list_bytes = 8 * kMiB;
  // Sequences whose histories stay on the device, at least as many as have one in a step; 0: each is sent with every
  // step, which then waits for the tokens of the one before.
  int64_t histories = 0;
  int64_t history_tokens = 0;  // of the longest sequence
};

// In pinned memory, row by row. Written when the stream has come to the copy; valid until the second next
// fetch_async().
struct SampledRows {
  std::span<const TokenId> tokens;         // -1: a fault (sample.h)
  const TokenLogprob* logprobs = nullptr;  // those of row 0; undefined where a row asks for none
  int64_t logprobs_stride = 0;             // 1 + max_logprobs

  const TokenLogprob* logprobs_of(int64_t row) const { return logprobs + row * logprobs_stride; }
};

class DeviceSampler {
 public:
  static Result<DeviceSampler> create(const DeviceSamplerLimits& limits);
  // On the device, for the memory plan; twice as much is pinned on the host.
  static int64_t bytes_for(const DeviceSamplerLimits& limits);

  // The parameters of the step's rows. They and their adjustments must stay as they are until enqueue()
  // returns.
  Status send(const CudaStream& stream, std::span<const crible::SampleRow> rows);
  // logits: [rows, logits_stride] on the device; left as they are. Of a step whose adjustments fit in one round
  // (one_round()) this may be captured into a graph, for its number of rows.
  Status enqueue(const CudaStream& stream, const float* logits);
  // One copy of the tokens, with the log-probabilities where a row asks for them.
  Result<SampledRows> fetch_async(const CudaStream& stream);

  // [rows] of the step last enqueued, at a fixed address: what the next step's embedding reads.
  const int32_t* device_tokens() const { return results_.as<int32_t>(); }

  bool one_round() const { return round_rows_ == std::ssize(rows_); }

 private:
  explicit DeviceSampler(const DeviceSamplerLimits& limits);
  // Packs and sends as many rows from `first` on as fit.
  Status send_round(const CudaStream& stream, int64_t first);

  DeviceSamplerLimits limits_;
  DeviceBuffer parameters_;
  DeviceBuffer results_;  // tokens, then log-probabilities
  DeviceBuffer histories_;  // of sample_cuda.h, one a slot; empty if none are kept
  HistorySlots slots_;
  std::vector<HistoryPlace> places_;  // of the rows last sent
  std::array<PinnedBuffer, 2> staging_;
  std::array<PinnedBuffer, 2> fetched_;
  std::vector<CudaEvent> sent_;
  size_t next_staging_ = 0;
  size_t next_fetched_ = 0;
  std::span<const crible::SampleRow> rows_;
  int64_t round_first_ = 0;
  int64_t round_rows_ = 0;
  int64_t round_lists_at_ = 0;
  bool reports_ = false;
};

}  // namespace crible::cuda
