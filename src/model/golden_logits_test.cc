// Every architecture against Hugging Face transformers in float32, on tiny random checkpoints that
// tools/make_tiny_checkpoints.py made: both containers, all positions; and its results do not depend on
// how tokens are cut into steps or on what else is in them.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>

#include "model/logits/piece_runner.h"

namespace crible {
namespace {

const std::filesystem::path kFolder = std::filesystem::path(CRIBLE_SOURCE_DIR) / "tests/golden/models";

std::vector<TokenId> golden_tokens() {
  std::ifstream file(kFolder / "tokens.txt");
  return {std::istream_iterator<TokenId>(file), {}};
}

std::vector<float> golden_logits(const std::string& name) {
  std::ifstream file(kFolder / (name + ".logits"), std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  std::vector<float> logits(bytes.size() / sizeof(float));
  std::memcpy(logits.data(), bytes.data(), logits.size() * sizeof(float));
  return logits;
}

// Norm of the difference over the norm of the reference, of one position's logits.
double relative_error(std::span<const float> ours, std::span<const float> reference) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double r = reference[i];
    difference += (ours[i] - r) * (ours[i] - r);
    size += r * r;
  }
  return std::sqrt(difference / size);
}

struct Case {
  std::string name;
  std::string suffix;  // of the path: a GGUF file or a folder
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name << c.suffix; }

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder)) {
    if (entry.path().extension() == ".gguf") all.push_back({entry.path().stem().string(), ".gguf"});
    if (entry.is_directory()) all.push_back({entry.path().filename().string(), ""});
  }
  std::ranges::sort(all, {}, [](const Case& c) { return c.name + c.suffix; });
  return all;
}

class GoldenLogits : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    auto model = load_model(kFolder / (GetParam().name + GetParam().suffix), stream_);
    ASSERT_TRUE(model) << model.error().message;
    model_ = std::move(*model);
  }

  std::vector<float> whole(std::span<const TokenId> tokens, DType cache_type) {
    const auto count = static_cast<int64_t>(tokens.size());
    PieceRunner runner = *PieceRunner::create(*model_, stream_, 1, count, count, cache_type);
    const PieceRunner::Piece piece{.sequence = 0, .first = 0, .tokens = tokens};
    const auto logits = runner.step({&piece, 1});
    return {logits.begin(), logits.end()};
  }

  Stream stream_ = std::move(*Stream::create_cpu(2));
  std::unique_ptr<Model> model_;
};

// Weights are BF16 numbers and activations stay float32 on both sides, so what differs is the order of
// float32 roundings. A logit is the end of a chain of some 30 operations a layer, each of which adds a
// relative error of about √columns · 2^-24 (columns <= 64) to a vector: √(30 · 6) · 8 · 2^-24 = 6e-6 for
// the deepest model here. RoPE angles that transformers rounds to float32 add up to 40 · 2^-24 radians in
// each, 2e-6. Twice their sum is far below what any feature of these models is worth (1e-2).
constexpr double kTolerance = 2 * (6e-6 + 2e-6);

TEST_P(GoldenLogits, AgreeWithTransformers) {
  const std::vector<TokenId> tokens = golden_tokens();
  const std::vector<float> reference = golden_logits(GetParam().name);
  const auto vocabulary = static_cast<size_t>(model_->info().vocabulary);
  ASSERT_EQ(reference.size(), tokens.size() * vocabulary);
  const std::vector<float> ours = whole(tokens, DType::kF32);
  double worst = 0;
  for (size_t t = 0; t < tokens.size(); ++t) {
    const double error = relative_error(std::span(ours).subspan(t * vocabulary, vocabulary),
                                        std::span(reference).subspan(t * vocabulary, vocabulary));
    ASSERT_LT(error, kTolerance) << "position " << t;
    worst = std::max(worst, error);
  }
  RecordProperty("worst_relative_error", fmt::format("{:.1e}", worst));
}

// Three sequences of one model advance in random pieces, in random company; each row of logits has the
// bits that its sequence gets alone and whole.
TEST_P(GoldenLogits, DoNotDependOnChunksOrCompany) {
  const std::vector<TokenId> tokens = golden_tokens();
  const auto vocabulary = static_cast<size_t>(model_->info().vocabulary);
  for (const DType cache_type : {DType::kF32, DType::kF16, DType::kBF16, DType::kI8}) {
    const std::vector<float> alone = whole(tokens, cache_type);
    std::mt19937 random(static_cast<unsigned>(cache_type) + 11);
    constexpr int64_t kSequences = 3, kMaxTokens = 48;
    PieceRunner runner = *PieceRunner::create(*model_, stream_, kSequences, static_cast<int64_t>(tokens.size()),
                                            kMaxTokens, cache_type);
    int64_t done[kSequences] = {};
    while (std::ranges::any_of(done, [&](int64_t n) { return n < static_cast<int64_t>(tokens.size()); })) {
      std::vector<PieceRunner::Piece> pieces;
      for (int64_t s = 0; s < kSequences; ++s) {
        const int64_t left = static_cast<int64_t>(tokens.size()) - done[s];
        const int64_t count = std::min<int64_t>(left, random() % 3 == 0 ? 1 : random() % 17);
        if (count > 0) pieces.push_back({s, done[s], std::span(tokens).subspan(done[s], count)});
      }
      std::ranges::shuffle(pieces, random);
      if (pieces.empty()) continue;
      auto logits = runner.step(pieces);
      for (const PieceRunner::Piece& piece : pieces) {
        const size_t size = piece.tokens.size() * vocabulary;
        ASSERT_EQ(0, std::memcmp(logits.data(), alone.data() + static_cast<size_t>(piece.first) * vocabulary,
                                 size * sizeof(float)))
            << "positions " << piece.first << " to " << piece.first + static_cast<int64_t>(piece.tokens.size()) - 1;
        logits = logits.subspan(size);
        done[piece.sequence] += static_cast<int64_t>(piece.tokens.size());
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, GoldenLogits, ::testing::ValuesIn(cases()), [](const auto& info) {
  return info.param.name + (info.param.suffix.empty() ? "_folder" : "_gguf");
});

}  // namespace
}  // namespace crible
