// Nothing is allocated in a step. The global operator new of this test program counts while asked to.
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>

#include "engine/engine.h"
#include "engine/hash_model.h"

namespace {

thread_local bool counting = false;
thread_local long allocations = 0;

void* counted_or_null(std::size_t size) noexcept {
  if (counting) ++allocations;
  return std::malloc(size == 0 ? 1 : size);
}

void* counted(std::size_t size) {
  if (void* p = counted_or_null(size)) return p;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t size) { return counted(size); }
void* operator new[](std::size_t size) { return counted(size); }
// The standard library's algorithms take their temporary buffers by these, and give them back below.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return counted_or_null(size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return counted_or_null(size); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }

namespace crible {
namespace {

SamplingParams with_everything() {
  return {.temperature = 0.5f, .top_p = 0.9f, .min_p = 0.01f, .typical_p = 0.9f, .repetition_penalty = 1.1f,
          .presence_penalty = 0.1f, .frequency_penalty = 0.1f, .dry = {.multiplier = 0.5f}, .dry_breakers = {5},
          .logit_bias = {{7, 1.0f}}, .max_tokens = 50, .min_tokens = 30, .stop_token_ids = {kHashFault}, .logprobs = 20,
          .prompt_logprobs = 3};
}

// From admission to the last token: prompts in chunks, block boundaries, shared prefixes, eviction,
// pre-emption, every sampling option, and ends.
void expect_no_allocation(const EngineConfig& config, Result<std::unique_ptr<Engine>> created) {
  ASSERT_TRUE(created) << created.error().message;
  Engine& engine = **created;
  int64_t events = 0;
  for (int64_t i = 1; i <= 12; ++i) {
    EngineRequest request{.prompt = std::vector<TokenId>(static_cast<size_t>(20 + i % 5 * 16), static_cast<TokenId>(i % 3)),
                          .sampling = {.temperature = 0.5f, .top_p = 0.9f, .top_k = 10, .max_tokens = 50},
                          .on_output = [&events](const TokenOutput&) { ++events; }};
    if (i % 3 == 0) request.sampling = with_everything();
    engine.add(make_sequences(SeqId{i}, std::move(request), 0, config.block_size));
  }
  counting = true;
  while (engine.has_work()) {
    EXPECT_TRUE(engine.step());
    engine.deliver();
  }
  counting = false;
  EXPECT_EQ(allocations, 0);
  EXPECT_EQ(events, 12 * 50);
  EXPECT_GT(engine.stats().preemptions, 0);
  allocations = 0;
}

TEST(SteadyStep, AllocatesNothing) {
  for (const bool chunked : {true, false}) {
    EngineConfig config;
    config.device_memory_bytes = 64 * kMiB;
    config.threads = 1;
    config.max_num_seqs = 6;
    config.enable_chunked_prefill = chunked;
    config.max_num_batched_tokens = chunked ? 24 : kHashContext;
    config.kv_cache_memory_bytes = 13 * kHashBlockBytes;
    expect_no_allocation(config, Engine::create(std::make_unique<HashModel>(), std::move(*Stream::create_cpu(1)), config));
  }
}

TEST(SteadyStep, TheCountDoesSeeAllocations) {
  counting = true;
  const std::vector<int> probe(10);
  counting = false;
  EXPECT_EQ(allocations, 1);
  allocations = 0;
}

}  // namespace
}  // namespace crible
