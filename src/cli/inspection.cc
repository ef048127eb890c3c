#include "cli/inspection.h"

#include <algorithm>
#include <array>
#include <map>

#include "base/units.h"
#include "format/gguf.h"
#include "ops/attention/attention.h"
#include "text/chat_template.h"
#include "text/text_model.h"

namespace crible {
namespace {

constexpr int64_t kBlockTokens = 16;
constexpr auto kCacheTypes = std::to_array<std::pair<const char*, DType>>(
    {{"f32", DType::kF32}, {"f16", DType::kF16}, {"bf16", DType::kBF16}, {"int8", DType::kI8}});
constexpr auto kTemplateFeatures = std::to_array<const char*>(
    {"tools", "documents", "enable_thinking", "reasoning_content", "tool_calls", "system_message",
     "add_generation_prompt", "strftime_now", "raise_exception"});

std::string tokenizer_kind(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) return "tokenizer.json";
  const auto file = GgufFile::open(path);
  if (!file) return "unknown";
  const auto model = file->get_string("tokenizer.ggml.model"), pre = file->get_string("tokenizer.ggml.pre");
  std::string kind(model ? *model : "unknown");
  return pre ? fmt::format("{} (pre-tokenizer {})", kind, *pre) : kind;
}

void add_text(const std::filesystem::path& path, Inspection& inspection) {
  const auto text = load_text_model(path);
  if (!text) {
    inspection.no_tokenizer = text.error().message;
    return;
  }
  const Tokenizer& tokenizer = *text->tokenizer;
  TokenizerFacts facts{.kind = tokenizer_kind(path), .vocabulary = tokenizer.vocabulary_size(),
                       .bos = text->bos_text, .eos = text->eos_text, .adds_bos = tokenizer.adds_bos()};
  for (const TokenId id : text->end_of_generation) facts.end_tokens.push_back(tokenizer.token_text(id));
  inspection.tokenizer = std::move(facts);
  if (text->chat_template == nullptr) return;
  TemplateFacts chat{.source = text->chat_template->source()};
  for (const char* feature : kTemplateFeatures) {
    if (text->chat_template->mentions(feature)) chat.features.emplace_back(feature);
  }
  inspection.chat_template = std::move(chat);
}

void add_tensors(const Checkpoint& checkpoint, Inspection& inspection) {
  std::map<std::string, TypeTotal> totals;
  for (const TensorSummary& tensor : checkpoint.tensors()) {
    TypeTotal& total = totals[tensor.type];
    total.type = tensor.type;
    total.tensors += 1;
    total.elements += tensor.elements;
    total.bytes += tensor.file_bytes;
    inspection.parameters += tensor.elements;
    inspection.file_bytes += tensor.file_bytes;
    inspection.weight_bytes += tensor.memory_bytes;
  }
  for (auto& [type, total] : totals) inspection.types.push_back(std::move(total));
  std::sort(inspection.types.begin(), inspection.types.end(),
            [](const TypeTotal& a, const TypeTotal& b) { return a.bytes > b.bytes; });
}

void add_memory(const std::vector<int64_t>& budgets, Inspection& inspection) {
  const ModelConfig& c = inspection.decoder.config;
  for (const auto& [name, dtype] : kCacheTypes) {
    inspection.kv.push_back(
        {name, c.layers * kv_cache_block_bytes(dtype, kBlockTokens, c.kv_heads, c.head_size) / kBlockTokens});
  }
  for (const int64_t budget : budgets) {
    BudgetFacts facts{.budget_bytes = budget};
    const int64_t left = std::max<int64_t>(0, budget - inspection.weight_bytes);
    for (const KvFacts& kv : inspection.kv) {
      const int64_t tokens = left / (kv.bytes_per_token * kBlockTokens) * kBlockTokens;
      facts.fits.push_back({.tokens = tokens, .sequences = tokens / round_up(c.context_length, kBlockTokens)});
    }
    inspection.budgets.push_back(std::move(facts));
  }
}

const char* rope_kind(const RopeConfig& rope) {
  switch (rope.scaling) {
    case RopeScaling::kNone: return "none";
    case RopeScaling::kLinear: return "linear";
    case RopeScaling::kLlama3: return "llama3";
    case RopeScaling::kYarn: return "yarn";
  }
  return "unknown";
}

int64_t windowed_layers(const ModelConfig& c) { return std::count(c.windowed.begin(), c.windowed.end(), true); }

}  // namespace

Result<Inspection> inspect_model(const std::filesystem::path& path, const std::vector<int64_t>& budgets) {
  CRIBLE_TRY(Stream stream, Stream::create_cpu(1));
  CRIBLE_TRY(const std::unique_ptr<Checkpoint> checkpoint, open_checkpoint(path, stream));
  Inspection inspection{.path = path.string()};
  CRIBLE_TRY(inspection.decoder, describe(*checkpoint));
  add_tensors(*checkpoint, inspection);
  add_text(path, inspection);
  add_memory(budgets, inspection);
  return inspection;
}

nlohmann::ordered_json to_json(const Inspection& i) {
  using json = nlohmann::ordered_json;
  const ModelConfig& c = i.decoder.config;
  json types = json::array(), kv = json::object(), budgets = json::array();
  for (const TypeTotal& t : i.types) {
    types.push_back({{"type", t.type}, {"tensors", t.tensors}, {"elements", t.elements}, {"bytes", t.bytes}});
  }
  for (const KvFacts& k : i.kv) kv[k.dtype] = k.bytes_per_token;
  for (const BudgetFacts& b : i.budgets) {
    json fits = json::object();
    for (size_t k = 0; k < b.fits.size(); ++k) {
      fits[i.kv[k].dtype] = {{"tokens", b.fits[k].tokens}, {"full_context_sequences", b.fits[k].sequences}};
    }
    budgets.push_back({{"budget_bytes", b.budget_bytes}, {"fits", fits}});
  }
  json tokenizer, chat;
  if (i.tokenizer) {
    tokenizer = {{"kind", i.tokenizer->kind}, {"vocabulary", i.tokenizer->vocabulary}, {"bos", i.tokenizer->bos},
                 {"eos", i.tokenizer->eos}, {"end_tokens", i.tokenizer->end_tokens},
                 {"adds_bos", i.tokenizer->adds_bos}};
  } else {
    tokenizer = {{"error", i.no_tokenizer}};
  }
  if (i.chat_template) chat = {{"features", i.chat_template->features}, {"source", i.chat_template->source}};
  return {{"path", i.path},
          {"architecture", c.architecture},
          {"parameters", i.parameters},
          {"file_bytes", i.file_bytes},
          {"weight_bytes", i.weight_bytes},
          {"context_length", c.context_length},
          {"vocabulary", c.vocabulary},
          {"layers", c.layers},
          {"embedding", c.embedding},
          {"feed_forward", c.feed_forward},
          {"heads", c.heads},
          {"kv_heads", c.kv_heads},
          {"head_size", c.head_size},
          {"experts", c.experts},
          {"experts_per_token", c.experts_per_token},
          {"sliding_window", c.window},
          {"layers_with_window", windowed_layers(c)},
          {"rope", {{"base", c.rope.base}, {"scaling", rope_kind(c.rope)}, {"factor", c.rope.factor}}},
          {"tensor_types", types},
          {"tokenizer", tokenizer},
          {"chat_template", chat},
          {"kv_bytes_per_token", kv},
          {"budgets", budgets}};
}

namespace {

void append_architecture(std::string& out, const Inspection& i) {
  const ModelConfig& c = i.decoder.config;
  out += fmt::format("{}\n", i.path);
  out += fmt::format("  {}, {:.1f} M parameters, {} in the files\n", c.architecture,
                     static_cast<double>(i.parameters) / 1e6, format_bytes(i.file_bytes));
  out += fmt::format("  context {} tokens, vocabulary {}\n", c.context_length, c.vocabulary);
  out += fmt::format("  {} layers of width {}, feed-forward {}, {} heads of {}, {} key-value heads\n", c.layers,
                     c.embedding, c.feed_forward, c.heads, c.head_size, c.kv_heads);
  if (c.experts > 0) {
    out += fmt::format("  {} experts of width {}, {} per token\n", c.experts, c.expert_feed_forward,
                       c.experts_per_token);
  }
  if (c.window > 0) out += fmt::format("  window of {} tokens in {} layers\n", c.window, windowed_layers(c));
  out += fmt::format("  RoPE base {}, scaling {}", c.rope.base, rope_kind(c.rope));
  if (c.rope.scaling != RopeScaling::kNone) out += fmt::format(" by {}", c.rope.factor);
  out += "\ntensors\n";
  for (const TypeTotal& t : i.types) {
    out += fmt::format("  {:<10} {:>5} tensors {:>14} elements {:>12}\n", t.type, t.tensors, t.elements,
                       format_bytes(t.bytes));
  }
}

void append_text_side(std::string& out, const Inspection& i) {
  if (!i.tokenizer) {
    out += fmt::format("tokenizer\n  none that this build can use: {}\n", i.no_tokenizer);
    return;
  }
  out += fmt::format("tokenizer\n  {}, {} tokens\n  begin '{}'{}, end '{}', an answer ends at {}\n", i.tokenizer->kind,
                     i.tokenizer->vocabulary, i.tokenizer->bos, i.tokenizer->adds_bos ? " (put before texts)" : "",
                     i.tokenizer->eos, fmt::join(i.tokenizer->end_tokens, " "));
  if (!i.chat_template) {
    out += "chat template\n  none\n";
    return;
  }
  constexpr size_t kShownCharacters = 240;
  std::string head = i.chat_template->source.substr(0, kShownCharacters);
  if (head.size() < i.chat_template->source.size()) head += " ...";
  for (size_t at = 0; (at = head.find('\n', at)) != std::string::npos; at += 3) head.insert(at + 1, "  ");
  out += fmt::format("chat template ({} characters; looks at {})\n  {}\n", i.chat_template->source.size(),
                     fmt::join(i.chat_template->features, ", "), head);
}

void append_memory(std::string& out, const Inspection& i) {
  out += fmt::format("memory (activations come on top: see the plan that serve prints)\n  weights {}\n"
                     "  KV bytes per token:", format_bytes(i.weight_bytes));
  for (const KvFacts& k : i.kv) out += fmt::format(" {} {}", k.dtype, k.bytes_per_token);
  out += fmt::format("\n  beside the weights fit, in tokens (sequences of the whole context of {}):\n  {:>12}",
                     i.decoder.config.context_length, "budget");
  for (const KvFacts& k : i.kv) out += fmt::format(" {:>18}", k.dtype);
  out += '\n';
  for (const BudgetFacts& b : i.budgets) {
    out += fmt::format("  {:>12}", format_bytes(b.budget_bytes));
    for (const BudgetFacts::Fit& fit : b.fits) {
      out += fmt::format(" {:>18}", fmt::format("{} ({})", fit.tokens, fit.sequences));
    }
    out += '\n';
  }
}

}  // namespace

std::string to_text(const Inspection& inspection) {
  std::string out;
  append_architecture(out, inspection);
  append_text_side(out, inspection);
  append_memory(out, inspection);
  return out;
}

}  // namespace crible
