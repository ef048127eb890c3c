#include "format/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <random>

#include "base/atomic_file.h"

namespace crible {
namespace {

using ::testing::HasSubstr;

std::string container(const std::string& table, size_t data_bytes) {
  const uint64_t length = table.size();
  std::string out(reinterpret_cast<const char*>(&length), sizeof length);
  out += table;
  for (size_t i = 0; i < data_bytes; ++i) out += static_cast<char>(i);
  return out;
}

Result<std::vector<SafetensorsTensor>> parse(const std::string& bytes) {
  return parse_safetensors(std::as_bytes(std::span(bytes)), "t.safetensors");
}

std::string error_of(const std::string& bytes) {
  const auto parsed = parse(bytes);
  return parsed ? "no error" : parsed.error().message;
}

constexpr const char* kValid =
    R"({"__metadata__":{"format":"pt"},"b":{"dtype":"BF16","shape":[2,3],"data_offsets":[8,20]},)"
    R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"none":{"dtype":"I64","shape":[0,5],"data_offsets":[8,8]},)"
    R"("one":{"dtype":"U8","shape":[],"data_offsets":[20,21]}}   )";

TEST(SafetensorsTest, ReadsTheTableInTheOrderOfTheData) {
  const std::string bytes = container(kValid, 21);
  const auto tensors = parse(bytes);
  ASSERT_TRUE(tensors) << tensors.error().message;
  ASSERT_EQ(tensors->size(), 4u);
  EXPECT_EQ((*tensors)[0].name, "a");
  EXPECT_EQ((*tensors)[1].name, "none");
  EXPECT_EQ((*tensors)[1].elements(), 0);
  EXPECT_EQ((*tensors)[2].name, "b");
  EXPECT_EQ((*tensors)[2].type, SafetensorsType::kBF16);
  EXPECT_EQ((*tensors)[2].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(std::to_integer<int>((*tensors)[2].data[0]), 8);
  EXPECT_EQ((*tensors)[3].elements(), 1);
}

TEST(SafetensorsTest, EveryTruncationAndExtensionIsAnError) {
  const std::string whole = container(kValid, 21);
  for (size_t length = 0; length < whole.size(); ++length) {
    ASSERT_FALSE(parse(whole.substr(0, length))) << "length " << length;
  }
  EXPECT_THAT(error_of(whole + "x"), HasSubstr("1 bytes at its end belong to no tensor"));
}

TEST(SafetensorsTest, NamesWhatIsWrongWithATable) {
  const auto one = [](const std::string& entry, size_t bytes) { return error_of(container("{\"w\":" + entry + "}", bytes)); };
  EXPECT_THAT(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})", 4), HasSubstr("'w' has 4 bytes but its shape of 2 F32 needs 8"));
  EXPECT_THAT(one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})", 4), HasSubstr("'w' lies outside"));
  EXPECT_THAT(one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", 4), HasSubstr("'w' lies outside the 4 bytes"));
  EXPECT_THAT(one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})", 8), HasSubstr("'w' leaves a gap before it"));
  EXPECT_THAT(one(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})", 4), HasSubstr("impossible shape [-1]"));
  EXPECT_THAT(one(R"({"dtype":"F32","shape":[1.0],"data_offsets":[0,4]})", 4), HasSubstr("impossible shape [1.0]"));
  EXPECT_THAT(one(R"({"dtype":"F32","shape":1,"data_offsets":[0,4]})", 4), HasSubstr("'w' has no usable shape"));
  EXPECT_THAT(one(R"({"dtype":"F32","shape":[1]})", 4), HasSubstr("'w' has no usable data_offsets"));
  EXPECT_THAT(one(R"({"dtype":"F32","shape":[1],"data_offsets":[0]})", 4), HasSubstr("'w' lies outside"));
  EXPECT_THAT(one(R"({"dtype":"F4","shape":[1],"data_offsets":[0,4]})", 4), HasSubstr("'w' has the type F4"));
  EXPECT_THAT(one(R"({"dtype":7,"shape":[1],"data_offsets":[0,4]})", 4), HasSubstr("'w' has no dtype"));
  EXPECT_THAT(one("[]", 0), HasSubstr("'w' is not described by an object"));
  // Products that wrap around 64 bits to the right number of bytes.
  EXPECT_THAT(one(R"({"dtype":"F32","shape":[4294967296,4294967296,1],"data_offsets":[0,0]})", 0),
              HasSubstr("more elements than can be"));
  EXPECT_THAT(one(R"({"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]})", 0), HasSubstr("impossible shape"));
  EXPECT_THAT(error_of(container(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                                 R"("b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})", 6)),
              HasSubstr("'b' overlaps another"));
  EXPECT_THAT(error_of(container(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                 R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1)),
              HasSubstr("'a' stands twice"));
  EXPECT_THAT(error_of(container(R"({"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1)),
              HasSubstr("'dtype' stands twice"));
  EXPECT_THAT(error_of(container("[]", 0)), HasSubstr("not a JSON object"));
  EXPECT_THAT(error_of(container("{", 0)), HasSubstr("not a JSON object"));
  EXPECT_THAT(error_of(container("{\"a\":" + std::string(100'000, '['), 0)), HasSubstr("nests deeper"));
  EXPECT_THAT(error_of(std::string(8, '\xff') + "{}"), HasSubstr("does not fit the file"));
}

TEST(SafetensorsTest, RandomDamageNeverReadsOutsideTheFile) {
  const std::string whole = container(kValid, 21);
  std::mt19937 random(1);
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = whole;
    for (unsigned i = 0; i <= random() % 3; ++i) {
      damaged[random() % damaged.size()] = random() % 2 ? "0123456789{}[],:\""[random() % 17] : static_cast<char>(random());
    }
    const auto tensors = parse(damaged);
    if (!tensors) continue;
    size_t bytes = 0;
    for (const SafetensorsTensor& tensor : *tensors) {
      EXPECT_EQ(tensor.elements() * safetensors_type_bytes(tensor.type), static_cast<int64_t>(tensor.data.size()));
      bytes += tensor.data.size();
    }
    EXPECT_EQ(bytes, 21u);
  }
}

class SafetensorsFolderTest : public ::testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void write(const std::string& name, const std::string& content) {
    ASSERT_TRUE(write_file_atomic(folder_ / name, content));
  }
  void write_shard(const std::string& name, const std::string& tensor) {
    write(name, container("{\"" + tensor + R"(":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})", 3));
  }
  std::string error() {
    const auto set = Safetensors::open_folder(folder_);
    return set ? "no error" : set.error().message;
  }
  std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / ("safetensors_" + std::to_string(::getpid()));
};

TEST_F(SafetensorsFolderTest, OpensAllShardsAndNamesWhatDoesNotAgree) {
  EXPECT_THAT(error(), HasSubstr("holds neither model.safetensors nor"));
  EXPECT_FALSE(Safetensors::present_in(folder_));
  const auto index = [&](const std::string& map) { write("model.safetensors.index.json", R"({"weight_map":{)" + map + "}}"); };
  index(R"("a":"1.safetensors","b":"2.safetensors")");
  write_shard("1.safetensors", "a");
  EXPECT_THAT(error(), HasSubstr("names the shard 2.safetensors, which is missing"));
  write_shard("2.safetensors", "b");
  const auto set = Safetensors::open_folder(folder_);
  ASSERT_TRUE(set) << set.error().message;
  EXPECT_EQ(set->tensors().size(), 2u);
  EXPECT_EQ(set->find("b")->elements(), 3);
  EXPECT_EQ(set->find("c"), nullptr);

  index(R"("a":"1.safetensors","b":"2.safetensors","c":"2.safetensors")");
  EXPECT_THAT(error(), HasSubstr("puts the tensor 'c' into 2.safetensors, which lacks it"));
  write_shard("2.safetensors", "d");
  index(R"("a":"1.safetensors","b":"2.safetensors")");
  EXPECT_THAT(error(), HasSubstr("the tensor 'd' is in 2.safetensors but not in the index"));
  write_shard("2.safetensors", "a");
  EXPECT_THAT(error(), HasSubstr("'a' stands in another shard too"));
  index(R"("a":"../1.safetensors")");
  EXPECT_THAT(error(), HasSubstr("which is no file of this folder"));
  write("model.safetensors.index.json", "{}");
  EXPECT_THAT(error(), HasSubstr("has no weight_map"));
}

TEST_F(SafetensorsFolderTest, PrefersTheSingleFile) {
  write_shard("model.safetensors", "only");
  write("model.safetensors.index.json", "{}");
  const auto set = Safetensors::open_folder(folder_);
  ASSERT_TRUE(set) << set.error().message;
  EXPECT_NE(set->find("only"), nullptr);
}

}  // namespace
}  // namespace crible
