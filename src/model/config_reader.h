// Reads ConfigKeys with the ranges that this build takes; every error says what the file states under
// which of its own names.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/config_keys.h"

namespace crible {

class ConfigReader {
 public:
  // The keys must outlive the reader.
  explicit ConfigReader(const ConfigKeys& keys) : keys_(keys) {}

  const std::string& path() const { return keys_.path(); }
  std::string spelling(std::string_view key) const { return keys_.spelling(key); }
  bool has(std::string_view key) const { return keys_.has(key); }
  bool has_list(std::string_view key) const;

  Result<int64_t> integer(std::string_view key, int64_t minimum, int64_t maximum) const;
  Result<double> positive(std::string_view key) const;
  Result<std::string> text(std::string_view key) const { return keys_.text(key); }
  // A list of `count`.
  Result<std::vector<bool>> booleans(std::string_view key, int64_t count) const;

  // `absent` where the file says nothing.
  Result<int64_t> integer_or(std::string_view key, int64_t absent, int64_t minimum, int64_t maximum) const;
  Result<double> positive_or(std::string_view key, double absent) const;
  Result<bool> boolean_or(std::string_view key, bool absent) const;

  // An error if the file states another number than the one that this build computes with.
  Status require(std::string_view key, double value) const;
  // An error that names the first key in neither list.
  Status check_all_known(std::span<const std::string_view> known, std::span<const std::string_view> more) const;

 private:
  const ConfigKeys& keys_;
};

}  // namespace crible
