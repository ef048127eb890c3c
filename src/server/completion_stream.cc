#include "server/completion_stream.h"

#include "wire/sse.h"

namespace crible {

CompletionStream::CompletionStream(CompletionJob& job, const ReplyIdentity& identity)
    : job_(job),
      writer_(job.kind(), identity, job.options().include_usage),
      begun_(static_cast<size_t>(job.choices()), false) {}

void CompletionStream::append_piece(std::string& out, const Piece& piece) {
  const GenerationOptions& options = job_.options();
  const bool first = !begun_[static_cast<size_t>(piece.choice)];
  begun_[static_cast<size_t>(piece.choice)] = true;
  if (first && job_.kind() == CompletionKind::kChat) writer_.append_role(out, piece.choice);
  ChunkExtras extras;
  logprobs_.clear();
  if (options.logprobs && piece.scores_from < piece.scores_to) {
    append_logprobs(logprobs_, job_.kind(), piece.scores, piece.scores_from, piece.scores_to, options.tokens_as_ids);
    extras.logprobs = logprobs_;
  }
  if (options.return_token_ids) {
    extras.token_ids = piece.token_ids;
    if (first) extras.prompt_token_ids = job_.prompt_of(piece.choice);
  }
  const bool tells = !piece.text.empty() || !logprobs_.empty() || !piece.token_ids.empty() || extras.prompt_token_ids;
  if (tells) writer_.append_text(out, piece.choice, piece.text, extras);
  if (!piece.finish_reason.empty()) writer_.append_finish(out, piece.choice, piece.finish_reason);
}

void CompletionStream::append_pieces(std::string& out) {
  PendingText::Piece before;
  for (const PendingText::Piece& piece : taken_.pieces) {
    append_piece(out, {.choice = piece.choice,
                       .text = std::string_view(taken_.text).substr(before.end, piece.end - before.end),
                       .scores = taken_.scores,
                       .scores_from = before.scores_end,
                       .scores_to = piece.scores_end,
                       .token_ids = std::span(taken_.token_ids)
                                        .subspan(before.token_ids_end, piece.token_ids_end - before.token_ids_end),
                       .finish_reason = piece.finish_reason});
    before = piece;
  }
}

void CompletionStream::append_joined_pieces(std::string& out) {
  struct Joined {
    std::string text;
    TokenScores scores;
    std::vector<TokenId> token_ids;
    std::string_view finish_reason;
    bool any = false;
  };
  std::vector<Joined> joined(begun_.size());
  PendingText::Piece before;
  for (const PendingText::Piece& piece : taken_.pieces) {
    Joined& choice = joined[static_cast<size_t>(piece.choice)];
    choice.text += std::string_view(taken_.text).substr(before.end, piece.end - before.end);
    choice.scores.append(taken_.scores, before.scores_end, piece.scores_end);
    choice.token_ids.insert(choice.token_ids.end(), taken_.token_ids.begin() + static_cast<ptrdiff_t>(before.token_ids_end),
                            taken_.token_ids.begin() + static_cast<ptrdiff_t>(piece.token_ids_end));
    if (!piece.finish_reason.empty()) choice.finish_reason = piece.finish_reason;
    choice.any = true;
    before = piece;
  }
  for (size_t i = 0; i < joined.size(); ++i) {
    if (!joined[i].any) continue;
    append_piece(out, {.choice = static_cast<int>(i),
                       .text = joined[i].text,
                       .scores = joined[i].scores,
                       .scores_from = 0,
                       .scores_to = joined[i].scores.size(),
                       .token_ids = joined[i].token_ids,
                       .finish_reason = joined[i].finish_reason});
  }
}

void CompletionStream::append_pending(std::string& out) {
  job_.take_pending(taken_);
  if (taken_.pieces.size() > kMaxFramesPerWrite) {
    append_joined_pieces(out);
  } else {
    append_pieces(out);
  }
  if (!job_.finished() || ended_) return;
  ended_ = true;
  if (job_.error()) {
    append_error_event(out, *job_.error());
    return;
  }
  if (job_.options().include_usage) writer_.append_usage(out, job_.usage());
  out += kSseDone;
}

}  // namespace crible
