#!/usr/bin/env python3
"""Makes tests/golden/tokenizer_parity.bin: strings, and what other tokenizers make of them.

Needs llama-cpp-python, gguf and tokenizers. llama.cpp tokenises every string under several
pre-tokenizer names (the default model's vocabulary with tokenizer.ggml.pre replaced), with and
without special tokens parsed. Where llama.cpp only approximates a rule (those that look at case),
Hugging Face tokenizers splits the valid UTF-8 strings instead. The file holds the strings and one
32-bit hash per string and column, so that the parity test runs where neither is installed.

Layout, little-endian: "CRTG", u32 columns, per column {u8 length, name, u8 kind: 0 ids, 1 ids with
special tokens parsed, 2 byte lengths of words (0: not compared)}, u32 strings,
per string {u32 length, bytes, u32 hash per column}.
Hash: FNV-1a (64 bit) over the numbers as 4 bytes each, its halves xored.
"""

import argparse
import ctypes
import random
import struct
import tempfile
import unicodedata
from pathlib import Path

import gguf
import llama_cpp
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

SEED = 20260131
COLUMNS = [
    ("smollm", False), ("smollm", True), ("gpt-2", False), ("default", False), ("falcon", False),
    ("llama-bpe", False), ("qwen2", True), ("qwen35", False), ("deepseek-v3", False),
]

CONTRACTION = r"'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n%s]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
LEAD = r"[^\r\n\p{L}\p{N}]?"
# As in the tokenizer.json of models that use them.
SPLIT_COLUMNS = [
    ("qwen2", rf"{CONTRACTION}|{LEAD}\p{{L}}+|\p{{N}}|" + REST % ""),
    ("gpt-4o", rf"{LEAD}{UPPER}*{LOWER}+(?:{CONTRACTION})?|{LEAD}{UPPER}+{LOWER}*(?:{CONTRACTION})?|\p{{N}}{{1,3}}|" + REST % "/"),
    ("tekken", rf"{LEAD}{UPPER}*{LOWER}+|{LEAD}{UPPER}+{LOWER}*|\p{{N}}|" + REST % "/"),
]

SCRIPTS = {
    "latin": [(0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x24F)],
    "greek": [(0x391, 0x3A1), (0x3A3, 0x3CE)],
    "cyrillic": [(0x410, 0x44F), (0x400, 0x45F)],
    "armenian": [(0x531, 0x556), (0x561, 0x587)],
    "hebrew": [(0x5D0, 0x5EA), (0x591, 0x5BD)],
    "arabic": [(0x620, 0x64A), (0x64B, 0x652), (0x660, 0x669)],
    "devanagari": [(0x904, 0x939), (0x93E, 0x94D), (0x966, 0x96F)],
    "bengali": [(0x985, 0x9B9), (0x9BE, 0x9CD), (0x9E6, 0x9EF)],
    "tamil": [(0xB85, 0xBB9), (0xBBE, 0xBCD)],
    "telugu": [(0xC05, 0xC39), (0xC3E, 0xC4D)],
    "thai": [(0xE01, 0xE3A), (0xE40, 0xE4E), (0xE50, 0xE59)],
    "lao": [(0xE81, 0xEC4)],
    "tibetan": [(0xF40, 0xF6C), (0xF71, 0xF84)],
    "georgian": [(0x10A0, 0x10C5), (0x10D0, 0x10FA)],
    "hangul": [(0xAC00, 0xD7A3), (0x1100, 0x11FF)],
    "ethiopic": [(0x1200, 0x1248)],
    "cherokee": [(0x13A0, 0x13F5)],
    "khmer": [(0x1780, 0x17B3), (0x17B6, 0x17D3)],
    "mongolian": [(0x1820, 0x1878), (0x180B, 0x180E)],
    "hiragana": [(0x3041, 0x3096)],
    "katakana": [(0x30A1, 0x30FA), (0xFF66, 0xFF9D)],
    "han": [(0x4E00, 0x9FA5), (0x3400, 0x4DB5)],
    "gothic": [(0x10330, 0x1034A)],
    "cuneiform": [(0x12000, 0x12399)],
    "mathematical": [(0x1D400, 0x1D7FF)],
    # Younger than the Unicode tables of many regular expression libraries (14), known to llama.cpp.
    "unicode 15": [(0x11F02, 0x11F33), (0x11F34, 0x11F59), (0x1E4D0, 0x1E4F9), (0x2EBF0, 0x2EE5D), (0x31350, 0x323AF),
                   (0x1E030, 0x1E06D), (0x1342F, 0x13455), (0x1D2C0, 0x1D2D3), (0x1FA75, 0x1FAFF), (0x11B00, 0x11B09),
                   (0x1DF25, 0x1DF2A), (0x2FFC, 0x2FFF), (0xCF3, 0xCF3)],
}
SENTENCES = [
    "The quick brown fox jumps over the lazy dog; it's 12:45, and we've waited for 3 hours!",
    "Voix ambiguë d'un cœur qui, au zéphyr, préfère les jattes de kiwis.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia y frío.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה.",
    "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر.",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश।",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน",
    "いろはにほへと ちりぬるを わかよたれそ つねならむ。",
    "视野无限广,窗外有蓝天。2024年10月1日,气温23℃。",
    "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다.",
    "Pijamalı hasta yağız şoföre çabucak güvendi.",
    "Đạo bùa thí sinh xem lại quỹ đạo trước giờ thi.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Server p99 = 42.7 ms (n=1,024), throughput ≥ 16,500 tok/s -> OK?",
]
CODE = [
    "def f(x):\n", "    return x**2 + 1\n", "\tif (a[i] != b->c) {\n", "}\n\n", "// note: 0xFF\r\n",
    "for (int i = 0; i < n; ++i)\n", "        x += 1e-5;\n", "SELECT * FROM t WHERE id='7';\n",
    "<div class=\"a b\">&nbsp;</div>\n", "{\"key\": [1, 2.50, null, true]}", "#include <vector>\n",
    "std::string s = R\"(raw)\";\n", "lambda: None  # TODO\n", "https://example.org/a?b=c&d=%20#e\n",
    "$ git commit -m \"x\"\n", "\\begin{equation} a_{i}^2 \\end{equation}\n", "```python\n", "|---|:--:|\n",
    "camelCaseWord snake_case_word SCREAMING_CASE", "__init__", "...", "===", "!==", "<<=", "\u00a0\u00a0x",
]
SPACES = [" ", " ", " ", "  ", "\t", "\n", "\n", "\r\n", "\r", "\u00a0", "\u0085", "\u1680", "\u180e", "\u2003",
          "\u2009", "\u200b", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\ufeff", "\v", "\f"]
NUMBERS = "0123456789" * 4 + "٠١٢٣٤٥६७८९²³¹½¾ⅣⅫ①⑳〇㊿𝟘𝟙"
PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~¡¿«»–—‘’“”…‰€£¥§¶†•·×÷±≤≥≠∞√∂∑→←↑↓■□★☆♪、。「」！？（）"
EMOJI = ["😀", "😂", "🥺", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇫🇷", "🇯🇵", "❤️", "☃", "🧑🏿‍🚀", "1️⃣", "🫠", "✈️", "🐍", "🦀", "🪄"]
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'Ve", "'LL", "'D", "’s", "'x", "'", "''",
                "'sa", "'r", "'l", "'\u017f"]


def script_word(rng, low=1, high=10):
    ranges = SCRIPTS[rng.choice(list(SCRIPTS))]
    return "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randint(low, high)))


def any_character(rng):
    while True:
        point = rng.randint(0, rng.choice([0x7F, 0x7FF, 0x2FFF, 0xFFFF, 0x1FFFF, 0x10FFFF]))
        if not 0xD800 <= point <= 0xDFFF:
            return chr(point)


def piece(rng):
    kind = rng.randrange(9)
    if kind == 0:
        return script_word(rng)
    if kind == 1:
        return rng.choice(EMOJI)
    if kind == 2:
        return "".join(rng.choice(NUMBERS) for _ in range(rng.randint(1, 8)))
    if kind == 3:
        return "".join(rng.choice(SPACES) for _ in range(rng.randint(1, 5)))
    if kind == 4:
        return "".join(rng.choice(PUNCTUATION) for _ in range(rng.randint(1, 4)))
    if kind == 5:
        return script_word(rng, 1, 5) + rng.choice(CONTRACTIONS)
    if kind == 6:
        return rng.choice(CODE)
    sentence = rng.choice(SENTENCES)
    start = rng.randrange(len(sentence))
    return sentence[start:start + rng.randint(1, 30)]


def lenient_only(raw):
    """Whether llama.cpp reads as characters what Unicode calls ill-formed: overlong forms,
    surrogates, values above U+10FFFF (on the last it ends the process). Not compared."""
    at = 0
    while at < len(raw):
        first = raw[at]
        length = 1 if first < 0x80 else 2 if first >> 5 == 6 else 3 if first >> 4 == 14 else 4 if first >> 3 == 30 else 0
        sequence = raw[at:at + length]
        if length == 0 or len(sequence) < length or any(b >> 6 != 2 for b in sequence[1:]):
            at += 1
            continue
        try:
            sequence.decode("utf-8")
        except UnicodeDecodeError:
            return True
        at += length
    return False


def damaged(rng):
    while True:
        raw = bytearray("".join(piece(rng) for _ in range(rng.randint(1, 4))).encode())
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(raw) + 1)
            how = rng.randrange(3)
            if how == 0:
                raw.insert(place, rng.randrange(256))
            elif how == 1:
                del raw[place:place + 1]
            else:
                raw[place:place + 1] = bytes([rng.randrange(0x80, 0x100)])
        if not lenient_only(bytes(raw)):
            return bytes(raw)


def make_strings(rng, special):
    def joined(parts):
        return "".join(parts).encode()

    strings = []
    for _ in range(4500):
        strings.append(joined(piece(rng) for _ in range(rng.randint(1, 6))))
    for _ in range(1500):
        strings.append(joined(rng.choice(SPACES) if rng.random() < 0.5 else piece(rng) for _ in range(rng.randint(1, 9))))
    for _ in range(1500):
        strings.append(joined(rng.choice(CODE) for _ in range(rng.randint(1, 4))))
    for _ in range(1500):
        strings.append(joined(any_character(rng) for _ in range(rng.randint(1, 12))))
    for _ in range(1200):
        strings.append(damaged(rng))
    for _ in range(1200):
        parts = []
        for _ in range(rng.randint(1, 5)):
            token = rng.choice(special)
            parts.append(rng.choice([token, token, token[:-1], token[1:], piece(rng), "<|" + token, token + "|>"]))
        strings.append(joined(parts))
    for _ in range(800):
        run = rng.choice([rng.choice(PUNCTUATION), rng.choice(SPACES), script_word(rng, 1, 2), rng.choice(NUMBERS), "a", "ab"])
        strings.append((run * rng.randint(2, 40)).encode())
    for sentence in SENTENCES:
        strings.append(sentence.encode())
    strings.append(b"")
    return strings


def write_variant(reader, pre, path):
    writer = gguf.GGUFWriter(path, "llama")
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = pre if name == "tokenizer.ggml.pre" else field.contents()
        element = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, value, field.types[0], element)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def tokenize(vocab, raw, parse_special):
    capacity = len(raw) + 16
    tokens = (llama_cpp.llama_token * capacity)()
    count = llama_cpp.llama_tokenize(vocab, raw, len(raw), tokens, capacity, False, parse_special)
    assert count >= 0, raw
    return tokens[:count]


def hash_ids(ids):
    value = 0xCBF29CE484222325
    for byte in struct.pack(f"<{len(ids)}i", *ids):
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value >> 32 ^ value & 0xFFFFFFFF


def hash_split(splitter, raw):
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return 0
    # The libraries disagree on characters younger than Unicode 15.1. This leaves out a few more.
    if any(unicodedata.category(character) == "Cn" for character in text):
        return 0
    return hash_ids([len(word.encode()) for word, _ in splitter.pre_tokenize_str(text)])


def main():
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=root / "models/default.gguf")
    parser.add_argument("--out", type=Path, default=root / "tests/golden/tokenizer_parity.bin")
    options = parser.parse_args()

    @llama_cpp.llama_log_callback
    def silent(_level, _text, _data):
        pass

    llama_cpp.llama_log_set(silent, ctypes.c_void_p())
    reader = gguf.GGUFReader(options.model)
    texts = reader.fields["tokenizer.ggml.tokens"].contents()
    kinds = reader.fields["tokenizer.ggml.token_type"].contents()
    special = [text for text, kind in zip(texts, kinds) if kind != 1]
    strings = make_strings(random.Random(SEED), special)
    hashes = []
    with tempfile.TemporaryDirectory() as folder:
        for pre, parse_special in COLUMNS:
            path = Path(folder) / f"{pre}.gguf"
            write_variant(reader, pre, path)
            parameters = llama_cpp.llama_model_default_params()
            parameters.vocab_only = True
            model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
            assert model, path
            vocab = llama_cpp.llama_model_get_vocab(model)
            hashes.append([hash_ids(tokenize(vocab, raw, parse_special)) for raw in strings])
            llama_cpp.llama_model_free(model)
    for _, pattern in SPLIT_COLUMNS:
        splitter = Split(Regex(pattern), "isolated")
        hashes.append([hash_split(splitter, raw) for raw in strings])
    columns = COLUMNS + [(pre, 2) for pre, _ in SPLIT_COLUMNS]
    with open(options.out, "wb") as out:
        out.write(b"CRTG" + struct.pack("<I", len(columns)))
        for pre, kind in columns:
            out.write(struct.pack("<B", len(pre)) + pre.encode() + struct.pack("<B", kind))
        out.write(struct.pack("<I", len(strings)))
        for index, raw in enumerate(strings):
            out.write(struct.pack("<I", len(raw)) + raw)
            out.write(struct.pack(f"<{len(columns)}I", *(column[index] for column in hashes)))
    print(f"{options.out}: {len(strings)} strings, {len(columns)} columns, {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
