// Mixture of experts: a router that chooses k experts a row, and the experts' gated feed-forward on the rows that chose
// them. Row r of every output depends on row r of its inputs and on the weights alone, bit for bit: not on which rows share
// an expert, on their number or on the thread count. Knows nothing of the router's own matrix: its logits are a matmul.
#pragma once

#include <cstdint>

#include "device/stream.h"
#include "ops/matmul/matmul.h"

namespace crible {

// softmax over all experts' logits, then the k largest, largest first; of equal ones the lower index first.
// A row with a logit that is not finite gets weights of NaN. Moves 4·rows·experts bytes.
struct RouteArgs {
  const float* logits;  // [rows, experts]
  int64_t logits_stride;
  int64_t rows;
  int64_t experts;
  int64_t experts_per_token;  // k, at most experts
  bool normalise;             // divide the k weights by their sum (Qwen3-MoE: norm_topk_prob)
  int32_t* chosen;            // [rows, k]
  float* weights;             // [rows, k]
};

void route_to_experts(Stream& stream, const RouteArgs& args);

// out[r] (+)= Σ_j weights[r, j] · down_e(silu(gate_e · x[r]) ∘ up_e · x[r]) with e = chosen[r, j], summed in the order of j.
// The experts' matrices are stacked in one packed matrix per role (PackedMatrix::pack takes them in that order), each a
// multiple of 16 rows. With C columns of x and F hidden columns:
//   gate_up  [experts · 2F, C]: gate's F rows and up's F rows of expert 0, then of expert 1, ...
//   or, where a file has them in two types, gate_up holds gate alone [experts · F, C] and up [experts · F, C] the other.
//   down     [experts · C, F]
// Reads each active expert's weights once per 256 rows; computes 6·rows·k·C·F operations.
struct ExpertsArgs {
  const float* x;  // [rows, C]
  int64_t rows;
  int64_t x_stride;
  const int32_t* chosen;  // [rows, k], as the router wrote them
  const float* weights;   // [rows, k]
  int64_t experts;
  int64_t experts_per_token;
  const PackedMatrix* gate_up;
  const PackedMatrix* up = nullptr;
  const PackedMatrix* down;
  float* out;  // [rows, C]
  int64_t out_stride;
  bool accumulate = false;  // add to out: the residual connection
};

// Scratch the stream must have reserved for a call with at most max_rows rows.
int64_t experts_scratch_bytes(int64_t max_rows, int64_t experts, int64_t experts_per_token, int64_t columns, int64_t hidden);

void experts_feed_forward(Stream& stream, const ExpertsArgs& args);

}  // namespace crible
