// Reading a whole study back out of its store.
#include <unordered_map>

#include "study/record/record_codec.h"
#include "study/record/sqlite_connection.h"
#include "study/record/store.h"
#include "study/record/store_connection.h"

namespace crible::study {
namespace {

tl::unexpected<Error> unknown_word(const char* what, const std::string& word) {
  return fail(ErrorCode::kCorrupt, "the store holds an unknown {} '{}'", what, word);
}

Status load_study_row(SqliteConnection& database, StoredStudy& study) {
  CRIBLE_TRY(SqliteStatement select,
             database.prepare("SELECT spec_text, spec_source, machine, model FROM study"));
  CRIBLE_TRY(const bool row, select.step());
  if (!row) return fail(ErrorCode::kCorrupt, "{} holds no study", study.store_path);
  study.spec_text = select.text(0);
  study.spec_source = select.text(1);
  CRIBLE_TRY(study.machine, decode_machine(select.text(2)));
  CRIBLE_TRY(study.model, decode_model(select.text(3)));
  return {};
}

Status load_launches(SqliteConnection& database, StoredStudy& study) {
  CRIBLE_TRY(SqliteStatement select,
             database.prepare("SELECT id, configuration, block, start_wall_time, requested, resolved,"
                              " effective, adjustments, command_line, boot_ms, reconfigure_ms,"
                              " log_path FROM launch ORDER BY seq"));
  while (true) {
    CRIBLE_TRY(const bool row, select.step());
    if (!row) return {};
    LaunchRecord launch;
    launch.id = select.text(0);
    launch.configuration = select.text(1);
    launch.block = static_cast<int>(select.integer(2));
    launch.start_wall_time = select.text(3);
    launch.requested_json = select.text(4);
    launch.resolved_json = select.text(5);
    launch.effective_json = select.text(6);
    CRIBLE_TRY(launch.adjustments, decode_adjustments(select.text(7)));
    CRIBLE_TRY(launch.command_line, decode_texts(select.text(8)));
    launch.boot_ms = select.optional_number(9);
    launch.reconfigure_ms = select.optional_number(10);
    launch.log_path = select.text(11);
    study.launches.push_back(std::move(launch));
  }
}

using TrialIndex = std::unordered_map<int64_t, size_t>;  // seq -> place in StoredStudy::trials

Status load_trials(SqliteConnection& database, StoredStudy& study, TrialIndex& index) {
  CRIBLE_TRY(SqliteStatement select,
             database.prepare("SELECT seq, id, scenario, configuration, block, order_in_block,"
                              " launch_id, start_wall_time, duration_ns, counters_before,"
                              " counters_after, valid, validity_reasons FROM trial ORDER BY seq"));
  while (true) {
    CRIBLE_TRY(const bool row, select.step());
    if (!row) return {};
    TrialRecord trial;
    trial.id = select.text(1);
    trial.scenario = select.text(2);
    trial.configuration = select.text(3);
    trial.block = static_cast<int>(select.integer(4));
    trial.order_in_block = static_cast<int>(select.integer(5));
    trial.launch_id = select.text(6);
    trial.start_wall_time = select.text(7);
    trial.duration_ns = select.integer(8);
    CRIBLE_TRY(trial.counters_before, decode_counters(select.text(9)));
    CRIBLE_TRY(trial.counters_after, decode_counters(select.text(10)));
    trial.validity.valid = select.integer(11) != 0;
    CRIBLE_TRY(trial.validity.reasons, decode_texts(select.text(12)));
    index[select.integer(0)] = study.trials.size();
    study.trials.push_back(std::move(trial));
  }
}

Result<RequestRecord> read_request(const SqliteStatement& select) {
  RequestRecord r;
  r.index = static_cast<int>(select.integer(1));
  const std::optional<CacheRole> role = parse_cache_role(select.text(2));
  if (!role) return unknown_word("cache role", select.text(2));
  r.role = *role;
  r.pair_id = select.text(3);
  r.turn = static_cast<int>(select.integer(4));
  r.stream = static_cast<int>(select.integer(5));
  r.level = static_cast<int>(select.integer(6));
  r.scheduled_ns = select.integer(7);
  r.actual_send_ns = select.integer(8);
  r.first_token_ns = select.integer(9);
  r.first_output_ns = select.integer(10);
  r.last_token_ns = select.integer(11);
  r.end_ns = select.integer(12);
  CRIBLE_TRY(r.token_gaps_ns, decode_gaps(select.text(13)));
  const std::optional<RequestStatus> status = parse_request_status(select.text(14));
  if (!status) return unknown_word("request status", select.text(14));
  r.status = *status;
  r.http_code = static_cast<int>(select.integer(15));
  r.error = select.text(16);
  r.finish_reason = select.text(17);
  r.prompt_tokens = select.integer(18);
  r.output_tokens = select.integer(19);
  r.cached_tokens = select.optional_integer(20);
  return r;
}

// The trial that a row of `table` belongs to.
Result<TrialRecord*> owner(StoredStudy& study, const TrialIndex& index, int64_t seq) {
  const auto found = index.find(seq);
  if (found == index.end()) {
    return fail(ErrorCode::kCorrupt, "{} holds samples of a trial that it lacks", study.store_path);
  }
  return &study.trials[found->second];
}

Status load_requests(SqliteConnection& database, StoredStudy& study, const TrialIndex& index) {
  CRIBLE_TRY(SqliteStatement select,
             database.prepare("SELECT trial, idx, role, pair_id, turn, stream, level, scheduled_ns,"
                              " actual_send_ns, first_token_ns, first_output_ns, last_token_ns,"
                              " end_ns, token_gaps_ns, status, http_code, error, finish_reason,"
                              " prompt_tokens, output_tokens, cached_tokens FROM request"
                              " ORDER BY seq"));
  while (true) {
    CRIBLE_TRY(const bool row, select.step());
    if (!row) return {};
    CRIBLE_TRY(TrialRecord * trial, owner(study, index, select.integer(0)));
    CRIBLE_TRY(RequestRecord request, read_request(select));
    trial->requests.push_back(std::move(request));
  }
}

Status load_memory(SqliteConnection& database, StoredStudy& study, const TrialIndex& index) {
  CRIBLE_TRY(SqliteStatement select,
             database.prepare("SELECT trial, at_ns, device_used_bytes, device_total_bytes,"
                              " server_resident_bytes FROM memory_sample ORDER BY seq"));
  while (true) {
    CRIBLE_TRY(const bool row, select.step());
    if (!row) return {};
    CRIBLE_TRY(TrialRecord * trial, owner(study, index, select.integer(0)));
    trial->memory.push_back(
        {select.integer(1), select.integer(2), select.integer(3), select.integer(4)});
  }
}

Status load_gpu(SqliteConnection& database, StoredStudy& study, const TrialIndex& index) {
  CRIBLE_TRY(const int64_t there,
             database.query_integer("SELECT count(*) FROM sqlite_schema WHERE name='gpu_sample'"));
  if (there == 0) return {};  // a store of version 1
  CRIBLE_TRY(SqliteStatement select,
             database.prepare("SELECT trial, at_ns, gpu, memory_used_bytes, memory_total_bytes,"
                              " utilization_percent, power_mw, energy_mj, temperature_c, sm_clock_mhz,"
                              " memory_clock_mhz, throttle_reasons FROM gpu_sample ORDER BY seq"));
  while (true) {
    CRIBLE_TRY(const bool row, select.step());
    if (!row) return {};
    CRIBLE_TRY(TrialRecord * trial, owner(study, index, select.integer(0)));
    trial->gpu.push_back({.at_ns = select.integer(1),
                          .gpu = static_cast<int>(select.integer(2)),
                          .memory_used_bytes = select.integer(3),
                          .memory_total_bytes = select.integer(4),
                          .utilization_percent = select.integer(5),
                          .power_mw = select.integer(6),
                          .energy_mj = select.integer(7),
                          .temperature_c = select.integer(8),
                          .sm_clock_mhz = select.integer(9),
                          .memory_clock_mhz = select.integer(10),
                          .throttle_reasons = select.integer(11)});
  }
}

Status load_failures(SqliteConnection& database, StoredStudy& study) {
  CRIBLE_TRY(SqliteStatement select,
             database.prepare("SELECT configuration, trial_id, launch_id, cause, phase, wall_time,"
                              " message, evidence FROM failure ORDER BY seq"));
  while (true) {
    CRIBLE_TRY(const bool row, select.step());
    if (!row) return {};
    const std::optional<FailureCause> cause = parse_failure_cause(select.text(3));
    if (!cause) return unknown_word("failure cause", select.text(3));
    const std::optional<StudyPhase> phase = parse_study_phase(select.text(4));
    if (!phase) return unknown_word("phase", select.text(4));
    FailureRecord failure{select.text(0), select.text(1), select.text(2), *cause,
                          *phase,         select.text(5), select.text(6), {}};
    CRIBLE_TRY(failure.evidence, decode_texts(select.text(7)));
    study.failures.push_back(std::move(failure));
  }
}

Status load_events(SqliteConnection& database, StoredStudy& study) {
  CRIBLE_TRY(SqliteStatement select,
             database.prepare("SELECT kind, wall_time, detail FROM event ORDER BY seq"));
  while (true) {
    CRIBLE_TRY(const bool row, select.step());
    if (!row) return {};
    study.events.push_back({select.text(0), select.text(1), select.text(2)});
  }
}

Status load_all(SqliteConnection& database, StoredStudy& study) {
  CRIBLE_RETURN_IF_ERROR(load_study_row(database, study));
  CRIBLE_RETURN_IF_ERROR(load_launches(database, study));
  TrialIndex index;
  CRIBLE_RETURN_IF_ERROR(load_trials(database, study, index));
  CRIBLE_RETURN_IF_ERROR(load_requests(database, study, index));
  CRIBLE_RETURN_IF_ERROR(load_memory(database, study, index));
  CRIBLE_RETURN_IF_ERROR(load_gpu(database, study, index));
  CRIBLE_RETURN_IF_ERROR(load_failures(database, study));
  return load_events(database, study);
}

}  // namespace

Result<StoredStudy> Store::load_study() const {
  StoredStudy study;
  study.store_path = connection_->path;
  // One read transaction: all tables as of the same moment, whatever a writer appends meanwhile.
  CRIBLE_RETURN_IF_ERROR(connection_->database.execute("BEGIN"));
  const Status loaded = load_all(connection_->database, study);
  CRIBLE_RETURN_IF_ERROR(connection_->database.execute("COMMIT"));
  CRIBLE_RETURN_IF_ERROR(loaded);
  return study;
}

}  // namespace crible::study
