#define XXH_INLINE_ALL
#include "engine/fake_engine.h"

#include <xxhash.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <unordered_set>

#include "engine/admission.h"
#include "engine/memory_plan.h"

namespace crible {
namespace {

constexpr TokenId kFirstOrdinaryToken = 64;
// What a 135M-parameter model asks for, so that plans look like real ones.
constexpr int64_t kActivationBytesPerToken = 24 * kKiB;
constexpr int64_t kKvBytesPerToken = 22'500;

// Hashes of full prompt blocks, oldest forgotten first.
class CachedPrefixes {
 public:
  // Longest cached prefix in whole blocks; the last prompt token always stays to be computed.
  int64_t hit_tokens(const EngineRequest& request, int64_t block_size) const {
    const int64_t limit = (static_cast<int64_t>(request.prompt.size()) - 1) / block_size;
    uint64_t hash = request.cache_salt;
    int64_t hits = 0;
    while (hits < limit) {
      hash = next(hash, request, hits, block_size);
      if (!known_.contains(hash)) break;
      ++hits;
    }
    return hits * block_size;
  }

  void insert(const EngineRequest& request, int64_t block_size) {
    const int64_t blocks = static_cast<int64_t>(request.prompt.size()) / block_size;
    uint64_t hash = request.cache_salt;
    for (int64_t b = 0; b < blocks; ++b) {
      hash = next(hash, request, b, block_size);
      if (known_.insert(hash).second) order_.push_back(hash);
    }
  }

  void shrink_to(int64_t blocks) {
    while (static_cast<int64_t>(order_.size()) > std::max<int64_t>(blocks, 0)) {
      known_.erase(order_.front());
      order_.pop_front();
    }
  }

 private:
  static uint64_t next(uint64_t parent, const EngineRequest& request, int64_t block, int64_t block_size) {
    return XXH3_64bits_withSeed(request.prompt.data() + block * block_size,
                                static_cast<size_t>(block_size) * sizeof(TokenId), parent);
  }

  std::unordered_set<uint64_t> known_;
  std::deque<uint64_t> order_;
};

struct FakeSequence {
  SeqId id;
  EngineRequest request;
  TokenOutput event;  // the fields that stay the same from event to event
  int64_t reserved_blocks = 0;
  bool cancelled = false;
  std::vector<TokenLogprob> logprobs, prompt_logprobs;  // of the next event
};

// Made up, but of the right form: the token is the first, second or third likeliest, logprobs fall by a quarter.
void append_fake_logprobs(TokenId token, int32_t listed, int64_t vocabulary, std::vector<TokenLogprob>& out) {
  const auto scored = [&](TokenId id, int32_t rank) { out.push_back({id, -0.25f * static_cast<float>(rank), rank}); };
  const int32_t own_rank = 1 + token % 3;
  scored(token, own_rank);
  for (int32_t rank = 1; rank <= listed; ++rank) {
    scored(static_cast<TokenId>((token - own_rank + rank + vocabulary) % vocabulary), rank);
  }
}

Result<EngineDescription> describe_fake(const FakeEngineOptions& options, const EngineConfig& requested) {
  EngineDescription description{.model = options.model, .requested = requested};
  CRIBLE_TRY(description.resolved,
             resolve(requested, this_machine(), {.context_length = options.model.context_length}));
  CRIBLE_TRY(description.plan, settle_memory(requested, description.resolved, [&](const EngineConfig& config) {
    return MemoryNeeds{.weight_bytes = options.model.weight_bytes,
                       .activation_bytes = config.max_num_batched_tokens * kActivationBytesPerToken,
                       .kv_block_bytes = config.block_size * kKvBytesPerToken};
  }));
  description.effective = description.resolved.config;
  return description;
}

class FakeEngine final : public EngineService {
 public:
  FakeEngine(FakeEngineOptions options, EngineDescription description)
      : options_(std::move(options)), description_(std::move(description)) {
    stats_.kv_blocks_total = description_.plan.num_blocks;
    thread_ = std::thread([this] { run(); });
  }

  ~FakeEngine() override { stop(); }

  Result<SeqId> submit(EngineRequest request) override {
    std::lock_guard lock(mutex_);
    if (stopping_) return fail(ErrorCode::kUnavailable, "the engine is shutting down");
    CRIBLE_RETURN_IF_ERROR(admit(request, {.vocabulary = options_.model.vocabulary,
                                           .max_sequence_tokens = description_.resolved.config.max_model_len}));
    const SeqId first{next_id_};
    for (int32_t choice = 0; choice < request.n; ++choice) {
      auto sequence = std::make_unique<FakeSequence>();
      sequence->id = SeqId{next_id_++};
      sequence->event.sequence = sequence->id;
      sequence->event.choice = choice;
      sequence->event.queued = now();
      sequence->request = request;
      if (choice > 0) {
        sequence->request.sampling.seed = request.sampling.seed.value_or(0) + static_cast<uint64_t>(choice);
        sequence->request.sampling.prompt_logprobs.reset();
      }
      waiting_.push_back(std::move(sequence));
    }
    changed_.notify_one();
    return first;
  }

  void cancel(SeqId id) override {
    std::lock_guard lock(mutex_);
    for (auto* queue : {&waiting_, &running_}) {
      for (auto& sequence : *queue) {
        if (sequence->id == id) sequence->cancelled = true;
      }
    }
    changed_.notify_one();
  }

  Result<EngineDescription> reconfigure(const EngineConfig& requested) override {
    const TimePoint start = now();
    std::lock_guard lock(mutex_);
    if (stopping_) return fail(ErrorCode::kUnavailable, "the engine is shutting down");
    CRIBLE_RETURN_IF_ERROR(check_live_change(description_.requested, requested));
    CRIBLE_TRY(description_, describe_fake(options_, requested));
    prefixes_.shrink_to(0);
    stats_.kv_blocks_total = description_.plan.num_blocks;
    stats_.reconfigurations += 1;
    stats_.last_reconfigure_seconds = to_seconds(now() - start);
    return description_;
  }

  void reset_prefix_cache() override {
    std::lock_guard lock(mutex_);
    prefixes_.shrink_to(0);
  }

  Result<PrefixCacheSummary> save_prefix_cache() override {
    return fail(ErrorCode::kUnsupported, "this engine computes no keys and values that could be kept");
  }

  EngineDescription describe() const override {
    std::lock_guard lock(mutex_);
    return description_;
  }

  EngineStats stats() const override {
    std::lock_guard lock(mutex_);
    EngineStats stats = stats_;
    stats.running = static_cast<int64_t>(running_.size());
    stats.waiting = static_cast<int64_t>(waiting_.size());
    return stats;
  }

  Status health() const override { return {}; }

  void stop() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      changed_.notify_one();
    }
    std::lock_guard join_lock(join_mutex_);
    if (thread_.joinable()) thread_.join();
  }

 private:
  using Queue = std::deque<std::unique_ptr<FakeSequence>>;

  // Engine thread. Events are collected under the lock and delivered outside it.
  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return stopping_ || !waiting_.empty() || !running_.empty(); });
      const TimePoint start = now();
      if (stopping_) {
        for (auto* queue : {&waiting_, &running_}) {
          for (auto& sequence : *queue) sequence->cancelled = true;
        }
      }
      end_cancelled(waiting_);
      end_cancelled(running_);
      const int64_t tokens_before = stats_.computed_prompt_tokens + stats_.generation_tokens;
      TimePoint end = start;
      while (can_start_next()) end += start_next();
      if (!running_.empty()) end += options_.per_step;
      lock.unlock();
      std::this_thread::sleep_until(end);
      lock.lock();
      decode_step();
      const int64_t tokens = stats_.computed_prompt_tokens + stats_.generation_tokens - tokens_before;
      stats_.count_step(tokens, to_seconds(now() - start));
      deliver(lock);
      if (stopping_ && waiting_.empty() && running_.empty()) return;
    }
  }

  bool can_start_next() const {
    if (waiting_.empty()) return false;
    const EngineConfig& config = description_.resolved.config;
    return static_cast<int64_t>(running_.size()) < config.max_num_seqs &&
           (running_.empty() ||
            stats_.kv_blocks_used + blocks_of(*waiting_.front()) <= description_.plan.num_blocks);
  }

  int64_t blocks_of(const FakeSequence& sequence) const {
    return ceil_div(static_cast<int64_t>(sequence.request.prompt.size()) + sequence.request.sampling.max_tokens,
                    description_.resolved.config.block_size);
  }

  // Moves the first waiting sequence to the running ones; returns the time its prompt takes.
  Nanoseconds start_next() {
    std::unique_ptr<FakeSequence> sequence = std::move(waiting_.front());
    waiting_.pop_front();
    const EngineConfig& config = description_.resolved.config;
    const auto prompt_tokens = static_cast<int64_t>(sequence->request.prompt.size());
    sequence->reserved_blocks = blocks_of(*sequence);
    stats_.kv_blocks_used += sequence->reserved_blocks;
    if (config.enable_prefix_caching && !sequence->request.sampling.prompt_logprobs) {
      sequence->event.cached_tokens = prefixes_.hit_tokens(sequence->request, config.block_size);
      prefixes_.insert(sequence->request, config.block_size);
      prefixes_.shrink_to(description_.plan.num_blocks - stats_.kv_blocks_used);
      stats_.prefix_queries_tokens += prompt_tokens;
      stats_.prefix_hit_tokens += sequence->event.cached_tokens;
    }
    sequence->event.scheduled = now();
    const int64_t computed = prompt_tokens - sequence->event.cached_tokens;
    stats_.prompt_tokens += prompt_tokens;
    stats_.computed_prompt_tokens += computed;
    running_.push_back(std::move(sequence));
    return computed * options_.per_prompt_token;
  }

  void decode_step() {
    for (auto& sequence : running_) {
      const TokenId token = options_.next_token(sequence->request, sequence->event.output_tokens);
      TokenOutput& event = sequence->event;
      if (token < 0) {
        event.error = Error{ErrorCode::kInternal, "the model's logits are not finite"};
        finish(*sequence, FinishReason::kError);
        continue;
      }
      const SamplingParams& sampling = sequence->request.sampling;
      event.output_tokens += 1;
      stats_.generation_tokens += 1;
      report_logprobs(*sequence, token);
      const bool stop = !sampling.ignore_eos &&
                        std::find(sampling.stop_token_ids.begin(), sampling.stop_token_ids.end(), token) !=
                            sampling.stop_token_ids.end();
      const FinishReason reason = stop                                            ? FinishReason::kStop
                                  : event.output_tokens >= sampling.max_tokens ? FinishReason::kLength
                                                                                  : FinishReason::kNone;
      event.token = token;
      if (reason != FinishReason::kNone) {
        finish(*sequence, reason);
      } else {
        event.time = now();
        events_.emplace_back(sequence.get(), event);
      }
    }
    retire(running_);
  }

  void report_logprobs(FakeSequence& sequence, TokenId token) {
    const SamplingParams& sampling = sequence.request.sampling;
    sequence.logprobs.clear();
    sequence.prompt_logprobs.clear();
    if (sampling.logprobs) {
      append_fake_logprobs(token, *sampling.logprobs, options_.model.vocabulary, sequence.logprobs);
    }
    if (sampling.prompt_logprobs && sequence.event.output_tokens == 1) {
      for (size_t i = 1; i < sequence.request.prompt.size(); ++i) {
        append_fake_logprobs(sequence.request.prompt[i], *sampling.prompt_logprobs, options_.model.vocabulary,
                             sequence.prompt_logprobs);
      }
    }
    sequence.event.logprobs = sequence.logprobs;
    sequence.event.prompt_logprobs = sequence.prompt_logprobs;
  }

  void end_cancelled(Queue& queue) {
    for (auto& sequence : queue) {
      if (!sequence->cancelled) continue;
      finish(*sequence, FinishReason::kCancelled);
    }
    retire(queue);
  }

  void finish(FakeSequence& sequence, FinishReason reason) {
    if (reason == FinishReason::kError || reason == FinishReason::kCancelled) {
      sequence.event.token = -1;
      sequence.event.logprobs = {};
      sequence.event.prompt_logprobs = {};
    }
    sequence.event.finish = reason;
    sequence.event.time = now();
    events_.emplace_back(&sequence, sequence.event);
    stats_.kv_blocks_used -= sequence.reserved_blocks;
    switch (reason) {
      case FinishReason::kStop: stats_.finished_stop += 1; break;
      case FinishReason::kLength: stats_.finished_length += 1; break;
      case FinishReason::kCancelled: stats_.finished_cancelled += 1; break;
      default: stats_.finished_error += 1; break;
    }
  }

  // Ended sequences stay alive until their last event is delivered.
  void retire(Queue& queue) {
    for (auto& sequence : queue) {
      if (sequence->event.finish != FinishReason::kNone) ended_.push_back(std::move(sequence));
    }
    std::erase(queue, nullptr);
  }

  void deliver(std::unique_lock<std::mutex>& lock) {
    lock.unlock();
    for (const auto& [sequence, event] : events_) sequence->request.on_output(event);
    events_.clear();
    ended_.clear();
    lock.lock();
  }

  FakeEngineOptions options_;
  mutable std::mutex mutex_;
  std::mutex join_mutex_;
  std::condition_variable changed_;
  EngineDescription description_;
  EngineStats stats_;
  CachedPrefixes prefixes_;
  Queue waiting_, running_;
  int64_t next_id_ = 1;
  bool stopping_ = false;
  // Engine thread only.
  std::vector<std::pair<FakeSequence*, TokenOutput>> events_;
  Queue ended_;
  std::thread thread_;
};

}  // namespace

TokenId fake_token(const EngineRequest& request, int64_t index, int64_t vocabulary) {
  const uint64_t seed = request.sampling.temperature > 0 ? request.sampling.seed.value_or(0) + 1 : 0;
  const uint64_t prompt =
      XXH3_64bits_withSeed(request.prompt.data(), request.prompt.size() * sizeof(TokenId), seed);
  const uint64_t draw = XXH3_64bits_withSeed(&index, sizeof(index), prompt);
  const int64_t first = vocabulary > 2 * kFirstOrdinaryToken ? kFirstOrdinaryToken : 0;
  return static_cast<TokenId>(first + static_cast<int64_t>(draw % static_cast<uint64_t>(vocabulary - first)));
}

Result<std::unique_ptr<EngineService>> start_fake_engine(FakeEngineOptions options) {
  if (!options.next_token) {
    options.next_token = [vocabulary = options.model.vocabulary](const EngineRequest& request, int64_t index) {
      return fake_token(request, index, vocabulary);
    };
  }
  CRIBLE_TRY(EngineDescription description, describe_fake(options, options.config));
  return std::make_unique<FakeEngine>(std::move(options), std::move(description));
}

}  // namespace crible
