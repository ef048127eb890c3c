#include "ops/sample/sample_cuda.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "device/cuda/gpu_test.h"
#include "ops/random_values.h"
#include "ops/sample/counter_random.h"

namespace crible::cuda {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The kept tokens' weights by id in float64, 0 for those filtered out.
std::vector<double> kept_weights(const std::vector<float>& logits, const SampleRow& row) {
  std::vector<size_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
  const auto weight = [&](size_t id) {
    return std::exp((static_cast<double>(logits[id]) - static_cast<double>(logits[order[0]])) /
                    static_cast<double>(row.temperature));
  };
  while (weight(order.back()) < static_cast<double>(row.min_p)) order.pop_back();
  if (row.top_k > 0) order.resize(std::min<size_t>(order.size(), static_cast<size_t>(row.top_k)));
  double total = 0;
  for (const size_t id : order) total += weight(id);
  std::vector<double> weights(logits.size(), 0.0);
  double sum = 0;
  for (const size_t id : order) {
    if (sum >= static_cast<double>(row.top_p) * total && sum > 0) break;
    weights[id] = weight(id);
    sum += weight(id);
  }
  return weights;
}

int32_t draw_exactly(const std::vector<double>& weights, const SampleRow& row) {
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  double rest = uniform_from(row.seed, static_cast<uint64_t>(row.position)) * total;
  int32_t last = -1;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0) continue;
    last = static_cast<int32_t>(i);
    if (rest < weights[i]) return last;
    rest -= weights[i];
  }
  return last;
}

class SampleCuda : public GpuTest {
 protected:
  std::vector<int32_t> run(const std::vector<float>& logits, const std::vector<SampleRow>& rows) {
    const auto logits_device = to_device(logits);
    const auto rows_device = to_device(rows);
    const DeviceArray<int32_t> tokens(rows.size());
    sample(stream(), {.logits = logits_device.data(),
                      .rows = static_cast<int64_t>(rows.size()),
                      .vocabulary = static_cast<int64_t>(logits.size() / rows.size()),
                      .parameters = rows_device.data(),
                      .tokens = tokens.data()});
    finish();
    return tokens.host();
  }
};

TEST_F(SampleCuda, DrawsTheTokenThatTheSeedMeans) {
  RandomValues random(1);
  struct Case {
    int64_t vocabulary;
    float spread;
    SampleRow row;
  };
  for (const Case& c : {Case{50, 1.0f, {.temperature = 1.0f}},
                        {1000, 2.0f, {.temperature = 0.7f}},
                        {1000, 2.0f, {.temperature = 1.0f, .top_k = 40}},
                        {1000, 2.0f, {.temperature = 1.3f, .top_p = 0.9f}},
                        {1000, 2.0f, {.temperature = 1.0f, .min_p = 0.05f}},
                        {300, 0.01f, {.temperature = 1.0f, .top_p = 0.5f}},
                        {1000, 3.0f, {.temperature = 0.8f, .top_p = 0.95f, .min_p = 0.001f, .top_k = 20}},
                        {33, 1.0f, {.temperature = 5.0f, .top_p = 0.99f, .top_k = 500}},
                        {7, 1.0f, {.temperature = 1.0f, .top_p = 1e-6f}},
                        {1, 1.0f, {.temperature = 1.0f, .top_k = 1}}}) {
    constexpr int64_t kDraws = 1000;
    const std::vector<float> logits = random.normals(c.vocabulary, c.spread);
    std::vector<float> all;
    std::vector<SampleRow> rows;
    for (int64_t i = 0; i < kDraws; ++i) {
      all.insert(all.end(), logits.begin(), logits.end());
      rows.push_back(c.row);
      rows.back().seed = 17;
      rows.back().position = i + (int64_t{1} << 33);
    }
    const std::vector<int32_t> tokens = run(all, rows);
    const std::vector<double> weights = kept_weights(logits, c.row);
    int64_t different = 0;
    for (size_t i = 0; i < tokens.size(); ++i) {
      ASSERT_GE(tokens[i], 0);
      ASSERT_GT(weights[static_cast<size_t>(tokens[i])], 0.0) << "token " << tokens[i] << " is excluded";
      if (tokens[i] != draw_exactly(weights, rows[i])) ++different;
    }
    // The float32 exponential moves a bound by less than 1e-5 of the whole: a draw in 10,000 may fall beyond
    // it.
    EXPECT_LE(different, 3) << "vocabulary " << c.vocabulary;
  }
}

TEST_F(SampleCuda, TiesAreKeptInOrderOfId) {
  // Nine equal logits among lower ones; top-k 4 keeps the first four of them.
  std::vector<float> logits(200, -1.0f);
  for (int i = 0; i < 9; ++i) logits[static_cast<size_t>(7 + 20 * i)] = 2.0f;
  std::vector<float> all;
  std::vector<SampleRow> rows;
  for (int64_t i = 0; i < 300; ++i) {
    all.insert(all.end(), logits.begin(), logits.end());
    rows.push_back({.temperature = 1.0f, .top_k = 4, .seed = 5, .position = i});
  }
  std::vector<int64_t> count(200, 0);
  for (const int32_t token : run(all, rows)) ++count[static_cast<size_t>(token)];
  for (int i = 0; i < 9; ++i) EXPECT_EQ(count[static_cast<size_t>(7 + 20 * i)] > 0, i < 4) << i;
}

TEST_F(SampleCuda, GreedyTakesTheLowestIdOfTheLargest) {
  RandomValues random(2);
  for (const int64_t vocabulary : {1, 31, 1000, 49152, 151936}) {
    std::vector<float> logits = random.normals(vocabulary);
    const int64_t at = random.integer(0, vocabulary - 1), again = random.integer(0, vocabulary - 1);
    logits[static_cast<size_t>(at)] = logits[static_cast<size_t>(again)] = 9.0f;
    const std::vector<int32_t> tokens = run(logits, {{.temperature = 0.0f, .top_p = 0.1f, .top_k = 3}});
    EXPECT_EQ(tokens[0], std::min(at, again));
  }
}

TEST_F(SampleCuda, AFaultIsReportedAndItsNeighboursAreNot) {
  RandomValues random(3);
  constexpr int64_t kVocabulary = 5000;
  std::vector<float> logits;
  for (int row = 0; row < 4; ++row) {
    const std::vector<float> one = random.normals(kVocabulary);
    logits.insert(logits.end(), one.begin(), one.end());
  }
  logits[3333] = std::numeric_limits<float>::quiet_NaN();
  logits[kVocabulary + 4999] = kInfinity;
  for (int64_t i = 0; i < kVocabulary; ++i) logits[static_cast<size_t>(2 * kVocabulary + i)] = -kInfinity;
  logits[3 * kVocabulary + 1] = -kInfinity;
  for (const float temperature : {0.0f, 1.0f}) {
    const SampleRow row = {.temperature = temperature, .seed = 1};
    const std::vector<int32_t> tokens = run(logits, {row, row, row, row});
    EXPECT_EQ(tokens[0], -1);
    EXPECT_EQ(tokens[1], -1);
    EXPECT_EQ(tokens[2], -1);
    EXPECT_GE(tokens[3], 0);
    EXPECT_NE(tokens[3], 1);
  }
}

}  // namespace
}  // namespace crible::cuda
