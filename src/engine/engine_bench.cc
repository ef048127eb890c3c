// Whole-engine figures on the default model: prefill, decode at 1, 4 and 16 streams, HIT against MISS,
// the price of the prefix cache when nothing is shared, time to ready. CRIBLE_BENCH_MODEL and
// CRIBLE_BENCH_THREADS choose another model file and thread count; --benchmark_format=json for programs.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <latch>
#include <random>

#include "base/check.h"
#include "engine/engine_service.h"
#include "engine/kv_allocator.h"

namespace crible {
namespace {

std::string model_path() {
  const char* chosen = std::getenv("CRIBLE_BENCH_MODEL");
  return chosen != nullptr ? chosen : CRIBLE_SOURCE_DIR "/models/default.gguf";
}

EngineConfig base_config() {
  EngineConfig config;
  const char* threads = std::getenv("CRIBLE_BENCH_THREADS");
  config.threads = threads != nullptr ? std::atoll(threads) : 2;
  config.max_model_len = 4096;
  config.max_num_seqs = 16;
  config.kv_cache_memory_bytes = 700 * kMiB;
  return config;
}

std::unique_ptr<EngineService> start(const EngineConfig& config) {
  auto engine = EngineService::start(model_path(), config);
  CHECK(engine.has_value(), "{}", engine.error().message);
  return std::move(*engine);
}

std::vector<TokenId> random_prompt(int64_t tokens, std::mt19937& random, int64_t vocabulary) {
  std::vector<TokenId> prompt(static_cast<size_t>(tokens));
  for (TokenId& token : prompt) token = static_cast<TokenId>(random() % static_cast<uint64_t>(vocabulary));
  return prompt;
}

struct Timing {
  double to_first_s = 0;   // submit -> the last stream's first token
  double decoding_s = 0;   // from there to the last token of all
};

// `streams` prompts at once, each of `output` tokens to the end.
Timing run(EngineService& engine, const std::vector<std::vector<TokenId>>& prompts, int64_t output) {
  std::latch done(static_cast<std::ptrdiff_t>(prompts.size()));
  TimePoint first, last;
  const TimePoint begin = now();
  for (const auto& prompt : prompts) {
    const auto id = engine.submit({.prompt = prompt,
                                   .sampling = {.temperature = 0, .max_tokens = output, .ignore_eos = true},
                                   .on_output = [&](const TokenOutput& event) {
                                     if (event.output_tokens == 1) first = event.time;
                                     last = event.time;
                                     if (event.finish != FinishReason::kNone) done.count_down();
                                   }});
    CHECK(id.has_value(), "{}", id.error().message);
  }
  done.wait();
  return {to_seconds(first - begin), to_seconds(last - first)};
}

void Prefill(benchmark::State& state) {
  EngineConfig config = base_config();
  config.enable_prefix_caching = false;
  const auto engine = start(config);
  std::mt19937 random(1);
  const int64_t tokens = state.range(0);
  double seconds = 0;
  for (auto _ : state) {
    const Timing t = run(*engine, {random_prompt(tokens, random, engine->describe().model.vocabulary)}, 1);
    state.SetIterationTime(t.to_first_s);
    seconds += t.to_first_s;
  }
  state.counters["tokens_per_s"] = static_cast<double>(tokens * state.iterations()) / seconds;
}
BENCHMARK(Prefill)->Arg(128)->Arg(512)->Arg(2048)->UseManualTime()->Unit(benchmark::kMillisecond);

void Decode(benchmark::State& state) {
  const auto engine = start(base_config());
  std::mt19937 random(2);
  const int64_t streams = state.range(0), output = 65;
  double seconds = 0;
  for (auto _ : state) {
    std::vector<std::vector<TokenId>> prompts;
    for (int64_t s = 0; s < streams; ++s) {
      prompts.push_back(random_prompt(16, random, engine->describe().model.vocabulary));
    }
    const Timing t = run(*engine, prompts, output);
    state.SetIterationTime(t.decoding_s);
    seconds += t.decoding_s;
  }
  state.counters["tokens_per_s"] = static_cast<double>(streams * (output - 1) * state.iterations()) / seconds;
}
BENCHMARK(Decode)->Arg(1)->Arg(4)->Arg(16)->UseManualTime()->Unit(benchmark::kMillisecond);

// A prefix of 2,000 tokens: first seen, then with another ending.
void HitAgainstMiss(benchmark::State& state) {
  const auto engine = start(base_config());
  std::mt19937 random(3);
  double miss = 0, hit = 0;
  for (auto _ : state) {
    std::vector<TokenId> prompt = random_prompt(2016, random, engine->describe().model.vocabulary);
    miss += run(*engine, {prompt}, 1).to_first_s;
    std::shuffle(prompt.begin() + 2000, prompt.end(), random);
    const double t = run(*engine, {prompt}, 1).to_first_s;
    state.SetIterationTime(t);
    hit += t;
  }
  const auto n = static_cast<double>(state.iterations());
  state.counters["ttft_miss_ms"] = miss / n * 1e3;
  state.counters["ttft_hit_ms"] = hit / n * 1e3;
  state.counters["acceleration"] = miss / hit;
}
BENCHMARK(HitAgainstMiss)->UseManualTime()->Iterations(5)->Unit(benchmark::kMillisecond);

// Distinct prompts with the cache and without, in turns on the same prompts and the same weights. One
// thread and short runs: what disturbs a shared machine then hits few pairs. The median of the paired
// ratios with its 95% interval from the order statistics (binomial, no assumption on the spread).
void CacheCostWithNothingShared(benchmark::State& state) {
  EngineConfig config = base_config();
  config.threads = 1;
  const auto engine = start(config);
  std::mt19937 random(4);
  std::vector<double> ratios;
  bool on_first = false;
  for (auto _ : state) {
    const std::vector<std::vector<TokenId>> prompts = {random_prompt(48, random, 40'000),
                                                       random_prompt(32, random, 40'000)};
    const auto total = [&](bool caching) {
      config.enable_prefix_caching = caching;
      CHECK(engine->reconfigure(config).has_value(), "refused");
      const Timing t = run(*engine, prompts, 4);
      return t.to_first_s + t.decoding_s;
    };
    on_first = !on_first;
    const double first = total(on_first), second = total(!on_first);
    ratios.push_back(on_first ? first / second : second / first);
    state.SetIterationTime(first + second);
  }
  CHECK(engine->stats().prefix_hit_tokens == 0, "the prompts were meant to differ");
  std::sort(ratios.begin(), ratios.end());
  const auto n = static_cast<double>(ratios.size());
  const auto percent = [&](double rank) {
    return (ratios[static_cast<size_t>(std::clamp(rank, 0.0, n - 1))] - 1) * 100;
  };
  const double half_width = 1.96 * std::sqrt(n) / 2;
  state.counters["cost_percent_median"] = percent(n / 2);
  state.counters["cost_percent_low"] = percent(std::floor(n / 2 - half_width));
  state.counters["cost_percent_high"] = percent(std::ceil(n / 2 + half_width));
}
BENCHMARK(CacheCostWithNothingShared)->UseManualTime()->Iterations(400)->Unit(benchmark::kMillisecond);

// All that the prefix cache adds to a prompt when nothing is shared: look-up, naming, eviction. Timings
// of whole runs differ by more than this; set it against the time a token takes to compute.
void PrefixBookkeeping(benchmark::State& state) {
  constexpr int64_t kPrompt = 2048, kBlock = 16;
  KvAllocator allocator(4 * kPrompt / kBlock, kBlock, state.range(0) != 0);
  std::mt19937 random(5);
  int64_t id = 0;
  for (auto _ : state) {
    state.PauseTiming();
    SequenceList list = make_sequences(SeqId{++id}, {.prompt = random_prompt(kPrompt, random, 40'000)}, 0, kBlock);
    state.ResumeTiming();
    Sequence& sequence = list.front();
    CHECK(allocator.start(sequence, 0, kPrompt) == StartResult::kStarted, "the pool is empty");
    sequence.computed_tokens = kPrompt;
    allocator.index_full_blocks(sequence, sequence.computed_tokens);
    allocator.release(sequence);
  }
  state.counters["ns_per_token"] =
      benchmark::Counter(static_cast<double>(kPrompt * state.iterations()) * 1e-9,
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(PrefixBookkeeping)->ArgName("caching")->Arg(0)->Arg(1)->Unit(benchmark::kMicrosecond);

void TimeToReady(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(start(base_config()));
}
BENCHMARK(TimeToReady)->Unit(benchmark::kMillisecond)->UseRealTime();

void Reconfigure(benchmark::State& state) {
  const auto engine = start(base_config());
  EngineConfig config = base_config();
  for (auto _ : state) {
    config.max_num_batched_tokens = config.max_num_batched_tokens == 256 ? 512 : 256;
    CHECK(engine->reconfigure(config).has_value(), "refused");
  }
}
BENCHMARK(Reconfigure)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace crible
