#include "wire/generation_options.h"

#include <fmt/format.h>

namespace crible {
namespace {

void read_stop(FieldReader& fields, std::vector<std::string>& stop) {
  const Json* value = fields.take("stop");
  if (value == nullptr) return;
  const Json list = value->is_array() ? *value : Json::array({*value});
  if (list.size() > kMaxStopStrings) {
    return fields.fail("stop", fmt::format("holds {} strings; at most {} are taken", list.size(), kMaxStopStrings));
  }
  for (const Json& item : list) {
    if (!item.is_string()) {
      return fields.fail("stop", fmt::format("must be a string or a list of strings, not {}", quoted_json(*value)));
    }
    auto text = item.get<std::string>();
    if (text.empty() || text.size() > kMaxStopStringBytes) {
      return fields.fail("stop", fmt::format("holds a string of {} bytes; each must have from 1 to {}", text.size(),
                                             kMaxStopStringBytes));
    }
    stop.push_back(std::move(text));
  }
}

void read_stream_options(FieldReader& fields, GenerationOptions& options) {
  const Json* value = fields.take("stream_options");
  if (value == nullptr) return;
  if (!options.stream) {
    return fields.fail("stream_options", "is only allowed with \"stream\": true");
  }
  FieldReader inner(*value, "stream_options.");
  options.include_usage = inner.flag("include_usage", false);
  inner.neutral("continuous_usage_stats", {false});
  inner.ignore("include_obfuscation");
  if (auto read = inner.finish(); !read) fields.fail(read.error());
}

// Sampling and output that this server does not offer yet.
void read_neutral_fields(FieldReader& fields) {
  fields.neutral("n", {1});
  fields.neutral("presence_penalty", {0});
  fields.neutral("frequency_penalty", {0});
  fields.neutral("repetition_penalty", {1});
  fields.neutral("length_penalty", {1});
  fields.neutral("min_p", {0});
  fields.neutral("min_tokens", {0});
  fields.neutral("logit_bias", {Json::object()});
  fields.neutral("use_beam_search", {false});
  fields.neutral("prompt_logprobs", {});
  fields.neutral("bad_words", {Json::array()});
  fields.neutral("allowed_token_ids", {});
  fields.neutral("truncate_prompt_tokens", {});
  fields.neutral("spaces_between_special_tokens", {true});
  fields.neutral("return_tokens_as_token_ids", {false});
  fields.neutral("return_token_ids", {false});
  fields.neutral("priority", {0});
  fields.neutral("logits_processors", {});
  fields.neutral("structured_outputs", {});
  for (const std::string_view name : {"guided_json", "guided_regex", "guided_choice", "guided_grammar",
                                      "guided_decoding_backend", "guided_whitespace_pattern"}) {
    fields.neutral(name, {});
  }
  fields.neutral("kv_transfer_params", {});
  fields.neutral("vllm_xargs", {});
  fields.neutral("response_format", {Json{{"type", "text"}}});
}

// Labels and hints of the caller, which change no result.
void ignore_labels(FieldReader& fields) {
  for (const std::string_view name : {"user", "metadata", "store", "service_tier", "safety_identifier",
                                      "prompt_cache_key", "prompt_cache_retention", "request_id"}) {
    fields.ignore(name);
  }
}

}  // namespace

std::vector<TokenId> read_token_ids(FieldReader& fields, std::string_view name, const Json& array) {
  std::vector<TokenId> ids;
  if (!array.is_array()) {
    fields.fail(name, fmt::format("must be an array of token ids, not {}", quoted_json(array)));
    return ids;
  }
  ids.reserve(array.size());
  for (const Json& item : array) {
    const bool id = item.is_number_unsigned() && item.get<uint64_t>() <= static_cast<uint64_t>(INT32_MAX);
    if (!id) {
      fields.fail(name, fmt::format("must hold token ids, not {}", quoted_json(item)));
      return {};
    }
    ids.push_back(item.get<TokenId>());
  }
  return ids;
}

GenerationOptions read_generation_options(FieldReader& fields) {
  GenerationOptions options;
  options.model = fields.text("model");
  options.temperature = fields.number("temperature", 1.0, 0, 100);
  options.top_p = fields.number("top_p", 1.0, 0, 1);
  if (options.top_p == 0) fields.fail("top_p", "must be above 0 and at most 1");
  options.top_k = std::max<int64_t>(0, fields.integer("top_k", -1, INT32_MAX).value_or(0));
  if (const auto seed = fields.integer("seed", INT64_MIN, INT64_MAX)) options.seed = static_cast<uint64_t>(*seed);
  options.max_tokens = fields.integer("max_tokens", 1, INT32_MAX);
  read_stop(fields, options.stop);
  if (const Json* ids = fields.take("stop_token_ids")) {
    options.stop_token_ids = read_token_ids(fields, "stop_token_ids", *ids);
  }
  options.include_stop_in_output = fields.flag("include_stop_str_in_output", false);
  options.ignore_eos = fields.flag("ignore_eos", false);
  options.skip_special_tokens = fields.flag("skip_special_tokens", true);
  options.cache_salt = fields.text("cache_salt");
  options.stream = fields.flag("stream", false);
  read_stream_options(fields, options);
  read_neutral_fields(fields);
  ignore_labels(fields);
  return options;
}

}  // namespace crible
