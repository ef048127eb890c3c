// Puts the text of a completion into the frames of an event stream: role first for a chat, a frame
// for every piece, the finish reason of each choice, then usage when asked for, then [DONE]. Knows
// no socket: the connection asks for bytes when it can send some.
#pragma once

#include <string>
#include <vector>

#include "server/completion_job.h"
#include "wire/completion_response.h"

namespace crible {

class CompletionStream {
 public:
  CompletionStream(CompletionJob& job, const ReplyIdentity& identity);

  // Appends the frames of everything that is pending and, once the job has ended, what closes the
  // stream. A reader that is behind by more than kMaxFramesPerWrite pieces gets them joined.
  void append_pending(std::string& out);
  bool ended() const { return ended_; }

  static constexpr size_t kMaxFramesPerWrite = 64;

 private:
  // What one frame tells of one choice; the ranges are of `scores` and `token_ids`.
  struct Piece {
    int choice = 0;
    std::string_view text;
    const TokenScores& scores;
    size_t scores_from = 0, scores_to = 0;
    std::span<const TokenId> token_ids;
    std::string_view finish_reason;
  };

  void append_pieces(std::string& out);
  void append_joined_pieces(std::string& out);
  void append_piece(std::string& out, const Piece& piece);

  CompletionJob& job_;
  ChunkWriter writer_;
  PendingText taken_;
  std::string logprobs_;      // of one frame, reused
  std::vector<bool> begun_;   // by choice: a frame was sent
  bool ended_ = false;
};

}  // namespace crible
