// The study's record on disk: one SQLite file, append-only, one durable transaction per append.
// A process killed at any moment loses at most the trial under way; a store is never left with
// half a trial. One writer at a time (a second is refused); readers may read while it writes.
// Not thread-safe: one Store belongs to one thread.
#pragma once

#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "study/record/trial.h"

namespace crible::study {

// What happened to the study itself.
struct StudyEvent {
  std::string kind;  // "started", "resumed", "gpu_busy", "budget", "warm_up", "finished", "stopped"
  std::string wall_time;
  std::string detail;

  bool operator==(const StudyEvent&) const = default;
};

// Everything in a store, in the order in which it was appended.
struct StoredStudy {
  std::string spec_text;
  std::string spec_source;  // name for messages about the spec
  MachineRecord machine;
  ModelRecord model;
  std::vector<LaunchRecord> launches;
  std::vector<TrialRecord> trials;
  std::vector<FailureRecord> failures;
  std::vector<StudyEvent> events;
  std::string store_path;
};

class Store {
 public:
  // Fails if the file exists: a study's record is never written over.
  static Result<Store> create(const std::filesystem::path& path, const std::string& spec_text,
                              const std::string& spec_source, const MachineRecord& machine,
                              const ModelRecord& model);
  // For resume: fails if the store holds another spec (byte for byte) or a schema version unknown to this program.
  // One of an older version is brought up to date; reading alone leaves it as it is.
  static Result<Store> open(const std::filesystem::path& path, const std::string& spec_text);
  static Result<Store> open_read_only(const std::filesystem::path& path);

  Store(Store&&) noexcept;
  Store& operator=(Store&&) noexcept;
  ~Store();

  // Each is durable when it returns ok, and absent when it returns an error. Appending an id
  // that is already there is an error.
  Status append_trial(const TrialRecord& trial);
  Status append_launch(const LaunchRecord& launch);
  Status append_failure(const FailureRecord& failure);
  Status append_event(const StudyEvent& event);

  Result<std::set<std::string>> completed_trials() const;  // ids
  Result<StoredStudy> load_study() const;

  // Caps the file's size, so that a full disk can be provoked. Pages of 4096 bytes.
  Status limit_pages(int64_t pages);

 private:
  struct Connection;
  explicit Store(std::unique_ptr<Connection> connection);
  std::unique_ptr<Connection> connection_;
};

}  // namespace crible::study
