#include "model/dummy_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/atomic_file.h"
#include "model/logits/piece_runner.h"
#include "ops/matmul/dequantize.h"

namespace crible {
namespace {

using nlohmann::json;

const std::filesystem::path kModels = std::filesystem::path(CRIBLE_SOURCE_DIR) / "tests/golden/models";

class DummyCheckpointTest : public ::testing::Test {
 protected:
  void TearDown() override { std::filesystem::remove_all(folder_); }
  // A folder with nothing but a golden model's config.json, changed.
  std::filesystem::path folder_of(const std::string& model, const json& changes) {
    json config = json::parse(read_file(kModels / model / "config.json").value());
    config.update(changes);
    std::filesystem::create_directories(folder_);
    CHECK(write_file_atomic(folder_ / "config.json", config.dump()).has_value(), "cannot write {}", folder_.string());
    return folder_;
  }
  std::vector<float> logits(const Model& model) {
    std::vector<TokenId> tokens(20);
    std::iota(tokens.begin(), tokens.end(), 1);
    PieceRunner runner = *PieceRunner::create(model, stream_, 1, 20, 20, DType::kF32);
    const PieceRunner::Piece piece{.sequence = 0, .first = 0, .tokens = tokens};
    const auto out = runner.step({&piece, 1});
    return {out.begin(), out.end()};
  }

  std::filesystem::path folder_ = std::filesystem::temp_directory_path() / ("dummy_" + std::to_string(::getpid()));
  Stream stream_ = std::move(*Stream::create_cpu(2));
};

TEST_F(DummyCheckpointTest, EveryFamilyRunsAndStaysFinite) {
  for (const auto& entry : std::filesystem::directory_iterator(kModels)) {
    if (!entry.is_directory()) continue;
    const std::string name = entry.path().filename();
    const auto model = load_model(folder_of(name, json::object()), stream_, LoadFormat::kDummy);
    ASSERT_TRUE(model) << name << ": " << model.error().message;
    const auto real = load_model(entry.path(), stream_);
    ASSERT_TRUE(real) << name << ": " << real.error().message;
    EXPECT_EQ((*model)->info().parameters, (*real)->info().parameters) << name;
    EXPECT_EQ((*model)->weight_bytes(), (*real)->weight_bytes()) << name;
    const std::vector<float> values = logits(**model);
    const double square = std::inner_product(values.begin(), values.end(), values.begin(), 0.0);
    const double size = std::sqrt(square / static_cast<double>(values.size()));
    EXPECT_GT(size, 0.1) << name;
    EXPECT_LT(size, 10) << name;
    EXPECT_EQ(values, logits(**load_model(folder_, stream_, LoadFormat::kDummy))) << name << ": not the same again";
  }
}

TEST_F(DummyCheckpointTest, TakesTheTypesThatRealWeightsWouldTake) {
  const json awq = {{"quant_method", "awq"}, {"bits", 4}, {"group_size", 32}};
  const json fp8 = {{"quant_method", "fp8"}};
  for (const auto& [quantization, dtype] :
       {std::pair{json(), DType::kBF16}, {awq, DType::kQ4_1}, {fp8, DType::kQ8_0}}) {
    const auto folder = folder_of("llama", {{"quantization_config", quantization}, {"torch_dtype", "bfloat16"}});
    const auto checkpoint = open_dummy_checkpoint(folder, stream_);
    ASSERT_TRUE(checkpoint) << checkpoint.error().message;
    const MatrixSource source = (*checkpoint)->matrix("blk.0.attn_q.weight", 64, 256).value();
    EXPECT_EQ(source.dtype, dtype);
    std::vector<float> values(64 * 256);
    for (int64_t row = 0; row < 64; ++row) {
      dequantize(dtype, source.data + row * dtype_row_bytes(dtype, 256), 256, values.data() + row * 256);
    }
    const double mean = std::accumulate(values.begin(), values.end(), 0.0) / 16384;
    const double square = std::inner_product(values.begin(), values.end(), values.begin(), 0.0) / 16384;
    // Of 16,384 draws the mean lies within five of its own deviations, 1/128 of theirs.
    EXPECT_NEAR(mean, 0, 5.0 / 128 / 16);
    EXPECT_NEAR(std::sqrt(square), 1.0 / 16, 0.03 / 16);
    EXPECT_NE(values[0], values[256]);
    EXPECT_EQ((*checkpoint)->matrix("token_embd.weight", 4, 32)->dtype, DType::kBF16);
  }
}

TEST_F(DummyCheckpointTest, WantsAConfiguration) {
  const auto missing = load_model(kModels / "llama.gguf", stream_, LoadFormat::kDummy);
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message, ::testing::HasSubstr("makes weights up from a config.json"));
}

}  // namespace
}  // namespace crible
