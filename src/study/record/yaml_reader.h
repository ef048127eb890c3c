// Reads a YAML document strictly: every complaint carries the source's name, line and column, and
// the nearest valid word. Wraps yaml-cpp, whose exceptions stay inside. Not for headers of the room:
// yaml-cpp is heavy.
#pragma once

#include <yaml-cpp/yaml.h>

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace crible::study {

class YamlReader {
 public:
  struct Entry {
    std::string key;
    YAML::Node key_node;  // for the place of complaints about the key
    YAML::Node value;
  };

  explicit YamlReader(std::string source_name) : source_name_(std::move(source_name)) {}

  Result<YAML::Node> parse(const std::string& text) const;

  // The entries of a mapping in their order. Fails on another kind of node, a key that is no
  // plain word, and a key given twice. An empty node is an empty mapping.
  Result<std::vector<Entry>> entries(const YAML::Node& node, std::string_view what) const;
  Result<std::vector<YAML::Node>> items(const YAML::Node& node, std::string_view what) const;
  Result<std::string> text(const YAML::Node& node, std::string_view what) const;
  Result<double> number(const YAML::Node& node, std::string_view what, double minimum,
                        double maximum) const;
  Result<int64_t> integer(const YAML::Node& node, std::string_view what, int64_t minimum,
                          int64_t maximum) const;

  // "agents.yaml:12:3: <message>"
  tl::unexpected<Error> error(const YAML::Node& node, const std::string& message) const;
  Error at(const YAML::Node& node, Error error) const;
  tl::unexpected<Error> unknown_key(const Entry& entry, std::string_view what,
                                    std::span<const std::string_view> known) const;

 private:
  std::string source_name_;
};

}  // namespace crible::study
