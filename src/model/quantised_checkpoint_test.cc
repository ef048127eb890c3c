// AWQ, GPTQ and FP8 against what the numbers in the files were drawn to mean, and whole models against
// transformers with those weights (tools/make_quantised_golden.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>

#include "base/check.h"
#include "format/safetensors.h"
#include "model/checkpoint.h"
#include "model/logits/piece_runner.h"
#include "model/quantised_linear.h"
#include "ops/half.h"
#include "ops/matmul/dequantize.h"

namespace crible {
namespace {

const std::filesystem::path kFolder = std::filesystem::path(CRIBLE_SOURCE_DIR) / "tests/golden/quantised";

struct Layer {
  std::unique_ptr<Checkpoint> checkpoint;
  MatrixSource source;
  std::vector<float> weights;   // as converted
  std::vector<float> expected;  // as meant
};

class QuantisedCheckpointTest : public ::testing::Test {
 protected:
  Layer load_layer(const std::string& name) {
    const auto file = Safetensors::open_folder(kFolder / name);
    CHECK(file.has_value(), "{}", file.error().message);
    const SafetensorsTensor* expected = file->find("expected");
    const int64_t rows = expected->shape[0], columns = expected->shape[1];
    Layer layer{.checkpoint = std::move(*open_checkpoint(kFolder / name, stream_))};
    const auto source = layer.checkpoint->matrix("blk.0.attn_q.weight", rows, columns);
    CHECK(source.has_value(), "{}", source.error().message);
    layer.source = *source;
    layer.expected.resize(static_cast<size_t>(rows * columns));
    std::memcpy(layer.expected.data(), expected->data.data(), expected->data.size());
    layer.weights.resize(layer.expected.size());
    for (int64_t row = 0; row < rows; ++row) {
      dequantize(source->dtype, row_of(layer, row), columns, layer.weights.data() + row * columns);
    }
    return layer;
  }
  static const std::byte* row_of(const Layer& layer, int64_t row) {
    return layer.source.data + row * dtype_row_bytes(layer.source.dtype, layer.source.columns);
  }
  // Half number `index` of the block that holds weight i.
  static double half_of_block(const Layer& layer, size_t i, int64_t index) {
    const auto columns = static_cast<size_t>(layer.source.columns);
    const std::byte* block = row_of(layer, static_cast<int64_t>(i / columns)) +
                             dtype_row_bytes(layer.source.dtype, static_cast<int64_t>(i % columns / 32 * 32));
    uint16_t half;
    std::memcpy(&half, block + index * 2, sizeof half);
    return half_to_float(half);
  }
  static double error(const Layer& layer, size_t i) {
    return std::abs(static_cast<double>(layer.weights[i]) - static_cast<double>(layer.expected[i]));
  }
  double model_error(const std::string& name);

  Stream stream_ = std::move(*Stream::create_cpu(2));
};

TEST_F(QuantisedCheckpointTest, CentredIntegersAreExact) {
  for (const auto& [name, dtype] : {std::pair{"gptq4_symmetric", DType::kQ4_0}, {"gptq8_symmetric", DType::kQ8_0}}) {
    const Layer layer = load_layer(name);
    EXPECT_EQ(layer.source.dtype, dtype) << name;
    EXPECT_EQ(layer.weights, layer.expected) << name;
  }
}

TEST_F(QuantisedCheckpointTest, ZeroPointsCostTheRoundingOfTheMinimum) {
  for (const char* name : {"awq_g64", "awq_g128", "gptq4_zeros", "gptq4_second_format"}) {
    const Layer layer = load_layer(name);
    ASSERT_EQ(layer.source.dtype, DType::kQ4_1) << name;
    for (size_t i = 0; i < layer.weights.size(); ++i) {
      const double minimum = std::abs(half_of_block(layer, i, 1));
      // Half of a half's unit, and one rounding of float32 in the dequantised sum.
      ASSERT_LE(error(layer, i), minimum * 0x1p-11 + 16 * half_of_block(layer, i, 0) * 0x1p-24) << name << ' ' << i;
    }
  }
}

TEST_F(QuantisedCheckpointTest, WhatNoBlockHoldsBecomesHalf) {
  for (const char* name : {"gptq4_act_order", "gptq8_zeros"}) {
    const Layer layer = load_layer(name);
    ASSERT_EQ(layer.source.dtype, DType::kF16) << name;
    for (size_t i = 0; i < layer.weights.size(); ++i) {
      ASSERT_LE(error(layer, i), std::abs(static_cast<double>(layer.expected[i])) * 0x1p-11 + 0x1p-25) << name << ' ' << i;
    }
  }
}

TEST_F(QuantisedCheckpointTest, EightBitFloatsStayWithinHalfAStepOfTheirBlock) {
  for (const char* name : {"fp8_blocks", "fp8_tensor", "fp8_channels"}) {
    const Layer layer = load_layer(name);
    ASSERT_EQ(layer.source.dtype, DType::kQ8_0) << name;
    for (size_t i = 0; i < layer.weights.size(); ++i) {
      double largest = 0;
      for (size_t j = i / 32 * 32; j < i / 32 * 32 + 32; ++j) {
        largest = std::max(largest, std::abs(static_cast<double>(layer.expected[j])));
      }
      const double step = half_of_block(layer, i, 0);
      ASSERT_LE(step, largest / 127 * (1 + 0x1p-9) + 0x1p-24) << name << ' ' << i;
      ASSERT_LE(error(layer, i), step * (0.5 + 0x1p-16)) << name << ' ' << i;
    }
  }
  const Layer narrow = load_layer("fp8_narrow");
  ASSERT_EQ(narrow.source.dtype, DType::kBF16);
  for (size_t i = 0; i < narrow.weights.size(); ++i) {
    ASSERT_LE(error(narrow, i), std::abs(static_cast<double>(narrow.expected[i])) * 0x1p-8) << i;
  }
}

TEST(E4m3Test, EveryNumberOfTheFormat) {
  // Neighbours differ by one unit of the exponent's eighth; 448 is the largest, 2^-9 the smallest.
  EXPECT_EQ(e4m3_to_float(0x00), 0.0f);
  EXPECT_EQ(e4m3_to_float(0x01), 0x1p-9f);
  EXPECT_EQ(e4m3_to_float(0x08), 0x1p-6f);
  EXPECT_EQ(e4m3_to_float(0x38), 1.0f);
  EXPECT_EQ(e4m3_to_float(0x7e), 448.0f);
  for (uint8_t bits = 0; bits < 0x7e; ++bits) {
    const float step = bits < 8 ? 0x1p-9f : std::ldexp(0.125f, (bits >> 3) - 7);
    EXPECT_EQ(e4m3_to_float(static_cast<uint8_t>(bits + 1)) - e4m3_to_float(bits), step) << int{bits};
    EXPECT_EQ(e4m3_to_float(bits | 0x80), -e4m3_to_float(bits));
  }
  EXPECT_TRUE(std::isnan(e4m3_to_float(0x7f)));
  EXPECT_TRUE(std::isnan(e4m3_to_float(0xff)));
}

TEST_F(QuantisedCheckpointTest, WeightsThatAreNoNumbersAreRefused) {
  std::vector<std::byte> values(64, std::byte{0x38});
  const float scale = 1;
  const ScaledFp8 layer{.rows = 2, .columns = 32, .values = values.data(),
                        .scales = FloatView(DType::kF32, reinterpret_cast<const std::byte*>(&scale)),
                        .block_rows = 2, .block_columns = 32};
  EXPECT_TRUE(convert(layer, stream_));
  values[40] = std::byte{0x7f};
  EXPECT_EQ(convert(layer, stream_).error().code, ErrorCode::kCorrupt);
}

// Relative error of the logits over all positions.
double QuantisedCheckpointTest::model_error(const std::string& name) {
  const auto model = load_model(kFolder / name, stream_);
  CHECK(model.has_value(), "{}", model.error().message);
  std::ifstream token_file(kFolder.parent_path() / "models" / "tokens.txt");
  const std::vector<TokenId> tokens{std::istream_iterator<TokenId>(token_file), {}};
  const auto count = static_cast<int64_t>(tokens.size());
  PieceRunner runner = *PieceRunner::create(**model, stream_, 1, count, count, DType::kF32);
  const PieceRunner::Piece piece{.sequence = 0, .first = 0, .tokens = tokens};
  const auto logits = runner.step({&piece, 1});
  std::ifstream file(kFolder / (name + ".logits"), std::ios::binary);
  std::vector<float> expected(logits.size());
  file.read(reinterpret_cast<char*>(expected.data()), static_cast<std::streamsize>(expected.size() * sizeof(float)));
  CHECK(static_cast<size_t>(file.gcount()) == expected.size() * sizeof(float), "{} is too short", name);
  double difference = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += std::pow(static_cast<double>(logits[i]) - static_cast<double>(expected[i]), 2);
    size += std::pow(static_cast<double>(expected[i]), 2);
  }
  return std::sqrt(difference / size);
}

// Seven matrices, of which each adds its weights' relative error e, independent of the others': √7 · e.
TEST_F(QuantisedCheckpointTest, WholeModelsAgreeWithWhatTheirWeightsMean) {
  // Minima of about 7.5 steps, rounded by 2^-12 of themselves, under weights of about 6.5 steps.
  EXPECT_LT(model_error("llama_awq"), std::sqrt(7.0) * 0x1p-11);
  EXPECT_LT(model_error("llama_gptq"), std::sqrt(7.0) * 0x1p-11);  // half of a half's unit
  // A block's largest of 32 weights lies at some 2.5 of their deviation: steps of 2.5/127, rounded.
  EXPECT_LT(model_error("llama_fp8"), std::sqrt(7.0) * 2.5 / 127 / std::sqrt(12.0));
}

}  // namespace
}  // namespace crible
