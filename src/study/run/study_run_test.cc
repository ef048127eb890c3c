// Whole studies against servers that are scripted: honest ones, lying ones, failing ones.
#include "study/run/study_run.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "base/fake_nvml/scripted_gpus.h"
#include "load/scripted_server.h"
#include "study/record/plan.h"
#include "study/record/store.h"

namespace crible::study {
namespace {

using nlohmann::json;

// An OpenAI-compatible server without a model: words are tokens, answers are one word over and over with
// a number, lengths are what was asked for.
class FakeServer {
 public:
  explicit FakeServer(json effective) : effective_(std::move(effective)) {
    server_ = load::ScriptedServer::start([this](const auto& request, auto& connection) {
                answer(request, connection);
              }).value();
  }

  std::string url() const { return load::to_url(server_->endpoint()); }

  std::atomic<int> fail_from{1 << 30};  // completions from this one on are answered with 500
  std::atomic<int> completions{0};
  std::atomic<bool>* stop_after_first_trial = nullptr;
  bool wrong_prompt_count = false;
  std::string api_key;

 private:
  void answer(const load::ReceivedRequest& request, load::ScriptedConnection& c) {
    if (request.path == "/health") return c.reply(200, "{}");
    if (!api_key.empty() && request.head.find("Bearer " + api_key + "\r\n") == std::string::npos) {
      return c.reply(401, R"({"error":{"message":"wrong key"}})");
    }
    if (request.path == "/v1/models") return c.reply(200, R"({"data":[{"id":"fake","max_model_len":4096}]})");
    if (request.path == "/metrics")
      return c.reply(200, "vllm:prompt_tokens_total{model=\"fake\"} 5\n", "text/plain");
    if (request.path == "/admin/config") {
      return c.reply(
          200,
          json{{"requested", effective_},
               {"resolved", effective_},
               {"effective", effective_},
               {"adjustments", json::array()},
               {"memory_plan",
                {{"device_bytes", 1000}, {"weight_bytes", 100}, {"activation_bytes", 10}, {"kv_bytes", 500}}},
               {"model", {{"architecture", "fake"}, {"parameters", 1}}}}
              .dump());
    }
    const json body = json::parse(request.body);
    if (request.path == "/tokenize") {
      json tokens = json::array();
      for (const char letter : body["prompt"].get<std::string>()) {
        if (letter == ' ') tokens.push_back(tokens.size());
      }
      return c.reply(200, json{{"count", tokens.size()}, {"tokens", tokens}}.dump());
    }
    complete(request, body, c);
  }

  void complete(const load::ReceivedRequest& request, const json& body, load::ScriptedConnection& c) {
    const int number = ++completions;
    if (stop_after_first_trial != nullptr && number > 60) *stop_after_first_trial = true;
    if (number >= fail_from) return c.reply(500, R"({"error":{"message":"fell over"}})");
    const bool chat = request.path == "/v1/chat/completions";
    const size_t prompt = chat ? 10 : body["prompt"].size();
    const int tokens = body["max_tokens"];
    size_t cached = 0;
    if (!chat && prompt >= 32) {
      // A prefix of 32 tokens that was seen before is "cached" as a whole.
      const std::string prefix =
          json(std::vector<int>(body["prompt"].begin(), body["prompt"].begin() + 32)).dump();
      const std::lock_guard lock(mutex_);
      if (!seen_.insert(prefix).second) cached = prompt - 8;
    }
    c.begin_stream();
    for (int i = 0; i < tokens; ++i) {
      const std::string text = " word" + std::to_string(i);
      c.frame(json{{"choices", {chat ? json{{"delta", {{"content", text}}}} : json{{"text", text}}}}}.dump());
    }
    c.frame(R"({"choices":[{"delta":{},"text":"","finish_reason":"length"}]})");
    c.frame(json{{"choices", json::array()},
                 {"usage",
                  {{"prompt_tokens", prompt + (wrong_prompt_count ? 1 : 0)},
                   {"completion_tokens", tokens},
                   {"prompt_tokens_details", {{"cached_tokens", cached}}}}}}
                .dump());
    c.end_stream();
  }

  json effective_;
  std::unique_ptr<load::ScriptedServer> server_;
  std::mutex mutex_;
  std::set<std::string> seen_;
};

json with_sequences(int count) {
  return {{"max-num-seqs", count}};
}

// Whether the trial is valid but for the generator's lag, which a busy machine causes by itself.
bool valid_but_for_lag(const TrialRecord& trial) {
  if (trial.validity.valid) return true;
  constexpr std::string_view kHarmless[] = {"client_lag", "server_errors", "hit_not_confirmed", "frames_merged"};
  return std::ranges::all_of(trial.validity.reasons, [&](const std::string& reason) {
    return std::ranges::any_of(kHarmless, [&](std::string_view name) { return reason.starts_with(name); });
  });
}

class StudyRun : public testing::Test {
 protected:
  void SetUp() override {
    root_ = std::filesystem::temp_directory_path() /
            ("crible_study_" + std::to_string(::getpid()) +
             testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(root_);
    null_ = std::fopen("/dev/null", "w");
    progress_ = std::make_unique<Progress>(null_);
  }
  void TearDown() override {
    progress_.reset();
    std::fclose(null_);
    std::filesystem::remove_all(root_);
  }

  static std::string spec_text(const std::string& url_a, const std::string& url_b) {
    return "study: fake\ntarget: {engine: url, url: \"" + url_a +
           "\"}\nconfigurations:\n  - {name: a, max-num-seqs: 8}\n"
           "  - {name: b, max-num-seqs: 16, url: \"" +
           url_b +
           "\"}\n"
           "scenarios:\n  - kv_cache: {pairs: 2, prefix_tokens: 64, question_tokens: 8, output_tokens: 4}\n"
           "  - conversation: {conversations: 2, turns: 3, streams: 2, system_tokens: 16, user_tokens: 8, "
           "output_tokens: 4}\n"
           "  - stability: {requests: 5, prompt_tokens: 8, output_tokens: [2, 5]}\n"
           "  - concurrency: {levels: [1, 3], requests_per_stream: 2, prompt_tokens: 8, output_tokens: 3}\n"
           "blocks: 2\nobjectives:\n  any: {minimise: kv_cache/ttft_miss_ms}\n";
  }

  Result<RunSummary> run(const std::string& text) {
    const auto spec = parse_spec(text, "fake.yaml");
    EXPECT_TRUE(spec) << spec.error().message;
    const auto folder = create_study_folder(root_);
    EXPECT_TRUE(folder) << folder.error().message;
    return run_study(*spec, "fake.yaml", *folder, {.program = "/bin/false", .program_version = "test", .nvml_library = nvml_},
                     *progress_, stop_);
  }

  StoredStudy stored() const {
    return Store::open_read_only(root_ / "study.sqlite").value().load_study().value();
  }

  std::filesystem::path root_;
  std::filesystem::path nvml_ = "/no/driver";  // whatever this machine has
  std::FILE* null_ = nullptr;
  std::unique_ptr<Progress> progress_;
  std::atomic<bool> stop_{false};
};

TEST_F(StudyRun, EveryTrialIsMadeAndValid) {
  FakeServer a(with_sequences(8));
  FakeServer b(with_sequences(16));
  const auto summary = run(spec_text(a.url(), b.url()));
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_EQ(summary->outcome, RunOutcome::kFinished) << summary->message;
  const StoredStudy study = stored();
  EXPECT_EQ(study.trials.size(), 16u);
  EXPECT_TRUE(study.failures.empty());
  EXPECT_EQ(study.model.name, "fake");
  for (const TrialRecord& trial : study.trials) {
    EXPECT_TRUE(valid_but_for_lag(trial))
        << trial.id << ": " << (trial.validity.reasons.empty() ? "" : trial.validity.reasons[0]);
    const size_t expected = trial.scenario == "kv_cache"       ? 4
                            : trial.scenario == "conversation" ? 12
                            : trial.scenario == "stability"    ? 5
                                                               : 8;
    EXPECT_EQ(trial.requests.size(), expected) << trial.id;
    EXPECT_FALSE(trial.memory.empty());
    EXPECT_TRUE(trial.gpu.empty());
    EXPECT_EQ(trial.memory[0].device_used_bytes, 610);
    EXPECT_EQ(trial.counters_after.at("vllm:prompt_tokens_total"), 5);
    for (const RequestRecord& r : trial.requests) {
      EXPECT_EQ(r.status, RequestStatus::kOk);
      EXPECT_GE(r.actual_send_ns, r.scheduled_ns);
      EXPECT_GE(r.first_token_ns, r.actual_send_ns);
      EXPECT_EQ(std::ssize(r.token_gaps_ns) + 1, r.output_tokens);
      if (r.role == CacheRole::kHit) {
        EXPECT_EQ(r.cached_tokens, 64);
      }
      if (r.role == CacheRole::kMiss) {
        EXPECT_EQ(r.cached_tokens, 0);
      }
    }
  }
}

TEST_F(StudyRun, TheGpusOfAServerAreSampledWithEveryTrial) {
  ScriptedGpus gpus(
      "count=2 1.processes=9:1000 1.memory_used=5000 1.memory_total=9000 1.power_mw=300000 1.energy_mj=77 1.throttle=0x4");
  nvml_ = CRIBLE_FAKE_NVML_NEW;
  FakeServer a(with_sequences(8));
  FakeServer b(with_sequences(16));
  const auto summary = run(spec_text(a.url(), b.url()));
  ASSERT_TRUE(summary) << summary.error().message;
  const StoredStudy study = stored();
  ASSERT_EQ(study.trials.size(), 16u);
  for (const TrialRecord& trial : study.trials) {
    EXPECT_TRUE(valid_but_for_lag(trial)) << trial.id;
    ASSERT_GE(trial.gpu.size(), 2u);
    EXPECT_LE(trial.gpu.front().at_ns, trial.requests.front().actual_send_ns) << "before anything is sent";
    EXPECT_GE(trial.gpu.back().at_ns, trial.duration_ns);
    for (GpuSample sample : trial.gpu) {
      sample.at_ns = 0;
      EXPECT_EQ(sample, (GpuSample{.gpu = 1, .memory_used_bytes = 5000, .memory_total_bytes = 9000, .power_mw = 300'000,
                                   .energy_mj = 77, .throttle_reasons = 4}));
    }
  }
}

TEST_F(StudyRun, AGpuThatIsTooHotSpoilsTheTrial) {
  ScriptedGpus gpus("count=1 0.processes=9:1000 0.throttle=0x60");
  nvml_ = CRIBLE_FAKE_NVML_NEW;
  FakeServer a(with_sequences(8));
  FakeServer b(with_sequences(16));
  const auto summary = run(spec_text(a.url(), b.url()));
  ASSERT_TRUE(summary) << summary.error().message;
  for (const TrialRecord& trial : stored().trials) {
    EXPECT_FALSE(trial.validity.valid);
    EXPECT_TRUE(trial.validity.reasons.back().starts_with("gpu_throttled: in 100.0% of")) << trial.validity.reasons.back();
  }
}

TEST_F(StudyRun, ALyingServerStopsTheStudy) {
  FakeServer a(with_sequences(8));
  FakeServer b(with_sequences(8));  // 16 was asked for
  const auto summary = run(spec_text(a.url(), b.url()));
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_EQ(summary->outcome, RunOutcome::kStopped);
  EXPECT_NE(summary->message.find("max-num-seqs: 16 asked for, 8 in effect"), std::string::npos)
      << summary->message;
  const StoredStudy study = stored();
  EXPECT_TRUE(study.trials.empty());
  ASSERT_EQ(study.failures.size(), 1u);
  EXPECT_EQ(study.failures[0].cause, FailureCause::kEffectiveMismatch);
  EXPECT_EQ(study.failures[0].phase, StudyPhase::kAssertEffective);
}

TEST_F(StudyRun, TwoNamesForOneConfigurationStopTheStudy) {
  // "b" states a knob that "a" leaves to its default: on paper they differ, in effect they do not.
  const json effective = {{"max-num-seqs", 8}, {"kv-cache-dtype", "f16"}};
  FakeServer a(effective);
  FakeServer b(effective);
  std::string text = spec_text(a.url(), b.url());
  text.replace(text.find("max-num-seqs: 16"), 16, "max-num-seqs: 8, kv-cache-dtype: f16");
  const auto summary = run(text);
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_EQ(summary->outcome, RunOutcome::kStopped);
  EXPECT_NE(summary->message.find("'a' and 'b' have equal effective values"), std::string::npos)
      << summary->message;
  EXPECT_TRUE(stored().trials.empty());
}

TEST_F(StudyRun, AFailingConfigurationIsDataAndTheOtherGoesOn) {
  FakeServer a(with_sequences(8));
  FakeServer b(with_sequences(16));
  b.fail_from = 20;  // after survey and warm-up, in its first trials
  const auto summary = run(spec_text(a.url(), b.url()));
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_EQ(summary->outcome, RunOutcome::kFinished);
  const StoredStudy study = stored();
  EXPECT_FALSE(study.failures.empty());
  EXPECT_EQ(std::ranges::count(study.trials, std::string("a"), &TrialRecord::configuration), 8);
  int failed = 0;
  for (const TrialRecord& trial : study.trials) {
    if (trial.configuration != "b") continue;
    EXPECT_TRUE(valid_but_for_lag(trial)) << "the server's errors are results";
    failed +=
        static_cast<int>(std::ranges::count(trial.requests, RequestStatus::kError, &RequestRecord::status));
  }
  EXPECT_GT(failed, 0);
}

TEST_F(StudyRun, AServerThatCannotAnswerIsNotMeasured) {
  FakeServer a(with_sequences(8));
  FakeServer b(with_sequences(16));
  a.fail_from = 0;
  const auto summary = run(spec_text(a.url(), b.url()));
  ASSERT_TRUE(summary) << summary.error().message;
  const StoredStudy study = stored();
  EXPECT_EQ(study.trials.size(), 8u);
  ASSERT_EQ(study.failures.size(), 1u);
  EXPECT_EQ(study.failures[0].phase, StudyPhase::kGate);
}

TEST_F(StudyRun, WrongPromptLengthsMakeTrialsInvalid) {
  FakeServer a(with_sequences(8));
  FakeServer b(with_sequences(16));
  b.wrong_prompt_count = true;
  ASSERT_TRUE(run(spec_text(a.url(), b.url())));
  for (const TrialRecord& trial : stored().trials) {
    const bool known_length = trial.scenario != "conversation";
    EXPECT_EQ(valid_but_for_lag(trial), trial.configuration == "a" || !known_length) << trial.id;
  }
}

TEST_F(StudyRun, InterruptKeepsWholeTrialsAndResumeMakesTheRest) {
  FakeServer a(with_sequences(8));
  FakeServer b(with_sequences(16));
  a.stop_after_first_trial = &stop_;
  const auto first = run(spec_text(a.url(), b.url()));
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_EQ(first->outcome, RunOutcome::kInterrupted);
  const size_t kept = stored().trials.size();
  EXPECT_GT(kept, 0u);
  EXPECT_LT(kept, 16u);
  for (const TrialRecord& trial : stored().trials) {
    EXPECT_EQ(std::ranges::count(trial.requests, RequestStatus::kCancelled, &RequestRecord::status), 0)
        << trial.id;
  }
  a.stop_after_first_trial = nullptr;
  stop_ = false;
  const auto second = resume_study(open_study_folder(root_).value(),
                                   {.program = "/bin/false", .program_version = "test"}, *progress_, stop_);
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_EQ(second->outcome, RunOutcome::kFinished);
  std::set<std::string> ids;
  for (const TrialRecord& trial : stored().trials) EXPECT_TRUE(ids.insert(trial.id).second) << trial.id;
  EXPECT_EQ(ids.size(), 16u);
  std::set<std::string> launches;
  for (const LaunchRecord& launch : stored().launches)
    EXPECT_TRUE(launches.insert(launch.id).second) << launch.id;
}

TEST_F(StudyRun, ARefusedKeyIsNamed) {
  FakeServer a(with_sequences(8));
  FakeServer b(with_sequences(16));
  a.api_key = b.api_key = "secret";
  const auto summary = run(spec_text(a.url(), b.url()));
  ASSERT_TRUE(summary) << summary.error().message;
  EXPECT_EQ(summary->outcome, RunOutcome::kNothingMeasured);
  EXPECT_EQ(stored().failures.at(0).cause, FailureCause::kAuth);
}

TEST_F(StudyRun, ATimeBudgetScalesRepeatsOnceAndIsRecorded) {
  FakeServer a(with_sequences(8));
  FakeServer b(with_sequences(16));
  const auto summary = run(spec_text(a.url(), b.url()) + "time_budget: 1s\n");
  ASSERT_TRUE(summary) << summary.error().message;
  const StoredStudy study = stored();
  const auto budget = std::ranges::find(study.events, std::string("budget"), &StudyEvent::kind);
  ASSERT_NE(budget, study.events.end());
  EXPECT_LT(json::parse(budget->detail)["scale"].get<double>(), 1);
  for (const TrialRecord& trial : study.trials) {
    if (trial.scenario == "kv_cache") {
      EXPECT_EQ(trial.requests.size(), 2u);
    }
  }
}

}  // namespace
}  // namespace crible::study
