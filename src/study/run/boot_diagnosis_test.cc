#include "study/run/boot_diagnosis.h"

#include <gtest/gtest.h>

#include <csignal>

#include "study/run/running_server.h"

namespace crible::study {
namespace {

struct Case {
  const char* name;
  DeathScene scene;
  FailureCause cause;
};

TEST(Diagnosis, CauseFromStatusAndLog) {
  const Case cases[] = {
      {"flag",
       {{false, 2}, "crible serve: unknown flag '--max-num-sequences', did you mean '--max-num-seqs'?\n", 0},
       FailureCause::kBadFlag},
      {"model", {{false, 2}, "crible serve: models/x.gguf: not a GGUF file\n", 0}, FailureCause::kBadModel},
      {"plan",
       {{false, 1}, "crible serve: the weights take 98.0 MiB but gpu-memory-utilization 0.1 of ...\n", 0},
       FailureCause::kOutOfMemory},
      {"cuda",
       {{false, 1}, "RuntimeError: CUDA out of memory. Tried to allocate 2 GiB\n", 0},
       FailureCause::kOutOfMemory},
      {"kernel", {{true, SIGKILL}, "loading\n", 1}, FailureCause::kOutOfMemory},
      {"killed", {{true, SIGKILL}, "loading\n", 0}, FailureCause::kCrash},
      {"segv", {{true, SIGSEGV}, "", 0}, FailureCause::kCrash},
      {"wrapped segv", {{false, 128 + SIGSEGV}, "", 0}, FailureCause::kCrash},
      {"port",
       {{false, 1}, "cannot listen on port 8000: address already in use\n", 0},
       FailureCause::kUnknown},
      {"exit 1", {{false, 1}, "something went wrong\n", 0}, FailureCause::kCrash},
      {"exit 0", {{false, 0}, "bye\n", 0}, FailureCause::kCrash},
  };
  for (const Case& c : cases) {
    const StepFailure failure = diagnose_death(c.scene);
    EXPECT_EQ(failure.cause, c.cause) << c.name << ": " << failure.message;
    EXPECT_FALSE(failure.message.empty()) << c.name;
    EXPECT_FALSE(failure.stops_study) << c.name;
  }
}

TEST(Diagnosis, EvidenceIsTheErrorsElseTheEnd) {
  EXPECT_EQ(evidence_lines("a\nError: x\nb\n"), (std::vector<std::string>{"Error: x"}));
  std::string log;
  for (int i = 0; i < 40; ++i) log += "line " + std::to_string(i) + "\n";
  const auto lines = evidence_lines(log);
  ASSERT_EQ(lines.size(), 12u);
  EXPECT_EQ(lines.back(), "line 39");
  EXPECT_TRUE(evidence_lines("").empty());
}

class Boot : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("crible_boot_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  Attempt<RunningServer> boot(const std::string& script,
                              std::chrono::seconds deadline = std::chrono::seconds(20)) {
    const BootPlan plan{.command = {"/bin/sh", "-c", script},
                        .ready_file = folder_ / "ready",
                        .log_file = folder_ / "log",
                        .api_key = {},
                        .deadline = deadline};
    return RunningServer::boot(plan, stop_);
  }

  std::filesystem::path folder_;
  std::atomic<bool> stop_{false};
};

TEST_F(Boot, AServerThatRefusesItsFlags) {
  const auto server = boot("echo \"error: unknown flag '--x'\" >&2; exit 2");
  ASSERT_FALSE(server);
  EXPECT_EQ(server.error().cause, FailureCause::kBadFlag);
  ASSERT_FALSE(server.error().evidence.empty());
  EXPECT_EQ(server.error().evidence[0], "error: unknown flag '--x'");
}

TEST_F(Boot, AServerThatIsKilled) {
  const auto server = boot("echo starting; kill -SEGV $$");
  ASSERT_FALSE(server);
  EXPECT_EQ(server.error().cause, FailureCause::kCrash);
  EXPECT_NE(server.error().message.find("signal 11"), std::string::npos) << server.error().message;
}

TEST_F(Boot, AServerThatNeverGetsReady) {
  const auto server = boot("echo still loading; exec sleep 60", std::chrono::seconds(1));
  ASSERT_FALSE(server);
  EXPECT_EQ(server.error().cause, FailureCause::kHang);
  EXPECT_EQ(server.error().evidence, (std::vector<std::string>{"still loading"}));
}

TEST_F(Boot, AProgramThatIsNotThere) {
  const BootPlan plan{
      .command = {"/no/such/program"}, .ready_file = folder_ / "ready", .log_file = folder_ / "log"};
  const auto server = RunningServer::boot(plan, stop_);
  ASSERT_FALSE(server);
  EXPECT_NE(server.error().message.find("/no/such/program"), std::string::npos);
}

TEST_F(Boot, InterruptedWhileItLoads) {
  stop_ = true;
  const auto server = boot("exec sleep 60");
  ASSERT_FALSE(server);
  EXPECT_TRUE(server.error().interrupted);
}

}  // namespace
}  // namespace crible::study
