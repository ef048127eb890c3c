// The tiny checkpoint of every architecture through the real engine: what it says first is what
// transformers finds most likely, and neither chunks nor a cached prefix (behind windows, too) nor
// company change any token.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "engine/collected_output.h"
#include "engine/engine_service.h"

namespace crible {
namespace {

const std::filesystem::path kFolder = std::filesystem::path(CRIBLE_SOURCE_DIR) / "tests/golden/models";
constexpr int64_t kOutputTokens = 12;

std::vector<TokenId> golden_tokens() {
  std::ifstream file(kFolder / "tokens.txt");
  return {std::istream_iterator<TokenId>(file), {}};
}

// The most likely token after the last position.
TokenId golden_next(const std::string& name, size_t positions) {
  std::ifstream file(kFolder / (name + ".logits"), std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  std::vector<float> logits(bytes.size() / sizeof(float));
  std::memcpy(logits.data(), bytes.data(), logits.size() * sizeof(float));
  const auto last = logits.end() - static_cast<std::ptrdiff_t>(logits.size() / positions);
  return static_cast<TokenId>(std::max_element(last, logits.end()) - last);
}

std::vector<std::string> names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder)) {
    if (entry.path().extension() == ".gguf") names.push_back(entry.path().stem().string());
  }
  std::ranges::sort(names);
  return names;
}

EngineRequest request_of(std::vector<TokenId> prompt, CollectedOutput& output) {
  return {.prompt = std::move(prompt),
          .sampling = {.temperature = 0, .max_tokens = kOutputTokens},
          .on_output = output.sink()};
}

class ArchitecturesTest : public ::testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<EngineService> start(int64_t max_num_batched_tokens, bool chunked, bool caching) {
    EngineConfig config;
    config.max_num_seqs = 4;
    config.max_num_batched_tokens = max_num_batched_tokens;
    config.enable_chunked_prefill = chunked;
    config.enable_prefix_caching = caching;
    config.threads = 2;
    config.max_model_len = 64;
    config.kv_cache_memory_bytes = 1 * kMiB;
    auto engine = EngineService::start((kFolder / (GetParam() + ".gguf")).string(), config);
    EXPECT_TRUE(engine) << engine.error().message;
    return engine ? std::move(*engine) : nullptr;
  }

  static std::vector<TokenId> answer(EngineService& engine, const std::vector<TokenId>& prompt) {
    CollectedOutput output;
    EXPECT_TRUE(engine.submit(request_of(prompt, output)));
    return output.tokens();
  }
};

TEST_P(ArchitecturesTest, SameTokensInChunksFromTheCacheAndInCompany) {
  const std::vector<TokenId> prompt = golden_tokens();
  const std::vector<TokenId> other(prompt.begin() + 3, prompt.end());
  const auto plain = start(64, false, false);
  ASSERT_TRUE(plain);
  const std::vector<TokenId> alone = answer(*plain, prompt), other_alone = answer(*plain, other);
  ASSERT_EQ(alone.size(), static_cast<size_t>(kOutputTokens));
  EXPECT_EQ(alone[0], golden_next(GetParam(), prompt.size()));

  const auto chunked = start(7, true, true);
  ASSERT_TRUE(chunked);
  for (const bool warm : {false, true}) {
    CollectedOutput first, second;
    ASSERT_TRUE(chunked->submit(request_of(prompt, first)));
    ASSERT_TRUE(chunked->submit(request_of(other, second)));
    EXPECT_EQ(first.tokens(), alone);
    EXPECT_EQ(second.tokens(), other_alone);
    if (warm) {
      EXPECT_EQ(first.last().cached_tokens, 32);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, ArchitecturesTest, ::testing::ValuesIn(names()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace crible
