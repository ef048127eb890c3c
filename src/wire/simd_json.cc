#include "wire/simd_json.h"

#include <simdjson.h>

#include <nlohmann/json.hpp>
#include <string>

namespace crible {
namespace {

using Json = nlohmann::ordered_json;
namespace dom = simdjson::dom;

Json to_json(const dom::element& element);

Json to_json(const dom::array& elements) {
  Json::array_t array;
  array.reserve(elements.size());
  for (const dom::element element : elements) {
    // Token ids, of which there may be many.
    if (element.type() == dom::element_type::INT64) {
      const int64_t value = int64_t(element);
      if (value >= 0) {
        array.emplace_back(static_cast<uint64_t>(value));
        continue;
      }
    }
    array.push_back(to_json(element));
  }
  return array;
}

Json to_json(const dom::object& members) {
  Json object = Json::object();
  // Of a name that occurs twice the last value stands, in the place of the first.
  for (const auto& [name, value] : members) object[std::string(name)] = to_json(value);
  return object;
}

Json to_json(const dom::element& element) {
  switch (element.type()) {
    case dom::element_type::ARRAY: return to_json(dom::array(element));
    case dom::element_type::OBJECT: return to_json(dom::object(element));
    case dom::element_type::INT64: {
      const int64_t value = int64_t(element);
      return value >= 0 ? Json(static_cast<uint64_t>(value)) : Json(value);
    }
    case dom::element_type::UINT64: return Json(uint64_t(element));
    case dom::element_type::DOUBLE: return Json(double(element));
    case dom::element_type::STRING: return Json(std::string(std::string_view(element)));
    case dom::element_type::BOOL: return Json(bool(element));
    case dom::element_type::NULL_VALUE: return Json(nullptr);
  }
  return Json(nullptr);
}

}  // namespace

std::optional<Json> parse_with_simd(std::string_view text) {
  dom::parser parser;
  dom::element root;
  if (parser.parse(text.data(), text.size()).get(root) != simdjson::SUCCESS) return std::nullopt;
  return to_json(root);
}

}  // namespace crible
