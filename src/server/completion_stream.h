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
  void append_pieces(std::string& out);
  void append_joined_pieces(std::string& out);
  void append_role_once(std::string& out, int choice);

  CompletionJob& job_;
  ChunkWriter writer_;
  PendingText taken_;
  std::vector<bool> role_sent_;  // by choice
  bool ended_ = false;
};

}  // namespace crible
