// The smallest leading set of a row's tokens that holds a number of them (top-k) or a share of their weight
// (top-p, typical-p), in a given order. The place of its last token is searched for over the 32 ordered bits
// of the keys, eight ways at a time, until few enough tokens are left to be sorted: two to four passes over
// the row for logits of any spread, fourteen at most; equal keys by the thousand are then searched by id.
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
  __device__ static float value(uint32_t key) { return value_of(key); }
  __device__ static uint32_t key_of_value(float value) { return key_of(value); }
  __device__ uint32_t top() const { return key_of(maximum); }
  __device__ uint32_t first_bound(int i) const {
    return key_of(maximum - static_cast<float>(1 << (kBounds - 2 - i)) * 0.5f * temperature);
  }
};

// Tokens first whose information is nearest to the entropy: with x = (logit - maximum) / temperature, that is
// whose x is nearest to the mean of x (sample_cpu.cc). Distances are rounded to float32; tokens that cannot
// be drawn have key 0.
struct ByTypicality {
  static constexpr uint32_t kNearest = 0x80000000u;
  static constexpr uint32_t kFarthest =
      kNearest - 0x43000000u;  // 128: x is never below exponential_constants::kLowest
  double maximum;
  double inverse_temperature;
  double mean;

  __device__ uint32_t key(float logit) const {
    const double x = (static_cast<double>(logit) - maximum) * inverse_temperature;
    const uint32_t key = kNearest - __float_as_uint(static_cast<float>(fabs(x - mean)));
    return x < static_cast<double>(exponential_constants::kLowest) ? 0 : key;
  }
  __device__ static float value(uint32_t key) { return __uint_as_float(kNearest - key); }
  __device__ static uint32_t key_of_value(float value) { return kNearest - __float_as_uint(value); }
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
  static constexpr bool kKeys = true;
  const Order& order;
  uint64_t cut;  // tokens of lower rank take no part

  __device__ bool place(float logit, int id, uint32_t low, uint32_t high, uint32_t& place) const {
    place = order.key(logit);
    return place >= low && place < high && rank_of(place, id) >= cut;
  }
};
template <typename Order>
struct PlaceById {
  static constexpr bool kKeys = false;
  const Order& order;
  uint64_t cut;
  uint32_t key;

  __device__ bool place(float logit, int id, uint32_t low, uint32_t high, uint32_t& place) const {
    place = static_cast<uint32_t>(kMaxVocabulary - id);
    return order.key(logit) == key && place >= low && place < high && rank_of(key, id) >= cut;
  }
};

// One thread's. A weight's low bits are summed apart from its high bits, above which the count has its place:
// two additions of 32 bits without carry.
struct BoundSums {
  static constexpr int kLowBits = 25;
  static constexpr uint32_t kOneToken = 1u << 25;
  static_assert(uint64_t{kMostPerThread} << kLowBits < uint64_t{1} << 32);
  static_assert(uint64_t{kMostPerThread} << (kOneBits - kLowBits) < kOneToken);
  static_assert(uint64_t{kMostPerThread} * kOneToken < uint64_t{1} << 32);
  uint32_t low[kBounds] = {};
  uint32_t high_and_count[kBounds] = {};

  __device__ uint64_t mass(int i) const {
    return low[i] + (uint64_t{high_and_count[i] % kOneToken} << kLowBits);
  }
  __device__ uint32_t count(int i) const { return high_and_count[i] / kOneToken; }
};

// Sums of what lies between each bound and high. bounds ascend.
template <Measure kMeasure, typename Place>
__device__ void measure_above(Row& row, const Place& placed, const uint32_t (&bounds)[kBounds], uint32_t high,
                              RowSums<kBounds, kBounds>& sums) {
  constexpr bool kWeighs = kMeasure == Measure::kWeight;
  BoundSums own;
  for_each_four(row, [&](const float(&logits)[4], int at) {
    uint32_t places[4];
    bool any = false;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      // Place 0 is below every bound.
      if (!placed.place(logits[j], row.begin + at + j, bounds[0], high, places[j])) places[j] = 0;
      any |= places[j] != 0;
    }
    if (!any) return;
    uint64_t weights[4] = {};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (kWeighs) weights[j] = row.weight(logits[j]);
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const uint32_t low = static_cast<uint32_t>(weights[j]) % (1u << BoundSums::kLowBits);
      const uint32_t rest = BoundSums::kOneToken + static_cast<uint32_t>(weights[j] >> BoundSums::kLowBits);
#pragma unroll
      for (int i = 0; i < kBounds; ++i) {
        if (places[j] < bounds[i]) continue;
        if (kWeighs) own.low[i] += low;
        own.high_and_count[i] += rest;
      }
    }
  });
  if constexpr (kWeighs) {
#pragma unroll
    for (int i = 0; i < kBounds; ++i) {
      sums.mass[i] = own.mass(i);
      sums.count[i] = own.count(i);
    }
    add_over_cluster(row, sums);
  } else {
    RowSums<1, kBounds> counts;
#pragma unroll
    for (int i = 0; i < kBounds; ++i) counts.count[i] = own.count(i);
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
  SearchInterval next = {old.low, min(bounds[0], old.high), old.above + sums.mass[0],
                         old.inside - sums.count[0]};
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

// Bounds that divide the interval equally, in places; the last may lie at or above high.
__device__ inline void divide_places(const SearchInterval& interval, uint32_t (&bounds)[kBounds]) {
  const uint32_t step = (interval.high - interval.low + kBounds) / (kBounds + 1);
#pragma unroll
  for (int i = 0; i < kBounds; ++i) bounds[i] = interval.low + static_cast<uint32_t>(i + 1) * step;
}

// The same in the values that keys stand for: floats lie so densely around 0 that equal steps of keys say
// little about how tokens are spread.
template <typename Order>
__device__ void divide_values(const Order& order, const SearchInterval& interval,
                              uint32_t (&bounds)[kBounds]) {
  const float low = order.value(interval.low);
  const float high = order.value(interval.high - 1);
#pragma unroll
  for (int i = 0; i < kBounds; ++i) {
    const float share = static_cast<float>(i + 1) / (kBounds + 1);
    const uint32_t bound =
        order.key_of_value(__fadd_rn(__fmul_rn(low, 1.0f - share), __fmul_rn(high, share)));
    bounds[i] = min(max(bound, i == 0 ? interval.low + 1 : bounds[i == 0 ? 0 : i - 1]), interval.high);
  }
}

// By equal steps of values at first, then by equal steps of places, which end after eleven passes at most.
template <Measure kMeasure, typename Order, typename Place>
__device__ SearchInterval narrow(Row& row, const Order& order, const Place& placed, SearchInterval interval,
                                 uint64_t wanted) {
  constexpr int kByValue = 3;
  for (int pass = 0; interval.inside > kListed && interval.high - interval.low > 1; ++pass) {
    uint32_t bounds[kBounds];
    if (Place::kKeys && pass < kByValue) {
      divide_values(order, interval, bounds);
    } else {
      divide_places(interval, bounds);
    }
    RowSums<kBounds, kBounds> sums;
    measure_above<kMeasure>(row, placed, bounds, interval.high, sums);
    interval = narrowed(interval, bounds, sums, wanted);
  }
  return interval;
}

// The rank of the token in the interval, which holds at most kListed, with which `wanted` is reached.
template <Measure kMeasure, typename Order, typename Place>
__device__ uint64_t last_of_set(Row& row, const Order& order, const Place& placed,
                                const SearchInterval& interval, uint64_t wanted) {
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

// The set's lowest rank: what ranks at or above it is in. Tokens below `cut` take no part. limit: how many
// tokens, or which share of the weight of those that take part, in (0, 1).
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
  interval = narrow<kMeasure>(row, order, by_key, interval, wanted);
  if (interval.inside <= kListed) return last_of_set<kMeasure>(row, order, by_key, interval, wanted);
  const PlaceById<Order> by_id = {order, cut, interval.low};
  const SearchInterval all_ids = {1, kMaxVocabulary + 1, interval.above, interval.inside};
  return last_of_set<kMeasure>(row, order, by_id, narrow<kMeasure>(row, order, by_id, all_ids, wanted),
                               wanted);
}

}  // namespace crible::cuda
