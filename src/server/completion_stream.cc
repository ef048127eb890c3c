#include "server/completion_stream.h"

#include "wire/sse.h"

namespace crible {

CompletionStream::CompletionStream(CompletionJob& job, const ReplyIdentity& identity)
    : job_(job),
      writer_(job.kind(), identity, job.options().include_usage),
      role_sent_(static_cast<size_t>(job.choices()), job.kind() == CompletionKind::kText) {}

void CompletionStream::append_role_once(std::string& out, int choice) {
  if (role_sent_[static_cast<size_t>(choice)]) return;
  role_sent_[static_cast<size_t>(choice)] = true;
  writer_.append_role(out, choice);
}

void CompletionStream::append_pieces(std::string& out) {
  size_t begin = 0;
  for (const PendingText::Piece& piece : taken_.pieces) {
    append_role_once(out, piece.choice);
    const std::string_view text = std::string_view(taken_.text).substr(begin, piece.end - begin);
    begin = piece.end;
    if (!text.empty()) writer_.append_text(out, piece.choice, text);
    if (!piece.finish_reason.empty()) writer_.append_finish(out, piece.choice, piece.finish_reason);
  }
}

void CompletionStream::append_joined_pieces(std::string& out) {
  std::vector<std::string> texts(role_sent_.size());
  std::vector<std::string_view> finish_reasons(role_sent_.size());
  size_t begin = 0;
  for (const PendingText::Piece& piece : taken_.pieces) {
    const auto choice = static_cast<size_t>(piece.choice);
    texts[choice] += std::string_view(taken_.text).substr(begin, piece.end - begin);
    begin = piece.end;
    if (!piece.finish_reason.empty()) finish_reasons[choice] = piece.finish_reason;
  }
  for (size_t i = 0; i < texts.size(); ++i) {
    const int choice = static_cast<int>(i);
    if (texts[i].empty() && finish_reasons[i].empty()) continue;
    append_role_once(out, choice);
    if (!texts[i].empty()) writer_.append_text(out, choice, texts[i]);
    if (!finish_reasons[i].empty()) writer_.append_finish(out, choice, finish_reasons[i]);
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
