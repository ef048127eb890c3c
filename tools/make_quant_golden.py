#!/usr/bin/env python3
"""Writes tests/golden/quant_blocks.bin: blocks of every weight type and what the `gguf` package makes of them.

Needs numpy and gguf. Deterministic. Layout, little-endian, repeated until the end of the file:
  u32 length of the type's name, the name, u32 number of bytes, u32 number of values, bytes, float32 values.
"""

import pathlib
import struct

import numpy
from gguf import GGMLQuantizationType, GGML_QUANT_SIZES, dequantize

TYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0", "q4_0": "Q4_0", "q4_1": "Q4_1", "q5_0": "Q5_0",
         "q5_1": "Q5_1", "q4_k": "Q4_K", "q5_k": "Q5_K", "q6_k": "Q6_K"}
BLOCKS_PER_TYPE = 12
# Where the half-precision scales (and minima) of a block are: offset in bytes, number.
HALVES = {"Q8_0": (0, 1), "Q4_0": (0, 1), "Q4_1": (0, 2), "Q5_0": (0, 1), "Q5_1": (0, 2), "Q4_K": (0, 2), "Q5_K": (0, 2),
          "Q6_K": (208, 1)}
OUTPUT = pathlib.Path(__file__).parent.parent / "tests" / "golden" / "quant_blocks.bin"


def values_of(kind):
    return max(32, GGML_QUANT_SIZES[kind][0]) * BLOCKS_PER_TYPE


def random_blocks(kind, random):
    """Random bytes with finite, ordinary scales in place of the random ones."""
    block_size, block_bytes = GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (values_of(kind) // block_size, block_bytes), dtype=numpy.uint8)
    if kind.name == "F32":
        return random.standard_normal((len(blocks), 1)).astype(numpy.float32).view(numpy.uint8)
    if kind.name == "F16":
        return random.standard_normal((len(blocks), 1)).astype(numpy.float16).view(numpy.uint8)
    if kind.name == "BF16":
        return random.standard_normal((len(blocks), 1)).astype(numpy.float32).view(numpy.uint8)[:, 2:].copy()
    offset, halves = HALVES[kind.name]
    scales = random.standard_normal((len(blocks), halves)).astype(numpy.float16).view(numpy.uint8)
    blocks[:, offset : offset + 2 * halves] = scales
    return blocks


def main():
    random = numpy.random.default_rng(20240)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    with OUTPUT.open("wb") as out:
        for name, gguf_name in TYPES.items():
            kind = GGMLQuantizationType[gguf_name]
            raw = numpy.ascontiguousarray(random_blocks(kind, random)).reshape(1, -1)
            view = {"F32": numpy.float32, "F16": numpy.float16}.get(gguf_name)
            values = dequantize(raw if view is None else raw.view(view), kind).astype(numpy.float32).reshape(-1)
            assert values.size == values_of(kind)
            out.write(struct.pack("<I", len(name)) + name.encode())
            out.write(struct.pack("<II", raw.size, values.size) + raw.tobytes() + values.tobytes())


if __name__ == "__main__":
    main()
