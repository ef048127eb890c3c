#!/usr/bin/env python3
"""Writes a GGUF of Qwen3-0.6B's shape with random weights and a made-up byte-level vocabulary of its size.

  tools/make_random_model.py OUT.gguf [--type q8_0|q4_k_m|q4_k|f16] [--shape qwen3-0.6b|tiny] [--seed N]

What it says is noise, but it loads and costs what the real model costs, in Crible and in llama.cpp: for
benchmarks where nothing can be downloaded. Quantised blocks are drawn as blocks (random quants, scales around
the wanted spread) instead of being quantised from floats. Needs numpy and gguf. Same seed, same file.
"""

import argparse
import itertools

import numpy
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType

SHAPES = {
    "qwen3-0.6b": dict(embedding=1024, feed_forward=3072, layers=28, heads=16, kv_heads=8, head_size=128,
                       vocabulary=151936, ordinary=151643, context=40960),
    "tiny": dict(embedding=256, feed_forward=512, layers=4, heads=4, kv_heads=2, head_size=64, vocabulary=2048,
                 ordinary=2000, context=4096),
}
FILE_TYPES = {"q8_0": LlamaFileType.MOSTLY_Q8_0, "q4_k_m": LlamaFileType.MOSTLY_Q4_K_M,
              "q4_k": LlamaFileType.MOSTLY_Q4_K_S, "f16": LlamaFileType.MOSTLY_F16}
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def halves(values):
    """Float values as the two bytes of each of their halves: [n] -> [n, 2]."""
    return numpy.ascontiguousarray(values.astype(numpy.float16)).view(numpy.uint8).reshape(-1, 2)


def q8_0_blocks(random, blocks, spread):
    """w = d·q with q uniform in ±127, whose standard deviation is 73.3."""
    out = numpy.empty((blocks, 34), numpy.uint8)
    out[:, :2] = halves(spread / 73.3 * random.uniform(0.7, 1.3, blocks))
    quants = random.integers(0, 256, (blocks, 32), dtype=numpy.uint8)
    quants[quants == 128] = 0  # -128 does not occur in Q8_0
    out[:, 2:] = quants
    return out


def q4_k_blocks(random, blocks, spread):
    """w = d·scale·q - dmin·min with min = scale and dmin = 7.5·d, so that the mean is nought: q's deviation is 4.61."""
    out = numpy.empty((blocks, 144), numpy.uint8)
    d = spread / (4.61 * 48) * numpy.ones(blocks)
    out[:, 0:2] = halves(d)
    out[:, 2:4] = halves(7.5 * d)
    scale = random.integers(33, 64, (blocks, 8), dtype=numpy.uint8)  # six bits
    out[:, 4:8] = (scale[:, :4] & 63) | (scale[:, 4:] >> 4) << 6
    out[:, 8:12] = out[:, 4:8]  # the minima, equal to the scales
    out[:, 12:16] = (scale[:, 4:] & 15) | (scale[:, 4:] & 15) << 4
    out[:, 16:] = random.integers(0, 256, (blocks, 128), dtype=numpy.uint8)
    return out


def q6_k_blocks(random, blocks, spread):
    """w = d·scale·(q - 32), q uniform in six bits: deviation 18.5."""
    out = numpy.empty((blocks, 210), numpy.uint8)
    out[:, :192] = random.integers(0, 256, (blocks, 192), dtype=numpy.uint8)
    out[:, 192:208] = random.integers(64, 128, (blocks, 16), dtype=numpy.uint8)
    out[:, 208:] = halves(spread / (18.5 * 96) * numpy.ones(blocks))
    return out


def f16_blocks(random, blocks, spread):
    return halves(random.standard_normal(blocks, dtype=numpy.float32) * spread)


BLOCKS = {GGMLQuantizationType.Q8_0: (32, q8_0_blocks), GGMLQuantizationType.Q4_K: (256, q4_k_blocks),
          GGMLQuantizationType.Q6_K: (256, q6_k_blocks), GGMLQuantizationType.F16: (1, f16_blocks)}


def add_matrix(writer, random, name, rows, columns, kind):
    block, draw = BLOCKS[kind]
    data = draw(random, rows * columns // block, columns**-0.5).reshape(rows, -1)
    writer.add_tensor(name, data.view(numpy.float16) if kind is GGMLQuantizationType.F16 else data,
                      raw_dtype=None if kind is GGMLQuantizationType.F16 else kind)


def add_norm(writer, random, name, size):
    writer.add_tensor(name, (1 + 0.1 * random.standard_normal(size)).astype(numpy.float32))


def matrix_type(file_type, layer, layers, name):
    """llama.cpp's mixture for Q4_K_M: six bits for the head and for some value and down matrices."""
    if file_type == "q8_0":
        return GGMLQuantizationType.Q8_0
    if file_type == "f16":
        return GGMLQuantizationType.F16
    more_bits = layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
    if name == "token_embd" or (file_type == "q4_k_m" and name in ("attn_v", "ffn_down") and more_bits):
        return GGMLQuantizationType.Q6_K
    return GGMLQuantizationType.Q4_K


def byte_letters():
    """GPT-2's printable letter of every byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = itertools.count(256)
    return [chr(b) if b in printable else chr(next(spare)) for b in range(256)]


def vocabulary(shape):
    """Bytes, then merges that spell ever longer words of lower-case letters, then Qwen's chat tokens and padding."""
    letters = byte_letters()
    tokens, merges = list(letters), []
    alphabet = [letters[32], *"etaoinshrdlucmfwypvbgkjqxz"]
    for first in tokens_by_length(alphabet):
        for letter in alphabet[1:]:  # a space only begins a word
            if len(tokens) == shape["ordinary"]:
                break
            tokens.append(first + letter)
            merges.append(f"{first} {letter}")
        else:
            continue
        break
    types = [TokenType.NORMAL] * len(tokens)
    for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        tokens.append(token)
        types.append(TokenType.CONTROL)
    while len(tokens) < shape["vocabulary"]:
        tokens.append(f"[PAD{len(tokens)}]")
        types.append(TokenType.UNUSED)
    return tokens, types, merges


def tokens_by_length(alphabet):
    """Words to extend by a letter: all of one letter, then all of two, ..."""
    words = alphabet
    while True:
        yield from words
        words = [word + letter for word in words for letter in alphabet[1:]]


def add_keys(writer, shape, file_type):
    writer.add_name(f"random {file_type}")
    writer.add_file_type(FILE_TYPES[file_type])
    writer.add_context_length(shape["context"])
    writer.add_embedding_length(shape["embedding"])
    writer.add_block_count(shape["layers"])
    writer.add_feed_forward_length(shape["feed_forward"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_key_length(shape["head_size"])
    writer.add_value_length(shape["head_size"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    tokens, types, merges = vocabulary(shape)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(shape["ordinary"])
    writer.add_eos_token_id(shape["ordinary"] + 2)
    writer.add_pad_token_id(shape["ordinary"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--type", choices=FILE_TYPES, default="q8_0")
    parser.add_argument("--shape", choices=SHAPES, default="qwen3-0.6b")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    shape = SHAPES[arguments.shape]
    random = numpy.random.default_rng(arguments.seed)
    writer = GGUFWriter(arguments.out, "qwen3")
    add_keys(writer, shape, arguments.type)

    width, query, kv = shape["embedding"], shape["heads"] * shape["head_size"], shape["kv_heads"] * shape["head_size"]
    matrices = {"attn_q": (query, width), "attn_k": (kv, width), "attn_v": (kv, width), "attn_output": (width, query),
                "ffn_gate": (shape["feed_forward"], width), "ffn_up": (shape["feed_forward"], width),
                "ffn_down": (width, shape["feed_forward"])}
    norms = {"attn_norm": width, "attn_q_norm": shape["head_size"], "attn_k_norm": shape["head_size"],
             "ffn_norm": width}

    def kind(layer, name):
        return matrix_type(arguments.type, layer, shape["layers"], name)

    add_matrix(writer, random, "token_embd.weight", shape["vocabulary"], width, kind(0, "token_embd"))
    add_norm(writer, random, "output_norm.weight", width)
    for layer in range(shape["layers"]):
        for name, (rows, columns) in matrices.items():
            add_matrix(writer, random, f"blk.{layer}.{name}.weight", rows, columns, kind(layer, name))
        for name, size in norms.items():
            add_norm(writer, random, f"blk.{layer}.{name}.weight", size)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
