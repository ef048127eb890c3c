#include "report/number_format.h"

#include <fmt/format.h>

#include <cmath>

namespace crible::report {
namespace {

constexpr const char* kMinus = "\u2212";
constexpr const char* kNarrowSpace = "\u202f";  // no break
constexpr const char* kNoBreakSpace = "\u00a0";
constexpr const char* kTimes = "\u00d7";
constexpr const char* kNotANumber = "\u2014";

}  // namespace

std::string NumberFormat::fixed(double value, int decimals) const {
  if (!std::isfinite(value)) return kNotANumber;
  std::string digits = fmt::format("{:.{}f}", std::fabs(value), decimals);
  const bool zero = digits.find_first_not_of("0.") == std::string::npos;
  std::string fraction;
  if (const size_t point = digits.find('.'); point != std::string::npos) {
    fraction = digits.substr(point + 1);
    digits.resize(point);
  }
  const char* group = language_ == Language::kFrench ? kNarrowSpace : ",";
  std::string whole;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) whole += group;
    whole += digits[i];
  }
  if (!fraction.empty()) whole += (language_ == Language::kFrench ? "," : ".") + fraction;
  return (value < 0 && !zero ? kMinus : "") + whole;
}

std::string NumberFormat::integer(int64_t value) const {
  return fixed(static_cast<double>(value), 0);
}

std::string NumberFormat::significant(double value) const {
  const double size = std::fabs(value);
  if (size == 0 || !std::isfinite(value)) return fixed(value, 0);
  // The limits lie half a last digit low, so that 9.996 prints as 10.0 and not as 10.00.
  if (size >= 99.95) return fixed(value, 0);
  if (size >= 9.995) return fixed(value, 1);
  if (size >= 0.9995) return fixed(value, 2);
  if (size >= 0.09995) return fixed(value, 3);
  return fixed(value, 4);
}

std::string NumberFormat::percent(double share) const {
  return percent_points(share * 100);
}

std::string NumberFormat::percent_points(double value) const {
  const double size = std::fabs(value);
  const int decimals = size == 0 || size >= 99.95 ? 0 : size >= 0.995 ? 1 : 2;
  return percent_sign(fixed(value, decimals));
}

std::string NumberFormat::percent_sign(const std::string& number) const {
  return language_ == Language::kFrench ? number + kNarrowSpace + "%" : number + "%";
}

std::string NumberFormat::change(double ratio) const {
  const std::string points = percent_points((ratio - 1) * 100);
  return ratio > 1 ? "+" + points : points;
}

std::string NumberFormat::factor(double ratio) const {
  return kTimes + fixed(ratio, ratio < 9.995 ? 2 : 1);
}

std::string NumberFormat::range(const std::string& low, const std::string& high) const {
  return fmt::format("[{}{}\u2013{}{}]", low, kNoBreakSpace, kNoBreakSpace, high);
}

std::string NumberFormat::with_unit(const std::string& number, const std::string& unit) const {
  return unit.empty() ? number : number + kNoBreakSpace + unit;
}

std::string NumberFormat::duration(double seconds) const {
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole < 60) return with_unit(integer(whole), "s");
  if (whole < 3600) {
    return with_unit(integer(whole / 60), "min") + kNoBreakSpace + with_unit(integer(whole % 60), "s");
  }
  return with_unit(integer(whole / 3600), "h") + kNoBreakSpace + with_unit(integer(whole % 3600 / 60), "min");
}

std::string NumberFormat::bytes(int64_t bytes) const {
  const bool french = language_ == Language::kFrench;
  const char* const units[] = {french ? "o" : "B", french ? "Kio" : "KiB", french ? "Mio" : "MiB",
                               french ? "Gio" : "GiB", french ? "Tio" : "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  return with_unit(unit == 0 ? fixed(value, 0) : significant(value), units[unit]);
}

}  // namespace crible::report
