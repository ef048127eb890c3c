// The GPU decoder against the CPU engine's model on the same file: two implementations that share the reading
// of it and nothing of the arithmetic.
#include "model/cuda/load_decoder.h"

#include <algorithm>
#include <filesystem>
#include <memory>

#include "device/cuda/gpu_test.h"
#include "model/cuda/decode_graphs.h"
#include "model/cuda/random_hf_folder.h"
#include "model/logits/piece_runner.h"
#include "model/model.h"
#include "model/model_registry.h"
#include "model/tiny_llama_file.h"
#include "ops/gpu_values.h"

namespace crible::cuda {
namespace {

constexpr int64_t kBlockTokens = 16;

struct Comparison {
  double worst_distance = 0;  // ‖GPU - CPU‖ / ‖CPU‖ of a position's logits
  int64_t positions = 0;
  int64_t same_token = 0;  // positions whose largest logit is the same token's
  // Positions whose two largest CPU logits lie further apart than both errors could bridge, but differ all
  // the same.
  int64_t unexplained = 0;
};

class LoadDecoderCuda : public GpuTest {
 protected:
  Stream cpu_ = Stream::create_cpu(4).value();

  // Logits after each token by the CPU model, in one step.
  std::vector<float> on_cpu(const Model& model, const std::vector<int32_t>& tokens) {
    const auto count = static_cast<int64_t>(tokens.size());
    PieceRunner runner = PieceRunner::create(model, cpu_, 1, count, count, DType::kF32).value();
    const PieceRunner::Piece piece{.sequence = 0, .first = 0, .tokens = tokens};
    const auto logits = runner.step({&piece, 1});
    return {logits.begin(), logits.end()};
  }

  // The same on the GPU: the first half as one step, then token by token through graphs.
  std::vector<float> on_gpu(const LoadedDecoder& loaded, const std::vector<int32_t>& tokens) {
    const DecoderShape& s = loaded.weights.shape();
    const auto count = static_cast<int64_t>(tokens.size());
    const int64_t first = count / 2;
    const StepLimits limits = {
        .max_tokens = count, .max_sequences = 1, .max_logit_rows = count, .max_blocks = count};
    Decoder decoder = Decoder::create(stream(), loaded.weights, loaded.rope, limits).value();
    const KvPool cache = KvPool::create(s, count / kBlockTokens + 1).value();
    const DeviceArray<float> logits(static_cast<size_t>(count * s.vocabulary));
    DecodeGraphs graphs(decoder, cache, StepBatch::create(limits).value(), logits.data());
    StepBatch batch = StepBatch::create(limits).value();
    std::vector<int32_t> positions, blocks;
    std::vector<int64_t> slots;
    for (int32_t p = 0; p < count; ++p) {
      positions.push_back(p);
      slots.push_back(p);
      blocks.push_back(p);
    }
    const auto step = [&](int64_t begin, const std::vector<int32_t>& bounds, const int32_t& context) {
      return BatchView{.num_tokens = bounds[1],
                       .num_sequences = 1,
                       .block_size = kBlockTokens,
                       .block_table_stride = count,
                       .token_ids = &tokens[static_cast<size_t>(begin)],
                       .positions = &positions[static_cast<size_t>(begin)],
                       .slot_mapping = &slots[static_cast<size_t>(begin)],
                       .query_start = bounds.data(),
                       .context_length = &context,
                       .block_table = blocks.data(),
                       .num_logit_rows = bounds[1],
                       .logit_rows = positions.data()};
    };
    std::vector<float> all;
    const auto take = [&](int64_t rows) {
      finish();
      const std::vector<float> host = logits.host();
      all.insert(all.end(), host.begin(), host.begin() + rows * s.vocabulary);
    };
    const std::vector<int32_t> prompt = {0, static_cast<int32_t>(first)}, single = {0, 1};
    EXPECT_TRUE(batch.send(stream(), step(0, prompt, prompt[1])));
    EXPECT_TRUE(decoder.plan(stream(), batch.plan_input(false)));
    EXPECT_TRUE(decoder.forward(stream(), batch.device(), cache, logits.data()));
    take(first);
    for (int64_t p = first; p < count; ++p) {
      const auto context = static_cast<int32_t>(p + 1);
      EXPECT_TRUE(graphs.run(stream(), step(p, single, context)));
      take(1);
    }
    return all;
  }

  static Comparison compare(const std::vector<float>& gpu, const std::vector<float>& cpu,
                            int64_t vocabulary) {
    Comparison c;
    for (size_t start = 0; start < cpu.size(); start += static_cast<size_t>(vocabulary)) {
      const std::vector<double> a(gpu.begin() + static_cast<int64_t>(start),
                                  gpu.begin() + static_cast<int64_t>(start) + vocabulary);
      const std::vector<double> b(cpu.begin() + static_cast<int64_t>(start),
                                  cpu.begin() + static_cast<int64_t>(start) + vocabulary);
      const double distance = relative_distance(a, b);
      c.worst_distance = std::isnan(distance) ? distance : std::max(c.worst_distance, distance);
      ++c.positions;
      const auto best_a = std::max_element(a.begin(), a.end()) - a.begin();
      const auto best_b = std::max_element(b.begin(), b.end()) - b.begin();
      if (best_a == best_b) {
        ++c.same_token;
        continue;
      }
      double size = 0;
      for (const double v : b) size += v * v;
      // Six deviations of the difference of two logits' errors.
      const double bridge = 6 * std::sqrt(2.0) * distance * std::sqrt(size / static_cast<double>(vocabulary));
      if (b[static_cast<size_t>(best_b)] - b[static_cast<size_t>(best_a)] > bridge) ++c.unexplained;
    }
    return c;
  }

  void check(const std::filesystem::path& path, const std::vector<int32_t>& tokens, double bound,
             double least_same, std::optional<WeightFormat> format = WeightFormat()) {
    const auto model = load_model(path, cpu_);
    ASSERT_TRUE(model) << model.error().message;
    const auto checkpoint = open_checkpoint(path, cpu_);
    ASSERT_TRUE(checkpoint) << checkpoint.error().message;
    const auto description = describe(**checkpoint);
    ASSERT_TRUE(description) << description.error().message;
    const auto loaded = load_decoder_weights(**checkpoint, *description, format);
    ASSERT_TRUE(loaded) << loaded.error().message;
    const Comparison c =
        compare(on_gpu(*loaded, tokens), on_cpu(**model, tokens), loaded->weights.shape().vocabulary);
    EXPECT_LE(c.worst_distance, bound);
    EXPECT_EQ(c.unexplained, 0);
    EXPECT_GE(static_cast<double>(c.same_token), least_same * static_cast<double>(c.positions));
    std::printf("%s: %ld positions, largest relative distance %.4f, same next token at %ld\n",
                path.filename().c_str(), c.positions, c.worst_distance, c.same_token);
  }
};

TEST_F(LoadDecoderCuda, ATinyFileGivesTheCpuEnginesLogits) {
  RandomValues random(1);
  for (const bool tied : {true, false}) {
    const TinyLlamaFile file({.embedding = 256,
                              .feed_forward = 384,
                              .heads = 4,
                              .kv_heads = 2,
                              .head_size = 64,
                              .layers = 3,
                              .vocabulary = 512,
                              .context = 128,
                              .tied = tied});
    const std::filesystem::path path = file.write("load_decoder_cuda");
    std::vector<int32_t> tokens;
    for (int i = 0; i < 100; ++i) tokens.push_back(static_cast<int32_t>(random.integer(0, 511)));
    // Weights rounded to BF16, and the roundings that decoder_cuda_test.cc counts. Random logits lie close
    // together.
    check(path, tokens, 0.03, 0.85);
    std::filesystem::remove(path);
  }
}

TEST_F(LoadDecoderCuda, QuantisedFoldersGiveTheCpuEnginesLogits) {
  RandomValues random(2);
  const DecoderShape shape = {.layers = 3,
                              .embedding = 256,
                              .feed_forward = 384,
                              .heads = 4,
                              .kv_heads = 2,
                              .head_size = 64,
                              .vocabulary = 512,
                              .context_length = 128,
                              .qk_norm = true,
                              .rope_base = 10000.0};
  std::vector<int32_t> tokens;
  for (int i = 0; i < 100; ++i) tokens.push_back(static_cast<int32_t>(random.integer(0, 511)));
  struct Case {
    FolderKind kind;
    double bound, least_same;
  };
  // The CPU quantises activations to 8 bits beside quantised weights: four products of 0.6% a layer. The
  // GPU's FP8 product takes activations in E4M3: 2.6% each, for the prompt; decodes keep them in FP16.
  for (const Case& c : {Case{FolderKind::kF16, 0.03, 0.85}, Case{FolderKind::kAwq, 0.05, 0.8},
                        Case{FolderKind::kGptq, 0.05, 0.8}, Case{FolderKind::kFp8Blocks, 0.15, 0.6},
                        Case{FolderKind::kFp8Channels, 0.15, 0.6}}) {
    const auto folder = RandomHfFolder(random, shape, c.kind).write("load_decoder_quantised");
    check(folder, tokens, c.bound, c.least_same, std::nullopt);
    std::filesystem::remove_all(folder);
  }
}

TEST_F(LoadDecoderCuda, TakesTheScalesOfKeysAndValues) {
  RandomValues random(3);
  const DecoderShape shape = {.layers = 2,
                              .embedding = 256,
                              .feed_forward = 384,
                              .heads = 4,
                              .kv_heads = 2,
                              .head_size = 64,
                              .vocabulary = 512,
                              .context_length = 128,
                              .qk_norm = true,
                              .rope_base = 10000.0};
  RandomHfFolder folder(random, shape, FolderKind::kFp8Channels);
  const auto add = [&](const std::string& name, float value) {
    folder.tensors[name] = {"F32", {1}, std::string(reinterpret_cast<const char*>(&value), sizeof value)};
  };
  add("model.layers.1.self_attn.k_proj.k_scale", 0.5f);
  add("model.layers.1.self_attn.v_proj.v_scale", 3.0f);
  const auto path = folder.write("load_decoder_kv_scales");
  const auto checkpoint = open_checkpoint(path, cpu_).value();
  const auto loaded = load_decoder_weights(*checkpoint, describe(*checkpoint).value(), std::nullopt);
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ(loaded->weights.layers()[0].kv_scales, KvScales{});
  EXPECT_EQ(loaded->weights.layers()[1].kv_scales, (KvScales{0.5f, 3.0f}));
  const KvPool fp8 = KvPool::create(shape, 2, KvType::kFp8).value(), bf16 = KvPool::create(shape, 2).value();
  EXPECT_EQ(fp8.layer(1, loaded->weights.layers()[1].kv_scales).v_scale, 3.0f);
  EXPECT_EQ(bf16.layer(1, loaded->weights.layers()[1].kv_scales).v_scale, 1.0f);
  std::filesystem::remove_all(path);
}

TEST_F(LoadDecoderCuda, TheDefaultModelSaysWhatTheCpuEngineSays) {
  const std::filesystem::path path = std::filesystem::path(CRIBLE_SOURCE_DIR) / "models/default.gguf";
  if (!std::filesystem::exists(path))
    GTEST_SKIP() << "skipped: no " << path << " (make it with scripts/fetch_default_model)";
  // The CPU model's own greedy words behind a few tokens.
  const auto model = load_model(path, cpu_);
  ASSERT_TRUE(model) << model.error().message;
  const int64_t vocabulary = (*model)->info().vocabulary;
  std::vector<int32_t> tokens = {504, 3575, 282, 4649, 314};
  constexpr int64_t kTokens = 64;
  PieceRunner runner = PieceRunner::create(**model, cpu_, 1, kTokens, kTokens, DType::kF32).value();
  for (size_t first = 0; tokens.size() < kTokens;) {
    const PieceRunner::Piece piece{
        .sequence = 0, .first = static_cast<int64_t>(first), .tokens = std::span(tokens).subspan(first)};
    const auto logits = runner.step({&piece, 1});
    first = tokens.size();
    const auto last = logits.end() - vocabulary;
    tokens.push_back(static_cast<int32_t>(std::max_element(last, logits.end()) - last));
  }
  // The CPU engine keeps weights in 4 bits and quantises activations to 8, the GPU rounds both to BF16.
  check(path, tokens, 0.10, 0.90);
}

TEST_F(LoadDecoderCuda, WhatItDoesNotComputeIsSaidBeforeAnyLongWork) {
  const TinyLlamaFile file({.embedding = 96, .head_size = 24});
  const std::filesystem::path path = file.write("load_decoder_refused");
  const auto checkpoint = open_checkpoint(path, cpu_).value();
  const auto shape = decoder_shape(*checkpoint, describe(*checkpoint).value());
  ASSERT_FALSE(shape);
  EXPECT_EQ(shape.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(shape.error().message.find("heads of 24 elements"), std::string::npos) << shape.error().message;
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace crible::cuda
