#include "ops/sample/history_slots.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace crible {

HistorySlots::HistorySlots(int64_t slots)
    : slots_(static_cast<size_t>(slots)), index_(std::bit_ceil(2 * static_cast<size_t>(slots) + 1), -1) {}

const SeenHistory* HistorySlots::history_of(const SampleRow& row) {
  if (row.adjustments == nullptr || row.adjustments->history.sequence < 0) return nullptr;
  return &row.adjustments->history;
}

// Fibonacci hashing (Knuth 1973): ids ascend, and neighbours are spread.
size_t HistorySlots::home(int64_t sequence) const {
  return static_cast<size_t>((static_cast<uint64_t>(sequence) * 0x9e3779b97f4a7c15u) >> 32) & (index_.size() - 1);
}

int32_t HistorySlots::find(int64_t sequence) const {
  for (size_t at = home(sequence); index_[at] >= 0; at = (at + 1) & (index_.size() - 1)) {
    if (slots_[static_cast<size_t>(index_[at])].sequence == sequence) return index_[at];
  }
  return -1;
}

int32_t HistorySlots::take() {
  const auto oldest = std::ranges::min_element(slots_, {}, &Slot::step);
  CHECK(oldest != slots_.end() && oldest->step < step_, "a step has more than {} histories", slots_.size());
  return static_cast<int32_t>(oldest - slots_.begin());
}

// Once for each sequence that begins; there are as many slots as a step has sequences.
void HistorySlots::rebuild_index() {
  std::ranges::fill(index_, -1);
  for (size_t slot = 0; slot < slots_.size(); ++slot) {
    if (slots_[slot].sequence < 0) continue;
    size_t at = home(slots_[slot].sequence);
    while (index_[at] >= 0) at = (at + 1) & (index_.size() - 1);
    index_[at] = static_cast<int32_t>(slot);
  }
}

void HistorySlots::place(std::span<const SampleRow> rows, std::span<HistoryPlace> places) {
  CHECK(rows.size() == places.size(), "{} places for {} rows", places.size(), rows.size());
  std::ranges::fill(places, HistoryPlace{});
  if (slots_.empty()) return;
  step_ += 1;
  // Those that are there first, so that none of them gives way to another row of the step.
  size_t missing = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    const SeenHistory* history = history_of(rows[i]);
    if (history == nullptr) continue;
    const int32_t found = find(history->sequence);
    missing += found < 0;
    if (found < 0) continue;
    Slot& slot = slots_[static_cast<size_t>(found)];
    places[i] = {.slot = found, .kept = slot.drawn == history->drawn};
    slot.step = step_;
  }
  for (size_t i = 0; i < rows.size() && missing > 0; ++i) {
    const SeenHistory* history = history_of(rows[i]);
    if (history == nullptr || places[i].slot >= 0) continue;
    places[i].slot = take();
    slots_[static_cast<size_t>(places[i].slot)] = {.sequence = history->sequence, .step = step_};
    missing -= 1;
    if (missing == 0) rebuild_index();
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    const SeenHistory* history = history_of(rows[i]);
    if (history == nullptr) continue;
    CHECK(places[i].kept || history->known == history->drawn,
          "the history of sequence {} is to be sent while {} of its tokens are being drawn", history->sequence,
          history->drawn - history->known);
    slots_[static_cast<size_t>(places[i].slot)].drawn = history->drawn + 1;
  }
}

}  // namespace crible
