// Scheduling does not change results: whatever happens around a request, its tokens are those that
// follow from its prompt alone. Thousands of random histories on the hash model.
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <random>

#include "base/atomic_file.h"
#include "base/log.h"
#include "engine/admission.h"
#include "engine/cpu_runner.h"
#include "engine/engine.h"
#include "engine/hash_model.h"

namespace crible {
namespace {

constexpr int64_t kLongest = kHashContext;

Stream one_thread() { return std::move(*Stream::create_cpu(1)); }

// The model's file and the prefix cache's, for as long as the process lives.
class ScratchFiles {
 public:
  ScratchFiles() { EXPECT_TRUE(write_file_atomic(weights, "of the hash model")); }
  ~ScratchFiles() {
    std::filesystem::remove(weights);
    std::filesystem::remove(prefixes);
  }
  const std::filesystem::path folder = std::filesystem::temp_directory_path();
  const std::filesystem::path weights = folder / fmt::format("crible_independence_{}_weights", ::getpid());
  const std::filesystem::path prefixes = folder / fmt::format("crible_independence_{}_prefixes", ::getpid());
};
const ScratchFiles& scratch_files() {
  static const ScratchFiles files;
  return files;
}

struct Outcome {
  EngineRequest request;  // as admitted
  uint64_t seed = 0;      // of this answer's draws
  std::vector<TokenId> tokens;
  int ends = 0;
  TokenOutput last;
};

class History {
 public:
  explicit History(uint64_t seed, CpuRunner::Pace pace = CpuRunner::Pace::kInStep)
      : pace_(pace), random_(seed), sampler_(one_thread()) {
    EXPECT_TRUE(sampler_.reserve_scratch(sample_scratch_bytes(1, kHashVocabulary, 1)));
    std::filesystem::remove(scratch_files().prefixes);
    start();
    for (auto& block : blocks_) {
      for (TokenId& token : block) token = static_cast<TokenId>(draw(kHashFault));
    }
  }

  void run(int requests) {
    int submitted = 0;
    while (submitted < requests || engine_->has_work()) {
      if (submitted < requests && draw(3) == 0) {
        submit();
        ++submitted;
      }
      disturb();
      EXPECT_TRUE(engine_->step());
      engine_->deliver();
    }
    check();
  }

  // Ends the engine with what it has cached, and goes on with a new one.
  void restart() {
    if (engine_->description().resolved.config.enable_prefix_caching) {
      EXPECT_TRUE(engine_->drain());
      const auto saved = engine_->save_prefix_cache();
      EXPECT_TRUE(saved) << saved.error().message;
    }
    outcomes_.clear();
    start();
  }

  int64_t restored_blocks() const { return engine_->stats().restored_prefix_blocks; }
  int64_t preemptions() const { return engine_->stats().preemptions; }
  int64_t hit_tokens() const { return engine_->stats().prefix_hit_tokens; }
  int64_t reconfigurations() const { return engine_->stats().reconfigurations; }
  int64_t steps_ahead() const { return engine_->stats().steps_ahead; }

 private:
  void start() {
    auto engine = Engine::create(
        std::make_unique<CpuRunner>(std::make_unique<HashModel>(scratch_files().weights.string()), one_thread(), pace_),
        random_config());
    EXPECT_TRUE(engine) << engine.error().message;
    engine_ = std::move(*engine);
  }

  int64_t draw(int64_t below) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(below)); }

  EngineConfig random_config() {
    EngineConfig config;
    config.device_memory_bytes = 64 * kMiB;
    config.threads = 1;
    config.max_num_seqs = 1 + draw(8);
    config.enable_chunked_prefill = draw(2) == 0;
    config.max_num_batched_tokens =
        config.enable_chunked_prefill ? config.max_num_seqs + draw(80) : kLongest + draw(100);
    config.enable_prefix_caching = draw(4) != 0;
    config.kv_cache_memory_bytes = (kLongest / 16 + draw(30)) * kHashBlockBytes;
    if (draw(5) == 0) {
      config.kv_cache_dtype = "f32";
      config.kv_cache_memory_bytes *= 2;
    }
    if (draw(2) == 0) config.scheduling_policy = "priority";
    if (config.enable_chunked_prefill && draw(2) == 0) {
      config.long_prefill_token_threshold = 1 + draw(40);
      config.max_long_partial_prefills = 1 + draw(3);
      config.max_num_batched_tokens += config.long_prefill_token_threshold * config.max_long_partial_prefills;
    }
    config.prefix_cache_file = scratch_files().prefixes.string();
    return config;
  }

  void submit() {
    EngineRequest request;
    // Blocks from a set of two: many prompts begin alike, and equal blocks follow different beginnings.
    for (int64_t b = draw(7); b > 0; --b) {
      const auto& block = blocks_[draw(3) == 0 ? 1 : 0];
      request.prompt.insert(request.prompt.end(), block.begin(), block.end());
    }
    for (int64_t i = draw(30); i >= 0; --i) request.prompt.push_back(static_cast<TokenId>(draw(kHashFault)));
    if (draw(15) == 0) request.prompt.back() = kHashFault;
    request.sampling.temperature = draw(2) == 0 ? 0.0f : 0.7f;
    request.sampling.top_k = static_cast<int32_t>(draw(20));
    request.sampling.seed = static_cast<uint64_t>(draw(5));
    request.sampling.max_tokens = 1 + draw(40);
    request.sampling.stop_token_ids = {static_cast<TokenId>(draw(kHashFault))};
    request.sampling.ignore_eos = draw(2) == 0;
    request.cache_salt = static_cast<uint64_t>(draw(2));
    ASSERT_TRUE(admit(request, {.vocabulary = kHashVocabulary, .max_sequence_tokens = kLongest}));
    request.priority = draw(3);
    request.n = draw(4) == 0 ? 2 + static_cast<int32_t>(draw(2)) : 1;
    const SeqId first{last_id_ + 1};
    last_id_ += request.n;
    for (int32_t choice = 0; choice < request.n; ++choice) {
      Outcome& outcome = outcomes_[first.value + choice];
      outcome.request = request;
      outcome.seed = sequence_seed(request.sampling, choice, engine_->seed(), SeqId{first.value + choice});
    }
    request.on_output = [this, first](const TokenOutput& event) {
      EXPECT_EQ(event.sequence.value, first.value + event.choice);
      record(event);
    };
    engine_->add(make_sequences(first, std::move(request), engine_->seed(), 16));
  }

  void record(const TokenOutput& event) {
    Outcome& outcome = outcomes_.at(event.sequence.value);
    EXPECT_EQ(outcome.ends, 0) << "an event after the end";
    if (event.token >= 0) outcome.tokens.push_back(event.token);
    EXPECT_EQ(event.output_tokens, static_cast<int64_t>(outcome.tokens.size()));
    EXPECT_LT(event.cached_tokens, static_cast<int64_t>(outcome.request.prompt.size()));
    outcome.ends += event.finish != FinishReason::kNone;
    outcome.last = event;
  }

  void disturb() {
    if (last_id_ > 0 && draw(40) == 0) {
      engine_->cancel(SeqId{1 + draw(last_id_)});
      engine_->deliver();
    }
    if (draw(60) == 0) engine_->reset_prefix_cache();
    if (draw(30) == 0) {
      EXPECT_TRUE(engine_->drain());
      engine_->deliver();
      const Status changed = engine_->reconfigure(random_config());
      EXPECT_TRUE(changed) << changed.error().message;
    }
  }

  // Runs the request on its own: hash, sample, append.
  std::pair<std::vector<TokenId>, FinishReason> expected(const Outcome& outcome) {
    const EngineRequest& request = outcome.request;
    std::vector<TokenId> tokens = request.prompt;
    std::vector<TokenId> output;
    while (true) {
      std::vector<float> logits = hash_logits(tokens);
      const SampleRow row{.temperature = request.sampling.temperature, .top_p = request.sampling.top_p,
                          .top_k = request.sampling.top_k, .seed = outcome.seed,
                          .position = static_cast<int64_t>(tokens.size())};
      TokenId token = -1;
      sample(sampler_, {.logits = logits.data(), .logits_stride = kHashVocabulary, .rows = 1,
                        .vocabulary = kHashVocabulary, .parameters = &row, .tokens = &token});
      if (token < 0) return {output, FinishReason::kError};
      tokens.push_back(token);
      output.push_back(token);
      if (!request.sampling.ignore_eos && token == request.sampling.stop_token_ids[0]) {
        return {output, FinishReason::kStop};
      }
      if (static_cast<int64_t>(output.size()) == request.sampling.max_tokens) {
        return {output, FinishReason::kLength};
      }
    }
  }

  void check() {
    for (auto& [id, outcome] : outcomes_) {
      ASSERT_EQ(outcome.ends, 1) << "sequence " << id;
      auto [tokens, finish] = expected(outcome);
      if (outcome.last.finish == FinishReason::kCancelled) {
        ASSERT_LE(outcome.tokens.size(), tokens.size());
        tokens.resize(outcome.tokens.size());
        finish = FinishReason::kCancelled;
      }
      ASSERT_EQ(outcome.tokens, tokens) << "sequence " << id;
      ASSERT_EQ(outcome.last.finish, finish) << "sequence " << id;
      ASSERT_EQ(outcome.last.error.has_value(), finish == FinishReason::kError);
    }
    const EngineStats stats = engine_->stats();
    EXPECT_EQ(stats.kv_blocks_used, 0);
    EXPECT_EQ(stats.running + stats.waiting, 0);
    EXPECT_EQ(stats.finished_stop + stats.finished_length + stats.finished_cancelled + stats.finished_error,
              static_cast<int64_t>(outcomes_.size()));
  }

  CpuRunner::Pace pace_;
  std::mt19937_64 random_;
  Stream sampler_;
  std::unique_ptr<Engine> engine_;
  std::array<std::array<TokenId, 16>, 2> blocks_;
  std::map<int64_t, Outcome> outcomes_;
  int64_t last_id_ = 0;
};

class SchedulingIndependence : public ::testing::TestWithParam<CpuRunner::Pace> {};

TEST_P(SchedulingIndependence, HoldsOverRandomHistories) {
  ASSERT_TRUE(init_log("error"));
  int64_t preemptions = 0, hit_tokens = 0, reconfigurations = 0, restored_blocks = 0, steps_ahead = 0;
  for (uint64_t seed = 1; seed <= 1500 && !::testing::Test::HasFatalFailure(); ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    History history(seed, GetParam());
    history.run(12);
    steps_ahead += history.steps_ahead();
    preemptions += history.preemptions();
    hit_tokens += history.hit_tokens();
    reconfigurations += history.reconfigurations();
    if (seed % 8 != 0) continue;
    history.restart();
    restored_blocks += history.restored_blocks();
    history.run(12);
  }
  // The histories did contain what they are meant to be immune to.
  EXPECT_GT(preemptions, 100);
  EXPECT_GT(hit_tokens, 10'000);
  EXPECT_GT(reconfigurations, 1000);
  EXPECT_GT(restored_blocks, 200);
  EXPECT_EQ(steps_ahead > 10'000, GetParam() == CpuRunner::Pace::kAhead) << steps_ahead;
}

TEST_P(SchedulingIndependence, AThousandRequestsLeaveThePoolAsItWas) {
  History history(20'000, GetParam());
  history.run(1000);
  EXPECT_GT(history.preemptions(), 0);
}

INSTANTIATE_TEST_SUITE_P(Paces, SchedulingIndependence,
                         ::testing::Values(CpuRunner::Pace::kInStep, CpuRunner::Pace::kAhead), [](const auto& pace) {
                           return pace.param == CpuRunner::Pace::kInStep ? "InStep" : "Ahead";
                         });

}  // namespace
}  // namespace crible
