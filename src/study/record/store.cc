#include "study/record/store.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/log.h"
#include "study/record/record_codec.h"
#include "study/record/sqlite_connection.h"
#include "study/record/store_connection.h"
#include "study/record/writer_lock.h"

namespace crible::study {
namespace {

// "CRBL": says to `file` and to us that the database is a study's.
constexpr int64_t kApplicationId = 0x4352424c;
constexpr int64_t kSchemaVersion = 2;
// The oldest version that is still read. A store of an older version than ours is brought up to it when it is
// opened for appending, and read as it is otherwise: what its version had no table for is empty.
constexpr int64_t kOldestVersion = 1;

// seq keeps the order of appending. Requests and memory samples hang on their trial's seq.
constexpr const char* kSchema = R"sql(
CREATE TABLE study(spec_text TEXT NOT NULL, spec_source TEXT NOT NULL, machine TEXT NOT NULL,
                   model TEXT NOT NULL);
CREATE TABLE launch(seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, configuration TEXT NOT NULL,
                    block INTEGER NOT NULL, start_wall_time TEXT NOT NULL, requested TEXT NOT NULL,
                    resolved TEXT NOT NULL, effective TEXT NOT NULL, adjustments TEXT NOT NULL,
                    command_line TEXT NOT NULL, boot_ms REAL, reconfigure_ms REAL,
                    log_path TEXT NOT NULL);
CREATE TABLE trial(seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, scenario TEXT NOT NULL,
                   configuration TEXT NOT NULL, block INTEGER NOT NULL,
                   order_in_block INTEGER NOT NULL, launch_id TEXT NOT NULL,
                   start_wall_time TEXT NOT NULL, duration_ns INTEGER NOT NULL,
                   counters_before TEXT NOT NULL, counters_after TEXT NOT NULL,
                   valid INTEGER NOT NULL, validity_reasons TEXT NOT NULL);
CREATE TABLE request(seq INTEGER PRIMARY KEY, trial INTEGER NOT NULL REFERENCES trial(seq),
                     idx INTEGER NOT NULL, role TEXT NOT NULL, pair_id TEXT NOT NULL,
                     turn INTEGER NOT NULL, stream INTEGER NOT NULL, level INTEGER NOT NULL,
                     scheduled_ns INTEGER NOT NULL, actual_send_ns INTEGER NOT NULL,
                     first_token_ns INTEGER NOT NULL, first_output_ns INTEGER NOT NULL,
                     last_token_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL,
                     token_gaps_ns BLOB NOT NULL, status TEXT NOT NULL, http_code INTEGER NOT NULL,
                     error TEXT NOT NULL, finish_reason TEXT NOT NULL,
                     prompt_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
                     cached_tokens INTEGER);
CREATE TABLE memory_sample(seq INTEGER PRIMARY KEY, trial INTEGER NOT NULL REFERENCES trial(seq),
                           at_ns INTEGER NOT NULL, device_used_bytes INTEGER NOT NULL,
                           device_total_bytes INTEGER NOT NULL,
                           server_resident_bytes INTEGER NOT NULL);
CREATE TABLE failure(seq INTEGER PRIMARY KEY, configuration TEXT NOT NULL, trial_id TEXT NOT NULL,
                     launch_id TEXT NOT NULL, cause TEXT NOT NULL, phase TEXT NOT NULL,
                     wall_time TEXT NOT NULL, message TEXT NOT NULL, evidence TEXT NOT NULL);
CREATE TABLE event(seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, wall_time TEXT NOT NULL,
                   detail TEXT NOT NULL);
)sql";

// What version 2 added to version 1.
constexpr const char* kGpuSchema = R"sql(
CREATE TABLE gpu_sample(seq INTEGER PRIMARY KEY, trial INTEGER NOT NULL REFERENCES trial(seq),
                        at_ns INTEGER NOT NULL, gpu INTEGER NOT NULL,
                        memory_used_bytes INTEGER NOT NULL, memory_total_bytes INTEGER NOT NULL,
                        utilization_percent INTEGER NOT NULL, power_mw INTEGER NOT NULL,
                        energy_mj INTEGER NOT NULL, temperature_c INTEGER NOT NULL,
                        sm_clock_mhz INTEGER NOT NULL, memory_clock_mhz INTEGER NOT NULL,
                        throttle_reasons INTEGER NOT NULL);
)sql";

Status check_identity(SqliteConnection& database, const std::string& path) {
  CRIBLE_TRY(const int64_t application, database.query_integer("PRAGMA application_id"));
  if (application != kApplicationId) {
    return fail(ErrorCode::kCorrupt, "{} is not a study's store", path);
  }
  CRIBLE_TRY(const int64_t version, database.query_integer("PRAGMA user_version"));
  if (version < kOldestVersion || version > kSchemaVersion) {
    return fail(ErrorCode::kUnsupported,
                "{} has schema version {}, this program reads versions {} to {}; use the program "
                "that wrote it",
                path, version, kOldestVersion, kSchemaVersion);
  }
  return {};
}

Status bring_up_to_date(SqliteConnection& database) {
  CRIBLE_TRY(const int64_t version, database.query_integer("PRAGMA user_version"));
  if (version == kSchemaVersion) return {};
  return database.transaction([&]() -> Status {
    CRIBLE_RETURN_IF_ERROR(database.execute(kGpuSchema));
    return database.execute(fmt::format("PRAGMA user_version={}", kSchemaVersion));
  });
}

Result<std::string> stored_spec(SqliteConnection& database, const std::string& path) {
  CRIBLE_TRY(SqliteStatement statement, database.prepare("SELECT spec_text FROM study"));
  CRIBLE_TRY(const bool row, statement.step());
  if (!row) return fail(ErrorCode::kCorrupt, "{} holds no study", path);
  return statement.text(0);
}

// Line of the first difference, from 1.
int first_difference_line(const std::string& a, const std::string& b) {
  int line = 1;
  for (size_t i = 0; i < a.size() && i < b.size() && a[i] == b[i]; ++i) line += a[i] == '\n';
  return line;
}

// Removes what an earlier, killed creation left behind.
void remove_leftovers(const std::filesystem::path& path) {
  std::error_code ignored;
  for (const char* suffix : {"", "-journal", "-wal", "-shm"}) {
    std::filesystem::remove(path.string() + suffix, ignored);
  }
}

Status write_new(const std::filesystem::path& path, const std::string& spec_text,
                 const std::string& spec_source, const MachineRecord& machine,
                 const ModelRecord& model) {
  CRIBLE_TRY(SqliteConnection database,
             SqliteConnection::open(path, SqliteConnection::Mode::kCreate));
  CRIBLE_RETURN_IF_ERROR(database.execute("PRAGMA synchronous=FULL"));
  return database.transaction([&]() -> Status {
    CRIBLE_RETURN_IF_ERROR(database.execute(kSchema));
    CRIBLE_RETURN_IF_ERROR(database.execute(kGpuSchema));
    CRIBLE_RETURN_IF_ERROR(database.execute(fmt::format(
        "PRAGMA application_id={}; PRAGMA user_version={}", kApplicationId, kSchemaVersion)));
    CRIBLE_TRY(SqliteStatement insert, database.prepare("INSERT INTO study VALUES(?,?,?,?)"));
    return insert.bind(spec_text)
        .bind(spec_source)
        .bind(encode_machine(machine))
        .bind(encode_model(model))
        .run();
  });
}

}  // namespace

Result<std::unique_ptr<Store::Connection>> Store::Connection::open_writable(
    const std::filesystem::path& path, const std::string& spec_text, WriterLock lock) {
  auto connection = std::make_unique<Connection>();
  connection->path = path.string();
  connection->lock = std::move(lock);
  CRIBLE_TRY(connection->database,
             SqliteConnection::open(path, SqliteConnection::Mode::kReadWrite));
  CRIBLE_RETURN_IF_ERROR(check_identity(connection->database, connection->path));
  CRIBLE_TRY(const std::string stored, stored_spec(connection->database, connection->path));
  if (stored != spec_text) {
    return fail(ErrorCode::kInvalidArgument,
                "{} was recorded with another spec (first difference in line {}); resume with the spec "
                "it began with, or name another store",
                connection->path, first_difference_line(stored, spec_text));
  }
  CRIBLE_RETURN_IF_ERROR(
      connection->database.execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                                   "PRAGMA foreign_keys=ON"));
  CRIBLE_RETURN_IF_ERROR(bring_up_to_date(connection->database));
  connection->appending = true;
  return connection;
}

Store::Connection::~Connection() {
  if (!appending) return;
  // Refused while a reader is there, who keeps the log in use: the next writer will do it.
  const Status plain = database.execute("PRAGMA busy_timeout=0; PRAGMA journal_mode=DELETE");
  if (!plain) log_debug("{} keeps its write-ahead log: {}", path, plain.error().message);
}

namespace {

Status append_requests(SqliteConnection& database, int64_t trial,
                       const std::vector<RequestRecord>& requests) {
  CRIBLE_TRY(SqliteStatement insert,
             database.prepare("INSERT INTO request VALUES(NULL,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,"
                              "?,?,?)"));
  for (const RequestRecord& r : requests) {
    CRIBLE_RETURN_IF_ERROR(insert.bind(trial)
                               .bind(r.index)
                               .bind(to_string(r.role))
                               .bind(r.pair_id)
                               .bind(r.turn)
                               .bind(r.stream)
                               .bind(r.level)
                               .bind(r.scheduled_ns)
                               .bind(r.actual_send_ns)
                               .bind(r.first_token_ns)
                               .bind(r.first_output_ns)
                               .bind(r.last_token_ns)
                               .bind(r.end_ns)
                               .bind_blob(encode_gaps(r.token_gaps_ns))
                               .bind(to_string(r.status))
                               .bind(r.http_code)
                               .bind(r.error)
                               .bind(r.finish_reason)
                               .bind(r.prompt_tokens)
                               .bind(r.output_tokens)
                               .bind(r.cached_tokens)
                               .run());
  }
  return {};
}

Status append_memory(SqliteConnection& database, int64_t trial,
                     const std::vector<MemorySample>& samples) {
  CRIBLE_TRY(SqliteStatement insert,
             database.prepare("INSERT INTO memory_sample VALUES(NULL,?,?,?,?,?)"));
  for (const MemorySample& sample : samples) {
    CRIBLE_RETURN_IF_ERROR(insert.bind(trial)
                               .bind(sample.at_ns)
                               .bind(sample.device_used_bytes)
                               .bind(sample.device_total_bytes)
                               .bind(sample.server_resident_bytes)
                               .run());
  }
  return {};
}

Status append_gpu(SqliteConnection& database, int64_t trial, const std::vector<GpuSample>& samples) {
  if (samples.empty()) return {};
  CRIBLE_TRY(SqliteStatement insert,
             database.prepare("INSERT INTO gpu_sample VALUES(NULL,?,?,?,?,?,?,?,?,?,?,?,?)"));
  for (const GpuSample& sample : samples) {
    CRIBLE_RETURN_IF_ERROR(insert.bind(trial)
                               .bind(sample.at_ns)
                               .bind(sample.gpu)
                               .bind(sample.memory_used_bytes)
                               .bind(sample.memory_total_bytes)
                               .bind(sample.utilization_percent)
                               .bind(sample.power_mw)
                               .bind(sample.energy_mj)
                               .bind(sample.temperature_c)
                               .bind(sample.sm_clock_mhz)
                               .bind(sample.memory_clock_mhz)
                               .bind(sample.throttle_reasons)
                               .run());
  }
  return {};
}

}  // namespace

Store::Store(std::unique_ptr<Connection> connection) : connection_(std::move(connection)) {}
Store::Store(Store&&) noexcept = default;
Store& Store::operator=(Store&&) noexcept = default;
Store::~Store() = default;

Result<Store> Store::create(const std::filesystem::path& path, const std::string& spec_text,
                            const std::string& spec_source, const MachineRecord& machine,
                            const ModelRecord& model) {
  CRIBLE_TRY(WriterLock lock, WriterLock::acquire(path));
  // Written whole under another name, then linked: a kill in between leaves no half store, and
  // link() refuses to replace what is there.
  const std::filesystem::path fresh = path.string() + ".new";
  remove_leftovers(fresh);
  Status written = write_new(fresh, spec_text, spec_source, machine, model);
  if (written && ::link(fresh.c_str(), path.c_str()) != 0) {
    written = errno == EEXIST
                  ? Status(fail(ErrorCode::kInvalidArgument,
                                "{} is there already, and a study's record is never overwritten; resume "
                                "it, or name another store",
                                path.string()))
                  : Status(fail(ErrorCode::kIo, "cannot create {}: {}", path.string(),
                                std::strerror(errno)));
  }
  remove_leftovers(fresh);
  CRIBLE_RETURN_IF_ERROR(written);
  CRIBLE_TRY(auto connection, Connection::open_writable(path, spec_text, std::move(lock)));
  return Store(std::move(connection));
}

Result<Store> Store::open(const std::filesystem::path& path, const std::string& spec_text) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    return fail(ErrorCode::kNotFound, "there is no store {}; run the study first", path.string());
  }
  CRIBLE_TRY(WriterLock lock, WriterLock::acquire(path));
  CRIBLE_TRY(auto connection, Connection::open_writable(path, spec_text, std::move(lock)));
  return Store(std::move(connection));
}

Result<Store> Store::open_read_only(const std::filesystem::path& path) {
  auto connection = std::make_unique<Connection>();
  connection->path = path.string();
  CRIBLE_TRY(connection->database, SqliteConnection::open(path, SqliteConnection::Mode::kReadOnly));
  CRIBLE_RETURN_IF_ERROR(check_identity(connection->database, connection->path));
  return Store(std::move(connection));
}

Status Store::append_trial(const TrialRecord& trial) {
  SqliteConnection& database = connection_->database;
  return database.transaction([&]() -> Status {
    CRIBLE_TRY(SqliteStatement insert,
               database.prepare("INSERT INTO trial VALUES(NULL,?,?,?,?,?,?,?,?,?,?,?,?)"));
    CRIBLE_RETURN_IF_ERROR(insert.bind(trial.id)
                               .bind(trial.scenario)
                               .bind(trial.configuration)
                               .bind(trial.block)
                               .bind(trial.order_in_block)
                               .bind(trial.launch_id)
                               .bind(trial.start_wall_time)
                               .bind(trial.duration_ns)
                               .bind(encode_counters(trial.counters_before))
                               .bind(encode_counters(trial.counters_after))
                               .bind(static_cast<int64_t>(trial.validity.valid))
                               .bind(encode_texts(trial.validity.reasons))
                               .run());
    const int64_t id = database.last_insert_id();
    CRIBLE_RETURN_IF_ERROR(append_requests(database, id, trial.requests));
    CRIBLE_RETURN_IF_ERROR(append_memory(database, id, trial.memory));
    return append_gpu(database, id, trial.gpu);
  });
}

Status Store::append_launch(const LaunchRecord& launch) {
  SqliteConnection& database = connection_->database;
  return database.transaction([&]() -> Status {
    CRIBLE_TRY(SqliteStatement insert,
               database.prepare("INSERT INTO launch VALUES(NULL,?,?,?,?,?,?,?,?,?,?,?,?)"));
    return insert.bind(launch.id)
        .bind(launch.configuration)
        .bind(launch.block)
        .bind(launch.start_wall_time)
        .bind(launch.requested_json)
        .bind(launch.resolved_json)
        .bind(launch.effective_json)
        .bind(encode_adjustments(launch.adjustments))
        .bind(encode_texts(launch.command_line))
        .bind(launch.boot_ms)
        .bind(launch.reconfigure_ms)
        .bind(launch.log_path)
        .run();
  });
}

Status Store::append_failure(const FailureRecord& failure) {
  SqliteConnection& database = connection_->database;
  return database.transaction([&]() -> Status {
    CRIBLE_TRY(SqliteStatement insert,
               database.prepare("INSERT INTO failure VALUES(NULL,?,?,?,?,?,?,?,?)"));
    return insert.bind(failure.configuration)
        .bind(failure.trial_id)
        .bind(failure.launch_id)
        .bind(to_string(failure.cause))
        .bind(to_string(failure.phase))
        .bind(failure.wall_time)
        .bind(failure.message)
        .bind(encode_texts(failure.evidence))
        .run();
  });
}

Status Store::append_event(const StudyEvent& event) {
  SqliteConnection& database = connection_->database;
  return database.transaction([&]() -> Status {
    CRIBLE_TRY(SqliteStatement insert, database.prepare("INSERT INTO event VALUES(NULL,?,?,?)"));
    return insert.bind(event.kind).bind(event.wall_time).bind(event.detail).run();
  });
}

Result<std::set<std::string>> Store::completed_trials() const {
  CRIBLE_TRY(SqliteStatement select, connection_->database.prepare("SELECT id FROM trial"));
  std::set<std::string> ids;
  while (true) {
    CRIBLE_TRY(const bool row, select.step());
    if (!row) return ids;
    ids.insert(select.text(0));
  }
}

Status Store::limit_pages(int64_t pages) {
  return connection_->database.execute(fmt::format("PRAGMA max_page_count={}", pages));
}

}  // namespace crible::study
