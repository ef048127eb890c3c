// What the GPU draws and reports against what the CPU does on the same logits.
#include "ops/sample/device_sampler_cuda.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <numeric>

#include "device/cuda/gpu_test.h"
#include "ops/random_values.h"
#include "ops/sample/sample.h"

namespace crible::cuda {
namespace {

using HostRow = crible::SampleRow;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int32_t kMaxLogprobs = 20;
constexpr int64_t kStride = 1 + kMaxLogprobs;

struct Outcome {
  std::vector<TokenId> tokens;
  std::vector<TokenLogprob> logprobs;  // [rows, kStride]
};

// Random adjustments and the lists they point to.
struct Adjusted {
  std::vector<uint32_t> allowed;
  std::vector<TokenId> forbidden;
  std::vector<AddedLogit> bias;
  std::vector<TokenCount> seen;
  std::vector<AddedLogit> dry;
  LogitAdjustments adjustments;

  Adjusted(RandomValues& random, int64_t vocabulary) {
    const auto pick = [&](int64_t one_in) { return random.integer(0, one_in - 1) == 0; };
    const bool has[] = {pick(3), pick(2), pick(2), pick(2), pick(2)};
    if (has[0]) allowed.resize(static_cast<size_t>(ceil_div(vocabulary, 32)), 0);
    const int64_t sparse = 1 + vocabulary / 50;
    for (TokenId id = 0; id < vocabulary; ++id) {
      if (has[0] && !pick(4)) allowed[static_cast<size_t>(id / 32)] |= 1u << (id % 32);
      if (has[1] && pick(sparse)) forbidden.push_back(id);
      if (has[2] && pick(sparse)) bias.push_back({id, 4.0f * random.normal()});
      if (has[3] && pick(3)) seen.push_back({id, static_cast<int32_t>(random.integer(0, 3))});
      if (has[4] && pick(sparse)) dry.push_back({id, -std::abs(3.0f * random.normal())});
    }
    adjustments = {.allowed = allowed,
                   .forbidden = forbidden,
                   .bias = bias,
                   .seen = seen,
                   .repetition_penalty = pick(2) ? 1.0f : 0.7f + static_cast<float>(random.uniform()),
                   .frequency_penalty = pick(2) ? 0.0f : random.normal(),
                   .presence_penalty = pick(2) ? 0.0f : random.normal(),
                   .dry = dry};
  }
};

HostRow random_row(RandomValues& random, int64_t vocabulary) {
  const auto pick = [&](int64_t one_in) { return random.integer(0, one_in - 1) == 0; };
  HostRow row = {.temperature = pick(6)   ? 0.0f
                                : pick(2) ? 1.0f
                                          : 0.2f + 2.0f * static_cast<float>(random.uniform()),
                 .seed = random.bits(),
                 .position = random.integer(0, int64_t{1} << 40)};
  if (pick(4)) row.min_p = static_cast<float>(std::exp(-7.0 * random.uniform()));
  if (pick(4)) row.typical_p = 1.0f - static_cast<float>(random.uniform());
  if (pick(2)) row.top_p = 1.0f - static_cast<float>(random.uniform());
  if (pick(2))
    row.top_k = static_cast<int32_t>(pick(3) ? random.integer(1, 2 * vocabulary) : random.integer(1, 60));
  if (pick(2)) row.logprobs = static_cast<int32_t>(random.integer(0, kMaxLogprobs));
  if (pick(8)) row.given = static_cast<TokenId>(random.integer(0, vocabulary - 1));
  return row;
}

// Rows of logits as models give them and as they do not: of any spread, with thousands of equal ones, with
// impossible ones.
std::vector<float> random_logits(RandomValues& random, int64_t vocabulary, int64_t kind) {
  constexpr float kSpreads[] = {0.01f, 1.0f, 4.0f, 40.0f};
  std::vector<float> logits = random.normals(vocabulary, kSpreads[kind % 4]);
  if (kind / 4 % 3 == 1) {
    for (float& x : logits) x = std::round(4.0f * x) / 4.0f;
  }
  if (kind / 4 % 3 == 2) {
    for (float& x : logits) x = random.integer(0, 9) < 9 ? -kInfinity : x;
    logits[static_cast<size_t>(random.integer(0, vocabulary - 1))] = 0.5f;
  }
  return logits;
}

class DeviceSamplerCuda : public GpuTest {
 protected:
  Outcome on_cpu(std::vector<float> logits, const std::vector<HostRow>& rows) {
    const int64_t n = std::ssize(rows), vocabulary = std::ssize(logits) / n;
    crible::Stream cpu = crible::Stream::create_cpu(4).value();
    EXPECT_TRUE(cpu.reserve_scratch(sample_scratch_bytes(n, vocabulary, 4)));
    Outcome outcome = {std::vector<TokenId>(rows.size(), -99),
                       std::vector<TokenLogprob>(rows.size() * static_cast<size_t>(kStride))};
    crible::sample(cpu, {logits.data(), vocabulary, n, vocabulary, rows.data(), outcome.tokens.data(),
                         outcome.logprobs.data(), kStride});
    return outcome;
  }

  DeviceSampler make(int64_t rows, int64_t vocabulary, int64_t list_bytes = 8 * kMiB) {
    return DeviceSampler::create({.max_rows = rows,
                                  .vocabulary = vocabulary,
                                  .max_logprobs = kMaxLogprobs,
                                  .list_bytes = list_bytes})
        .value();
  }
  static Outcome copied(const SampledRows& rows) {
    Outcome outcome = {{rows.tokens.begin(), rows.tokens.end()}, {}};
    outcome.logprobs.assign(rows.logprobs, rows.logprobs_of(std::ssize(rows.tokens)));
    return outcome;
  }
  Outcome on_gpu(DeviceSampler& sampler, const std::vector<float>& logits, const std::vector<HostRow>& rows) {
    const auto device = to_device(logits);
    EXPECT_TRUE(sampler.send(stream(), rows));
    EXPECT_TRUE(sampler.enqueue(stream(), device.data()));
    const SampledRows results = sampler.fetch_async(stream()).value();
    finish();
    return copied(results);
  }
  Outcome on_gpu(const std::vector<float>& logits, const std::vector<HostRow>& rows) {
    DeviceSampler sampler = make(std::ssize(rows), std::ssize(logits) / std::ssize(rows));
    return on_gpu(sampler, logits, rows);
  }
};

// The CPU's log-probabilities are summed in another order: ln Z differs by no more than its exponentials are
// off, 2⁻²² of a value, and the result is rounded once.
void expect_same_reports(const HostRow& row, const TokenLogprob* gpu, const TokenLogprob* cpu,
                         const std::string& what) {
  for (int32_t i = 0; i <= row.logprobs; ++i) {
    EXPECT_EQ(gpu[i].id, cpu[i].id) << what << ", entry " << i;
    EXPECT_EQ(gpu[i].rank, cpu[i].rank) << what << ", entry " << i;
    if (gpu[i].logprob == cpu[i].logprob) continue;  // minus infinity too
    EXPECT_NEAR(gpu[i].logprob, cpu[i].logprob, 3e-7 + 1.2e-7 * std::abs(cpu[i].logprob))
        << what << ", entry " << i;
  }
}

// Weights are the same bits on both; the GPU sums them without an error of order, to 2⁻⁴⁴ a token. A draw
// differs where it falls within that of a token's bound, or where a set ends at another token because two are
// equally typical in float32: seldom enough that one in a thousand would be a defect.
TEST_F(DeviceSamplerCuda, DrawsAndReportsWhatTheCpuDoes) {
  RandomValues random(51);
  int64_t draws = 0, different = 0;
  for (const int64_t vocabulary : {1, 2, 7, 33, 1000, 4096, 32064, 49152, 151936, 262208}) {
    for (int64_t kind = 0; kind < 12; ++kind) {
      const int64_t count = vocabulary > 100'000 ? 12 : 40;
      std::vector<float> logits;
      std::vector<HostRow> rows;
      std::deque<Adjusted> adjusted;
      for (int64_t i = 0; i < count; ++i) {
        const std::vector<float> row = random_logits(random, vocabulary, kind);
        logits.insert(logits.end(), row.begin(), row.end());
        rows.push_back(random_row(random, vocabulary));
        if (random.integer(0, 2) == 0) {
          rows.back().adjustments = &adjusted.emplace_back(random, vocabulary).adjustments;
        }
      }
      const Outcome gpu = on_gpu(logits, rows), cpu = on_cpu(logits, rows);
      for (size_t i = 0; i < rows.size(); ++i) {
        const HostRow& r = rows[i];
        const std::string what = fmt::format(
            "vocabulary {} kind {} row {}: temperature {} min-p {} typical-p {} top-p {} top-k {} given {} "
            "adjusted {}",
            vocabulary, kind, i, r.temperature, r.min_p, r.typical_p, r.top_p, r.top_k, r.given,
            r.adjustments != nullptr);
        ++draws;
        if (gpu.tokens[i] != cpu.tokens[i]) {
          ++different;
          EXPECT_TRUE(r.temperature > 0 && gpu.tokens[i] >= 0 && cpu.tokens[i] >= 0) << what;
          fmt::print("differs: {}: {}, not {}\n", what, gpu.tokens[i], cpu.tokens[i]);
        } else if (r.logprobs != kNoLogprobs && gpu.tokens[i] >= 0) {
          const size_t at = i * static_cast<size_t>(kStride);
          expect_same_reports(r, &gpu.logprobs[at], &cpu.logprobs[at], what);
        }
      }
    }
  }
  EXPECT_LE(different * 1000, draws);
}

// Every draw of one row, so that the whole kept set is walked, not only where a few seeds fall.
TEST_F(DeviceSamplerCuda, KeepsTheSameSets) {
  RandomValues random(52);
  constexpr int64_t kVocabulary = 3000, kDraws = 2000;
  const HostRow cases[] = {
      {.top_p = 0.9f},
      {.temperature = 1.3f, .min_p = 0.02f},
      {.typical_p = 0.5f},
      {.typical_p = 0.9f, .top_k = 700},
      {.top_k = 600},
      {.top_p = 0.8f, .top_k = 900},
      {.temperature = 0.7f, .min_p = 0.001f, .typical_p = 0.95f, .top_p = 0.9f, .top_k = 50}};
  for (const HostRow& base : cases) {
    for (const int64_t kind : {0, 1, 2, 5, 10}) {
      const std::vector<float> one = random_logits(random, kVocabulary, kind);
      std::vector<float> logits;
      std::vector<HostRow> rows(kDraws, base);
      for (int64_t i = 0; i < kDraws; ++i) {
        logits.insert(logits.end(), one.begin(), one.end());
        rows[static_cast<size_t>(i)].seed = 3;
        rows[static_cast<size_t>(i)].position = i;
      }
      const std::vector<TokenId> gpu = on_gpu(logits, rows).tokens, cpu = on_cpu(logits, rows).tokens;
      int64_t different = 0;
      for (size_t i = 0; i < gpu.size(); ++i) different += gpu[i] != cpu[i];
      EXPECT_LE(different, 2) << "kind " << kind << " top-p " << base.top_p << " typical-p " << base.typical_p
                              << " top-k " << base.top_k << " min-p " << base.min_p;
    }
  }
}

// All logits equal, the largest vocabulary: the end of the set is a place among ids.
TEST_F(DeviceSamplerCuda, EqualLogitsAreKeptByTheirIds) {
  constexpr int64_t kVocabulary = 151936;
  std::vector<float> logits(2 * kVocabulary, 1.25f);
  std::vector<HostRow> rows = {{.top_k = 1, .logprobs = kMaxLogprobs}, {.top_p = 1e-6f}};
  for (const TokenId token : on_gpu(logits, rows).tokens) EXPECT_EQ(token, 0);
  for (const auto& [top_k, top_p] : {std::pair{700, 1.0f}, {0, 0.01f}, {100'000, 0.5f}}) {
    const int64_t kept = top_k == 700 ? 700 : top_k == 0 ? 1520 : 50'000;
    TokenId largest = 0;
    for (int64_t i = 0; i < 60; ++i) {
      for (HostRow& row : rows) {
        row = {.top_p = top_p,
               .top_k = top_k,
               .seed = 77,
               .position = 2 * i + (&row - rows.data()),
               .logprobs = kMaxLogprobs};
      }
      const Outcome gpu = on_gpu(logits, rows);
      for (const TokenId token : gpu.tokens) {
        EXPECT_LT(token, kept);
        largest = std::max(largest, token);
      }
      for (int32_t n = 1; n <= kMaxLogprobs; ++n) EXPECT_EQ(gpu.logprobs[static_cast<size_t>(n)].id, n - 1);
    }
    EXPECT_GT(largest, kept * 9 / 10) << "of 120 draws none from the last tenth";
  }
}

// Log-probabilities of raw logits in float64; what is wrong by more than float32's own rounding shows.
TEST_F(DeviceSamplerCuda, LogProbabilitiesAreThoseOfTheRawLogits) {
  RandomValues random(53);
  for (const int64_t vocabulary : {1, 5, 1000, 151936}) {
    for (const float spread : {0.01f, 3.0f, 30.0f}) {
      const std::vector<float> logits = random.normals(vocabulary, spread);
      const std::vector<AddedLogit> bias = {{0, 90.0f}};
      const LogitAdjustments adjustments = {.bias = bias};
      const HostRow row = {.temperature = 0.5f,
                           .min_p = 0.5f,
                           .seed = random.bits(),
                           .adjustments = &adjustments,
                           .logprobs = kMaxLogprobs};
      const Outcome gpu = on_gpu(logits, {row});
      std::vector<size_t> order(logits.size());
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
      const auto maximum = static_cast<double>(logits[order[0]]);
      double total = 0;
      for (const float x : logits) total += std::exp(static_cast<double>(x) - maximum);
      const auto expect_entry = [&](const TokenLogprob& entry, size_t id, int32_t rank) {
        EXPECT_EQ(entry.id, static_cast<TokenId>(id));
        EXPECT_EQ(entry.rank, rank);
        const double exact = static_cast<double>(logits[id]) - maximum - std::log(total);
        // The exponentials are within 2 units in the last place, 2⁻²²; the result is rounded to 2⁻²⁴.
        EXPECT_NEAR(entry.logprob, exact, 0x1p-22 + 0x1p-24 * std::abs(exact)) << vocabulary << " " << spread;
      };
      const auto token = static_cast<size_t>(gpu.tokens[0]);
      const auto place = std::find(order.begin(), order.end(), token) - order.begin();
      expect_entry(gpu.logprobs[0], token, static_cast<int32_t>(place) + 1);
      for (size_t i = 0; i < kMaxLogprobs; ++i) {
        if (i < order.size()) {
          expect_entry(gpu.logprobs[1 + i], order[i], static_cast<int32_t>(i) + 1);
        } else {
          EXPECT_EQ(gpu.logprobs[1 + i].id, -1);
          EXPECT_EQ(gpu.logprobs[1 + i].logprob, -kInfinity);
        }
      }
    }
  }
}

// Token 9 is adjusted to v on the CPU. A token 3 of logit v must win (the lower id of equals), and one a unit
// below must lose: then the GPU has adjusted token 9 to the same bits.
TEST_F(DeviceSamplerCuda, AdjustsToTheLastBit) {
  RandomValues random(54);
  constexpr int64_t kVocabulary = 640, kRows = 400;
  constexpr TokenId kAdjusted = 9, kRival = 3;
  struct Lists {
    std::vector<AddedLogit> bias, dry;
    std::vector<TokenCount> seen;
    LogitAdjustments adjustments;
  };
  std::deque<Lists> all;
  std::vector<float> logits;
  std::vector<HostRow> rows;
  std::vector<TokenId> expected;
  for (int64_t i = 0; i < kRows; ++i) {
    Lists& lists = all.emplace_back();
    if (i % 2 == 0) lists.bias = {{kAdjusted, random.normal()}};
    if (i % 4 < 3) lists.seen = {{kAdjusted, static_cast<int32_t>(random.integer(0, 9))}};
    if (i % 3 == 0) lists.dry = {{kAdjusted, -random.normal()}};
    lists.adjustments = {.bias = lists.bias,
                         .seen = lists.seen,
                         .repetition_penalty = 0.5f + static_cast<float>(random.uniform()),
                         .frequency_penalty = random.normal(),
                         .presence_penalty = random.normal(),
                         .dry = lists.dry};
    std::vector<float> row(kVocabulary, -1e6f);
    row[kAdjusted] = 5.0f * random.normal();
    std::vector<float> adjusted = row;
    adjust_logits(adjusted.data(), kVocabulary, lists.adjustments);
    const bool equal = i % 5 < 3;
    row[kRival] = equal ? adjusted[kAdjusted] : std::nextafter(adjusted[kAdjusted], -kInfinity);
    logits.insert(logits.end(), row.begin(), row.end());
    rows.push_back({.temperature = 0.0f, .adjustments = &lists.adjustments});
    expected.push_back(equal ? kRival : kAdjusted);
  }
  EXPECT_EQ(on_gpu(logits, rows).tokens, expected);
}

TEST_F(DeviceSamplerCuda, AFaultIsOneRowsAlone) {
  RandomValues random(55);
  constexpr int64_t kVocabulary = 5001, kRows = 8;
  std::vector<float> logits = random.normals(kVocabulary * kRows);
  const auto at = [&](int64_t row, int64_t id) -> float& {
    return logits[static_cast<size_t>(row * kVocabulary + id)];
  };
  at(0, 5000) = std::numeric_limits<float>::quiet_NaN();
  at(1, 17) = kInfinity;
  for (int64_t id = 0; id < kVocabulary; ++id) at(2, id) = -kInfinity;
  at(3, 17) = kInfinity;
  at(4, 17) = std::numeric_limits<float>::quiet_NaN();
  // Forbidding it does not hide a fault; forbidding everything is one.
  const std::vector<TokenId> forbidden = {17};
  std::vector<TokenId> everything(kVocabulary);
  std::iota(everything.begin(), everything.end(), 0);
  const LogitAdjustments one = {.forbidden = forbidden}, all = {.forbidden = everything};
  for (const float temperature : {0.0f, 1.0f}) {
    std::vector<HostRow> rows(kRows, {.temperature = temperature, .top_p = 0.9f, .logprobs = 3});
    rows[1].given = 4;
    rows[3].adjustments = rows[4].adjustments = rows[6].adjustments = &one;
    rows[5].adjustments = &all;
    const Outcome gpu = on_gpu(logits, rows), cpu = on_cpu(logits, rows);
    EXPECT_EQ(gpu.tokens, cpu.tokens);
    for (const size_t i : {0, 1, 2, 3, 4, 5}) EXPECT_EQ(gpu.tokens[i], -1) << i;
    for (const size_t i : {6, 7}) EXPECT_GE(gpu.tokens[i], 0) << i;
  }
}

// Alone or among others, first or last, in one round or in many: the same bits.
TEST_F(DeviceSamplerCuda, DoesNotDependOnTheBatch) {
  RandomValues random(56);
  constexpr int64_t kVocabulary = 50'003, kRows = 30;
  std::vector<float> logits;
  std::vector<HostRow> rows;
  std::deque<Adjusted> adjusted;
  for (int64_t i = 0; i < kRows; ++i) {
    const std::vector<float> row = random_logits(random, kVocabulary, i);
    logits.insert(logits.end(), row.begin(), row.end());
    rows.push_back(random_row(random, kVocabulary));
    if (i % 3 == 0) continue;
    Adjusted& own = adjusted.emplace_back(random, kVocabulary);
    own.seen.clear();
    for (TokenId id = 0; id < kVocabulary; ++id) own.seen.push_back({id, id % 3});
    own.adjustments.seen = own.seen;
    rows.back().adjustments = &own.adjustments;
  }
  const Outcome together = on_gpu(logits, rows);
  // The largest single row's room: about three of these.
  DeviceSampler in_rounds = make(kRows, kVocabulary, 0);
  const Outcome split = on_gpu(in_rounds, logits, rows);
  EXPECT_FALSE(in_rounds.one_round());
  EXPECT_EQ(split.tokens, together.tokens);
  for (size_t i = 0; i < kRows; ++i) {
    const std::vector<float> own(logits.begin() + static_cast<int64_t>(i) * kVocabulary,
                                 logits.begin() + static_cast<int64_t>(i + 1) * kVocabulary);
    const Outcome alone = on_gpu(own, {rows[i]});
    EXPECT_EQ(alone.tokens[0], together.tokens[i]) << i;
    if (rows[i].logprobs == kNoLogprobs || alone.tokens[0] < 0) continue;
    for (int32_t n = 0; n <= rows[i].logprobs; ++n) {
      for (const Outcome* other : {&together, &split}) {
        const TokenLogprob& there =
            other->logprobs[i * static_cast<size_t>(kStride) + static_cast<size_t>(n)];
        EXPECT_EQ(there.id, alone.logprobs[static_cast<size_t>(n)].id) << i;
        EXPECT_EQ(there.logprob, alone.logprobs[static_cast<size_t>(n)].logprob) << i;
        EXPECT_EQ(there.rank, alone.logprobs[static_cast<size_t>(n)].rank) << i;
      }
    }
  }
}

// Two steps under way before the first is read, over and over, as the engine does; and from a captured graph.
TEST_F(DeviceSamplerCuda, AStepIsSentWhileTheOneBeforeIsRead) {
  RandomValues random(57);
  constexpr int64_t kVocabulary = 2000, kSteps = 9;
  DeviceSampler sampler = make(16, kVocabulary);
  std::vector<DeviceArray<float>> logits;
  std::vector<std::vector<HostRow>> rows;
  std::vector<Outcome> expected;
  std::vector<CudaEvent> done;
  std::deque<Adjusted> adjusted;
  for (int64_t step = 0; step < kSteps; ++step) {
    const int64_t count = random.integer(1, 16);
    rows.emplace_back();
    for (int64_t i = 0; i < count; ++i) {
      rows.back().push_back(random_row(random, kVocabulary));
      if (i % 2 == 0)
        rows.back().back().adjustments = &adjusted.emplace_back(random, kVocabulary).adjustments;
    }
    const std::vector<float> host = random.normals(count * kVocabulary, 3.0f);
    logits.push_back(to_device(host));
    expected.push_back(on_cpu(host, rows.back()));
    done.push_back(CudaEvent::create().value());
  }
  std::vector<SampledRows> results;
  const auto read = [&](size_t step) {
    ASSERT_TRUE(done[step].synchronize());
    const Outcome outcome = copied(results[step]);
    EXPECT_EQ(outcome.tokens, expected[step].tokens) << "step " << step;
  };
  for (size_t step = 0; step < kSteps; ++step) {
    ASSERT_TRUE(sampler.send(stream(), rows[step]));
    ASSERT_TRUE(sampler.enqueue(stream(), logits[step].data()));
    results.push_back(sampler.fetch_async(stream()).value());
    ASSERT_TRUE(done[step].record(stream()));
    if (step > 0) read(step - 1);
  }
  read(kSteps - 1);

  ASSERT_TRUE(sampler.send(stream(), rows[0]));
  finish();
  const CudaGraph graph =
      CudaGraph::capture(stream(), [&] { return sampler.enqueue(stream(), logits[0].data()); }).value();
  for (HostRow& row : rows[0]) row.seed += 1;
  ASSERT_TRUE(sampler.send(stream(), rows[0]));
  ASSERT_TRUE(graph.launch(stream()));
  finish();
  std::vector<TokenId> tokens(rows[0].size());
  CRIBLE_CUDA_CHECK(
      cudaMemcpy(tokens.data(), sampler.device_tokens(), tokens.size() * 4, cudaMemcpyDeviceToHost));
  const std::vector<float> host = logits[0].host();
  EXPECT_EQ(tokens, on_cpu(host, rows[0]).tokens);
}

// Sequences with penalties, drawn from while their last token is not on the host, in any company, with pauses, more of
// them than there are slots: their tokens are those that the CPU draws with whole histories.
class DeviceHistories : public DeviceSamplerCuda {
 protected:
  static constexpr int64_t kSequences = 14, kSlots = 8, kLongest = 150;

  struct Said {
    std::vector<TokenId> prompt, output;
    bool under_way = false;  // the last token of the output is of the step before
    float repetition, frequency, presence;
    std::vector<TokenCount> whole, known;
    LogitAdjustments for_cpu, for_gpu;

    // Distinct tokens in the order in which they came, from the prompt and `drawn` tokens of the output.
    std::vector<TokenCount> counts(size_t drawn) const {
      std::vector<TokenCount> counts;
      const auto count = [&](TokenId id, int32_t more) {
        const auto at = std::ranges::find(counts, id, &TokenCount::id);
        if (at == counts.end()) {
          counts.push_back({id, more});
        } else {
          at->in_output += more;
        }
      };
      for (const TokenId id : prompt) count(id, 0);
      for (size_t i = 0; i < drawn; ++i) count(output[i], 1);
      return counts;
    }

    void make_adjustments(int64_t id) {
      const size_t drawn = output.size(), on_host = drawn - (under_way ? 1 : 0);
      whole = counts(drawn);
      known = counts(on_host);
      for_cpu = {.seen = whole,
                 .repetition_penalty = repetition,
                 .frequency_penalty = frequency,
                 .presence_penalty = presence};
      for_gpu = for_cpu;
      for_gpu.seen = known;
      for_gpu.history = {
          .sequence = id, .drawn = static_cast<int64_t>(drawn), .known = static_cast<int64_t>(on_host)};
    }
  };

  void run(int64_t vocabulary, int steps, uint64_t seed) {
    RandomValues random(seed);
    DeviceSampler sampler = DeviceSampler::create({.max_rows = kSlots + 2,
                                                   .vocabulary = vocabulary,
                                                   .max_logprobs = kMaxLogprobs,
                                                   .histories = kSlots,
                                                   .history_tokens = kLongest})
                                .value();
    std::vector<Said> said(kSequences);
    for (Said& s : said) {
      for (int64_t i = random.integer(1, 40); i > 0; --i) {
        s.prompt.push_back(static_cast<TokenId>(random.integer(0, vocabulary - 1)));
      }
      s.repetition = 1.0f + static_cast<float>(random.uniform());
      s.frequency = 0.5f * random.normal();
      s.presence = 0.5f * random.normal();
    }
    // Few tokens are likely, so that most are said again and again.
    std::vector<float> liking = random.normals(vocabulary, 1.0f);
    for (int i = 0; i < 12; ++i) liking[static_cast<size_t>(random.integer(0, vocabulary - 1))] += 14;
    int64_t repeats = 0;
    for (int step = 0; step < steps; ++step) {
      std::vector<size_t> company;
      for (size_t i = 0; i < kSequences && std::ssize(company) < kSlots; ++i) {
        const bool room = std::ssize(said[i].prompt) + std::ssize(said[i].output) < kLongest;
        if (room && random.integer(0, 3) > 0) company.push_back(i);
      }
      if (company.empty()) continue;
      std::vector<HostRow> cpu_rows, gpu_rows;
      std::vector<float> logits;
      for (const size_t i : company) {
        said[i].make_adjustments(static_cast<int64_t>(i));
        HostRow row = random_row(random, vocabulary);
        row.given = -1;
        row.adjustments = &said[i].for_cpu;
        cpu_rows.push_back(row);
        row.adjustments = &said[i].for_gpu;
        gpu_rows.push_back(row);
        for (int64_t id = 0; id < vocabulary; ++id) {
          logits.push_back(liking[static_cast<size_t>(id)] + 0.5f * random.normal());
        }
      }
      const Outcome cpu = on_cpu(logits, cpu_rows), gpu = on_gpu(sampler, logits, gpu_rows);
      ASSERT_EQ(gpu.tokens, cpu.tokens) << "step " << step;
      for (Said& s : said) s.under_way = false;
      for (size_t r = 0; r < company.size(); ++r) {
        Said& s = said[company[r]];
        repeats += std::ranges::count(s.output, cpu.tokens[r]) > 0;
        s.output.push_back(cpu.tokens[r]);
        s.under_way = true;
        expect_same_reports(cpu_rows[r], gpu.logprobs.data() + static_cast<int64_t>(r) * kStride,
                            cpu.logprobs.data() + static_cast<int64_t>(r) * kStride,
                            fmt::format("step {}, row {}", step, r));
      }
    }
    EXPECT_GT(repeats, steps);
  }
};

TEST_F(DeviceHistories, FollowTheDrawsOfASmallVocabulary) { run(300, 150, 61); }
TEST_F(DeviceHistories, FollowTheDrawsOfALargeVocabulary) { run(50'003, 40, 62); }

// The step after a fault is under way before the host knows of it.
TEST_F(DeviceHistories, AFaultCountsNothing) {
  constexpr int64_t kVocabulary = 100;
  DeviceSampler sampler =
      DeviceSampler::create({.vocabulary = kVocabulary, .histories = 1, .history_tokens = 20}).value();
  RandomValues random(64);
  Said s = {.prompt = {3, 5, 3}, .repetition = 2, .frequency = 0, .presence = 0};
  std::vector<float> logits = random.normals(kVocabulary, 1.0f);
  logits[5] = 10;
  logits[6] = 6;
  std::vector<float> broken = logits;
  broken[50] = std::numeric_limits<float>::quiet_NaN();
  s.make_adjustments(1);
  LogitAdjustments later = s.for_gpu;
  later.history.drawn = 1;
  EXPECT_EQ(on_gpu(sampler, broken, {{.temperature = 0, .adjustments = &s.for_gpu}}).tokens[0], -1);
  EXPECT_EQ(on_gpu(sampler, logits, {{.temperature = 0, .adjustments = &later}}).tokens[0], 6);
  // 6 is a token of the output now.
  later.history.drawn = 2;
  EXPECT_EQ(on_gpu(sampler, logits, {{.temperature = 0, .adjustments = &later}}).tokens[0], 5);
}

// More different tokens than a block has threads, then the same ones again.
TEST_F(DeviceHistories, HoldAsManyTokensAsASequence) {
  constexpr int64_t kVocabulary = 4000, kPrompt = 2500;
  DeviceSampler sampler =
      DeviceSampler::create({.vocabulary = kVocabulary, .histories = 1, .history_tokens = kPrompt + 4}).value();
  Said s = {.repetition = 1.5f, .frequency = 0.25f, .presence = 0.125f};
  for (int64_t i = 0; i < kPrompt; ++i) s.prompt.push_back(static_cast<TokenId>(i));
  RandomValues random(63);
  // Of the prompt, behind it, each twice.
  for (const TokenId favourite : {TokenId{2499}, TokenId{3999}, TokenId{2499}, TokenId{3999}}) {
    std::vector<float> logits = random.normals(kVocabulary, 1.0f);
    logits[static_cast<size_t>(favourite)] = 100;
    s.make_adjustments(7);
    const HostRow row = {.temperature = 0, .adjustments = &s.for_gpu};
    HostRow cpu_row = row;
    cpu_row.adjustments = &s.for_cpu;
    const Outcome gpu = on_gpu(sampler, logits, {row});
    ASSERT_EQ(gpu.tokens, on_cpu(logits, {cpu_row}).tokens);
    ASSERT_EQ(gpu.tokens[0], favourite);
    s.output.push_back(favourite);
    s.under_way = true;
  }
}

TEST(DeviceSampler, AVocabularyThatDoesNotFitIsAnError) {
  EXPECT_FALSE(DeviceSampler::create({.vocabulary = 400'001}));
}

TEST(DeviceSampler, ItsMemoryIsRowsListsAndResults) {
  const DeviceSamplerLimits limits = {.max_rows = 256, .vocabulary = 151936, .max_logprobs = 20};
  const int64_t results = 256 * 4 + 256 * 21 * static_cast<int64_t>(sizeof(TokenLogprob));
  EXPECT_GE(DeviceSampler::bytes_for(limits), 8 * kMiB + results);
  EXPECT_LE(DeviceSampler::bytes_for(limits), 8 * kMiB + results + 256 * 144 + 1024);
}

TEST(DeviceSampler, AHistoryHasRoomForEachTokenOnce) {
  DeviceSamplerLimits limits = {.max_rows = 4, .vocabulary = 1000};
  const int64_t without = DeviceSampler::bytes_for(limits);
  limits.histories = 3;
  limits.history_tokens = 70;
  EXPECT_EQ(DeviceSampler::bytes_for(limits), without + 3 * 8 * (1 + 70));
  limits.history_tokens = 7000;
  EXPECT_EQ(DeviceSampler::bytes_for(limits), without + 3 * 8 * (1 + 1000));
}

}  // namespace
}  // namespace crible::cuda
