// The engine as a bench worker: one JSON command a line on standard input, one JSON answer a line on
// standard output. bench/compare.py puts it and a rival through the same work in turn.
//   {"op":"prefill","tokens":512,"seed":1}                        → {"seconds":s}
//   {"op":"hit","tokens":2000,"suffix":16,"seed":1}               → {"miss_seconds":s,"hit_seconds":s}
//   {"op":"decode","streams":4,"prompt":16,"tokens":64,"seed":1}  → {"seconds":s,"tokens":n}
//   {"op":"ceiling","tokens":0,"seed":0}                          → {"read_bytes_per_s":b,"int16_operations_per_s":o}
#include <condition_variable>
#include <iostream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>

#include "base/check.h"
#include "base/log.h"
#include "engine/engine_service.h"
#include "ops/machine_ceiling.h"

namespace crible {
namespace {

// Counts what the engine reports of a set of sequences and keeps the times that matter.
class Collector {
 public:
  explicit Collector(int64_t streams) : pending_first_(streams), pending_end_(streams) {}

  void take(const TokenOutput& output) {
    const std::lock_guard lock(mutex_);
    CHECK(!output.error, "{}", output.error ? output.error->message : "");
    if (output.output_tokens == 1 && --pending_first_ == 0) all_first_ = now();
    if (pending_first_ == 0) ++tokens_after_first_;
    if (output.finish != FinishReason::kNone && --pending_end_ == 0) {
      end_ = now();
      done_.notify_one();
    }
  }

  void wait() {
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] { return pending_end_ == 0; });
  }

  // After wait(): from the moment every stream had its first token.
  TimePoint all_first() const { return all_first_; }
  TimePoint end() const { return end_; }
  int64_t tokens_after_first() const { return tokens_after_first_ - 1; }

 private:
  std::mutex mutex_;
  std::condition_variable done_;
  int64_t pending_first_, pending_end_, tokens_after_first_ = 0;
  TimePoint all_first_, end_;
};

class Worker {
 public:
  explicit Worker(EngineService& engine) : engine_(engine), vocabulary_(engine.describe().model.vocabulary) {}

  nlohmann::json run(const nlohmann::json& command) {
    const std::string op = command.at("op");
    const uint64_t seed = command.at("seed");
    const int64_t tokens = command.at("tokens");
    if (op == "prefill") return {{"seconds", first_token_seconds(random_tokens(tokens, seed))}};
    if (op == "hit") {
      const int64_t suffix = command.at("suffix");
      const auto prefix = random_tokens(tokens, seed);
      const double miss = first_token_seconds(joined(prefix, random_tokens(suffix, seed + 1)));
      const double hit = first_token_seconds(joined(prefix, random_tokens(suffix, seed + 2)));
      return {{"miss_seconds", miss}, {"hit_seconds", hit}};
    }
    if (op == "ceiling") {
      Stream stream = Stream::create_cpu(static_cast<int>(engine_.describe().resolved.config.threads)).value();
      const MachineCeiling ceiling = machine_ceiling(stream);
      return {{"read_bytes_per_s", ceiling.read_bytes_per_s},
              {"int16_operations_per_s", ceiling.int16_operations_per_s}};
    }
    CHECK(op == "decode", "unknown op {}", op);
    return decode(command.at("streams"), command.at("prompt"), tokens, seed);
  }

 private:
  std::vector<TokenId> random_tokens(int64_t count, uint64_t seed) const {
    std::mt19937_64 random(seed);
    std::uniform_int_distribution<TokenId> token(100, static_cast<TokenId>(vocabulary_ - 101));
    std::vector<TokenId> tokens(static_cast<size_t>(count));
    for (auto& t : tokens) t = token(random);
    return tokens;
  }

  static std::vector<TokenId> joined(std::vector<TokenId> a, const std::vector<TokenId>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  }

  void submit(std::vector<TokenId> prompt, int64_t max_tokens, Collector& collector) {
    EngineRequest request;
    request.prompt = std::move(prompt);
    request.sampling = {.temperature = 0, .max_tokens = max_tokens, .ignore_eos = true};
    request.on_output = [&collector](const TokenOutput& output) { collector.take(output); };
    const auto id = engine_.submit(std::move(request));
    CHECK(id.has_value(), "{}", id ? "" : id.error().message);
  }

  double first_token_seconds(std::vector<TokenId> prompt) {
    Collector collector(1);
    const TimePoint start = now();
    submit(std::move(prompt), 1, collector);
    collector.wait();
    return to_seconds(collector.end() - start);
  }

  nlohmann::json decode(int64_t streams, int64_t prompt, int64_t tokens, uint64_t seed) {
    Collector collector(streams);
    for (int64_t s = 0; s < streams; ++s) {
      submit(random_tokens(prompt, seed + static_cast<uint64_t>(s)), tokens + 1, collector);
    }
    collector.wait();
    return {{"seconds", to_seconds(collector.end() - collector.all_first())},
            {"tokens", collector.tokens_after_first()}};
  }

  EngineService& engine_;
  int64_t vocabulary_;
};

int run(const char* model, int64_t threads) {
  EngineConfig config;
  config.threads = threads;
  config.device_memory_bytes = 4LL << 30;
  // The default cache is then 16 · 512 tokens, as the rival's context: time to ready includes touching it.
  config.max_num_seqs = 16;
  const TimePoint start = now();
  auto engine = EngineService::start(model, config);
  if (!engine) {
    std::cerr << engine.error().message << "\n";
    return 1;
  }
  const EngineModelInfo model_info = (*engine)->describe().model;
  std::cout << nlohmann::json{{"ready_seconds", to_seconds(now() - start)},
                              {"version", "crible"},
                              {"parameters", model_info.parameters},
                              {"weight_bytes", model_info.weight_bytes},
                              {"quantization", model_info.quantization}}
            << std::endl;
  Worker worker(**engine);
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << worker.run(nlohmann::json::parse(line)) << std::endl;
  }
  (*engine)->stop();
  return 0;
}

}  // namespace
}  // namespace crible

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: engine_worker MODEL THREADS\n";
    return 2;
  }
  if (auto status = crible::init_log("warning"); !status) return 2;
  return crible::run(argv[1], std::atoll(argv[2]));
}
