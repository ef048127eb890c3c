#!/usr/bin/env python3
"""Makes tests/golden/tokenizer_json.bin: tokenizers, strings, and what other libraries make of them.

Needs tokenizers, sentencepiece, gguf and llama-cpp-python. Trains a small vocabulary on this project's texts and
Python's library for each family of models, in that family's configuration, and encodes random strings with it
(Hugging Face tokenizers). A SentencePiece vocabulary is written as a GGUF file and held to llama.cpp, and to
sentencepiece itself where the two libraries mean the same.

The kept file is small. The comparison in full:
  tools/make_tokenizer_json_golden.py --strings 100000 --vocabulary 6000 --default-model --mistral DATA --out /tmp/full.bin
  CRIBLE_TOKENIZER_GOLDEN=/tmp/full.bin build/release/bin/text_test --gtest_filter='TokenizerJsonParity.*'
What differs there is Unicode's age: the library's NFC does not know the Lao mark U+0EBA, and its Punctuation and
NFKC take characters such as U+2E59, U+166D and U+0A76 as older versions of Unicode have them (8 of 100,000 strings).

Layout, little-endian: "CRTJ", u32 tokenizers, per tokenizer {u8 length, name, u8 kind: 0 tokenizer.json, 1 GGUF,
u32 length, content}, u32 strings, per string {u32 length, bytes, per tokenizer u32 hash (0: not compared)}.
Hash (CRC-32) over int32s: ids with special tokens added and parsed, -1, ids with neither,
-1, bytes of the first ids decoded.
"""

import argparse
import base64
import ctypes
import io
import json
import random
import struct
import sys
import sysconfig
import tempfile
import unicodedata
import zlib
from pathlib import Path

import gguf
import llama_cpp
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

import make_tokenizer_golden as base

SEED = 20260131
ROOT = Path(__file__).resolve().parent.parent
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?"
          r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
POSSESSIVE = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$"
              r"|\s*[\r\n]|\s+(?!\S)|\s")
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
SPECIAL = ["<|begin_of_text|>", "<|im_start|>", "<|im_end|>", "<|eot_id|>"]


def split(pattern, behavior="Isolated", invert=False):
    kind = "String" if len(pattern) == 1 else "Regex"
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def sequence(name, *steps):
    return {"type": "Sequence", name: list(steps)}


def replace(pattern, content):
    return {"type": "Replace", "pattern": pattern, "content": content}


def template(before, after, ids):
    around = lambda tokens: [{"SpecialToken": {"id": token, "type_id": 0}} for token in tokens]
    single = around(before) + [{"Sequence": {"id": "A", "type_id": 0}}] + around(after)
    return {"type": "TemplateProcessing", "single": single, "pair": single + [{"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {token: {"id": token, "ids": [ids[token]], "tokens": [token]} for token in before + after}}


def added(identifier, content, **traits):
    return {"id": identifier, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True, **traits}


SPACE_TO_MARK = replace({"String": " "}, "▁")
MARK_TO_SPACE = replace({"String": "▁"}, " ")
STRIP_FIRST = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
FALLBACK_DECODER = [MARK_TO_SPACE, {"type": "ByteFallback"}, {"type": "Fuse"}]


def family(name, **parts):
    return {"name": name, "normalizer": None, "pre_tokenizer": None, "decoder": {**BYTE_LEVEL, "use_regex": True}, "model": {},
            "special": SPECIAL, "plain": [], "before": [], "after": [], "characters": False, **parts}


def metaspace(scheme, split_words):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split_words}


BYTES = {"byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"}
SP_SPECIAL = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]


def families():
    return [
        family("llama3", pre_tokenizer=sequence("pretokenizers", split(LLAMA3), BYTE_LEVEL),
               model={"ignore_merges": True}, before=["<|begin_of_text|>"]),
        family("qwen2", normalizer={"type": "NFC"}, pre_tokenizer=sequence("pretokenizers", split(QWEN2), BYTE_LEVEL),
               plain=[("<tool_call>", {}), ("<think>", {})]),
        family("tekken", pre_tokenizer=sequence("pretokenizers", split(TEKKEN), BYTE_LEVEL),
               model={"ignore_merges": True}, before=["<|im_start|>"], after=["<|im_end|>"]),
        family("possessive", pre_tokenizer=sequence("pretokenizers", split(POSSESSIVE), BYTE_LEVEL)),
        family("smollm", pre_tokenizer=sequence("pretokenizers", {"type": "Digits", "individual_digits": True},
                                                {**BYTE_LEVEL, "use_regex": True})),
        family("gpt2_prefix", pre_tokenizer={**BYTE_LEVEL, "add_prefix_space": True, "use_regex": True},
               plain=[("<mask>", {"lstrip": True}), ("<gap>", {"rstrip": True, "lstrip": True}),
                      ("word", {"single_word": True}), ("[tag]", {"normalized": True})]),
        family("gemma", characters=True, normalizer=SPACE_TO_MARK, pre_tokenizer=split(" ", "MergedWithPrevious"),
               decoder=sequence("decoders", *FALLBACK_DECODER), model=BYTES, special=["<unk>", "<bos>", "<end_of_turn>"],
               plain=[("\n\n", {}), ("\n\n\n", {})], before=["<bos>"]),
        family("llama2", characters=True, normalizer=sequence("normalizers", {"type": "Prepend", "prepend": "▁"}, SPACE_TO_MARK),
               decoder=sequence("decoders", *FALLBACK_DECODER, STRIP_FIRST), model=BYTES, special=SP_SPECIAL, before=["<s>"]),
        family("mistral", characters=True, pre_tokenizer=metaspace("first", False),
               decoder=sequence("decoders", *FALLBACK_DECODER, STRIP_FIRST), model=BYTES, special=SP_SPECIAL, before=["<s>"]),
        family("metaspace", characters=True, pre_tokenizer=metaspace("always", True), decoder=metaspace("always", True),
               model={"unk_token": "<unk>", "fuse_unk": False}, special=SP_SPECIAL, after=["</s>"]),
        family("words", characters=True,
               normalizer=sequence("normalizers", {"type": "NFKC"}, {"type": "Lowercase"},
                                   {"type": "Strip", "strip_left": True, "strip_right": True},
                                   replace({"Regex": r"[\u2018\u2019]|\d\d+"}, "'")),
               pre_tokenizer=sequence("pretokenizers", {"type": "Whitespace"}, {"type": "Punctuation", "behavior": "Contiguous"},
                                      {"type": "Digits", "individual_digits": False}),
               decoder=sequence("decoders", {"type": "Fuse"}), model={"unk_token": "<unk>", "fuse_unk": True},
               special=["<unk>"], plain=[("foo bar", {"normalized": True}), ("foo", {"normalized": True})]),
        family("pieces", characters=True, normalizer={"type": "NFKD"},
               pre_tokenizer=sequence("pretokenizers", {"type": "WhitespaceSplit"}, split("e", "MergedWithNext"),
                                      split(r"[^\w.]|\W\d", "Contiguous"), split(r"\b", "Isolated"),
                                      split("[aou]", "Removed", True), split(r"(?i)st|[^\S\n]", "MergedWithPrevious", True)),
               decoder=sequence("decoders", {"type": "Fuse"}), special=["<unk>"], plain=[]),
    ]


def corpus():
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").rglob("*.md")) + [ROOT / "README.md"]]
    library = Path(sysconfig.get_paths()["stdlib"])
    for name in ["argparse.py", "email/message.py", "json/decoder.py", "statistics.py", "textwrap.py", "http/client.py"]:
        texts.append((library / name).read_text(encoding="utf-8"))
    texts += base.SENTENCES * 6 + base.CODE * 6
    return [line + "\n" for text in texts for line in text.split("\n")]


def train(parts, vocabulary):
    """The tokenizer.json of a family, its merges learnt from the corpus."""
    stage = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "post_processor": None,
             "normalizer": parts["normalizer"], "pre_tokenizer": parts["pre_tokenizer"], "decoder": parts["decoder"],
             "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                       "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                       "vocab": {}, "merges": []}}
    learner = Tokenizer.from_str(json.dumps(stage))
    if parts["pre_tokenizer"] is None or parts["name"] in ("gemma", "mistral"):
        # Whole texts as words are slow to learn from, and nothing is learnt across spaces.
        learner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(prepend_scheme="never")])
    alphabet = [] if parts["characters"] else pre_tokenizers.ByteLevel.alphabet()
    learner.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=vocabulary, show_progress=False, limit_alphabet=300,
                                                              initial_alphabet=alphabet, max_token_length=16))
    learnt = json.loads(learner.to_str())["model"]
    texts = list(parts["special"]) if parts["characters"] else []
    if parts["model"].get("byte_fallback"):
        texts += [f"<0x{byte:02X}>" for byte in range(256)]
    texts += [text for text, _ in sorted(learnt["vocab"].items(), key=lambda item: item[1])]
    stage["model"].update(parts["model"], vocab={text: index for index, text in enumerate(texts)}, merges=learnt["merges"])
    ids = dict(stage["model"]["vocab"])
    for text, traits in [(text, {}) for text in parts["special"]] + [(text, {"special": False, **more}) for text, more in parts["plain"]]:
        ids.setdefault(text, len(ids))
        stage["added_tokens"].append(added(ids[text], text, **traits))
    if parts["before"] or parts["after"]:
        stage["post_processor"] = template(parts["before"], parts["after"], ids)
    elif not parts["characters"]:
        stage["post_processor"] = {**BYTE_LEVEL}
    return json.dumps(stage, ensure_ascii=False, separators=(",", ":"))


def default_model_json(path):
    """The default model's vocabulary as its tokenizer.json would have it."""
    fields = gguf.GGUFReader(path).fields
    texts = fields["tokenizer.ggml.tokens"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    stage = json.loads(train(family("default", pre_tokenizer=sequence(
        "pretokenizers", {"type": "Digits", "individual_digits": True}, {**BYTE_LEVEL, "use_regex": True})), 300))
    stage["model"]["vocab"] = {text: index for index, text in enumerate(texts)}
    stage["model"]["merges"] = [merge.split(" ") for merge in fields["tokenizer.ggml.merges"].contents()]
    stage["added_tokens"] = [added(index, text) for index, (text, kind) in enumerate(zip(texts, kinds)) if kind != 1]
    return json.dumps(stage, ensure_ascii=False)


def merges_by_rank(ids, order):
    """All ways to make a token of two others, best token first; ids: of every text."""
    merges = []
    for text in order:
        pairs = [(text[:cut], text[cut:]) for cut in range(1, len(text))]
        known = [pair for pair in pairs if pair[0] in ids and pair[1] in ids]
        merges += sorted(known, key=lambda pair: (ids[pair[0]], ids[pair[1]]))
    return [list(pair) for pair in merges]


def mistral_sentencepiece_json(processor):
    """Mistral's first vocabulary as its tokenizer.json has it."""
    parts = next(parts for parts in families() if parts["name"] == "llama2")
    stage = json.loads(train(parts, 300))
    texts = [processor.id_to_piece(index) for index in range(processor.get_piece_size())]
    ids = {text: index for index, text in enumerate(texts)}
    stage["model"].update(vocab=ids, merges=merges_by_rank(ids, texts))
    stage["added_tokens"] = [added(index, texts[index]) for index in range(3)]
    stage["post_processor"] = template(["<s>"], [], ids)
    return json.dumps(stage, ensure_ascii=False)


def tekken_json(path):
    """Mistral's Tekken vocabulary as its tokenizer.json has it."""
    parts = next(parts for parts in families() if parts["name"] == "tekken")
    stage = json.loads(train(parts, 300))
    tekken = json.loads(path.read_text(encoding="utf-8"))
    special = tekken["config"]["default_num_special_tokens"]
    letters = dict(zip(range(256), base_letters()))
    texts = ["".join(letters[byte] for byte in base64.b64decode(token["token_bytes"]))
             for token in tekken["vocab"][:tekken["config"]["default_vocab_size"] - special]]
    ranks = {text: rank for rank, text in enumerate(texts)}
    names = {0: "<unk>", 1: "<s>", 2: "</s>", 3: "[INST]", 4: "[/INST]"}
    vocab = {names.get(index, f"<SPECIAL_{index}>"): index for index in range(special)}
    vocab.update((text, special + rank) for text, rank in ranks.items())
    stage["model"].update(vocab=vocab, merges=merges_by_rank(ranks, texts[256:]))
    stage["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = tekken["config"]["pattern"]
    stage["added_tokens"] = [added(index, names.get(index, f"<SPECIAL_{index}>")) for index in range(special)]
    stage["post_processor"] = template(["<s>"], [], {"<s>": 1})
    return json.dumps(stage, ensure_ascii=False)


def base_letters():
    """The byte alphabet, byte by byte."""
    plain = [byte for byte in range(256) if 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or byte >= 0xAE]
    others = iter(range(256, 512))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def hash_of(*parts):
    return zlib.crc32(b"\xff\xff\xff\xff".join(struct.pack(f"<{len(part)}i", *part) for part in parts))


class HuggingFace:
    kind = 0

    def __init__(self, name, content):
        self.name, self.content = name, content.encode()
        self.parsing, self.literal = Tokenizer.from_str(content), Tokenizer.from_str(content)
        self.literal.encode_special_tokens = True

    def hash(self, raw):
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            return 0
        # The libraries disagree on characters younger than Unicode 15.1. This leaves out a few more.
        if any(unicodedata.category(character) == "Cn" for character in text):
            return 0
        ids = self.parsing.encode(text).ids
        return hash_of(ids, self.literal.encode(text, add_special_tokens=False).ids,
                       self.parsing.decode(ids, skip_special_tokens=False).encode())


class LlamaCpp:
    kind = 1

    def __init__(self, name, path):
        self.name, self.content = name, path.read_bytes()
        parameters = llama_cpp.llama_model_default_params()
        parameters.vocab_only = True
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        assert self.model, path
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)

    def encode(self, raw, special):
        capacity = len(raw) + 16
        tokens = (llama_cpp.llama_token * capacity)()
        count = llama_cpp.llama_tokenize(self.vocab, raw, len(raw), tokens, capacity, special, special)
        assert count >= 0, raw
        return tokens[:count]

    def hash(self, raw):
        try:
            raw.decode()
        except UnicodeDecodeError:
            return 0
        literal = self.encode(raw, False)
        tokens = (llama_cpp.llama_token * len(literal))(*literal)
        text = ctypes.create_string_buffer(8 * len(raw) + 64)
        count = llama_cpp.llama_detokenize(self.vocab, tokens, len(literal), text, len(text), False, True)
        assert count >= 0, raw
        return hash_of(self.encode(raw, True), literal, text.raw[:count])


def train_sentencepiece(vocabulary, **options):
    model = io.BytesIO()
    # Characters stay as they are: what normalises is not part of a GGUF file.
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()), model_writer=model, model_type="bpe", vocab_size=vocabulary, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=0.99,
        user_defined_symbols=["<tool>", "\u2581\u2581", "\u2581\u2581\u2581\u2581"], minloglevel=2, **options)
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def write_sentencepiece(processor, path, space_prefix):
    kinds = {"unknown": 2, "control": 3, "unused": 5, "byte": 6}
    texts, scores, types = [], [], []
    for index in range(processor.get_piece_size()):
        text = processor.id_to_piece(index)
        kind = next((number for name, number in kinds.items() if getattr(processor, f"is_{name}")(index)), 1)
        if text in ("<tool>", "▁▁", "▁▁▁▁"):
            kind, text = 4, text.replace("▁", " ")
        texts.append(text)
        scores.append(processor.get_score(index))
        types.append(kind)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(texts)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_space_prefix(space_prefix)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def compare_with_sentencepiece(processor, oracle, strings):
    """llama.cpp and sentencepiece mean the same where no special token stands in the text."""
    different = [raw for raw in strings if b"<" not in raw and b"\0" not in raw and "▁".encode() not in raw and oracle.hash(raw)
                 and processor.encode(raw.decode()) != oracle.encode(raw, False)]
    print(f"sentencepiece and llama.cpp differ on {len(different)} strings {different[:3]}")


def make_strings(count, special):
    rng = random.Random(SEED)
    strings = base.make_strings(rng, special)
    while len(strings) < count:
        strings += base.make_strings(rng, special)
    rng.shuffle(strings)
    return strings[:count - 3] + [b"", b" ", b"  <s> x </s>"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strings", type=int, default=1100)
    parser.add_argument("--vocabulary", type=int, default=600, help="tokens learnt by each tokenizer")
    parser.add_argument("--only", nargs="*", help="make these families only")
    parser.add_argument("--mistral", type=Path, help="mistral_common/data of the mistral-common package: real vocabularies too")
    parser.add_argument("--default-model", action="store_true", help="the default model's vocabulary too")
    parser.add_argument("--out", type=Path, default=ROOT / "tests/golden/tokenizer_json.bin")
    options = parser.parse_args()

    silent = llama_cpp.llama_log_callback(lambda _level, _text, _data: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p())
    oracles = []
    special = {"<tool>", "Foo Bar", "ｆｏｏ"}
    for parts in families():
        if options.only and parts["name"] not in options.only:
            continue
        oracles.append(HuggingFace(parts["name"], train(parts, options.vocabulary)))
        special.update(parts["special"], (text for text, _ in parts["plain"]))
    if options.default_model:
        oracles.append(HuggingFace("default_model", default_model_json(ROOT / "models/default.gguf")))
    if options.mistral:
        oracles.append(HuggingFace("tekken_real", tekken_json(options.mistral / "tekken_240718.json")))
        real = sentencepiece.SentencePieceProcessor(model_file=str(options.mistral / "tokenizer.model.v1"))
        oracles.append(HuggingFace("mistral_real", mistral_sentencepiece_json(real)))
    strings = make_strings(options.strings, sorted(special))
    with tempfile.TemporaryDirectory() as folder:
        for name, prefix in [("sentencepiece", True), ("sentencepiece_no_prefix", False)] if not options.only else []:
            processor = train_sentencepiece(max(options.vocabulary, 900), add_dummy_prefix=prefix)
            path = Path(folder) / f"{name}.gguf"
            write_sentencepiece(processor, path, prefix)
            oracles.append(LlamaCpp(name, path))
            compare_with_sentencepiece(processor, oracles[-1], strings)
        if options.mistral:
            path = Path(folder) / "mistral.gguf"
            write_sentencepiece(real, path, True)
            oracles.append(LlamaCpp("mistral_gguf", path))
            compare_with_sentencepiece(real, oracles[-1], strings)
    with open(options.out, "wb") as out:
        out.write(b"CRTJ" + struct.pack("<I", len(oracles)))
        for oracle in oracles:
            out.write(struct.pack("<B", len(oracle.name)) + oracle.name.encode())
            out.write(struct.pack("<BI", oracle.kind, len(oracle.content)) + oracle.content)
        out.write(struct.pack("<I", len(strings)))
        for raw in strings:
            out.write(struct.pack("<I", len(raw)) + raw)
            out.write(struct.pack(f"<{len(oracles)}I", *(oracle.hash(raw) for oracle in oracles)))
    print(f"{options.out}: {len(strings)} strings, {len(oracles)} tokenizers, {options.out.stat().st_size} bytes")


if __name__ == "__main__":
    sys.exit(main())
