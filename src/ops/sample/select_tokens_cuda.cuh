// The smallest leading set of a row's tokens that holds a number of them (top-k) or a share of their weight (top-p,
// typical-p), in a given order. The place of its last token is searched for over the 32 ordered bits of the keys,
// eight ways at a time, until few enough tokens are left to be sorted: two to four passes over the row for logits of
// any spread, at most eleven for keys; equal keys by the thousand are then searched by id.
// Included by .cu files.
#pragma once

#include "ops/sample/row_cluster_cuda.cuh"

namespace crible::cuda {

inline constexpr int kBounds = 7;

// Likelier tokens first. Bounds tried first lie at distances from the maximum that halve.
struct ByLogit {
  float maximum;
  float temperature;

  __device__ explicit ByLogit(const Row& row) : maximum(row.maximum), temperature(row.temperature) {}
  __device__ uint32_t key(float logit) const { return key_of(logit); }
  __device__ uint32_t top() const { return key_of(maximum); }
  __device__ uint32_t first_bound(int i) const {
    return key_of(maximum - static_cast<float>(1 << (kBounds - 2 - i)) * 0.5f * temperature);
  }
};

// Tokens first whose information is nearest to the entropy: with x = (logit - maximum) / temperature, that is whose x
// is nearest to the mean of x (sample_cpu.cc). Distances are rounded to float32; tokens that cannot be drawn have
// key 0.
struct ByTypicality {
  static constexpr uint32_t kNearest = 0x80000000u;
  double maximum;
  double inverse_temperature;
  double mean;

  __device__ uint32_t key(float logit) const {
    const double x = (static_cast<double>(logit) - maximum) * inverse_temperature;
    if (x < static_cast<double>(exponential_constants::kLowest)) return 0;
    return kNearest - __float_as_uint(static_cast<float>(fabs(x - mean)));
  }
  __device__ uint32_t top() const { return kNearest; }
  __device__ uint32_t first_bound(int i) const {
    return kNearest - __float_as_uint(static_cast<float>(1 << (kBounds - 2 - i)) * 0.25f);
  }
};

enum class Measure { kNumber, kWeight };

// Where the last token of the set is known to be: between low (included) and high, in keys or, among equal
// keys, in places that rise as ids fall.
struct SearchInterval {
  uint32_t low;
  uint32_t high;
  uint64_t above;   // measure of what lies at or above high; less than wanted
  uint32_t inside;  // tokens from low to high
};

// Of the tokens that take part, the place that is searched: by keys, or by ids among those of one key.
template <typename Order>
struct PlaceByKey {
  const Order& order;
  uint64_t cut;  // tokens of lower rank take no part

  __device__ bool place(float logit, int id, uint32_t low, uint32_t high, uint32_t& place) const {
    place = order.key(logit);
    return place >= low && place < high && rank_of(place, id) >= cut;
  }
};
template <typename Order>
struct PlaceById {
  const Order& order;
  uint64_t cut;
  uint32_t key;

  __device__ bool place(float logit, int id, uint32_t low, uint32_t high, uint32_t& place) const {
    place = static_cast<uint32_t>(kMaxVocabulary - id);
    return order.key(logit) == key && place >= low && place < high && rank_of(key, id) >= cut;
  }
};

// Sums of what lies between each bound and high. bounds ascend.
template <Measure kMeasure, typename Place>
__device__ void measure_above(Row& row, const Place& placed, const uint32_t (&bounds)[kBounds], uint32_t high,
                              RowSums<kBounds, kBounds>& sums) {
  for_each(row, [&](float logit, int at) {
    uint32_t place;
    if (!placed.place(logit, row.begin + at, bounds[0], high, place)) return;
    const uint64_t weight = kMeasure == Measure::kWeight ? row.weight(logit) : 0;
#pragma unroll
    for (int i = 0; i < kBounds; ++i) {
      if (place >= bounds[i]) {
        if (kMeasure == Measure::kWeight) sums.mass[i] += weight;
        ++sums.count[i];
      }
    }
  });
  if constexpr (kMeasure == Measure::kWeight) {
    add_over_cluster(row, sums);
  } else {
    RowSums<1, kBounds> counts;
#pragma unroll
    for (int i = 0; i < kBounds; ++i) counts.count[i] = sums.count[i];
    add_over_cluster(row, counts);
#pragma unroll
    for (int i = 0; i < kBounds; ++i) {
      sums.count[i] = counts.count[i];
      sums.mass[i] = counts.count[i];
    }
  }
}

// The part of the interval, cut at the bounds, in which `wanted` is reached.
__device__ inline SearchInterval narrowed(const SearchInterval& old, const uint32_t (&bounds)[kBounds],
                                          const RowSums<kBounds, kBounds>& sums, uint64_t wanted) {
  SearchInterval next = {old.low, min(bounds[0], old.high), old.above + sums.mass[0], old.inside - sums.count[0]};
#pragma unroll
  for (int i = 0; i < kBounds; ++i) {
    if (old.above + sums.mass[i] < wanted) continue;
    const bool last = i + 1 == kBounds;
    const int following = last ? i : i + 1;
    next.low = bounds[i];
    next.high = last ? old.high : min(bounds[following], old.high);
    next.above = old.above + (last ? 0 : sums.mass[following]);
    next.inside = sums.count[i] - (last ? 0 : sums.count[following]);
  }
  return next;
}

template <Measure kMeasure, typename Place>
__device__ SearchInterval narrow(Row& row, const Place& placed, SearchInterval interval, uint64_t wanted) {
  while (interval.inside > kListed && interval.high - interval.low > 1) {
    const uint32_t step = (interval.high - interval.low + kBounds) / (kBounds + 1);
    uint32_t bounds[kBounds];
#pragma unroll
    for (int i = 0; i < kBounds; ++i) bounds[i] = interval.low + static_cast<uint32_t>(i + 1) * step;
    RowSums<kBounds, kBounds> sums;
    measure_above<kMeasure>(row, placed, bounds, interval.high, sums);
    interval = narrowed(interval, bounds, sums, wanted);
  }
  return interval;
}

// The rank of the token in the interval, which holds at most kListed, with which `wanted` is reached.
template <Measure kMeasure, typename Order, typename Place>
__device__ uint64_t last_of_set(Row& row, const Order& order, const Place& placed, const SearchInterval& interval,
                                uint64_t wanted) {
  const int listed = gather(row, [&](float logit, int id, ListedToken& token) {
    uint32_t place;
    if (!placed.place(logit, id, interval.low, interval.high, place)) return false;
    token = {rank_of(order.key(logit), id), kMeasure == Measure::kWeight ? row.weight(logit) : uint64_t{1}};
    return true;
  });
  ListedToken mine = {0, 0};
  bool last = false;
  if (row.block == 0) {
    mine = sorted_token(*row.exchange, listed);
    const uint64_t reached = interval.above + running_sum(*row.exchange, mine.measure);
    last = mine.rank != 0 && reached >= wanted && reached - mine.measure < wanted;
  }
  return from_owner(row, last, mine.rank);
}

// The set's lowest rank: what ranks at or above it is in. Tokens below `cut` take no part. limit: how many tokens, or
// which share of the weight of those that take part, in (0, 1).
template <Measure kMeasure, typename Order, typename Limit>
__device__ uint64_t select_leading(Row& row, const Order& order, uint64_t cut, Limit limit) {
  const PlaceByKey<Order> by_key = {order, cut};
  uint32_t bounds[kBounds];
  bounds[0] = static_cast<uint32_t>(cut >> 32);
#pragma unroll
  for (int i = 1; i < kBounds; ++i) bounds[i] = max(bounds[0], order.first_bound(i - 1));
  const uint32_t high = order.top() + 1;
  RowSums<kBounds, kBounds> sums;
  measure_above<kMeasure>(row, by_key, bounds, high, sums);
  uint64_t wanted;
  if constexpr (kMeasure == Measure::kNumber) {
    wanted = static_cast<uint64_t>(limit);
    if (sums.count[0] <= wanted) return cut;
  } else {
    const double share = ceil(static_cast<double>(sums.mass[0]) * static_cast<double>(limit));
    wanted = max(uint64_t{1}, static_cast<uint64_t>(share));
  }
  SearchInterval interval = narrowed({bounds[0], high, 0, sums.count[0]}, bounds, sums, wanted);
  interval = narrow<kMeasure>(row, by_key, interval, wanted);
  if (interval.inside <= kListed) return last_of_set<kMeasure>(row, order, by_key, interval, wanted);
  const PlaceById<Order> by_id = {order, cut, interval.low};
  const SearchInterval all_ids = {1, kMaxVocabulary + 1, interval.above, interval.inside};
  return last_of_set<kMeasure>(row, order, by_id, narrow<kMeasure>(row, by_id, all_ids, wanted), wanted);
}

}  // namespace crible::cuda
