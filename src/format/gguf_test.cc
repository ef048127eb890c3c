#include "format/gguf.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <random>

#include "base/atomic_file.h"

namespace crible {
namespace {

// Writes GGUF bytes field by field, so that tests can break any of them.
class Writer {
 public:
  template <typename T>
  Writer& put(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Writer& text(std::string_view s) {
    put<uint64_t>(s.size());
    bytes_.append(s);
    return *this;
  }
  Writer& header(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
    bytes_.append("GGUF");
    return put(version).put(tensors).put(keys);
  }
  Writer& align(size_t alignment) {
    while (bytes_.size() % alignment != 0) bytes_.push_back('\0');
    return *this;
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

class GgufTest : public ::testing::Test {
 protected:
  Result<GgufFile> open(const std::string& bytes) {
    path_ = std::filesystem::temp_directory_path() / ("crible_gguf_" + std::to_string(::getpid()));
    EXPECT_TRUE(write_file_atomic(path_, bytes));
    return GgufFile::open(path_);
  }
  void TearDown() override { std::filesystem::remove(path_); }
  std::filesystem::path path_;
};

// A small valid file: one key of each kind, two tensors.
std::string valid_file() {
  Writer w;
  w.header(2, 8);
  w.text("a.u32").put<uint32_t>(4).put<uint32_t>(7);
  w.text("a.i8").put<uint32_t>(1).put<int8_t>(-3);
  w.text("a.f32").put<uint32_t>(6).put<float>(0.5f);
  w.text("a.bool").put<uint32_t>(7).put<uint8_t>(1);
  w.text("a.string").put<uint32_t>(8).text("text");
  w.text("a.strings").put<uint32_t>(9).put<uint32_t>(8).put<uint64_t>(2).text("x").text("yy");
  w.text("a.ints").put<uint32_t>(9).put<uint32_t>(5).put<uint64_t>(3).put<int32_t>(-1).put<int32_t>(0).put<int32_t>(9);
  w.text("a.u64").put<uint32_t>(10).put<uint64_t>(~uint64_t{0});
  w.text("t.f32").put<uint32_t>(2).put<uint64_t>(4).put<uint64_t>(2).put<uint32_t>(0).put<uint64_t>(0);
  w.text("t.q8").put<uint32_t>(1).put<uint64_t>(32).put<uint32_t>(8).put<uint64_t>(32);
  w.align(32);
  for (int i = 0; i < 8; ++i) w.put<float>(float(i));
  for (int i = 0; i < 34; ++i) w.put<uint8_t>(uint8_t(i));
  return w.bytes();
}

TEST_F(GgufTest, ReadsEveryKindOfKeyAndTensor) {
  const auto file = open(valid_file());
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->get_int("a.u32").value(), 7);
  EXPECT_EQ(file->get_int("a.i8").value(), -3);
  EXPECT_EQ(file->get_float("a.f32").value(), 0.5);
  EXPECT_EQ(file->get_float("a.u32").value(), 7.0);
  EXPECT_TRUE(file->get_bool("a.bool").value());
  EXPECT_EQ(file->get_string("a.string").value(), "text");
  EXPECT_EQ(file->get_strings("a.strings").value()->at(1), "yy");
  EXPECT_EQ(*file->get_ints("a.ints").value(), (std::vector<int64_t>{-1, 0, 9}));
  EXPECT_FALSE(file->get_int("a.u64"));
  EXPECT_EQ(file->get_int("a.string").error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(file->get_int("absent").error().code, ErrorCode::kNotFound);
  const GgufTensor* matrix = file->find_tensor("t.f32");
  ASSERT_NE(matrix, nullptr);
  EXPECT_EQ(matrix->columns(), 4);
  EXPECT_EQ(matrix->rows(), 2);
  float last;
  std::memcpy(&last, matrix->data.data() + 28, sizeof last);
  EXPECT_EQ(last, 7.0f);
  EXPECT_EQ(file->find_tensor("t.q8")->data.size(), 34u);
  EXPECT_EQ(file->find_tensor("none"), nullptr);
}

TEST_F(GgufTest, EveryTruncationIsAnError) {
  const std::string whole = valid_file();
  for (size_t length = 0; length < whole.size(); ++length) {
    const auto file = open(whole.substr(0, length));
    ASSERT_FALSE(file) << "length " << length;
    EXPECT_EQ(file.error().code, ErrorCode::kCorrupt) << length;
  }
}

TEST_F(GgufTest, RandomDamageNeverReadsOutsideTheFile) {
  const std::string whole = valid_file();
  std::mt19937 random(1);
  for (int round = 0; round < 600; ++round) {
    std::string damaged = whole;
    const int changes = 1 + int(random() % 4);
    for (int i = 0; i < changes; ++i) {
      const size_t at = random() % damaged.size();
      // Large values are where parsers break: prefer bytes of all ones and single-bit changes.
      damaged[at] = random() % 2 ? char(0xff) : char(damaged[at] ^ (1 << random() % 8));
    }
    const auto file = open(damaged);
    if (!file) {
      EXPECT_FALSE(file.error().message.empty());
      continue;
    }
    unsigned sum = 0;  // Touch every byte: a span outside the mapping would fault here.
    for (const auto& tensor : file->tensors()) {
      for (std::byte b : tensor.data) sum += unsigned(b);
    }
    EXPECT_GE(sum, 0u);
  }
}

TEST_F(GgufTest, HostileCountsAreRefusedBeforeAllocation) {
  const auto expect_corrupt = [&](const std::string& bytes) {
    const auto file = open(bytes);
    ASSERT_FALSE(file);
    EXPECT_EQ(file.error().code, ErrorCode::kCorrupt) << file.error().message;
  };
  expect_corrupt(Writer().header(~uint64_t{0}, 0).bytes());
  expect_corrupt(Writer().header(0, ~uint64_t{0}).bytes());
  expect_corrupt(Writer().header(0, 1).put<uint64_t>(~uint64_t{0}).bytes());
  expect_corrupt(Writer().header(0, 1).text("k").put<uint32_t>(9).put<uint32_t>(0).put<uint64_t>(uint64_t{1} << 60).bytes());
  expect_corrupt(Writer().header(0, 1).text("k").put<uint32_t>(99).put<uint64_t>(0).bytes());
  expect_corrupt(Writer().header(1, 0).text("t").put<uint32_t>(4).put<uint64_t>(1 << 30).put<uint64_t>(1 << 30)
                     .put<uint64_t>(1 << 30).put<uint64_t>(1 << 30).put<uint32_t>(0).put<uint64_t>(0).bytes());
  expect_corrupt(Writer().header(1, 0).text("t").put<uint32_t>(1).put<uint64_t>(33).put<uint32_t>(8).put<uint64_t>(0).bytes());
}

TEST_F(GgufTest, DuplicatesAndForeignFilesAreNamed) {
  const auto twice = open(Writer().header(0, 2).text("k").put<uint32_t>(7).put<uint8_t>(0).text("k").put<uint32_t>(7)
                              .put<uint8_t>(0).bytes());
  ASSERT_FALSE(twice);
  EXPECT_NE(twice.error().message.find("'k' stands twice"), std::string::npos) << twice.error().message;
  EXPECT_EQ(open("PK\x03\x04 something else entirely").error().code, ErrorCode::kCorrupt);
  EXPECT_EQ(open(Writer().header(0, 0, 1).bytes()).error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(GgufFile::open("/no/such/file.gguf").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(GgufFile::open("/tmp").error().code, ErrorCode::kInvalidArgument);
}

TEST_F(GgufTest, OpensTheDefaultModel) {
  const auto file = GgufFile::open(CRIBLE_SOURCE_DIR "/models/default.gguf");
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->get_string("general.architecture").value(), "llama");
  EXPECT_EQ(file->get_int("llama.block_count").value(), 30);
  EXPECT_EQ(file->find_tensor("token_embd.weight")->type, GgmlType::kQ8_0);
}

}  // namespace
}  // namespace crible
