#include "study/record/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <random>

#include "study/record/record_codec.h"
#include "study/record/simulated_study.h"
#include "study/record/sqlite_connection.h"
#include "study/record/study_result.h"

namespace crible::study {
namespace {

using ::testing::HasSubstr;

class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "store_test.XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    path_ = folder_ / "agents.store";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  Result<Store> create(const std::string& spec = "study: x\n") {
    return Store::create(path_, spec, "x.yaml", {}, {});
  }

  std::filesystem::path folder_, path_;
};

std::string random_text(std::mt19937_64& random) {
  std::string text;
  for (size_t i = random() % 12; i > 0; --i) {
    text += std::string_view("aZ09 '\"\n\\{}%é漢")[random() % 14];
  }
  // Cut inside a character, it would come back as a replacement character.
  std::erase_if(text, [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
  return text;
}

RequestRecord random_request(std::mt19937_64& random, int index) {
  const auto stamp = [&] { return static_cast<int64_t>(random() >> (1 + random() % 40)); };
  RequestRecord r;
  r.index = index;
  r.role = static_cast<CacheRole>(random() % 3);
  r.pair_id = random_text(random);
  r.turn = static_cast<int>(random() % 20);
  r.stream = static_cast<int>(random() % 48);
  r.level = static_cast<int>(random() % 48);
  r.scheduled_ns = stamp();
  r.actual_send_ns = stamp();
  r.first_token_ns = random() % 2 ? stamp() : kUnset;
  r.first_output_ns = random() % 2 ? stamp() : kUnset;
  r.last_token_ns = random() % 2 ? stamp() : kUnset;
  r.end_ns = stamp();
  for (size_t i = random() % 30; i > 0; --i) r.token_gaps_ns.push_back(stamp());
  r.status = static_cast<RequestStatus>(random() % 4);
  r.http_code = static_cast<int>(random() % 600);
  r.error = random_text(random);
  r.finish_reason = random_text(random);
  r.prompt_tokens = static_cast<int64_t>(random() % 10000);
  r.output_tokens = static_cast<int64_t>(random() % 1000);
  if (random() % 2) r.cached_tokens = static_cast<int64_t>(random() % 1000);
  return r;
}

TrialRecord random_trial(std::mt19937_64& random, int number, size_t requests) {
  TrialRecord trial;
  trial.id = "b0/c/" + std::to_string(number);
  trial.scenario = "conversation";
  trial.configuration = random_text(random);
  trial.block = number;
  trial.launch_id = random_text(random);
  trial.start_wall_time = "2026-01-31T00:00:00Z";
  trial.duration_ns = static_cast<int64_t>(random() >> 1);
  for (size_t i = 0; i < requests; ++i) {
    trial.requests.push_back(random_request(random, static_cast<int>(i)));
  }
  trial.counters_before = {{"vllm:num_preemptions_total", 0.1}, {random_text(random), 1e300}};
  trial.counters_after = {{"vllm:num_preemptions_total", static_cast<double>(random())}};
  for (size_t i = random() % 5; i > 0; --i) {
    trial.memory.push_back({static_cast<int64_t>(random() >> 1), kUnset, 3, 4});
  }
  for (size_t i = random() % 5; i > 0; --i) {
    const auto figure = [&] { return random() % 4 ? static_cast<int64_t>(random() >> 1) : kUnset; };
    trial.gpu.push_back({static_cast<int64_t>(random() >> 1), static_cast<int>(random() % 8), figure(), figure(),
                         figure(), figure(), figure(), figure(), figure(), figure(), figure()});
  }
  trial.validity = {random() % 2 == 0, {random_text(random), random_text(random)}};
  return trial;
}

TEST_F(StoreTest, GivesBackWhatWasAppended) {
  std::mt19937_64 random(1);
  std::vector<TrialRecord> trials;
  for (int i = 0; i < 20; ++i) trials.push_back(random_trial(random, i, random() % 10));
  LaunchRecord launch{"l1", "c", 2, "2026", R"({"a":1})", "{}", "{}", {}, {}, {}, {}, "logs/l1"};
  launch.adjustments = {{"max-num-seqs", "0", "4", "cores \"two\""}};
  launch.command_line = {"crible", "serve", "--port", "0"};
  launch.boot_ms = 123.456;
  LaunchRecord changed = launch;
  changed.id = "l2";
  changed.boot_ms.reset();
  changed.reconfigure_ms = 0.1;
  const FailureRecord failure{"c", "", "l1", FailureCause::kOutOfMemory, StudyPhase::kBoot,
                              "2026", "no memory", {"line 1", "line 2"}};
  const StudyEvent event{"started", "2026", "seed 1"};
  const MachineRecord machine{"h", "cpu", 2, "avx2", 1, "cpu", 2, "linux", "0.1.0"};
  const ModelRecord model{"m", "m.gguf", "llama", "Q4_1", 1, 2, 3, "abc"};
  const std::string spec = "study: x # é\n";
  {
    auto store = Store::create(path_, spec, "x.yaml", machine, model);
    ASSERT_TRUE(store.has_value()) << store.error().message;
    ASSERT_TRUE(store->append_event(event));
    ASSERT_TRUE(store->append_launch(launch));
    ASSERT_TRUE(store->append_launch(changed));
    for (const TrialRecord& trial : trials) ASSERT_TRUE(store->append_trial(trial));
    ASSERT_TRUE(store->append_failure(failure));
    EXPECT_EQ(store->completed_trials()->size(), 20u);
  }
  const StoredStudy study = *Store::open_read_only(path_)->load_study();
  EXPECT_EQ(study.spec_text, spec);
  EXPECT_EQ(study.spec_source, "x.yaml");
  EXPECT_EQ(study.machine, machine);
  EXPECT_EQ(study.model, model);
  EXPECT_EQ(study.launches, (std::vector{launch, changed}));
  EXPECT_EQ(study.trials, trials);
  EXPECT_EQ(study.failures, std::vector{failure});
  EXPECT_EQ(study.events, std::vector{event});
}

TEST_F(StoreTest, ClosedInOrderItIsOnePlainFile) {
  { ASSERT_TRUE(create().has_value()); }
  EXPECT_FALSE(std::filesystem::exists(path_.string() + "-wal"));
  EXPECT_FALSE(std::filesystem::exists(path_.string() + ".new"));
  // Reading leaves the bytes alone.
  const auto bytes = [this] {
    std::ifstream file(path_, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  const std::string before = bytes();
  ASSERT_TRUE(Store::open_read_only(path_)->load_study().has_value());
  EXPECT_EQ(bytes(), before);
}

TEST_F(StoreTest, RefusesWhatWouldSpoilTheRecord) {
  std::mt19937_64 random(2);
  const TrialRecord trial = random_trial(random, 1, 3);
  {
    Store store = *create();
    ASSERT_TRUE(store.append_trial(trial));
    const Status again = store.append_trial(trial);
    ASSERT_FALSE(again.has_value());
    EXPECT_EQ(again.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(again.error().message, HasSubstr("already holds"));
    // The refused one left nothing behind, and the next is taken.
    ASSERT_TRUE(store.append_trial(random_trial(random, 2, 1)));
    EXPECT_EQ(store.load_study()->trials.size(), 2u);
    EXPECT_EQ(store.load_study()->trials[0].requests.size(), 3u);

    const auto second_writer = Store::open(path_, "study: x\n");
    ASSERT_FALSE(second_writer.has_value());
    EXPECT_THAT(second_writer.error().message, HasSubstr("written by another study"));
    EXPECT_TRUE(Store::open_read_only(path_)->load_study().has_value());
  }
  const auto recreated = create();
  ASSERT_FALSE(recreated.has_value());
  EXPECT_THAT(recreated.error().message, HasSubstr("never overwritten"));
  const auto other_spec = Store::open(path_, "study: x\nblocks: 2\n");
  ASSERT_FALSE(other_spec.has_value());
  EXPECT_THAT(other_spec.error().message, HasSubstr("another spec (first difference in line 2)"));
  EXPECT_EQ(Store::open(folder_ / "none.store", "").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(Store::open_read_only(folder_ / "none.store").error().code, ErrorCode::kNotFound);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "none.store"));
}

TEST_F(StoreTest, RefusesForeignFilesAndOtherVersionsUntouched) {
  const auto text_file = folder_ / "notes.txt";
  std::ofstream(text_file) << std::string(5000, 'x');
  EXPECT_EQ(Store::open(text_file, "").error().code, ErrorCode::kCorrupt);
  const auto foreign = folder_ / "foreign.db";
  {
    auto database = *SqliteConnection::open(foreign, SqliteConnection::Mode::kCreate);
    ASSERT_TRUE(database.execute("CREATE TABLE t(x); PRAGMA journal_mode=WAL"));
  }
  EXPECT_THAT(Store::open(foreign, "").error().message, HasSubstr("not a study's store"));
  {
    auto database = *SqliteConnection::open(foreign, SqliteConnection::Mode::kReadOnly);
    auto mode = *database.prepare("PRAGMA journal_mode");
    ASSERT_TRUE(*mode.step());
    EXPECT_EQ(mode.text(0), "wal");
  }
  { ASSERT_TRUE(create().has_value()); }
  {
    auto database = *SqliteConnection::open(path_, SqliteConnection::Mode::kReadWrite);
    ASSERT_TRUE(database.execute("PRAGMA user_version=99"));
  }
  const auto newer = Store::open(path_, "study: x\n");
  ASSERT_FALSE(newer.has_value());
  EXPECT_EQ(newer.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(newer.error().message, HasSubstr("schema version 99"));
}

// As the program of schema version 1 left it: no table of GPU samples.
TEST_F(StoreTest, AStoreOfTheFirstVersionIsReadAsItIsAndResumedInTheNew) {
  std::mt19937_64 random(7);
  TrialRecord old_trial = random_trial(random, 1, 3);
  old_trial.gpu.clear();
  {
    Store store = *create();
    ASSERT_TRUE(store.append_trial(old_trial));
  }
  const auto version = [this] {
    auto database = *SqliteConnection::open(path_, SqliteConnection::Mode::kReadOnly);
    return *database.query_integer("PRAGMA user_version");
  };
  {
    auto database = *SqliteConnection::open(path_, SqliteConnection::Mode::kReadWrite);
    ASSERT_TRUE(database.execute("DROP TABLE gpu_sample; PRAGMA user_version=1"));
  }
  const auto old = Store::open_read_only(path_);
  ASSERT_TRUE(old.has_value()) << old.error().message;
  EXPECT_EQ(old->load_study()->trials, std::vector{old_trial});
  EXPECT_EQ(version(), 1) << "reading changes nothing";
  TrialRecord fresh = random_trial(random, 2, 2);
  fresh.gpu = {{.at_ns = 5, .gpu = 1, .power_mw = 7, .throttle_reasons = 0x20}};
  {
    auto resumed = Store::open(path_, "study: x\n");
    ASSERT_TRUE(resumed.has_value()) << resumed.error().message;
    ASSERT_TRUE(resumed->append_trial(fresh));
  }
  EXPECT_EQ(version(), 2);
  EXPECT_EQ(Store::open_read_only(path_)->load_study()->trials, (std::vector{old_trial, fresh}));
  { ASSERT_TRUE(Store::open(path_, "study: x\n").has_value()) << "brought up to date once"; }
}

TEST_F(StoreTest, AFullDiskIsAnErrorThatKeepsWhatIsThere) {
  std::mt19937_64 random(3);
  Store store = *create();
  ASSERT_TRUE(store.append_trial(random_trial(random, 0, 5)));
  ASSERT_TRUE(store.limit_pages(40));
  Status status;
  int appended = 1;
  while (appended < 1000 && (status = store.append_trial(random_trial(random, appended, 50)))) {
    ++appended;
  }
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, ErrorCode::kResourceExhausted);
  EXPECT_THAT(status.error().message, HasSubstr("free some disk space"));
  EXPECT_EQ(store.load_study()->trials.size(), static_cast<size_t>(appended));
  // Space was freed: the study goes on with the trial that did not fit.
  ASSERT_TRUE(store.limit_pages(100000));
  EXPECT_TRUE(store.append_trial(random_trial(random, appended, 50)));
  const StoredStudy study = *store.load_study();
  EXPECT_EQ(study.trials.size(), static_cast<size_t>(appended + 1));
  for (const TrialRecord& trial : study.trials) {
    EXPECT_EQ(trial.requests.size(), trial.block == 0 ? 5u : 50u);
  }
}

// Appends trials until it is killed. Runs in a child process.
[[noreturn]] void append_for_ever(const std::filesystem::path& path, const std::string& spec) {
  auto store = Store::open(path, spec);
  if (!store) ::_exit(3);
  auto done = store->completed_trials();
  if (!done) ::_exit(4);
  std::mt19937_64 random(9);
  for (int i = 0;; ++i) {
    const TrialRecord trial = random_trial(random, i, 40);
    if (done->contains(trial.id)) continue;
    if (!store->append_trial(trial)) ::_exit(5);
  }
}

TEST_F(StoreTest, SurvivesBeingKilledAtAnyMoment) {
  const std::string spec = "study: x\n";
  { ASSERT_TRUE(create(spec).has_value()); }
  std::mt19937_64 random(4);
  size_t trials_before = 0;
  int rounds_with_progress = 0;
  for (int round = 0; round < 12; ++round) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) append_for_ever(path_, spec);
    ::usleep(static_cast<useconds_t>(5000 + random() % 60000));
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the writer ended by itself with " << WEXITSTATUS(status);

    const auto store = Store::open(path_, spec);
    ASSERT_TRUE(store.has_value()) << store.error().message;
    const auto study = store->load_study();
    ASSERT_TRUE(study.has_value()) << study.error().message;
    std::set<std::string> ids;
    for (const TrialRecord& trial : study->trials) {
      EXPECT_TRUE(ids.insert(trial.id).second) << trial.id << " is there twice";
      EXPECT_EQ(trial.requests.size(), 40u) << trial.id << " is there in part";
    }
    // The writer goes through the ids in order and skips what is there: no gap, nothing lost.
    for (size_t i = 0; i < ids.size(); ++i) EXPECT_TRUE(ids.contains("b0/c/" + std::to_string(i)));
    EXPECT_GE(ids.size(), trials_before);
    rounds_with_progress += ids.size() > trials_before;
    trials_before = ids.size();
  }
  EXPECT_GT(rounds_with_progress, 0);
}

TEST_F(StoreTest, AKillDuringCreationLeavesNoHalfStore) {
  std::mt19937_64 random(6);
  for (int round = 0; round < 15; ++round) {
    std::filesystem::remove(path_);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      const bool created = create().has_value();
      ::_exit(created ? 0 : 1);
    }
    ::usleep(static_cast<useconds_t>(random() % 8000));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    // Either nothing is there and creation succeeds, or a whole store is.
    if (std::filesystem::exists(path_)) {
      const auto store = Store::open(path_, "study: x\n");
      EXPECT_TRUE(store.has_value()) << store.error().message;
    } else {
      const auto store = create();
      EXPECT_TRUE(store.has_value()) << store.error().message;
    }
  }
}

TEST_F(StoreTest, AReaderMayLookWhileTheStudyRuns) {
  std::mt19937_64 random(5);
  Store writer = *create();
  ASSERT_TRUE(writer.append_trial(random_trial(random, 0, 2)));
  const Store reader = *Store::open_read_only(path_);
  EXPECT_EQ(reader.load_study()->trials.size(), 1u);
  ASSERT_TRUE(writer.append_trial(random_trial(random, 1, 2)));
  EXPECT_EQ(reader.load_study()->trials.size(), 2u);
}

TEST_F(StoreTest, TheAnalysisOfAStoreIsThatOfItsRecords) {
  Simulation simulation;
  simulation.latency_factors = {{1, 0.5}};
  const StoredStudy study = simulate(simulation);
  {
    Store store = *Store::create(path_, study.spec_text, study.spec_source, {}, {});
    for (const TrialRecord& trial : study.trials) ASSERT_TRUE(store.append_trial(trial));
  }
  const StudyResult direct = *analyse(study);
  const StudyResult stored = *analyse(*Store::open_read_only(path_)->load_study());
  ASSERT_EQ(stored.contrasts.size(), direct.contrasts.size());
  for (size_t i = 0; i < direct.contrasts.size(); ++i) {
    EXPECT_EQ(stored.contrasts[i].effect, direct.contrasts[i].effect);
    EXPECT_EQ(stored.contrasts[i].simultaneous, direct.contrasts[i].simultaneous);
  }
  EXPECT_EQ(stored.verdicts[0].configuration, "c1");
}

TEST(RecordCodec, PacksAnyGap) {
  const std::vector<int64_t> gaps = {0, 1, -1, 63, 64, -64, 1'000'000,
                                     std::numeric_limits<int64_t>::max(),
                                     std::numeric_limits<int64_t>::min()};
  EXPECT_EQ(*decode_gaps(encode_gaps(gaps)), gaps);
  EXPECT_EQ(encode_gaps({9'000'000}).size(), 4u);
}

TEST(RecordCodec, RefusesDamage) {
  EXPECT_FALSE(decode_gaps("\x80").has_value());
  EXPECT_FALSE(decode_gaps(std::string(11, '\xff')).has_value());
  EXPECT_FALSE(decode_machine("{}").has_value());
  EXPECT_FALSE(decode_model("[").has_value());
  EXPECT_FALSE(decode_texts("[1]").has_value());
  EXPECT_FALSE(decode_adjustments(R"([{"knob":"a"}])").has_value());
  EXPECT_FALSE(decode_counters(R"({"a":"b"})").has_value());
}

TEST(RecordCodec, TakesTextThatIsNotUtf8AndCountersThatAreNotNumbers) {
  EXPECT_EQ(decode_texts(encode_texts({"ok\xff"}))->front(), "ok\xef\xbf\xbd");
  const std::map<std::string, double> counters = {
      {"a", 1.5}, {"b", std::numeric_limits<double>::quiet_NaN()}};
  EXPECT_EQ(decode_counters(encode_counters(counters))->size(), 1u);
}

}  // namespace
}  // namespace crible::study
