// Insides of PCRE2 character classes, to be put between [ and ]: Unicode properties as the
// tokenizers that models are used with know them. PCRE2 10.42 knows Unicode 14; the characters that
// 15.0 and 15.1 added are named here. Macros, so that rules are put together at compile time.
#pragma once

#define CRIBLE_CASELESS_LETTERS_15                                                                   \
  R"(\x{1123F}\x{11240}\x{11F02}\x{11F04}-\x{11F10}\x{11F12}-\x{11F33}\x{1342F}\x{13441}-\x{13446})" \
  R"(\x{1B132}\x{1B155}\x{1E030}-\x{1E06D}\x{1E4D0}-\x{1E4EB}\x{2B739}\x{2EBF0}-\x{2EE5D}\x{31350}-\x{323AF})"
#define CRIBLE_LOWER_LETTERS_15 R"(\x{1DF25}-\x{1DF2A})"
#define CRIBLE_MARKS                                                              \
  R"(\p{M}\x{CF3}\x{ECE}\x{10EFD}-\x{10EFF}\x{11241}\x{11F00}\x{11F01}\x{11F03})" \
  R"(\x{11F34}-\x{11F3A}\x{11F3E}-\x{11F42}\x{13440}\x{13447}-\x{13455}\x{1E08F}\x{1E4EC}-\x{1E4EF})"
#define CRIBLE_LETTERS R"(\p{L})" CRIBLE_CASELESS_LETTERS_15 CRIBLE_LOWER_LETTERS_15
#define CRIBLE_UPPER_OR_CASELESS R"(\p{Lu}\p{Lt}\p{Lm}\p{Lo})" CRIBLE_CASELESS_LETTERS_15 CRIBLE_MARKS
#define CRIBLE_LOWER_OR_CASELESS \
  R"(\p{Ll}\p{Lm}\p{Lo})" CRIBLE_CASELESS_LETTERS_15 CRIBLE_LOWER_LETTERS_15 CRIBLE_MARKS
#define CRIBLE_DECIMAL_DIGITS R"(\p{Nd}\x{11F50}-\x{11F59}\x{1E4F0}-\x{1E4F9})"
#define CRIBLE_NUMBERS R"(\p{N}\x{11F50}-\x{11F59}\x{1D2C0}-\x{1D2D3}\x{1E4F0}-\x{1E4F9})"
#define CRIBLE_PUNCTUATION R"(\p{P}\x{11B00}-\x{11B09}\x{11F43}-\x{11F4F})"
#define CRIBLE_SYMBOLS                                                                        \
  R"(\p{S}\x{2FFC}-\x{2FFF}\x{31EF}\x{1F6DC}\x{1F774}-\x{1F776}\x{1F77B}-\x{1F77F}\x{1F7D9})" \
  R"(\x{1FA75}-\x{1FA77}\x{1FA87}\x{1FA88}\x{1FAAD}-\x{1FAAF}\x{1FABB}-\x{1FABD}\x{1FABF})"   \
  R"(\x{1FACE}\x{1FACF}\x{1FADA}\x{1FADB}\x{1FAE8}\x{1FAF7}\x{1FAF8})"
// White_Space of the Unicode character database. PCRE2's own \s would add U+180E, which is no
// longer white space.
#define CRIBLE_SPACES R"(\t-\r\x{85}\p{Z})"
// \w: letters and what else is alphabetic (circled letters), marks, decimal digits, connectors.
#define CRIBLE_WORD                                 \
  CRIBLE_LETTERS CRIBLE_MARKS CRIBLE_DECIMAL_DIGITS \
      R"(\p{Nl}\p{Pc}\x{24B6}-\x{24E9}\x{1F130}-\x{1F149}\x{1F150}-\x{1F169}\x{1F170}-\x{1F189})"
