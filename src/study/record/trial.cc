#include "study/record/trial.h"

#include <array>
#include <string_view>
#include <utility>

namespace crible::study {
namespace {

// One table per enum, read in both directions.
template <typename Enum, size_t N>
using NameTable = std::array<std::pair<Enum, const char*>, N>;

constexpr NameTable<RequestStatus, 4> kRequestStatusNames{{
    {RequestStatus::kOk, "ok"},
    {RequestStatus::kError, "error"},
    {RequestStatus::kTimeout, "timeout"},
    {RequestStatus::kCancelled, "cancelled"},
}};

constexpr NameTable<CacheRole, 3> kCacheRoleNames{{
    {CacheRole::kNone, "none"},
    {CacheRole::kMiss, "miss"},
    {CacheRole::kHit, "hit"},
}};

constexpr NameTable<FailureCause, 10> kFailureCauseNames{{
    {FailureCause::kBadFlag, "bad_flag"},
    {FailureCause::kBadModel, "bad_model"},
    {FailureCause::kOutOfMemory, "out_of_memory"},
    {FailureCause::kCrash, "crash"},
    {FailureCause::kHang, "hang"},
    {FailureCause::kTimeout, "time_out"},
    {FailureCause::kAuth, "auth"},
    {FailureCause::kQuality, "quality"},
    {FailureCause::kEffectiveMismatch, "effective_mismatch"},
    {FailureCause::kUnknown, "unknown"},
}};

constexpr NameTable<StudyPhase, 7> kStudyPhaseNames{{
    {StudyPhase::kPreflight, "preflight"},
    {StudyPhase::kBoot, "boot"},
    {StudyPhase::kAssertEffective, "assert_effective"},
    {StudyPhase::kWarmUp, "warm_up"},
    {StudyPhase::kGate, "gate"},
    {StudyPhase::kMeasure, "measure"},
    {StudyPhase::kShutdown, "shutdown"},
}};

template <typename Enum, size_t N>
const char* name_of(const NameTable<Enum, N>& table, Enum value) {
  for (const auto& [known, name] : table) {
    if (known == value) return name;
  }
  return "unknown";
}

template <typename Enum, size_t N>
std::optional<Enum> value_of(const NameTable<Enum, N>& table, std::string_view text) {
  for (const auto& [value, name] : table) {
    if (text == name) return value;
  }
  return std::nullopt;
}

}  // namespace

const char* to_string(RequestStatus status) { return name_of(kRequestStatusNames, status); }
const char* to_string(CacheRole role) { return name_of(kCacheRoleNames, role); }
const char* to_string(FailureCause cause) { return name_of(kFailureCauseNames, cause); }
const char* to_string(StudyPhase phase) { return name_of(kStudyPhaseNames, phase); }

std::optional<RequestStatus> parse_request_status(const std::string& name) {
  return value_of(kRequestStatusNames, name);
}
std::optional<CacheRole> parse_cache_role(const std::string& name) {
  return value_of(kCacheRoleNames, name);
}
std::optional<FailureCause> parse_failure_cause(const std::string& name) {
  return value_of(kFailureCauseNames, name);
}
std::optional<StudyPhase> parse_study_phase(const std::string& name) {
  return value_of(kStudyPhaseNames, name);
}

}  // namespace crible::study
