#include "engine/prefix_cache_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "base/atomic_file.h"
#include "engine/engine.h"
#include "engine/hash_model.h"
#include "engine/model_fingerprint.h"

namespace crible {
namespace {

using ::testing::HasSubstr;

class PrefixCacheFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() /
              fmt::format("crible_prefix_cache_{}_{}", ::getpid(),
                          ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(folder_);
    model_ = folder_ / "weights";
    file_ = folder_ / "prefixes";
    write(model_, "weights of one kind");
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  static void write(const std::filesystem::path& path, std::string_view content) {
    ASSERT_TRUE(write_file_atomic(path, content));
  }

  EngineConfig config() const {
    EngineConfig config;
    config.device_memory_bytes = 64 * kMiB;
    config.threads = 1;
    config.max_num_seqs = 4;
    config.max_num_batched_tokens = 64;
    config.kv_cache_memory_bytes = 40 * kHashBlockBytes;
    config.prefix_cache_file = file_.string();
    return config;
  }
  std::unique_ptr<Engine> start(const EngineConfig& config) {
    auto engine = Engine::create(std::make_unique<HashModel>(model_.string()), std::move(*Stream::create_cpu(1)), config);
    EXPECT_TRUE(engine) << engine.error().message;
    return std::move(*engine);
  }

  struct Answer {
    std::vector<TokenId> tokens;
    int64_t cached_tokens = 0;
    bool operator==(const Answer&) const = default;
  };
  static Answer ask(Engine& engine, int64_t first, uint64_t salt = 0) {
    EngineRequest request{.sampling = {.temperature = 0, .max_tokens = 8}, .cache_salt = salt};
    for (int64_t i = 0; i < 70; ++i) request.prompt.push_back(static_cast<TokenId>((first + i * i) % kHashFault));
    Answer answer;
    request.on_output = [&answer](const TokenOutput& event) {
      answer.tokens.push_back(event.token);
      answer.cached_tokens = event.cached_tokens;
    };
    engine.add(make_sequences(SeqId{1}, std::move(request), 0, 16));
    while (engine.has_work()) {
      EXPECT_TRUE(engine.step());
      engine.deliver();
    }
    return answer;
  }
  // Asks for three prompts, then writes the file.
  std::vector<Answer> fill() {
    const auto engine = start(config());
    std::vector<Answer> warm;
    for (int64_t first = 0; first < 3; ++first) {
      ask(*engine, first);
      warm.push_back(ask(*engine, first));
      EXPECT_EQ(warm.back().cached_tokens, 64);
    }
    const auto saved = engine->save_prefix_cache();
    EXPECT_TRUE(saved) << saved.error().message;
    EXPECT_EQ(saved->blocks, 12);
    return warm;
  }
  // Starts on whatever the file is now: the answers are right in any case.
  int64_t restored_blocks(const std::vector<Answer>& warm, const EngineConfig& config) {
    const auto engine = start(config);
    const int64_t restored = engine->stats().restored_prefix_blocks;
    for (int64_t first = 0; first < std::ssize(warm); ++first) {
      EXPECT_EQ(ask(*engine, first).tokens, warm[static_cast<size_t>(first)].tokens);
    }
    return restored;
  }

  std::filesystem::path folder_, model_, file_;
};

TEST_F(PrefixCacheFileTest, AfterARestartThePrefixesHitAndTheTokensAreTheSame) {
  const std::vector<Answer> warm = fill();
  EXPECT_EQ(std::filesystem::status(file_).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  const auto engine = start(config());
  EXPECT_EQ(engine->stats().restored_prefix_blocks, 12);
  EXPECT_EQ(engine->stats().kv_blocks_used, 0);
  EXPECT_EQ(ask(*engine, 0, /*salt=*/5).cached_tokens, 0) << "another salt finds nothing";
  for (int64_t first = 0; first < 3; ++first) EXPECT_EQ(ask(*engine, first), warm[static_cast<size_t>(first)]);
  EXPECT_EQ(engine->stats().prefix_hit_tokens, 3 * 64);
}

TEST_F(PrefixCacheFileTest, WhatIsOfAnotherModelOrConfigurationIsNotTaken) {
  const std::vector<Answer> warm = fill();
  EngineConfig wider = config();
  wider.kv_cache_dtype = "f32";
  wider.kv_cache_memory_bytes *= 2;
  EXPECT_EQ(restored_blocks(warm, wider), 0);
  EngineConfig off = config();
  off.enable_prefix_caching = false;
  EXPECT_EQ(restored_blocks(warm, off), 0);
  write(model_, "weights of another ");
  EXPECT_EQ(restored_blocks(warm, config()), 0);
  write(model_, "weights of one kind");
  EXPECT_EQ(restored_blocks(warm, config()), 12);
}

TEST_F(PrefixCacheFileTest, FewerBlocksTakeTheMostRecentlyUsed) {
  const std::vector<Answer> warm = fill();
  EngineConfig smaller = config();
  smaller.kv_cache_memory_bytes = 10 * kHashBlockBytes;
  const auto engine = start(smaller);
  EXPECT_EQ(engine->stats().restored_prefix_blocks, 10);
  EXPECT_EQ(ask(*engine, 2), warm[2]);
}

TEST_F(PrefixCacheFileTest, NoDamageIsBelievedAndNoneIsFatal) {
  const std::vector<Answer> warm = fill();
  const std::string whole = *read_file(file_);
  std::mt19937 random(3);
  int partly = 0;
  for (int round = 0; round < 300; ++round) {
    std::string damaged = whole;
    const size_t place = round % 2 == 0 ? random() % 300 : random() % whole.size();
    switch (random() % 4) {
      case 0: damaged.resize(place); break;
      case 1: damaged.insert(place, std::string(1 + random() % 50, static_cast<char>(random()))); break;
      case 2: damaged.erase(place, 1 + random() % 50); break;
      default: damaged[place] = static_cast<char>(damaged[place] ^ (1 << random() % 8));
    }
    write(file_, damaged);
    const int64_t restored = restored_blocks(warm, config());
    EXPECT_LT(restored, 12);
    partly += restored > 0 ? 1 : 0;
  }
  EXPECT_GT(partly, 10) << "damage to one block leaves the others";
  std::string huge = whole;
  std::fill_n(huge.begin() + 16, 8, '\xff');  // as many blocks as a number can say
  write(file_, huge);
  EXPECT_EQ(restored_blocks(warm, config()), 0);
}

TEST_F(PrefixCacheFileTest, AFileOfAnotherKindIsLeftAsItIs) {
  write(file_, "a letter to my landlord");
  const auto engine = start(config());
  ask(*engine, 0);
  const auto saved = engine->save_prefix_cache();
  ASSERT_FALSE(saved);
  EXPECT_THAT(saved.error().message, HasSubstr("is no prefix cache; it is left as it is"));
  EXPECT_EQ(*read_file(file_), "a letter to my landlord");
}

TEST_F(PrefixCacheFileTest, WithoutAFileThereIsNothingToWriteTo) {
  EngineConfig none = config();
  none.prefix_cache_file.clear();
  EXPECT_THAT(start(none)->save_prefix_cache().error().message, HasSubstr("--prefix-cache-file"));
}

TEST_F(PrefixCacheFileTest, FingerprintsTellFilesAndFoldersApart) {
  std::string large(3 * kMiB, 'x');
  write(model_, large);
  const BlockHash before = *model_fingerprint(model_);
  EXPECT_EQ(*model_fingerprint(model_), before);
  large[large.size() - 5] = 'y';
  write(model_, large);
  EXPECT_NE(*model_fingerprint(model_), before);
  const BlockHash folder = *model_fingerprint(folder_);
  write(folder_ / "config.json", "{}");
  EXPECT_NE(*model_fingerprint(folder_), folder);
  EXPECT_FALSE(model_fingerprint(folder_ / "missing"));
}

}  // namespace
}  // namespace crible
