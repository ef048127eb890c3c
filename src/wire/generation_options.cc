#include "wire/generation_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

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

// {"50256": -100}: keys are token ids.
void read_logit_bias(FieldReader& fields, std::vector<std::pair<TokenId, double>>& bias) {
  const Json* value = fields.take("logit_bias");
  if (value == nullptr) return;
  if (!value->is_object() || value->size() > kMaxBiasedTokens) {
    return fields.fail("logit_bias", fmt::format("must be an object of at most {} token ids and numbers, not {}",
                                                 kMaxBiasedTokens, quoted_json(*value)));
  }
  for (const auto& [key, item] : value->items()) {
    TokenId id = -1;
    const auto [end, code] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (code != std::errc() || end != key.data() + key.size() || id < 0) {
      return fields.fail("logit_bias", fmt::format("has the key {}, which is no token id", quoted_json(Json(key))));
    }
    if (!item.is_number() || std::abs(item.get<double>()) > 100) {
      return fields.fail("logit_bias", fmt::format("of token {} must be a number from -100 to 100, not {}", id,
                                                   quoted_json(item)));
    }
    const bool twice = std::any_of(bias.begin(), bias.end(), [id = id](const auto& b) { return b.first == id; });
    if (twice) return fields.fail("logit_bias", fmt::format("names token {} twice", id));
    bias.emplace_back(id, item.get<double>());
  }
}

void read_dry(FieldReader& fields, GenerationOptions& options) {
  options.dry_multiplier = fields.number("dry_multiplier", options.dry_multiplier, 0, 100);
  options.dry_base = fields.number("dry_base", options.dry_base, 1, 100);
  options.dry_allowed_length =
      fields.integer("dry_allowed_length", 1, INT32_MAX).value_or(options.dry_allowed_length);
  options.dry_penalty_last_n =
      fields.integer("dry_penalty_last_n", -1, INT32_MAX).value_or(options.dry_penalty_last_n);
  const Json* value = fields.take("dry_sequence_breakers");
  if (value == nullptr) return;
  options.dry_sequence_breakers.clear();
  bool strings = value->is_array() && value->size() <= kMaxSequenceBreakers;
  for (size_t i = 0; strings && i < value->size(); ++i) {
    const Json& item = (*value)[i];
    strings = item.is_string() && !item.get_ref<const std::string&>().empty();
    if (strings) options.dry_sequence_breakers.push_back(item.get<std::string>());
  }
  if (strings) return;
  fields.fail("dry_sequence_breakers", fmt::format("must be an array of at most {} strings, none empty, not {}",
                                                   kMaxSequenceBreakers, quoted_json(*value)));
}

void read_penalties(FieldReader& fields, GenerationOptions& options) {
  options.min_p = fields.number("min_p", 0, 0, 1);
  options.typical_p = fields.number("typical_p", 1, 0, 1);
  if (options.typical_p == 0) fields.fail("typical_p", "must be above 0 and at most 1");
  options.repetition_penalty = fields.number("repetition_penalty", 1, 0.01, 100);
  options.presence_penalty = fields.number("presence_penalty", 0, -2, 2);
  options.frequency_penalty = fields.number("frequency_penalty", 0, -2, 2);
  read_dry(fields, options);
  read_logit_bias(fields, options.logit_bias);
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

// Output and constraints that this server does not offer yet.
void read_neutral_fields(FieldReader& fields) {
  fields.neutral("length_penalty", {1});
  fields.neutral("use_beam_search", {false});
  fields.neutral("bad_words", {Json::array()});
  fields.neutral("allowed_token_ids", {});
  fields.neutral("truncate_prompt_tokens", {});
  fields.neutral("spaces_between_special_tokens", {true});
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
  read_penalties(fields, options);
  options.n = fields.integer("n", 1, kMaxAnswers).value_or(1);
  options.best_of = options.n;
  options.max_tokens = fields.integer("max_tokens", 0, INT32_MAX);
  options.min_tokens = fields.integer("min_tokens", 0, INT32_MAX).value_or(0);
  read_stop(fields, options.stop);
  if (const Json* ids = fields.take("stop_token_ids")) {
    options.stop_token_ids = read_token_ids(fields, "stop_token_ids", *ids);
  }
  options.include_stop_in_output = fields.flag("include_stop_str_in_output", false);
  options.ignore_eos = fields.flag("ignore_eos", false);
  options.skip_special_tokens = fields.flag("skip_special_tokens", true);
  options.prompt_logprobs = fields.integer("prompt_logprobs", 0, kMaxListedLogprobs);
  options.return_token_ids = fields.flag("return_token_ids", false);
  options.tokens_as_ids = fields.flag("return_tokens_as_token_ids", false);
  options.priority = fields.integer("priority", INT32_MIN, INT32_MAX).value_or(0);
  options.cache_salt = fields.text("cache_salt");
  options.timeout_seconds = fields.number("timeout", 0, 0, 86'400);
  options.stream = fields.flag("stream", false);
  read_stream_options(fields, options);
  read_neutral_fields(fields);
  ignore_labels(fields);
  return options;
}

void check_generation_options(FieldReader& fields, const GenerationOptions& options) {
  if (options.max_tokens == 0 && !options.echo) {
    fields.fail("max_tokens", "must be at least 1; 0 is allowed with \"echo\": true only");
  }
  if (options.max_tokens > 0 && options.min_tokens > *options.max_tokens) {
    fields.fail("min_tokens", fmt::format("is {}, more than max_tokens, {}", options.min_tokens, *options.max_tokens));
  }
  if (options.best_of < options.n) {
    fields.fail("best_of", fmt::format("is {}; it must be at least n, {}", options.best_of, options.n));
  }
  if (!options.stream) return;
  if (options.best_of > options.n) {
    fields.fail("best_of", "must equal n in a stream: which answers are best shows only at their end");
  }
  if (options.prompt_logprobs) fields.fail("prompt_logprobs", "is only sent without \"stream\": true");
}

}  // namespace crible
