// The open database behind a Store, shared by the files that write (store.cc) and read
// (store_load.cc) it.
#pragma once

#include <memory>
#include <string>

#include "study/record/sqlite_connection.h"
#include "study/record/store.h"
#include "study/record/writer_lock.h"

namespace crible::study {

struct Store::Connection {
  // For appending: checks identity, version and spec, then turns on the write-ahead log.
  static Result<std::unique_ptr<Connection>> open_writable(const std::filesystem::path& path,
                                                           const std::string& spec_text,
                                                           WriterLock lock);
  // A store closed in order is left without write-ahead log: one plain file, which can be read
  // from a folder that cannot be written.
  ~Connection();

  WriterLock lock;  // first in, last out: freed after the database is closed
  SqliteConnection database;
  std::string path;
  bool appending = false;  // opened as ours, with the write-ahead log on
};

}  // namespace crible::study
