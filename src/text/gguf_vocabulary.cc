#include "text/gguf_vocabulary.h"

namespace crible {
namespace {

constexpr std::string_view kModel = "tokenizer.ggml.model";
constexpr std::string_view kPre = "tokenizer.ggml.pre";
constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
constexpr std::string_view kTokenType = "tokenizer.ggml.token_type";
constexpr std::string_view kMerges = "tokenizer.ggml.merges";

Result<std::optional<TokenId>> read_optional_id(const GgufFile& file, std::string_view key,
                                                size_t vocabulary_size) {
  if (!file.has(key)) return std::optional<TokenId>();
  CRIBLE_TRY(const int64_t id, file.get_int(key));
  if (id < 0 || static_cast<uint64_t>(id) >= vocabulary_size) {
    return fail(ErrorCode::kCorrupt,
                "{}: {} is {}, but the vocabulary has ids 0 to {}; convert the model again", file.path(), key,
                id, vocabulary_size - 1);
  }
  return std::optional<TokenId>(static_cast<TokenId>(id));
}

Result<std::optional<bool>> read_optional_flag(const GgufFile& file, std::string_view key) {
  if (!file.has(key)) return std::optional<bool>();
  CRIBLE_TRY(const bool flag, file.get_bool(key));
  return std::optional<bool>(flag);
}

Status read_kinds(const GgufFile& file, Vocabulary& vocabulary) {
  vocabulary.kinds.assign(vocabulary.texts.size(), TokenKind::kNormal);
  if (!file.has(kTokenType)) return {};
  CRIBLE_TRY(const std::vector<int64_t>* types, file.get_ints(kTokenType));
  if (types->size() != vocabulary.texts.size()) {
    return fail(ErrorCode::kCorrupt, "{}: {} has {} entries for {} tokens; convert the model again",
                file.path(), kTokenType, types->size(), vocabulary.texts.size());
  }
  for (size_t i = 0; i < types->size(); ++i) {
    const int64_t type = (*types)[i];
    // 0 is "undefined": such a token is never produced from text, like an unused one.
    if (type < 0 || type > 6) {
      return fail(ErrorCode::kCorrupt, "{}: {}[{}] is {}, known types are 0 to 6", file.path(), kTokenType, i,
                  type);
    }
    vocabulary.kinds[i] = type == 0 ? TokenKind::kUnused : static_cast<TokenKind>(type);
  }
  return {};
}

Status read_merges(const GgufFile& file, Vocabulary& vocabulary) {
  CRIBLE_TRY(const std::vector<std::string_view>* merges, file.get_strings(kMerges));
  vocabulary.merges.reserve(merges->size());
  for (size_t i = 0; i < merges->size(); ++i) {
    const std::string_view merge = (*merges)[i];
    // The byte alphabet has no space, so the one space separates.
    const size_t space = merge.find(' ');
    if (space == std::string_view::npos || space == 0 || space + 1 == merge.size() ||
        merge.find(' ', space + 1) != std::string_view::npos) {
      return fail(ErrorCode::kCorrupt, "{}: {}[{}] is \"{}\", expected two tokens and one space between",
                  file.path(), kMerges, i, merge.substr(0, 64));
    }
    vocabulary.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  return {};
}

}  // namespace

Result<Vocabulary> read_gguf_vocabulary(const GgufFile& file) {
  CRIBLE_TRY(const std::string_view model, file.get_string(kModel));
  if (model != "gpt2") {
    return fail(ErrorCode::kUnsupported,
                "{}: {} is \"{}\"; this build reads byte-level BPE (\"gpt2\") only, use a model of the "
                "Llama 3, Qwen, SmolLM or GPT-2 families",
                file.path(), kModel, model);
  }
  Vocabulary vocabulary;
  vocabulary.source = file.path();
  CRIBLE_TRY(const std::vector<std::string_view>* tokens, file.get_strings(kTokens));
  if (tokens->empty()) {
    return fail(ErrorCode::kCorrupt, "{}: {} is empty", file.path(), kTokens);
  }
  vocabulary.texts.assign(tokens->begin(), tokens->end());
  CRIBLE_RETURN_IF_ERROR(read_kinds(file, vocabulary));
  CRIBLE_RETURN_IF_ERROR(read_merges(file, vocabulary));

  vocabulary.pre_tokenizer = "default";  // files older than the key
  if (file.has(kPre)) {
    CRIBLE_TRY(const std::string_view pre, file.get_string(kPre));
    vocabulary.pre_tokenizer = pre;
  }
  const size_t size = vocabulary.texts.size();
  CRIBLE_TRY(vocabulary.bos, read_optional_id(file, "tokenizer.ggml.bos_token_id", size));
  CRIBLE_TRY(vocabulary.eos, read_optional_id(file, "tokenizer.ggml.eos_token_id", size));
  CRIBLE_TRY(vocabulary.eot, read_optional_id(file, "tokenizer.ggml.eot_token_id", size));
  CRIBLE_TRY(vocabulary.eom, read_optional_id(file, "tokenizer.ggml.eom_token_id", size));
  CRIBLE_TRY(vocabulary.pad, read_optional_id(file, "tokenizer.ggml.padding_token_id", size));
  CRIBLE_TRY(vocabulary.unknown, read_optional_id(file, "tokenizer.ggml.unknown_token_id", size));
  CRIBLE_TRY(vocabulary.add_bos, read_optional_flag(file, "tokenizer.ggml.add_bos_token"));
  CRIBLE_TRY(vocabulary.add_eos, read_optional_flag(file, "tokenizer.ggml.add_eos_token"));
  return vocabulary;
}

}  // namespace crible
