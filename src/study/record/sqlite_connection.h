// A SQLite connection and its statements, with errors as Result. Knows nothing of studies.
// A connection and its statements belong to one thread; statements must not outlive it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace crible::study {

class SqliteStatement {
 public:
  // Parameters are bound in order, starting over after each reset().
  SqliteStatement& bind(int64_t value);
  SqliteStatement& bind(int value) { return bind(static_cast<int64_t>(value)); }
  SqliteStatement& bind(double value);
  SqliteStatement& bind(std::string_view text);
  SqliteStatement& bind_blob(std::string_view bytes);
  template <typename T>
  SqliteStatement& bind(const std::optional<T>& value) {
    return value ? bind(*value) : bind_null();
  }

  // True when a row is there to read, false at the end.
  Result<bool> step();
  // For statements without rows: step, then reset.
  Status run();
  void reset();

  bool is_null(int column) const;
  int64_t integer(int column) const;
  double number(int column) const;
  std::string text(int column) const;  // also a blob's bytes
  std::optional<int64_t> optional_integer(int column) const;
  std::optional<double> optional_number(int column) const;

 private:
  friend class SqliteConnection;
  struct Finalizer {
    void operator()(sqlite3_stmt* statement) const;
  };
  SqliteStatement& bind_null();
  std::unique_ptr<sqlite3_stmt, Finalizer> statement_;
  std::string path_;  // of the database, for messages
  int next_parameter_ = 1;
};

class SqliteConnection {
 public:
  enum class Mode { kCreate, kReadWrite, kReadOnly };
  static Result<SqliteConnection> open(const std::filesystem::path& path, Mode mode);

  Status execute(const std::string& sql);
  Result<SqliteStatement> prepare(std::string_view sql);
  Result<int64_t> query_integer(std::string_view sql);
  // Runs `body` (a callable returning Status) in an immediate transaction; commits if it returns
  // ok, else rolls back and returns its error.
  template <typename Body>
  Status transaction(Body&& body) {
    CRIBLE_RETURN_IF_ERROR(execute("BEGIN IMMEDIATE"));
    Status status = body();
    if (status) status = execute("COMMIT");
    if (!status) roll_back();
    return status;
  }
  int64_t last_insert_id() const;

 private:
  struct Closer {
    void operator()(sqlite3* database) const;
  };
  void roll_back();
  std::unique_ptr<sqlite3, Closer> database_;
  std::string path_;
};

}  // namespace crible::study
