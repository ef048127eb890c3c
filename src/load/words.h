// Common English words, lower case and distinct: the raw material of prompts (prompt.h).
#pragma once

#include <span>
#include <string_view>

namespace crible::load {

std::span<const std::string_view> english_words();

}  // namespace crible::load
