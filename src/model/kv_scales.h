// What keys and values of a layer are divided by before they are stored as eight-bit floats, as whoever calibrated the
// checkpoint measured it.
#pragma once

namespace crible {

struct KvScales {
  float k = 1;
  float v = 1;

  bool operator==(const KvScales&) const = default;
};

}  // namespace crible
