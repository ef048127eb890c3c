#include "base/process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <unistd.h>

#include <filesystem>
#include <thread>

#include "base/atomic_file.h"
#include "base/clock.h"

namespace crible {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class ProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() /
              ("crible_process_" + std::to_string(::getpid()) + "_" +
               ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(folder_);
    log_ = folder_ / "log";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  Result<ChildProcess> shell(const std::string& script) {
    return ChildProcess::spawn({"sh", "-c", script}, {{"CRIBLE_TEST_VALUE", "blue"}}, log_);
  }

  std::filesystem::path folder_, log_;
};

TEST_F(ProcessTest, ReportsExitCodeAndKeepsOutputAndEnvironment) {
  auto child = shell("echo out $CRIBLE_TEST_VALUE; echo err >&2; exit 7");
  ASSERT_TRUE(child) << child.error().message;
  const auto status = child->wait_for(seconds(20));
  ASSERT_TRUE(status);
  EXPECT_FALSE(status->signaled);
  EXPECT_EQ(status->code, 7);
  EXPECT_EQ(read_file(log_).value(), "out blue\nerr\n");
}

TEST_F(ProcessTest, MissingProgramIsAnErrorThatNamesIt) {
  const auto child = ChildProcess::spawn({"/no/such/program"}, {}, log_);
  ASSERT_FALSE(child);
  EXPECT_NE(child.error().message.find("/no/such/program"), std::string::npos);
}

TEST_F(ProcessTest, StopEndsAChildThatIgnoresTheTermSignal) {
  auto child = shell("trap '' TERM; echo ready; while true; do sleep 0.05; done");
  ASSERT_TRUE(child);
  const TimePoint deadline = now() + seconds(20);
  while (read_file(log_).value_or("").empty() && now() < deadline) std::this_thread::sleep_for(milliseconds(5));
  const ExitStatus status = child->stop(milliseconds(200));
  EXPECT_TRUE(status.signaled);
  EXPECT_EQ(status.code, SIGKILL);
}

TEST_F(ProcessTest, DestructorEndsTheWholeGroup) {
  pid_t pid = 0;
  {
    auto child = shell("sleep 1000 & sleep 1000");
    ASSERT_TRUE(child);
    pid = child->pid();
    EXPECT_FALSE(child->poll());
  }
  // The leader is reaped and its background child got SIGKILL with it: soon no member is left.
  const TimePoint deadline = now() + seconds(20);
  while (::kill(-pid, 0) == 0 && now() < deadline) std::this_thread::sleep_for(milliseconds(5));
  EXPECT_NE(::kill(-pid, 0), 0);
}

TEST_F(ProcessTest, UsageOfARunningProcess) {
  const auto usage = process_usage(0);
  ASSERT_TRUE(usage) << usage.error().message;
  EXPECT_GT(usage->resident_bytes, 100'000);
  auto child = shell("exit 0");
  ASSERT_TRUE(child);
  child->wait_for(seconds(20));
  EXPECT_FALSE(child->usage());
}

TEST_F(ProcessTest, AtomicWriteReplacesWholeFilesAndFailsWithoutTraces) {
  const auto path = folder_ / "file";
  ASSERT_TRUE(write_file_atomic(path, "first"));
  ASSERT_TRUE(write_file_atomic(path, std::string(3'000'000, 'x')));
  EXPECT_EQ(read_file(path)->size(), 3'000'000u);
  EXPECT_FALSE(read_file(path, 1000));
  EXPECT_FALSE(write_file_atomic(folder_ / "absent" / "file", "x"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
  EXPECT_EQ(read_file(folder_ / "nothing").error().code, ErrorCode::kNotFound);
}

TEST_F(ProcessTest, WriteThatDoesNotFitIsReportedAndTheOldFileStays) {
  const auto path = folder_ / "file";
  ASSERT_TRUE(write_file_atomic(path, "kept"));
  // A limit on file size fails the write half-way, as a full disk does.
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = ::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{.rlim_cur = 100'000, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto status = write_file_atomic(path, std::string(1'000'000, 'x'));
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, old_handler);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(read_file(path).value(), "kept");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

}  // namespace
}  // namespace crible
