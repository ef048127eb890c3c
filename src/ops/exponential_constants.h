// Constants of exponential.h and of its vector forms. The polynomial is Taylor's to degree 7: its
// error on |r| <= ln 2 / 2 is below 6e-9 of the result, a tenth of float32's rounding.
#pragma once

namespace crible::exponential_constants {

inline constexpr float kInverseLn2 = 1.44269504088896341f;
// ln 2 = high + low; high has trailing zero bits, so that n · high is exact.
inline constexpr float kLn2High = 0.693359375f;
inline constexpr float kLn2Low = -2.12194440e-4f;
inline constexpr float kC7 = 1.0f / 5040, kC6 = 1.0f / 720, kC5 = 1.0f / 120, kC4 = 1.0f / 24;
inline constexpr float kC3 = 1.0f / 6, kC2 = 0.5f;
inline constexpr float kLowest = -87.33654f;   // just above ln of the smallest normal number
inline constexpr float kHighest = 88.72283f;   // just below ln of the largest number

}  // namespace crible::exponential_constants
