// A model's configuration as typed keys, spelt as GGUF spells them behind the architecture's name
// ("block_count", "attention.head_count_kv"), whatever file they came from: a GGUF's keys, or a
// config.json whose settings hf_config.h translated. Says how the file spells each, for messages.
// Immutable once filled.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "format/gguf.h"

namespace crible {

using ConfigValue = std::variant<bool, int64_t, double, std::string, std::vector<bool>, std::vector<int64_t>,
                                 std::vector<double>, std::vector<std::string>>;

class ConfigKeys {
 public:
  struct Entry {
    ConfigValue value;
    std::string spelling;  // in the file: "llama.block_count", "num_hidden_layers"
  };

  // Keys under general.architecture's prefix.
  static Result<ConfigKeys> from_gguf(const GgufFile& file);
  ConfigKeys(std::string path, std::string architecture)
      : path_(std::move(path)), architecture_(std::move(architecture)) {}
  void set(const std::string& key, ConfigValue value, std::string spelling) {
    entries_[key] = {std::move(value), std::move(spelling)};
  }

  const std::string& path() const { return path_; }                  // of the file, for messages
  const std::string& architecture() const { return architecture_; }  // "llama", as GGUF names it
  const std::map<std::string, Entry, std::less<>>& entries() const { return entries_; }
  bool has(std::string_view key) const { return entries_.contains(key); }
  // The file's own name of the key; of one that it lacks, the canonical name.
  std::string spelling(std::string_view key) const;

  // kNotFound when absent, kCorrupt when of another type. number() also takes integers, integers()
  // also a single one (one value for all layers).
  Result<int64_t> integer(std::string_view key) const;
  Result<double> number(std::string_view key) const;
  Result<bool> boolean(std::string_view key) const;
  Result<std::string> text(std::string_view key) const;
  Result<std::vector<int64_t>> integers(std::string_view key) const;
  Result<std::vector<double>> numbers(std::string_view key) const;
  Result<std::vector<bool>> booleans(std::string_view key) const;

 private:
  Result<const ConfigValue*> find(std::string_view key) const;
  template <typename T>
  Result<T> get(std::string_view key, const char* wanted) const;

  std::string path_;
  std::string architecture_;
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace crible
