#include "text/gguf_vocabulary.h"

namespace crible {
namespace {

constexpr std::string_view kModel = "tokenizer.ggml.model";
constexpr std::string_view kPre = "tokenizer.ggml.pre";
constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
constexpr std::string_view kTokenType = "tokenizer.ggml.token_type";
constexpr std::string_view kScores = "tokenizer.ggml.scores";
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

Status read_scores(const GgufFile& file, Vocabulary& vocabulary) {
  CRIBLE_TRY(const std::vector<double>* scores, file.get_floats(kScores));
  if (scores->size() != vocabulary.texts.size()) {
    return fail(ErrorCode::kCorrupt, "{}: {} has {} entries for {} tokens; convert the model again",
                file.path(), kScores, scores->size(), vocabulary.texts.size());
  }
  vocabulary.scores.assign(scores->begin(), scores->end());
  return {};
}

// SentencePiece: what is not stated is as llama.cpp takes it.
Status read_sentence_piece(const GgufFile& file, Vocabulary& vocabulary) {
  vocabulary.segmentation = Segmentation::kScoredMerges;
  vocabulary.byte_fallback = true;
  CRIBLE_RETURN_IF_ERROR(read_scores(file, vocabulary));
  CRIBLE_TRY(const auto prefix, read_optional_flag(file, "tokenizer.ggml.add_space_prefix"));
  vocabulary.add_space_prefix = prefix.value_or(true);
  CRIBLE_TRY(const auto collapse, read_optional_flag(file, "tokenizer.ggml.remove_extra_whitespaces"));
  vocabulary.collapse_spaces = collapse.value_or(false);
  const auto usual = [&](std::optional<TokenId>& id, TokenId value) {
    if (!id && static_cast<size_t>(value) < vocabulary.texts.size()) id = value;
  };
  usual(vocabulary.unknown, 0);
  usual(vocabulary.bos, 1);
  usual(vocabulary.eos, 2);
  return {};
}

Status read_byte_level_bpe(const GgufFile& file, Vocabulary& vocabulary) {
  CRIBLE_RETURN_IF_ERROR(read_merges(file, vocabulary));
  vocabulary.pre_tokenizer = "default";  // files older than the key
  if (file.has(kPre)) {
    CRIBLE_TRY(const std::string_view pre, file.get_string(kPre));
    vocabulary.pre_tokenizer = pre;
  }
  return {};
}

}  // namespace

Result<Vocabulary> read_gguf_vocabulary(const GgufFile& file) {
  CRIBLE_TRY(const std::string_view model, file.get_string(kModel));
  const bool sentence_piece = model == "llama";
  if (model != "gpt2" && !sentence_piece) {
    return fail(ErrorCode::kUnsupported,
                "{}: {} is \"{}\"; this build reads byte-level BPE (\"gpt2\") and SentencePiece BPE "
                "(\"llama\"), use a model of the Llama, Qwen, Mistral, Gemma, SmolLM or GPT-2 families",
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
  const size_t size = vocabulary.texts.size();
  CRIBLE_TRY(vocabulary.bos, read_optional_id(file, "tokenizer.ggml.bos_token_id", size));
  CRIBLE_TRY(vocabulary.eos, read_optional_id(file, "tokenizer.ggml.eos_token_id", size));
  CRIBLE_TRY(vocabulary.eot, read_optional_id(file, "tokenizer.ggml.eot_token_id", size));
  CRIBLE_TRY(vocabulary.eom, read_optional_id(file, "tokenizer.ggml.eom_token_id", size));
  CRIBLE_TRY(vocabulary.pad, read_optional_id(file, "tokenizer.ggml.padding_token_id", size));
  CRIBLE_TRY(vocabulary.unknown, read_optional_id(file, "tokenizer.ggml.unknown_token_id", size));
  CRIBLE_TRY(vocabulary.add_bos, read_optional_flag(file, "tokenizer.ggml.add_bos_token"));
  CRIBLE_TRY(vocabulary.add_eos, read_optional_flag(file, "tokenizer.ggml.add_eos_token"));
  CRIBLE_RETURN_IF_ERROR(sentence_piece ? read_sentence_piece(file, vocabulary)
                                        : read_byte_level_bpe(file, vocabulary));
  return vocabulary;
}

}  // namespace crible
