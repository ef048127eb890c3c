#include "ops/sample/packed_rows_cuda.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "base/units.h"
#include "ops/sample/sample_cuda.h"

namespace crible::cuda {
namespace {

constexpr int64_t kWordBytes = sizeof(uint32_t);
static_assert(sizeof(TokenId) == kWordBytes && sizeof(AddedLogit) == 2 * kWordBytes &&
              sizeof(TokenCount) == 2 * kWordBytes);

int64_t most_words(int64_t vocabulary) {
  return ceil_div(vocabulary, 32) + vocabulary + 3 * 2 * vocabulary;
}

int64_t words_of(const LogitAdjustments& a, bool kept, int64_t vocabulary) {
  const auto size = [vocabulary](const auto& list) {
    CHECK(std::ssize(list) <= vocabulary, "a list of {} tokens of a vocabulary of {}", list.size(),
          vocabulary);
    return std::ssize(list);
  };
  CHECK(a.allowed.empty() || std::ssize(a.allowed) == ceil_div(vocabulary, 32),
        "a mask of {} words for {} tokens", a.allowed.size(), vocabulary);
  const int64_t seen = kept ? 0 : size(a.seen);
  return std::ssize(a.allowed) + size(a.forbidden) + 2 * (size(a.bias) + seen + size(a.dry));
}

// Appends lists to the words; returns their number of elements.
class ListWriter {
 public:
  explicit ListWriter(std::byte* target) : target_(target) {}
  template <typename T>
  int32_t append(std::span<const T> list) {
    if (!list.empty()) std::memcpy(target_, list.data(), list.size_bytes());
    target_ += list.size_bytes();
    return static_cast<int32_t>(list.size());
  }

 private:
  std::byte* target_;
};

RowLists write_lists(const LogitAdjustments& a, HistoryPlace place, int64_t first_word, std::byte* target) {
  ListWriter writer(target);
  RowLists lists = {.first = first_word,
                    .slot = place.slot,
                    .kept = place.kept ? 1 : 0,
                    .repetition_penalty = a.repetition_penalty,
                    .frequency_penalty = a.frequency_penalty,
                    .presence_penalty = a.presence_penalty};
  lists.mask_words = writer.append(a.allowed);
  lists.forbidden = writer.append(a.forbidden);
  lists.bias = writer.append(a.bias);
  if (!place.kept) lists.seen = writer.append(a.seen);
  lists.dry = writer.append(a.dry);
  return lists;
}

SampleRow packed(const crible::SampleRow& row) {
  return {.temperature = row.temperature,
          .top_p = row.top_p,
          .min_p = row.min_p,
          .top_k = row.top_k,
          .seed = row.seed,
          .position = row.position,
          .typical_p = row.typical_p,
          .logprobs = row.logprobs,
          .given = row.given,
          .lists = {}};
}

}  // namespace

int64_t packed_rows_bytes(int64_t rows, int64_t vocabulary, int64_t list_bytes) {
  return rows * static_cast<int64_t>(sizeof(SampleRow)) +
         std::max(round_up(list_bytes, kWordBytes), most_words(vocabulary) * kWordBytes);
}

PackedRows pack_rows(std::span<const crible::SampleRow> rows, std::span<const HistoryPlace> places,
                     int64_t vocabulary, std::span<std::byte> target) {
  CHECK(places.empty() || places.size() == rows.size(), "{} places of {} rows", places.size(), rows.size());
  auto* out = reinterpret_cast<SampleRow*>(target.data());
  PackedRows result = {
      .lists_at = static_cast<int64_t>(rows.size_bytes() / sizeof(crible::SampleRow) * sizeof(SampleRow))};
  const int64_t capacity = (std::ssize(target) - result.lists_at) / kWordBytes;
  CHECK(capacity >= most_words(vocabulary), "room for {} words of lists", capacity);
  int64_t used = 0;
  for (const crible::SampleRow& row : rows) {
    SampleRow packed_row = packed(row);
    if (row.adjustments != nullptr) {
      const HistoryPlace place = places.empty() ? HistoryPlace{} : places[static_cast<size_t>(result.rows)];
      const int64_t words = words_of(*row.adjustments, place.kept, vocabulary);
      if (used + words > capacity) break;
      packed_row.lists =
          write_lists(*row.adjustments, place, used, target.data() + result.lists_at + used * kWordBytes);
      used += words;
    }
    out[result.rows++] = packed_row;
  }
  result.bytes = result.lists_at + used * kWordBytes;
  return result;
}

}  // namespace crible::cuda
