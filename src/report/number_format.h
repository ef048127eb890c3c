// Numbers as a reader of one language expects them: decimal sign, groups of thousands, percent,
// minus sign. Independent of the process's locale.
#pragma once

#include <cstdint>
#include <string>

namespace crible::report {

enum class Language { kEnglish, kFrench };

class NumberFormat {
 public:
  explicit NumberFormat(Language language) : language_(language) {}

  std::string fixed(double value, int decimals) const;
  std::string integer(int64_t value) const;
  // About three significant digits, never an exponent: 0.0123, 4.57, 45.7, 457, 4,573.
  std::string significant(double value) const;
  std::string percent(double share) const;                    // 0.045 -> "4.5%"
  std::string percent_points(double value) const;             // 4.5 -> "4.5%"
  std::string percent_sign(const std::string& number) const;  // "4.5" -> "4.5%"
  // Signed change that a ratio stands for: 0.46 -> "−54.0%".
  std::string change(double ratio) const;
  std::string factor(double ratio) const;                                    // "×3.22"
  std::string range(const std::string& low, const std::string& high) const;  // "[low – high]"
  std::string with_unit(const std::string& number, const std::string& unit) const;
  std::string duration(double seconds) const;  // "45 s", "3 min 20 s", "2 h 5 min"
  std::string bytes(int64_t bytes) const;      // binary units

  Language language() const { return language_; }

 private:
  Language language_;
};

}  // namespace crible::report
