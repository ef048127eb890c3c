#include "text/json_member.h"

namespace crible {
namespace {

tl::unexpected<Error> wrong_type(std::string_view where, std::string_view name, const char* expected,
                                 const nlohmann::json& found) {
  return fail(ErrorCode::kCorrupt, "{}: \"{}\" is of type {}, expected {}", where, name, found.type_name(),
              expected);
}

}  // namespace

nlohmann::json parse_file_json(std::string_view text) {
  // The parser takes this byte for the end of the text and would not see what follows.
  if (text.find('\0') != std::string_view::npos) return nlohmann::json(nlohmann::json::value_t::discarded);
  return nlohmann::json::parse(text, nullptr, false);
}

const nlohmann::json* find_member(const nlohmann::json& object, std::string_view name) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

Result<std::optional<std::string>> read_string(const nlohmann::json& object, std::string_view name,
                                               std::string_view where) {
  const nlohmann::json* member = find_member(object, name);
  if (member == nullptr) return std::optional<std::string>();
  if (!member->is_string()) return wrong_type(where, name, "a string", *member);
  return std::optional<std::string>(member->get<std::string>());
}

Result<std::optional<bool>> read_flag(const nlohmann::json& object, std::string_view name,
                                      std::string_view where) {
  const nlohmann::json* member = find_member(object, name);
  if (member == nullptr) return std::optional<bool>();
  if (!member->is_boolean()) return wrong_type(where, name, "true or false", *member);
  return std::optional<bool>(member->get<bool>());
}

Result<std::optional<int64_t>> read_integer(const nlohmann::json& object, std::string_view name,
                                            std::string_view where) {
  const nlohmann::json* member = find_member(object, name);
  if (member == nullptr) return std::optional<int64_t>();
  // An unsigned value that fits is stored as unsigned and converts.
  const bool fits = member->is_number_integer() &&
                    (!member->is_number_unsigned() || member->get<uint64_t>() <= uint64_t{INT64_MAX});
  if (!fits) return wrong_type(where, name, "an integer", *member);
  return std::optional<int64_t>(member->get<int64_t>());
}

Result<const nlohmann::json*> read_array(const nlohmann::json& object, std::string_view name,
                                         std::string_view where) {
  const nlohmann::json* member = find_member(object, name);
  if (member == nullptr) return nullptr;
  if (!member->is_array()) return wrong_type(where, name, "an array", *member);
  return member;
}

}  // namespace crible
