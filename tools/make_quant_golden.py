#!/usr/bin/env python3
"""Writes tests/golden/quant_blocks.bin: blocks of every weight type and what the `gguf` package makes of them.

Needs numpy and gguf. Deterministic. Layout, little-endian, repeated until the end of the file:
  u32 length of the type's name, the name, u32 number of bytes, u32 number of values, bytes, float32 values.
"""

import pathlib
import struct

import numpy
from gguf import GGMLQuantizationType, GGML_QUANT_SIZES, dequantize

TYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0", "q4_0": "Q4_0", "q4_1": "Q4_1"}
VALUES_PER_TYPE = 32 * 12
OUTPUT = pathlib.Path(__file__).parent.parent / "tests" / "golden" / "quant_blocks.bin"


def random_blocks(kind, random):
    """Random bytes with finite, ordinary scales in place of the random ones."""
    block_size, block_bytes = GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (VALUES_PER_TYPE // block_size, block_bytes), dtype=numpy.uint8)
    if kind.name == "F32":
        return random.standard_normal((len(blocks), 1)).astype(numpy.float32).view(numpy.uint8)
    if kind.name == "F16":
        return random.standard_normal((len(blocks), 1)).astype(numpy.float16).view(numpy.uint8)
    if kind.name == "BF16":
        return random.standard_normal((len(blocks), 1)).astype(numpy.float32).view(numpy.uint8)[:, 2:].copy()
    halves = 2 if kind.name == "Q4_1" else 1
    blocks[:, : 2 * halves] = random.standard_normal((len(blocks), halves)).astype(numpy.float16).view(numpy.uint8)
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
            assert values.size == VALUES_PER_TYPE
            out.write(struct.pack("<I", len(name)) + name.encode())
            out.write(struct.pack("<II", raw.size, values.size) + raw.tobytes() + values.tobytes())


if __name__ == "__main__":
    main()
