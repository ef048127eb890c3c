#include "study/record/sqlite_connection.h"

#include <sqlite3.h>

#include "base/check.h"

namespace crible::study {
namespace {

// How long a writer waits for a reader's lock before it gives up.
constexpr int kBusyTimeoutMs = 5000;

tl::unexpected<Error> sqlite_error(sqlite3* database, int code, const std::string& path) {
  const std::string detail = database ? sqlite3_errmsg(database) : sqlite3_errstr(code);
  switch (code & 0xff) {
    case SQLITE_FULL:
      return fail(ErrorCode::kResourceExhausted,
                  "no space left to write {} ({}); free some disk space, then resume the study", path,
                  detail);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return fail(ErrorCode::kUnavailable,
                  "{} is in use by another process ({}); wait for it to end", path, detail);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return fail(ErrorCode::kCorrupt, "{} is not a study's store, or is damaged ({})", path, detail);
    case SQLITE_CANTOPEN:
      return fail(ErrorCode::kNotFound, "cannot open {} ({}); check the path and its permissions",
                  path, detail);
    case SQLITE_READONLY:
      return fail(ErrorCode::kIo, "{} cannot be written ({}); check its permissions", path, detail);
    case SQLITE_CONSTRAINT:
      return fail(ErrorCode::kInvalidArgument, "{} already holds this record ({})", path, detail);
    default:
      return fail(ErrorCode::kIo, "cannot read or write {} ({}, code {})", path, detail, code);
  }
}

}  // namespace

void SqliteStatement::Finalizer::operator()(sqlite3_stmt* statement) const {
  sqlite3_finalize(statement);
}

SqliteStatement& SqliteStatement::bind(int64_t value) {
  const int code = sqlite3_bind_int64(statement_.get(), next_parameter_++, value);
  CHECK(code == SQLITE_OK, "parameter {}", next_parameter_ - 1);
  return *this;
}

SqliteStatement& SqliteStatement::bind(double value) {
  const int code = sqlite3_bind_double(statement_.get(), next_parameter_++, value);
  CHECK(code == SQLITE_OK, "parameter {}", next_parameter_ - 1);
  return *this;
}

SqliteStatement& SqliteStatement::bind(std::string_view text) {
  const int code = sqlite3_bind_text64(statement_.get(), next_parameter_++, text.data(), text.size(),
                                       SQLITE_TRANSIENT, SQLITE_UTF8);
  CHECK(code == SQLITE_OK, "parameter {}", next_parameter_ - 1);
  return *this;
}

SqliteStatement& SqliteStatement::bind_blob(std::string_view bytes) {
  const int code = sqlite3_bind_blob64(statement_.get(), next_parameter_++, bytes.data(),
                                       bytes.size(), SQLITE_TRANSIENT);
  CHECK(code == SQLITE_OK, "parameter {}", next_parameter_ - 1);
  return *this;
}

SqliteStatement& SqliteStatement::bind_null() {
  const int code = sqlite3_bind_null(statement_.get(), next_parameter_++);
  CHECK(code == SQLITE_OK, "parameter {}", next_parameter_ - 1);
  return *this;
}

Result<bool> SqliteStatement::step() {
  const int code = sqlite3_step(statement_.get());
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return sqlite_error(sqlite3_db_handle(statement_.get()), code, path_);
}

Status SqliteStatement::run() {
  const Result<bool> stepped = step();
  reset();
  if (!stepped) return tl::unexpected<Error>(stepped.error());
  return {};
}

void SqliteStatement::reset() {
  // Repeats the error that step() has already returned.
  sqlite3_reset(statement_.get());
  next_parameter_ = 1;
}

bool SqliteStatement::is_null(int column) const {
  return sqlite3_column_type(statement_.get(), column) == SQLITE_NULL;
}

int64_t SqliteStatement::integer(int column) const {
  return sqlite3_column_int64(statement_.get(), column);
}

double SqliteStatement::number(int column) const {
  return sqlite3_column_double(statement_.get(), column);
}

std::string SqliteStatement::text(int column) const {
  const void* bytes = sqlite3_column_blob(statement_.get(), column);
  const auto size = static_cast<size_t>(sqlite3_column_bytes(statement_.get(), column));
  return bytes ? std::string(static_cast<const char*>(bytes), size) : std::string();
}

std::optional<int64_t> SqliteStatement::optional_integer(int column) const {
  return is_null(column) ? std::nullopt : std::optional(integer(column));
}

std::optional<double> SqliteStatement::optional_number(int column) const {
  return is_null(column) ? std::nullopt : std::optional(number(column));
}

void SqliteConnection::Closer::operator()(sqlite3* database) const { sqlite3_close_v2(database); }

Result<SqliteConnection> SqliteConnection::open(const std::filesystem::path& path, Mode mode) {
  const int flags = mode == Mode::kReadOnly    ? SQLITE_OPEN_READONLY
                    : mode == Mode::kReadWrite ? SQLITE_OPEN_READWRITE
                                               : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  SqliteConnection connection;
  connection.path_ = path.string();
  sqlite3* database = nullptr;
  const int code = sqlite3_open_v2(connection.path_.c_str(), &database,
                                   flags | SQLITE_OPEN_EXRESCODE, nullptr);
  connection.database_.reset(database);
  if (code != SQLITE_OK) return sqlite_error(database, code, connection.path_);
  sqlite3_busy_timeout(database, kBusyTimeoutMs);
  return connection;
}

Status SqliteConnection::execute(const std::string& sql) {
  const int code = sqlite3_exec(database_.get(), sql.c_str(), nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return sqlite_error(database_.get(), code, path_);
  return {};
}

Result<SqliteStatement> SqliteConnection::prepare(std::string_view sql) {
  sqlite3_stmt* raw = nullptr;
  const int code = sqlite3_prepare_v2(database_.get(), sql.data(), static_cast<int>(sql.size()), &raw,
                                      nullptr);
  if (code != SQLITE_OK) return sqlite_error(database_.get(), code, path_);
  SqliteStatement statement;
  statement.statement_.reset(raw);
  statement.path_ = path_;
  return statement;
}

Result<int64_t> SqliteConnection::query_integer(std::string_view sql) {
  CRIBLE_TRY(SqliteStatement statement, prepare(sql));
  CRIBLE_TRY(const bool row, statement.step());
  return row ? statement.integer(0) : 0;
}

int64_t SqliteConnection::last_insert_id() const {
  return sqlite3_last_insert_rowid(database_.get());
}

void SqliteConnection::roll_back() {
  // SQLite has already rolled back by itself after some errors (disk full).
  if (sqlite3_get_autocommit(database_.get()) == 0) {
    sqlite3_exec(database_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
  }
}

}  // namespace crible::study
