// Every sampling option, whatever happens around the request: tokens, log-probabilities and prompt scores are those
// that follow from the request alone, derived here from whole sequences without an engine.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>

#include "base/log.h"
#include "engine/admission.h"
#include "engine/cpu_runner.h"
#include "engine/engine.h"
#include "engine/hash_model.h"

namespace crible {
namespace {

Stream one_thread() { return std::move(*Stream::create_cpu(1)); }

struct Answer {
  EngineRequest request;  // as admitted
  uint64_t seed = 0;
  int32_t choice = 0;
  std::vector<TokenId> tokens;
  std::vector<std::vector<TokenLogprob>> logprobs;  // by output token
  std::vector<TokenLogprob> prompt_logprobs;
  FinishReason finish = FinishReason::kNone;
};

double exact_logprob(const std::vector<float>& logits, TokenId token) {
  double total = 0;
  for (const float logit : logits) total += std::exp(static_cast<double>(logit));
  return static_cast<double>(logits[static_cast<size_t>(token)]) - std::log(total);
}

void expect_logprobs(const std::vector<float>& logits, TokenId token, int32_t listed,
                     std::span<const TokenLogprob> reported) {
  ASSERT_EQ(reported.size(), static_cast<size_t>(1 + listed));
  ASSERT_EQ(reported[0].id, token);
  std::vector<TokenId> order(logits.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<TokenId>(i);
  std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  for (size_t i = 0; i < reported.size(); ++i) {
    if (i > 0) {
      ASSERT_EQ(reported[i].id, order[i - 1]);
    }
    ASSERT_EQ(reported[i].id, order[static_cast<size_t>(reported[i].rank) - 1]);
    // Weights within two units of float32's last place, the logarithm rounded to float32.
    ASSERT_NEAR(static_cast<double>(reported[i].logprob), exact_logprob(logits, reported[i].id), 2e-6);
  }
}

class SamplingHistory {
 public:
  SamplingHistory(uint64_t seed, CpuRunner::Pace pace) : random_(seed), sampler_(one_thread()) {
    EXPECT_TRUE(sampler_.reserve_scratch(sample_scratch_bytes(1, kHashVocabulary, 1)));
    auto engine = Engine::create(std::make_unique<CpuRunner>(std::make_unique<HashModel>(), one_thread(), pace),
                                 random_config());
    EXPECT_TRUE(engine) << engine.error().message;
    engine_ = std::move(*engine);
  }

  void run(int requests) {
    int submitted = 0;
    while (submitted < requests || engine_->has_work()) {
      if (submitted < requests && draw(3) == 0) {
        submit();
        ++submitted;
      }
      if (draw(40) == 0) {
        ASSERT_TRUE(engine_->drain());
        engine_->deliver();
        ASSERT_TRUE(engine_->reconfigure(random_config()));
      }
      ASSERT_TRUE(engine_->step());
      engine_->deliver();
    }
    for (const auto& [id, answer] : answers_) {
      SCOPED_TRACE(testing::Message() << "sequence " << id);
      check(answer);
      if (::testing::Test::HasFatalFailure()) return;
    }
    EXPECT_EQ(engine_->stats().kv_blocks_used, 0);
  }

  int64_t preemptions() const { return engine_->stats().preemptions; }
  int64_t reconfigurations() const { return engine_->stats().reconfigurations; }
  int64_t hit_tokens() const { return engine_->stats().prefix_hit_tokens; }

 private:
  int64_t draw(int64_t below) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(below)); }
  TokenId token() { return static_cast<TokenId>(draw(kHashFault)); }

  EngineConfig random_config() {
    EngineConfig config;
    config.device_memory_bytes = 64 * kMiB;
    config.threads = 1;
    config.max_num_seqs = 1 + draw(6);
    config.enable_chunked_prefill = draw(2) == 0;
    config.max_num_batched_tokens =
        config.enable_chunked_prefill ? config.max_num_seqs + draw(40) : kHashContext + draw(100);
    config.enable_prefix_caching = draw(4) != 0;
    config.kv_cache_memory_bytes = (kHashContext / 16 + draw(10)) * kHashBlockBytes;
    return config;
  }

  SamplingParams random_sampling() {
    SamplingParams s;
    s.temperature = draw(3) == 0 ? 0.0f : 0.2f + 0.3f * static_cast<float>(draw(4));
    if (draw(3) == 0) s.top_p = 0.9f;
    if (draw(3) == 0) s.top_k = static_cast<int32_t>(1 + draw(20));
    if (draw(3) == 0) s.min_p = 0.05f;
    if (draw(3) == 0) s.typical_p = 0.8f;
    if (draw(3) == 0) s.repetition_penalty = 1.4f;
    if (draw(3) == 0) s.presence_penalty = 0.9f;
    if (draw(3) == 0) s.frequency_penalty = 0.6f;
    if (draw(3) == 0) {
      s.dry = {.multiplier = 2.0f, .base = 1.5f, .allowed_length = 1 + draw(2), .range = draw(2) == 0 ? -1 : draw(20)};
      s.dry_breakers = {token()};
    }
    if (draw(3) == 0) s.logit_bias = {{5, 3.0f}, {50, -2.0f}};
    s.seed = static_cast<uint64_t>(draw(5));
    s.max_tokens = 1 + draw(40);
    s.min_tokens = draw(3) == 0 ? draw(s.max_tokens + 1) : 0;
    for (int i = 0; i < 4; ++i) s.stop_token_ids.push_back(token());
    if (draw(3) == 0) s.logprobs = static_cast<int32_t>(draw(kMaxLogprobs + 1));
    if (draw(3) == 0) s.prompt_logprobs = static_cast<int32_t>(draw(4));
    return s;
  }

  void submit() {
    EngineRequest request;
    // Often the same beginning, so that there is something to hit; few distinct tokens, so that they repeat.
    for (int64_t i = 16 * draw(5); i > 0; --i) request.prompt.push_back(static_cast<TokenId>(i % 9));
    for (int64_t i = draw(30); i >= 0; --i) request.prompt.push_back(static_cast<TokenId>(draw(9)));
    request.sampling = random_sampling();
    request.n = draw(3) == 0 ? 3 : 1;
    if (draw(20) == 0) request.prompt[request.prompt.size() / 2] = kHashFault;
    ASSERT_TRUE(admit(request, {.vocabulary = kHashVocabulary, .max_sequence_tokens = kHashContext}));
    const SeqId first{last_id_ + 1};
    last_id_ += request.n;
    for (int32_t choice = 0; choice < request.n; ++choice) {
      Answer& answer = answers_[first.value + choice];
      answer.request = request;
      answer.choice = choice;
      answer.seed = sequence_seed(request.sampling, choice, 0, SeqId{first.value + choice});
    }
    request.on_output = [this](const TokenOutput& event) {
      Answer& answer = answers_.at(event.sequence.value);
      EXPECT_EQ(answer.finish, FinishReason::kNone) << "an event after the end";
      answer.finish = event.finish;
      if (event.token < 0) {
        EXPECT_TRUE(event.logprobs.empty() && event.prompt_logprobs.empty());
        return;
      }
      answer.tokens.push_back(event.token);
      answer.logprobs.emplace_back(event.logprobs.begin(), event.logprobs.end());
      EXPECT_TRUE(answer.tokens.size() == 1 || event.prompt_logprobs.empty());
      answer.prompt_logprobs.insert(answer.prompt_logprobs.end(), event.prompt_logprobs.begin(),
                                    event.prompt_logprobs.end());
    };
    engine_->add(make_sequences(first, std::move(request), engine_->seed(), 16));
  }

  // One draw from all that came before, with histories counted anew.
  TokenId expected_token(const Answer& answer, const std::vector<TokenId>& all, std::vector<float> logits) {
    const SamplingParams& s = answer.request.sampling;
    const auto prompt = static_cast<std::ptrdiff_t>(answer.request.prompt.size());
    std::map<TokenId, int32_t> counts;
    for (const TokenId id : answer.request.prompt) counts[id] = 0;
    for (auto it = all.begin() + prompt; it != all.end(); ++it) counts[*it] += 1;
    std::vector<TokenCount> seen;
    for (const auto& [id, count] : counts) seen.push_back({id, count});
    const RepetitionMatches matches(s.dry, s.dry_breakers, all, 0);
    const bool must_go_on = std::ssize(all) - prompt < s.min_tokens;
    LogitAdjustments adjustments{.bias = s.logit_bias, .seen = seen, .repetition_penalty = s.repetition_penalty,
                                 .frequency_penalty = s.frequency_penalty, .presence_penalty = s.presence_penalty};
    if (must_go_on) adjustments.forbidden = s.stop_token_ids;
    if (s.dry.multiplier > 0) adjustments.dry = matches.penalties();
    const SampleRow row{.temperature = s.temperature, .min_p = s.min_p, .typical_p = s.typical_p, .top_p = s.top_p,
                        .top_k = s.top_k, .seed = answer.seed, .position = std::ssize(all), .adjustments = &adjustments};
    TokenId token = -1;
    sample(sampler_, {.logits = logits.data(), .logits_stride = kHashVocabulary, .rows = 1,
                      .vocabulary = kHashVocabulary, .parameters = &row, .tokens = &token});
    return token;
  }

  void check(const Answer& answer) {
    const SamplingParams& s = answer.request.sampling;
    std::vector<TokenId> all = answer.request.prompt;
    if (std::find(all.begin(), all.end(), kHashFault) != all.end()) {
      ASSERT_EQ(answer.finish, FinishReason::kError);
      ASSERT_TRUE(answer.tokens.empty());
      return;
    }
    check_prompt_scores(answer);
    FinishReason finish = FinishReason::kNone;
    for (size_t i = 0; finish == FinishReason::kNone; ++i) {
      ASSERT_LT(i, answer.tokens.size());
      const std::vector<float> logits = hash_logits(all);
      const TokenId token = expected_token(answer, all, logits);
      ASSERT_EQ(answer.tokens[i], token) << "output token " << i;
      if (s.logprobs) {
        expect_logprobs(logits, token, *s.logprobs, answer.logprobs[i]);
      } else {
        ASSERT_TRUE(answer.logprobs[i].empty());
      }
      all.push_back(token);
      const bool stop = std::find(s.stop_token_ids.begin(), s.stop_token_ids.end(), token) != s.stop_token_ids.end();
      const auto output = static_cast<int64_t>(i) + 1;
      if (stop) {
        ASSERT_GT(output, s.min_tokens);
      }
      finish = stop ? FinishReason::kStop : output == s.max_tokens ? FinishReason::kLength : FinishReason::kNone;
    }
    ASSERT_EQ(answer.finish, finish);
    ASSERT_EQ(std::ssize(answer.tokens), std::ssize(all) - std::ssize(answer.request.prompt));
  }

  // One answer of several reports them for all.
  void check_prompt_scores(const Answer& answer) {
    const auto& listed = answer.request.sampling.prompt_logprobs;
    const std::vector<TokenId>& prompt = answer.request.prompt;
    if (!listed || answer.choice > 0) {
      ASSERT_TRUE(answer.prompt_logprobs.empty());
      return;
    }
    const auto stride = static_cast<size_t>(1 + *listed);
    ASSERT_EQ(answer.prompt_logprobs.size(), (prompt.size() - 1) * stride);
    for (size_t i = 1; i < prompt.size(); ++i) {
      expect_logprobs(hash_logits(std::span(prompt).first(i)), prompt[i], *listed,
                      std::span(answer.prompt_logprobs).subspan((i - 1) * stride, stride));
    }
  }

  std::mt19937_64 random_;
  Stream sampler_;
  std::unique_ptr<Engine> engine_;
  std::map<int64_t, Answer> answers_;
  int64_t last_id_ = 0;
};

TEST(SamplingIndependence, HoldsForEveryOptionOverRandomHistories) {
  ASSERT_TRUE(init_log("error"));
  int64_t preemptions = 0, reconfigurations = 0, hit_tokens = 0;
  for (uint64_t seed = 1; seed <= 500 && !::testing::Test::HasFatalFailure(); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    SamplingHistory history(seed, seed % 2 == 0 ? CpuRunner::Pace::kAhead : CpuRunner::Pace::kInStep);
    history.run(12);
    preemptions += history.preemptions();
    reconfigurations += history.reconfigurations();
    hit_tokens += history.hit_tokens();
  }
  EXPECT_GT(preemptions, 100);
  EXPECT_GT(reconfigurations, 100);
  EXPECT_GT(hit_tokens, 1000);
}

// Steps launched while one was under way, of one sequence of 30 tokens: a prompt's, then one for each but the first.
int64_t steps_ahead(const SamplingParams& sampling) {
  EngineConfig config;
  config.device_memory_bytes = 64 * kMiB;
  config.threads = 1;
  auto engine = Engine::create(
      std::make_unique<CpuRunner>(std::make_unique<HashModel>(), one_thread(), CpuRunner::Pace::kAhead), config);
  EXPECT_TRUE(engine) << engine.error().message;
  EngineRequest request{.prompt = {1, 2, 3}, .sampling = sampling};
  request.sampling.max_tokens = 30;
  request.sampling.ignore_eos = true;
  request.on_output = [](const TokenOutput&) {};
  EXPECT_TRUE(admit(request, {.vocabulary = kHashVocabulary, .max_sequence_tokens = kHashContext}));
  (*engine)->add(make_sequences(SeqId{1}, std::move(request), 0, 16));
  while ((*engine)->has_work()) {
    EXPECT_TRUE((*engine)->step());
    (*engine)->deliver();
  }
  EXPECT_EQ((*engine)->stats().steps, 30);
  return (*engine)->stats().steps_ahead;
}

TEST(SamplingIndependence, OnlyWhatNeedsTheLastTokenHoldsUpTheNextStep) {
  ASSERT_TRUE(init_log("error"));
  EXPECT_EQ(steps_ahead({}), 29);
  EXPECT_EQ(steps_ahead({.repetition_penalty = 1.2f, .presence_penalty = 0.5f, .frequency_penalty = 0.5f}), 29);
  EXPECT_EQ(steps_ahead({.logit_bias = {{5, 3.0f}}, .min_tokens = 10, .stop_token_ids = {7}, .logprobs = 3}), 29);
  EXPECT_EQ(steps_ahead({.dry = {.multiplier = 2.0f, .base = 1.5f, .allowed_length = 1, .range = -1}}), 0);
  // Its prompt alone is scored.
  EXPECT_EQ(steps_ahead({.prompt_logprobs = 1}), 28);
}

}  // namespace
}  // namespace crible
