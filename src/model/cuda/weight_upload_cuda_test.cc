// Checkpoints of every kind into device memory, read back and compared with what the CPU engine's loader
// makes of the same folder; and folders that are wrong, refused before any matrix is read.
#include "model/cuda/weight_upload.h"

#include <cuda_fp8.h>
#include <gmock/gmock.h>

#include <filesystem>

#include "device/cuda/gpu_test.h"
#include "model/cuda/load_decoder.h"
#include "model/cuda/random_hf_folder.h"
#include "model/model_registry.h"
#include "ops/gpu_values.h"
#include "ops/matmul/dequantize.h"

namespace crible::cuda {
namespace {

constexpr DecoderShape kShape = {.layers = 2,
                                 .embedding = 256,
                                 .feed_forward = 384,
                                 .heads = 4,
                                 .kv_heads = 2,
                                 .head_size = 64,
                                 .vocabulary = 144,
                                 .context_length = 64,
                                 .qk_norm = true,
                                 .rope_base = 10000.0};

WeightFormat expected_format(FolderKind kind) {
  switch (kind) {
    case FolderKind::kAwq: return {WeightType::kInt4, 64};
    case FolderKind::kGptq: return {WeightType::kInt4, 128};
    case FolderKind::kFp8Tensor:
    case FolderKind::kFp8Channels: return WeightType::kFp8;
    case FolderKind::kFp8Blocks: return {WeightType::kFp8, 128};
    case FolderKind::kBf16:
    case FolderKind::kF16:
    case FolderKind::kGptqActOrder: break;
  }
  return WeightType::kBf16;
}

template <typename T>
std::vector<T> read_back(const void* device, int64_t count) {
  std::vector<T> values(static_cast<size_t>(count));
  CRIBLE_CUDA_CHECK(cudaMemcpy(values.data(), device, values.size() * sizeof(T), cudaMemcpyDeviceToHost));
  return values;
}

class WeightUploadCuda : public GpuTest {
 protected:
  Stream cpu_ = Stream::create_cpu(2).value();
  RandomValues random_{1};

  std::vector<double> values_of(const DeviceMatrix& m) {
    if (m.type == WeightType::kBf16) return to_doubles(read_back<__nv_bfloat16>(m.data, m.elements()));
    if (m.type == WeightType::kInt4) {
      const DeviceArray<__nv_bfloat16> out(static_cast<size_t>(m.elements()));
      unpack_int4(stream(), m.int4(), 0, m.rows, out.data());
      finish();
      return to_doubles(out.host());
    }
    const auto bytes = read_back<uint8_t>(m.data, m.elements());
    const auto scales =
        read_back<float>(m.scale, m.group == 0 ? m.rows : m.rows / kFp8Block * m.scale_stride());
    std::vector<double> values;
    for (int64_t i = 0; i < m.elements(); ++i) {
      const int64_t row = i / m.columns;
      const int64_t place =
          m.group == 0 ? row : row / kFp8Block * m.scale_stride() + i % m.columns / kFp8Block;
      __nv_fp8_e4m3 value;
      value.__x = bytes[static_cast<size_t>(i)];
      values.push_back(static_cast<double>(static_cast<float>(value)) *
                       static_cast<double>(scales[static_cast<size_t>(place)]));
    }
    return values;
  }
  // The same matrix by the CPU engine's way.
  std::vector<double> on_cpu(Checkpoint& checkpoint, const std::string& name, int64_t rows, int64_t columns) {
    const MatrixSource source = checkpoint.matrix(name, rows, columns).value();
    std::vector<float> row(static_cast<size_t>(columns));
    std::vector<double> values;
    for (int64_t r = 0; r < rows; ++r) {
      dequantize(source.dtype, source.data + r * dtype_row_bytes(source.dtype, columns), columns, row.data());
      values.insert(values.end(), row.begin(), row.end());
    }
    return values;
  }
  Result<LoadedDecoder> load(const std::filesystem::path& folder, std::optional<WeightFormat> format = {}) {
    CRIBLE_TRY(const auto checkpoint, open_checkpoint(folder, cpu_));
    CRIBLE_TRY(const DecoderDescription description, describe(*checkpoint));
    return load_decoder_weights(*checkpoint, description, format, 3);
  }
  // Largest relative distance of a layer's matrices.
  double distance(const std::filesystem::path& folder, const DecoderWeights& weights) {
    const auto checkpoint = open_checkpoint(folder, cpu_).value();
    const DecoderShape& s = weights.shape();
    double worst = 0;
    const auto compare = [&](const DeviceMatrix& m, int64_t first, const std::string& name, int64_t rows) {
      const std::vector<double> all = values_of(m);
      const auto begin = all.begin() + first * m.columns;
      const double d =
          relative_distance({begin, begin + rows * m.columns}, on_cpu(*checkpoint, name, rows, m.columns));
      EXPECT_FALSE(std::isnan(d)) << name;
      worst = std::max(worst, d);
    };
    compare(weights.embedding(), 0, "token_embd.weight", s.vocabulary);
    compare(weights.head(), 0, "output.weight", s.vocabulary);
    for (int64_t i = 0; i < s.layers; ++i) {
      const DecoderLayer& layer = weights.layers()[static_cast<size_t>(i)];
      const std::string blk = fmt::format("blk.{}.", i);
      compare(layer.qkv, 0, blk + "attn_q.weight", s.query_size());
      compare(layer.qkv, s.query_size(), blk + "attn_k.weight", s.kv_size());
      compare(layer.qkv, s.query_size() + s.kv_size(), blk + "attn_v.weight", s.kv_size());
      compare(layer.output, 0, blk + "attn_output.weight", s.embedding);
      compare(layer.gate_up, 0, blk + "ffn_gate.weight", s.feed_forward);
      compare(layer.gate_up, s.feed_forward, blk + "ffn_up.weight", s.feed_forward);
      compare(layer.down, 0, blk + "ffn_down.weight", s.embedding);
    }
    return worst;
  }
};

TEST_F(WeightUploadCuda, EveryKindOfFolderIsKeptAsItIs) {
  for (const FolderKind kind : kAllFolderKinds) {
    const auto folder = RandomHfFolder(random_, kShape, kind).write("weight_upload");
    const auto loaded = load(folder);
    ASSERT_TRUE(loaded) << loaded.error().message;
    EXPECT_EQ(loaded->weights.format(), expected_format(kind)) << static_cast<int>(kind);
    const double d = distance(folder, loaded->weights);
    // 16-bit floats and 4 bits: at most one rounding to BF16 apart. FP8 is exact here; the CPU's eight-bit
    // blocks err by 1/254 of their largest, some 3 deviations: 0.7% root mean square at most.
    EXPECT_LE(d, kind == FolderKind::kBf16 ? 0.0 : 0.008) << static_cast<int>(kind);
    std::filesystem::remove_all(folder);
  }
}

TEST_F(WeightUploadCuda, WhatIsStoredOtherwiseIsConverted) {
  for (const FolderKind kind : kAllFolderKinds) {
    const auto folder = RandomHfFolder(random_, kShape, kind).write("weight_conversion");
    const auto wide = load(folder, WeightFormat(WeightType::kBf16));
    ASSERT_TRUE(wide) << wide.error().message;
    EXPECT_LE(distance(folder, wide->weights), 0.004) << static_cast<int>(kind);
    const auto narrow = load(folder, WeightFormat(WeightType::kFp8));
    if (kind == FolderKind::kBf16 || kind == FolderKind::kF16) {
      ASSERT_TRUE(narrow) << narrow.error().message;
      // E4M3 errs by up to 2^-4 of a weight, a root mean square of 2.6%.
      EXPECT_LE(distance(folder, narrow->weights), 0.035);
    } else {
      EXPECT_EQ(narrow.has_value(), expected_format(kind) == WeightFormat(WeightType::kFp8));
    }
    std::filesystem::remove_all(folder);
  }
}

TEST_F(WeightUploadCuda, AWrongFolderIsRefusedByName) {
  const auto refused = [&](const char* what, FolderKind kind, auto&& change) {
    RandomHfFolder files(random_, kShape, kind);
    change(files);
    const auto folder = files.write("weight_refused");
    const auto loaded = load(folder);
    std::filesystem::remove_all(folder);
    EXPECT_FALSE(loaded) << what;
    if (loaded) return;
    EXPECT_THAT(loaded.error().message, ::testing::HasSubstr(what));
  };
  using Files = RandomHfFolder;
  refused("model.layers.1.mlp.up_proj.weight is missing", FolderKind::kBf16,
          [](Files& f) { f.tensors.erase("model.layers.1.mlp.up_proj.weight"); });
  refused("model.layers.1.extra.weight has no place", FolderKind::kBf16,
          [](Files& f) { f.tensors["model.layers.1.extra.weight"] = f.tensors["model.norm.weight"]; });
  refused("model.layers.0.mlp.up_proj.weight has shape [256, 384]", FolderKind::kBf16, [](Files& f) {
    f.tensors["model.layers.0.mlp.up_proj.weight"].shape = {256, 384};
  });
  refused("model.layers.0.mlp.up_proj.weight has type I16", FolderKind::kBf16,
          [](Files& f) { f.tensors["model.layers.0.mlp.up_proj.weight"].type = "I16"; });
  refused("model.layers.0.mlp.up_proj.qzeros is missing", FolderKind::kAwq,
          [](Files& f) { f.tensors.erase("model.layers.0.mlp.up_proj.qzeros"); });
  refused("model.layers.0.self_attn.q_proj.weight_scale_inv", FolderKind::kFp8Blocks, [](Files& f) {
    f.tensors["model.layers.0.self_attn.q_proj.weight_scale_inv"].shape = {4, 1};
  });
  refused("a weight is not a number", FolderKind::kFp8Channels,
          [](Files& f) { f.tensors["model.layers.1.mlp.down_proj.weight"].bytes[77] = '\x7f'; });
  refused("a scale is not a number", FolderKind::kGptq, [](Files& f) {
    f.tensors["model.layers.1.mlp.down_proj.scales"].bytes.replace(10, 2, "\x00\x7e", 2);
  });
}

TEST(KeptFormat, FollowsWhatTheKernelsTake) {
  const GroupQuantised awq = {.rows = 64, .columns = 256, .groups = 2, .group_size = 128};
  EXPECT_EQ(kept_format(awq), WeightFormat(WeightType::kInt4, 128));
  GroupQuantised other = awq;
  other.bits = 8;
  EXPECT_EQ(kept_format(other), WeightFormat());
  other = awq;
  other.rows = 40;
  EXPECT_EQ(kept_format(other), WeightFormat()) << "half a tile";
  other = awq;
  other.group_size = 256;
  EXPECT_EQ(kept_format(other), WeightFormat(WeightType::kInt4, 128)) << "scales are repeated";
  std::vector<int32_t> index(256, 0);
  other = awq;
  other.group_index = reinterpret_cast<const std::byte*>(index.data());
  EXPECT_EQ(kept_format(other), WeightFormat()) << "groups out of order";
  for (size_t i = 128; i < 256; ++i) index[i] = 1;
  EXPECT_EQ(kept_format(other), WeightFormat(WeightType::kInt4, 128));

  const ScaledFp8 blocks = {.rows = 256, .columns = 384, .block_rows = 128, .block_columns = 128};
  EXPECT_EQ(kept_format(blocks), WeightFormat(WeightType::kFp8, 128));
  ScaledFp8 scaled = blocks;
  scaled.block_rows = 64;
  EXPECT_EQ(kept_format(scaled), WeightFormat()) << "another rectangle";
  scaled.block_rows = 1;
  scaled.block_columns = 384;
  EXPECT_EQ(kept_format(scaled), WeightFormat(WeightType::kFp8, 0));
  EXPECT_EQ(kept_format(MatrixSource{.dtype = DType::kQ4_0, .rows = 64, .columns = 128}),
            WeightFormat(WeightType::kInt4, 32));
  EXPECT_EQ(kept_format(MatrixSource{.dtype = DType::kQ4_1, .rows = 64, .columns = 128}), WeightFormat());
}

TEST(FormatFits, SaysWhichMatrixDoesNot) {
  EXPECT_TRUE(format_fits(qwen3_32b(), WeightType::kInt4));
  EXPECT_TRUE(format_fits(qwen3_8b(), {WeightType::kFp8, 128}));
  DecoderShape shape = kShape;
  shape.feed_forward = 320;
  const Status refused = format_fits(shape, WeightType::kInt4);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, ::testing::HasSubstr("down matrix, 256 x 320"));
  // 4.19 bits a weight, the head and the embedding in 16.
  EXPECT_NEAR(static_cast<double>(DecoderWeights::bytes_for(qwen3_32b(), WeightType::kInt4)), 19.45e9,
              0.05e9);
}

}  // namespace
}  // namespace crible::cuda
