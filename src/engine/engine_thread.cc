#include "engine/engine_thread.h"

#include <atomic>
#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>
#include <variant>
#include <vector>

#include "base/log.h"
#include "engine/admission.h"
#include "engine/published.h"

namespace crible {
namespace {

struct AddMessage {
  SequenceList sequences;
};
struct CancelMessage {
  SeqId id;
};
struct ReconfigureMessage {
  EngineConfig requested;
  std::promise<Result<EngineDescription>> done;
};
struct ResetPrefixCacheMessage {};
struct SavePrefixCacheMessage {
  std::promise<Result<PrefixCacheSummary>> done;
};
using Message = std::variant<AddMessage, CancelMessage, ReconfigureMessage, ResetPrefixCacheMessage,
                             SavePrefixCacheMessage>;

class EngineThread final : public EngineService {
 public:
  explicit EngineThread(std::unique_ptr<Engine> engine)
      : engine_(std::move(engine)), description_(engine_->description()) {
    stats_.store(engine_->stats());
    thread_ = std::thread([this] { run(); });
  }

  ~EngineThread() override { stop(); }

  Result<SeqId> submit(EngineRequest request) override {
    std::lock_guard lock(mutex_);
    CRIBLE_RETURN_IF_ERROR(check_open());
    const EngineConfig& config = description_.resolved.config;
    CRIBLE_RETURN_IF_ERROR(
        admit(request, {.vocabulary = description_.model.vocabulary,
                        .max_sequence_tokens = std::min(config.max_model_len,
                                                        description_.plan.num_blocks * config.block_size)}));
    // The id is drawn under the lock that orders the inbox: ids arrive in ascending order.
    const SeqId id{next_id_};
    next_id_ += request.n;
    post(AddMessage{make_sequences(id, std::move(request), static_cast<uint64_t>(config.seed), config.block_size)});
    return id;
  }

  void cancel(SeqId id) override {
    std::lock_guard lock(mutex_);
    if (!stopping_) post(CancelMessage{id});
  }

  Result<EngineDescription> reconfigure(const EngineConfig& requested) override {
    std::future<Result<EngineDescription>> done;
    {
      std::lock_guard lock(mutex_);
      CRIBLE_RETURN_IF_ERROR(check_open());
      ReconfigureMessage message{requested, {}};
      done = message.done.get_future();
      post(std::move(message));
    }
    return done.get();
  }

  void reset_prefix_cache() override {
    std::lock_guard lock(mutex_);
    if (!stopping_) post(ResetPrefixCacheMessage{});
  }

  Result<PrefixCacheSummary> save_prefix_cache() override {
    std::future<Result<PrefixCacheSummary>> done;
    {
      std::lock_guard lock(mutex_);
      CRIBLE_RETURN_IF_ERROR(check_open());
      SavePrefixCacheMessage message;
      done = message.done.get_future();
      post(std::move(message));
    }
    return done.get();
  }

  EngineDescription describe() const override {
    std::lock_guard lock(mutex_);
    return description_;
  }

  // Sequences still in the inbox count as waiting.
  EngineStats stats() const override {
    EngineStats stats = stats_.load();
    stats.waiting += added_.load(std::memory_order_relaxed);
    return stats;
  }

  Status health() const override {
    std::lock_guard lock(mutex_);
    return health_;
  }

  void stop() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      pending_.store(true, std::memory_order_release);
    }
    wake_.notify_one();
    std::lock_guard lock(join_mutex_);
    if (thread_.joinable()) thread_.join();
  }

 private:
  Status check_open() const {
    if (stopping_) return fail(ErrorCode::kUnavailable, "the engine is shutting down");
    return health_;
  }

  // Under mutex_.
  template <typename M>
  void post(M message) {
    if constexpr (std::is_same_v<M, AddMessage>) {
      added_.fetch_add(static_cast<int64_t>(message.sequences.size()), std::memory_order_relaxed);
    }
    inbox_.emplace_back(std::move(message));
    pending_.store(true, std::memory_order_release);
    wake_.notify_one();
  }

  // Engine thread. While steps follow each other and nothing arrives, no lock is taken.
  void run() {
    while (take_messages()) {
      if (engine_->has_work()) note(engine_->step());
      publish();
    }
    settle();
    engine_->end_all(FinishReason::kCancelled, std::nullopt);
    publish();
    keep_prefix_cache();
  }

  // Once the device has failed every sequence ends with that error, those still to come too.
  void note(const Status& done) {
    if (done) return;
    log_error("the engine has failed: {}", done.error().message);
    std::lock_guard lock(mutex_);
    health_ = done;
  }

  // Between two steps, with nothing under way.
  void settle() {
    if (!health()) return;
    note(engine_->drain());
    publish();
  }

  void keep_prefix_cache() {
    const EngineConfig& config = engine_->description().resolved.config;
    if (config.prefix_cache_file.empty() || !config.enable_prefix_caching || !health()) return;
    if (const auto saved = engine_->save_prefix_cache()) {
      log_info("prefix cache: {} blocks, {}, to {} in {:.2f} s", saved->blocks, format_bytes(saved->bytes),
               config.prefix_cache_file, saved->seconds);
    } else {
      log_warning("the prefix cache is lost: {}", saved.error().message);
    }
  }

  // Figures first: whoever has an event finds it counted.
  void publish() {
    stats_.store(engine_->stats());
    engine_->deliver();
  }

  // Sleeps while there is nothing to do. False once the engine is to stop.
  bool take_messages() {
    if (engine_->has_work() && !pending_.load(std::memory_order_acquire)) return true;
    while (!pending_.load(std::memory_order_acquire) && engine_->prepare()) {
    }
    bool stopping;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !inbox_.empty() || engine_->has_work(); });
      taken_.swap(inbox_);
      pending_.store(false, std::memory_order_relaxed);
      stopping = stopping_;
    }
    for (Message& message : taken_) std::visit([this](auto& m) { handle(m); }, message);
    taken_.clear();
    return !stopping;
  }

  void handle(AddMessage& message) {
    const auto count = static_cast<int64_t>(message.sequences.size());
    engine_->add(std::move(message.sequences));
    if (const Status healthy = health(); !healthy) engine_->end_all(FinishReason::kError, healthy.error());
    stats_.store(engine_->stats());
    added_.fetch_sub(count, std::memory_order_relaxed);
  }

  void handle(CancelMessage& message) {
    engine_->cancel(message.id);
    publish();
  }

  void handle(ReconfigureMessage& message) {
    settle();
    Status changed = health();
    if (changed) changed = engine_->reconfigure(message.requested);
    publish();
    Result<EngineDescription> answer = engine_->description();
    {
      std::lock_guard lock(mutex_);
      description_ = engine_->description();
      if (!changed) {
        answer = tl::unexpected<Error>(changed.error());
        if (changed.error().code == ErrorCode::kInternal) health_ = changed;
      }
    }
    if (!changed) log_warning("reconfiguration refused: {}", changed.error().message);
    message.done.set_value(std::move(answer));
  }

  void handle(SavePrefixCacheMessage& message) {
    settle();
    if (const Status healthy = health(); !healthy) {
      message.done.set_value(tl::unexpected<Error>(healthy.error()));
    } else {
      message.done.set_value(engine_->save_prefix_cache());
    }
  }

  void handle(ResetPrefixCacheMessage&) { engine_->reset_prefix_cache(); }

  std::unique_ptr<Engine> engine_;  // engine thread only, once it runs
  Published<EngineStats> stats_;
  std::atomic<int64_t> added_{0};  // sequences in the inbox

  mutable std::mutex mutex_;
  std::mutex join_mutex_;
  std::condition_variable wake_;
  // Under mutex_.
  EngineDescription description_;
  Status health_;
  bool stopping_ = false;
  int64_t next_id_ = 1;
  std::vector<Message> inbox_;

  std::atomic<bool> pending_{false};  // the inbox has something, or the engine is to stop
  std::vector<Message> taken_;        // engine thread only
  std::thread thread_;
};

}  // namespace

std::unique_ptr<EngineService> start_engine_thread(std::unique_ptr<Engine> engine) {
  return std::make_unique<EngineThread>(std::move(engine));
}

}  // namespace crible
