// Which places on a device hold the histories of which sequences. The device counts the tokens that it draws itself;
// this says, for the rows of a step, where each history is and whether it must be sent: when it was never there, when its
// place was given to another sequence meanwhile (whoever was not drawn from for longest gives way), or when the device
// has counted other draws than the host. Says so without asking the device. Sized at construction, place() allocates
// nothing. Used by one thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/sample/sample.h"

namespace crible {

struct HistoryPlace {
  int32_t slot = -1;   // -1: the row has no history that stays
  bool kept = false;   // it is there, up to the token before the row's
};

class HistorySlots {
 public:
  // 0: nothing is kept.
  explicit HistorySlots(int64_t slots);

  // places: one a row, of which a sequence has at most one. The rows are taken as drawn: asked again, their histories are one token longer. CHECKs that no
  // more rows have histories than there are slots, and that the host knows all of a history that must be sent.
  void place(std::span<const SampleRow> rows, std::span<HistoryPlace> places);

 private:
  struct Slot {
    int64_t sequence = -1;
    int64_t drawn = 0;  // tokens of the output that the history holds
    uint64_t step = 0;  // last used
  };

  static const SeenHistory* history_of(const SampleRow& row);
  // Of a sequence; -1 if it has none.
  int32_t find(int64_t sequence) const;
  // The slot longest unused, which this step does not use.
  int32_t take();
  void rebuild_index();
  size_t home(int64_t sequence) const;

  std::vector<Slot> slots_;
  std::vector<int32_t> index_;  // slots by sequence in open addressing, a power of two, at most half in use; -1: free
  uint64_t step_ = 0;
};

}  // namespace crible
