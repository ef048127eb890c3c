#include "wire/logprobs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "wire/json_text.h"

namespace crible {
namespace {

// JSON has no infinity: an impossible token's logarithm, as vLLM writes it.
constexpr float kImpossible = -9999.0f;

void append_number(std::string& out, float value) {
  if (std::isnan(value)) {
    out += "null";
  } else {
    fmt::format_to(std::back_inserter(out), "{}", std::max(value, kImpossible));
  }
}

// partial_prefix: before the bytes of a partial token.
void append_token(std::string& out, const ScoredToken& token, bool as_ids, std::string_view partial_prefix) {
  if (as_ids) {
    fmt::format_to(std::back_inserter(out), "\"token_id:{}\"", token.id);
  } else if (!token.partial) {
    append_json_string(out, token.bytes);
  } else {
    std::string escaped(partial_prefix);
    for (const char byte : token.bytes) {
      fmt::format_to(std::back_inserter(escaped), "\\x{:02x}", static_cast<unsigned char>(byte));
    }
    append_json_string(out, escaped);
  }
}

template <typename Append>
void append_list(std::string& out, size_t from, size_t to, Append append) {
  out += '[';
  for (size_t i = from; i < to; ++i) {
    if (i > from) out += ',';
    append(i);
  }
  out += ']';
}

constexpr std::string_view kCompletionPrefix = "bytes:";

void append_top_of_completion(std::string& out, const TokenScores& scores, size_t token, bool as_ids) {
  if (std::isnan(scores.own(token).logprob)) {
    out += "null";
    return;
  }
  out += '{';
  bool listed = false;
  const auto append = [&](const ScoredToken& scored) {
    if (out.back() != '{') out += ',';
    append_token(out, scored, as_ids, kCompletionPrefix);
    out += ':';
    append_number(out, scored.logprob);
  };
  for (size_t i = 0; i < scores.num_top(token); ++i) {
    append(scores.top(token)[i]);
    listed |= scores.top(token)[i].id == scores.own(token).id;
  }
  if (!listed) append(scores.own(token));
  out += '}';
}

void append_chat_token(std::string& out, const ScoredToken& scored, bool as_ids) {
  out += R"("token":)";
  append_token(out, scored, as_ids, "");
  out += R"(,"logprob":)";
  append_number(out, scored.logprob);
  out += R"(,"bytes":)";
  append_list(out, 0, scored.bytes.size(), [&](size_t i) {
    fmt::format_to(std::back_inserter(out), "{}", static_cast<unsigned char>(scored.bytes[i]));
  });
}

}  // namespace

void TokenScores::append(const TokenScores& other, size_t from, size_t to) {
  for (size_t token = from; token < to; ++token) {
    begin_token(other.text_offset(token));
    add(other.own(token));
    for (size_t i = 0; i < other.num_top(token); ++i) add(other.top(token)[i]);
  }
}

void TokenScores::clear() {
  tokens_.clear();
  scored_.clear();
}

void append_completion_logprobs(std::string& out, const TokenScores& scores, size_t from, size_t to, bool as_ids) {
  out += R"({"text_offset":)";
  append_list(out, from, to, [&](size_t i) { fmt::format_to(std::back_inserter(out), "{}", scores.text_offset(i)); });
  out += R"(,"token_logprobs":)";
  append_list(out, from, to, [&](size_t i) { append_number(out, scores.own(i).logprob); });
  out += R"(,"tokens":)";
  append_list(out, from, to, [&](size_t i) { append_token(out, scores.own(i), as_ids, kCompletionPrefix); });
  out += R"(,"top_logprobs":)";
  append_list(out, from, to, [&](size_t i) { append_top_of_completion(out, scores, i, as_ids); });
  out += '}';
}

void append_chat_logprobs(std::string& out, const TokenScores& scores, size_t from, size_t to, bool as_ids) {
  out += R"({"content":)";
  append_list(out, from, to, [&](size_t token) {
    out += '{';
    append_chat_token(out, scores.own(token), as_ids);
    out += R"(,"top_logprobs":)";
    append_list(out, 0, scores.num_top(token), [&](size_t i) {
      out += '{';
      append_chat_token(out, scores.top(token)[i], as_ids);
      out += '}';
    });
    out += '}';
  });
  out += R"(,"refusal":null})";
}

void append_logprobs(std::string& out, CompletionKind kind, const TokenScores& scores, size_t from, size_t to,
                     bool as_ids) {
  if (kind == CompletionKind::kChat) return append_chat_logprobs(out, scores, from, to, as_ids);
  append_completion_logprobs(out, scores, from, to, as_ids);
}

void append_prompt_logprobs(std::string& out, const TokenScores& scores) {
  append_list(out, 0, scores.size(), [&](size_t token) {
    if (std::isnan(scores.own(token).logprob)) {
      out += "null";
      return;
    }
    out += '{';
    const auto append = [&](const ScoredToken& scored) {
      if (out.back() != '{') out += ',';
      fmt::format_to(std::back_inserter(out), R"("{}":{{"logprob":)", scored.id);
      append_number(out, scored.logprob);
      fmt::format_to(std::back_inserter(out), R"(,"rank":{},"decoded_token":)", scored.rank);
      append_token(out, scored, false, "");
      out += '}';
    };
    append(scores.own(token));
    for (size_t i = 0; i < scores.num_top(token); ++i) {
      if (scores.top(token)[i].id != scores.own(token).id) append(scores.top(token)[i]);
    }
    out += '}';
  });
}

}  // namespace crible
