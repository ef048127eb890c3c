// The engine on a GPU, on made-up weights of a small model: every sequence ends once and the pool is whole after any
// history; with `deterministic` tokens do not depend on it; a device that has failed ends every request with an error.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "base/atomic_file.h"
#include "base/log.h"
#include "device/cuda/gpu_test.h"
#include "engine/admission.h"
#include "engine/cuda/cuda_runner.h"
#include "engine/engine.h"
#include "ops/embed/embed_cuda.h"

namespace crible::cuda {
namespace {

constexpr int64_t kVocabulary = 2003;  // no multiple of a tile
constexpr int64_t kContext = 512;

// A folder with a configuration and nothing else.
std::filesystem::path model_folder() {
  const auto folder = std::filesystem::temp_directory_path() / fmt::format("crible_cuda_engine_{}", ::getpid());
  std::filesystem::create_directories(folder);
  const nlohmann::json config = {{"architectures", {"Qwen3ForCausalLM"}},
                                 {"model_type", "qwen3"},
                                 {"hidden_size", 512},
                                 {"intermediate_size", 1024},
                                 {"num_hidden_layers", 3},
                                 {"num_attention_heads", 8},
                                 {"num_key_value_heads", 2},
                                 {"head_dim", 64},
                                 {"hidden_act", "silu"},
                                 {"rms_norm_eps", 1e-6},
                                 {"rope_theta", 10000},
                                 {"max_position_embeddings", kContext},
                                 {"vocab_size", kVocabulary},
                                 {"tie_word_embeddings", false},
                                 {"torch_dtype", "bfloat16"}};
  EXPECT_TRUE(write_file_atomic(folder / "config.json", config.dump()));
  return folder;
}

struct Answer {
  EngineRequest request;
  std::vector<TokenId> tokens;
  std::vector<TokenId> forked;  // of the second choice
  int ends = 0;  // of the first
  TokenOutput last;
};

class CudaEngineTest : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    (void)init_log("error");
  }

  static EngineConfig config_of(int64_t sequences, int64_t tokens, int64_t blocks) {
    EngineConfig config;
    config.device = "cuda";
    config.load_format = "dummy";
    config.max_num_seqs = sequences;
    config.max_num_batched_tokens = tokens;
    // Of 3 layers, keys and values, 2 heads of 64 in BF16.
    config.kv_cache_memory_bytes = blocks * 16 * 3 * 2 * 2 * 64 * 2;
    return config;
  }

  void start(const EngineConfig& config) {
    auto runner = CudaRunner::load(model_folder(), config);
    ASSERT_TRUE(runner) << runner.error().message;
    auto engine = Engine::create(std::move(*runner), config);
    ASSERT_TRUE(engine) << engine.error().message;
    engine_ = std::move(*engine);
    while (engine_->prepare()) {
    }
  }

  int64_t draw(int64_t below) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(below)); }

  EngineRequest random_request() {
    EngineRequest request;
    // Every other prompt begins with the same blocks.
    if (draw(2) == 0) {
      for (int64_t i = 0; i < 16 * (1 + draw(6)); ++i) request.prompt.push_back(static_cast<TokenId>(i * 7 % kVocabulary));
    }
    for (int64_t i = 1 + draw(150); i > 0; --i) request.prompt.push_back(static_cast<TokenId>(draw(kVocabulary)));
    request.sampling.max_tokens = 1 + draw(60);
    request.sampling.temperature = draw(2) == 0 ? 0.0f : 0.8f;
    request.sampling.top_k = static_cast<int32_t>(draw(50));
    request.sampling.seed = static_cast<uint64_t>(draw(1000));
    request.sampling.stop_token_ids = {static_cast<TokenId>(draw(kVocabulary))};
    if (draw(4) == 0) request.sampling.repetition_penalty = 1.2f;
    if (draw(6) == 0) request.sampling.logprobs = 3;
    return request;
  }

  SeqId submit(EngineRequest request) {
    EXPECT_TRUE(admit(request, {.vocabulary = kVocabulary, .max_sequence_tokens = kContext}));
    const SeqId id{last_id_ + 1};
    last_id_ += request.n;
    answers_[id.value].request = request;
    request.on_output = [this, id](const TokenOutput& event) {
      Answer& answer = answers_[id.value];
      if (event.choice > 0) {
        if (event.token >= 0) answer.forked.push_back(event.token);
        return;
      }
      EXPECT_EQ(answer.ends, 0) << "an event after the end";
      if (event.token >= 0) answer.tokens.push_back(event.token);
      answer.ends += event.finish != FinishReason::kNone;
      answer.last = event;
    };
    engine_->add(make_sequences(id, std::move(request), engine_->seed(), 16));
    return id;
  }

  void step() {
    const EngineStats before = engine_->stats();
    // Of requests that need no results, a step is launched ahead wherever nobody might be pre-empted.
    const bool may_run_ahead = under_way_ && before.kv_blocks_total - before.kv_blocks_used >= before.running;
    const Status done = engine_->step();
    EXPECT_TRUE(done) << done.error().message;
    const bool launched = engine_->stats().steps > before.steps;
    launchable_ahead_ += may_run_ahead;
    idle_ += may_run_ahead && !launched;
    under_way_ = launched;
    engine_->deliver();
  }

  std::vector<TokenId> alone(const EngineRequest& request) {
    engine_->reset_prefix_cache();
    const SeqId id = submit(request);
    while (engine_->has_work()) step();
    return answers_[id.value].tokens;
  }

  std::mt19937_64 random_{20'260'001};
  std::unique_ptr<Engine> engine_;
  std::map<int64_t, Answer> answers_;
  int64_t last_id_ = 0;
  bool under_way_ = false;
  int64_t launchable_ahead_ = 0;  // calls of step() that could launch one while another was under way
  int64_t idle_ = 0;              // of them those that had nothing to launch
};

TEST_F(CudaEngineTest, AThousandRequestsLeaveThePoolAsItWas) {
  // Too few blocks for all of them: some are pre-empted.
  start(config_of(24, 256, 45));
  if (HasFatalFailure()) return;
  int submitted = 0;
  while (submitted < 1000 || engine_->has_work()) {
    if (submitted < 1000 && draw(2) == 0) {
      submit(random_request());
      ++submitted;
    }
    if (last_id_ > 0 && draw(25) == 0) engine_->cancel(SeqId{1 + draw(last_id_)});
    step();
  }
  for (const auto& [id, answer] : answers_) {
    ASSERT_EQ(answer.ends, 1) << "sequence " << id;
    ASSERT_NE(answer.last.finish, FinishReason::kError) << answer.last.error->message;
  }
  const EngineStats stats = engine_->stats();
  EXPECT_EQ(stats.kv_blocks_used, 0);
  EXPECT_EQ(stats.running + stats.waiting, 0);
  EXPECT_GT(stats.preemptions, 0);
  EXPECT_GT(stats.prefix_hit_tokens, 1000);
  EXPECT_EQ(stats.steps_ahead, launchable_ahead_ - idle_);
  EXPECT_GT(launchable_ahead_, 1000);
  EXPECT_LT(idle_, launchable_ahead_ / 10);
}

TEST_F(CudaEngineTest, DeterministicTokensDoNotDependOnTheHistory) {
  EngineConfig config = config_of(20, 200, 400);
  config.deterministic = true;
  start(config);
  if (HasFatalFailure()) return;
  std::vector<EngineRequest> requests;
  std::vector<std::vector<TokenId>> expected;
  for (int i = 0; i < 24; ++i) requests.push_back(random_request());
  for (const EngineRequest& request : requests) expected.push_back(alone(request));
  // All at once, twice: the second time behind their own cached prefixes.
  for (int round = 0; round < 2; ++round) {
    std::vector<SeqId> ids;
    for (const EngineRequest& request : requests) {
      ids.push_back(submit(request));
      if (draw(3) == 0) step();
    }
    while (engine_->has_work()) step();
    for (size_t i = 0; i < ids.size(); ++i) {
      EXPECT_EQ(answers_[ids[i].value].tokens, expected[i]) << "request " << i << ", round " << round;
    }
  }
  EXPECT_GT(engine_->stats().prefix_hit_tokens, 0);
}

EngineRequest penalised(std::vector<TokenId> prompt, int64_t max_tokens, float temperature) {
  EngineRequest request{.prompt = std::move(prompt)};
  request.sampling.max_tokens = max_tokens;
  request.sampling.temperature = temperature;
  request.sampling.seed = 17;
  request.sampling.ignore_eos = true;
  request.sampling.presence_penalty = 20;
  request.sampling.frequency_penalty = 2;
  request.sampling.repetition_penalty = 1.3f;
  return request;
}

// A prompt each in one step, then a token each in every step: all but the first are launched while one runs.
TEST_F(CudaEngineTest, PenaltiesDoNotHoldUpTheNextStep) {
  constexpr int64_t kTokens = 80;
  start(config_of(8, 256, 300));
  if (HasFatalFailure()) return;
  std::vector<SeqId> ids;
  for (int i = 0; i < 6; ++i) ids.push_back(submit(penalised({1, 2, 3, static_cast<TokenId>(40 + i)}, kTokens, 0)));
  while (engine_->has_work()) step();
  EXPECT_EQ(engine_->stats().steps, kTokens);
  EXPECT_EQ(engine_->stats().steps_ahead, kTokens - 1);
  for (const SeqId id : ids) {
    const std::vector<TokenId>& tokens = answers_[id.value].tokens;
    EXPECT_EQ(std::ssize(tokens), kTokens);
    // The logits of these weights lie closer together than the penalties of one occurrence.
    EXPECT_EQ(std::ssize(std::set<TokenId>(tokens.begin(), tokens.end())), kTokens);
  }
  EngineRequest free = penalised({1, 2, 3, 40}, kTokens, 0);
  free.sampling.presence_penalty = free.sampling.frequency_penalty = 0;
  free.sampling.repetition_penalty = 1;
  const std::vector<TokenId> repeated = alone(free);
  EXPECT_LT(std::ssize(std::set<TokenId>(repeated.begin(), repeated.end())), kTokens);
}

// Pre-empted, begun anew, forked, cancelled beside others, more of them than there are slots for histories.
TEST_F(CudaEngineTest, PenalisedTokensDoNotDependOnTheHistory) {
  // At their ends six of them hold 45 blocks on average.
  EngineConfig config = config_of(6, 64, 34);
  config.deterministic = true;
  start(config);
  if (HasFatalFailure()) return;
  std::vector<EngineRequest> requests;
  std::vector<std::vector<TokenId>> expected;
  for (int i = 0; i < 20; ++i) {
    std::vector<TokenId> prompt;
    for (int64_t t = 1 + draw(60); t > 0; --t) prompt.push_back(static_cast<TokenId>(draw(kVocabulary)));
    requests.push_back(penalised(std::move(prompt), 60 + draw(60), i % 2 == 0 ? 0.0f : 0.9f));
    requests.back().sampling.seed = static_cast<uint64_t>(i);
    expected.push_back(alone(requests.back()));
  }
  std::vector<SeqId> ids;
  for (const EngineRequest& request : requests) {
    EngineRequest several = request;
    several.n = 2;
    ids.push_back(submit(several));
    const SeqId cancelled = submit(request);
    for (int64_t i = draw(4); i > 0; --i) step();
    engine_->cancel(cancelled);
  }
  while (engine_->has_work()) step();
  EXPECT_GT(engine_->stats().preemptions, 0);
  for (size_t i = 0; i < ids.size(); ++i) {
    EXPECT_EQ(answers_[ids[i].value].tokens, expected[i]) << "request " << i;
    // Its fork draws with another seed; both are greedy for even i.
    if (i % 2 == 0) {
      EXPECT_EQ(answers_[ids[i].value].forked, expected[i]) << "request " << i;
    }
  }
}

TEST_F(CudaEngineTest, ReconfigurationKeepsEverySequence) {
  start(config_of(16, 128, 300));
  if (HasFatalFailure()) return;
  for (int i = 0; i < 40; ++i) submit(random_request());
  const EngineConfig changes[] = {config_of(4, 64, 200), config_of(32, 512, 400), config_of(16, 128, 300)};
  for (const EngineConfig& change : changes) {
    for (int i = 0; i < 20; ++i) step();
    ASSERT_TRUE(engine_->drain());
    engine_->deliver();
    const Status changed = engine_->reconfigure(change);
    ASSERT_TRUE(changed) << changed.error().message;
    EXPECT_EQ(engine_->description().effective.kv_cache_memory_bytes, change.kv_cache_memory_bytes);
  }
  while (engine_->has_work()) step();
  for (const auto& [id, answer] : answers_) {
    EXPECT_EQ(answer.ends, 1) << "sequence " << id;
    EXPECT_NE(answer.last.finish, FinishReason::kError);
  }
}

TEST_F(CudaEngineTest, APlanThatDoesNotFitIsRefusedAndTheOldOneGoesOn) {
  start(config_of(8, 128, 100));
  if (HasFatalFailure()) return;
  EngineConfig large = config_of(8, 128, 100);
  large.kv_cache_memory_bytes = int64_t{1} << 43;
  const Status refused = engine_->reconfigure(large);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, ::testing::HasSubstr("kv-cache-memory-bytes"));
  EXPECT_FALSE(alone(random_request()).empty());
}

// In a process of its own: nothing can be computed in one whose device has failed.
TEST_F(CudaEngineTest, AFailedDeviceEndsEveryRequestWithAnError) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        start(config_of(8, 128, 100));
        for (int i = 0; i < 12; ++i) submit(random_request());
        for (int i = 0; i < 3; ++i) step();
        // Reads token ids where there is no memory.
        const DeviceBuffer out = DeviceBuffer::allocate(4096).value();
        embed(stream(), {.table = out.as<__nv_bfloat16>(),
                         .token_ids = reinterpret_cast<const int32_t*>(uintptr_t{1} << 20),
                         .out = out.as<__nv_bfloat16>(),
                         .tokens = 1,
                         .columns = 8,
                         .vocabulary = 1});
        bool failed = false;
        for (int i = 0; i < 4 && !failed; ++i) failed = !engine_->step();
        engine_->deliver();
        int errors = 0;
        for (const auto& [id, answer] : answers_) errors += answer.last.finish == FinishReason::kError;
        std::fprintf(stderr, "failed %d, has work %d, errors %d\n", failed, engine_->has_work(), errors);
        std::_Exit(failed && !engine_->has_work() && errors > 0 ? 0 : 1);
      },
      ::testing::ExitedWithCode(0), "failed 1, has work 0");
}

}  // namespace
}  // namespace crible::cuda
