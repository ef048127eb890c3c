#!/usr/bin/env python3
"""Makes tests/golden/quantised: linear layers and whole tiny models as AWQ, GPTQ and FP8 checkpoints.

Needs numpy, torch, transformers and safetensors (requirements-golden.txt). Deterministic. The integers, zero
points and scales are drawn first; `expected` is what they mean, (integer - zero) * scale, and the file holds
them packed as the formats' own writers pack them. So what reads the file is held to what was meant, not to
another reader. Eight-bit floats are encoded and decoded by torch.

  LAYER_NAME/config.json, model.safetensors   one layer, "model.layers.0.self_attn.q_proj", and "expected" [out, in]
  MODEL_NAME/config.json, model.safetensors   a Llama of one layer
  MODEL_NAME.logits                           float32 [positions, vocabulary] of transformers in float32 with
                                              the expected weights, on the tokens of tests/golden/models
"""
import json
import pathlib
import shutil

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

GOLDEN = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden"
OUTPUT = GOLDEN / "quantised"
LAYER = "model.layers.0.self_attn.q_proj"
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]  # the output that each nibble of a word holds, from the low end
LLAMA = {"model_type": "llama", "vocab_size": 48, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
         "hidden_act": "silu", "rope_theta": 10000.0, "tie_word_embeddings": True}


def words(nibbles, bits):
    """Integers [..., 32/bits] -> signed words [...], the first in the lowest bits."""
    shifts = np.arange(0, 32, bits, dtype=np.uint64)
    return (nibbles.astype(np.uint64) << shifts).sum(-1).astype(np.uint32).view(np.int32)


def pack_awq(values):
    """[n, out] -> [n, out / 8]"""
    return words(values.reshape(len(values), -1, 8)[:, :, AWQ_ORDER], 4)


def pack_rows(values, bits):
    """[n, out] -> [n, out·bits/32], outputs in order."""
    return words(values.reshape(len(values), -1, 32 // bits), bits)


def pack_columns(values, bits):
    """[in, out] -> [in·bits/32, out], inputs in order."""
    return words(values.reshape(-1, 32 // bits, values.shape[1]).transpose(0, 2, 1), bits)


class Drawn:
    """Integers [in, out], zeros and scales [groups, out] and each input's group, and what they mean."""

    def __init__(self, random, rows, columns, bits, group, symmetric, shuffled=False, spread=0.05):
        groups = columns // group
        self.integers = random.integers(0, 1 << bits, (columns, rows))
        self.zeros = random.integers(0, 1 << bits, (groups, rows))
        self.zeros.flat[:2] = (0, (1 << bits) - 1)
        if symmetric:
            self.zeros[:] = 1 << (bits - 1)
        self.scales = (random.uniform(0.5, 1.5, (groups, rows)) * spread * 3 / (1 << bits)).astype(np.float16)
        self.group_of = np.arange(columns) // group
        if shuffled:
            random.shuffle(self.group_of)
        scales = self.scales.astype(np.float32)[self.group_of]
        self.expected = np.ascontiguousarray(((self.integers - self.zeros[self.group_of]) * scales).T.astype(np.float32))

    def awq(self):
        return {".qweight": pack_awq(self.integers), ".qzeros": pack_awq(self.zeros), ".scales": self.scales}

    def gptq(self, bits, less_one, with_index):
        zeros = (self.zeros - (1 if less_one else 0)) % (1 << bits)
        tensors = {".qweight": pack_columns(self.integers, bits), ".qzeros": pack_rows(zeros, bits),
                   ".scales": self.scales}
        if with_index:
            tensors[".g_idx"] = self.group_of.astype(np.int32)
        return tensors


def fp8(random, rows, columns, block, scale_dtype=torch.float32, spread=0.05):
    """Weights quantised so that each block's largest is 448: tensors and the meaning. block: (rows, columns)."""
    weights = torch.from_numpy((random.standard_normal((rows, columns)) * spread).astype(np.float32))
    height, width = -(-rows // block[0]), -(-columns // block[1])
    scales = torch.empty(height, width)
    for i in range(height):
        for j in range(width):
            scales[i, j] = weights[i * block[0]:(i + 1) * block[0], j * block[1]:(j + 1) * block[1]].abs().max() / 448
    scales = scales.to(scale_dtype)
    spread_out = scales.float().repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)[:rows, :columns]
    values = (weights / spread_out).clamp(-448, 448).to(torch.float8_e4m3fn)
    return values, scales, (values.float() * spread_out).numpy()


def write(name, config, tensors):
    folder = OUTPUT / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file({key: value.contiguous() if isinstance(value, torch.Tensor) else torch.from_numpy(
        np.ascontiguousarray(value)) for key, value in tensors.items()}, folder / "model.safetensors")


def awq_config(group):
    return {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm", "zero_point": True}


def gptq_config(bits, group, checkpoint_format="gptq", **more):
    return {"quant_method": "gptq", "bits": bits, "group_size": group, "checkpoint_format": checkpoint_format, **more}


COMPRESSED = {"quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"],
              "config_groups": {"group_0": {"targets": ["Linear"], "weights": {
                  "num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True}}}}


def write_layers(random):
    def layer(name, quantization, tensors, expected):
        write(name, LLAMA | {"quantization_config": quantization},
              {LAYER + ending: value for ending, value in tensors.items()} | {"expected": expected})

    for name, rows, columns, group in (("awq_g64", 32, 128, 64), ("awq_g128", 24, 256, 128)):
        drawn = Drawn(random, rows, columns, 4, group, symmetric=False)
        layer(name, awq_config(group), drawn.awq(), drawn.expected)
    for name, bits, group, checkpoint_format, symmetric, shuffled in (
            ("gptq4_symmetric", 4, 64, "gptq", True, False), ("gptq4_zeros", 4, 32, "gptq", False, False),
            ("gptq4_second_format", 4, 128, "gptq_v2", False, False), ("gptq4_act_order", 4, 32, "gptq", False, True),
            ("gptq8_symmetric", 8, 64, "gptq", True, False), ("gptq8_zeros", 8, 64, "gptq", False, False)):
        drawn = Drawn(random, 24, 128, bits, group, symmetric, shuffled)
        stated = -1 if group == 128 else group
        layer(name, gptq_config(bits, stated, checkpoint_format, desc_act=shuffled, sym=symmetric),
              drawn.gptq(bits, checkpoint_format == "gptq", with_index=shuffled or bits == 8), drawn.expected)
    values, scales, expected = fp8(random, 40, 160, (32, 64))
    layer("fp8_blocks", {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [32, 64]},
          {".weight": values, ".weight_scale_inv": scales}, expected)
    values, scales, expected = fp8(random, 24, 96, (24, 96))
    layer("fp8_tensor", {"quant_method": "fp8"},
          {".weight": values, ".weight_scale": scales.reshape(()), ".input_scale": torch.ones(())}, expected)
    values, scales, expected = fp8(random, 24, 96, (1, 96), torch.bfloat16)
    layer("fp8_channels", COMPRESSED, {".weight": values, ".weight_scale": scales}, expected)
    values, scales, expected = fp8(random, 24, 36, (1, 36))
    layer("fp8_narrow", COMPRESSED, {".weight": values, ".weight_scale": scales}, expected)


def write_models(random, tokens):
    """Every linear layer quantised, embedding and norms not."""
    shapes = {"self_attn.q_proj": (64, 64), "self_attn.k_proj": (32, 64), "self_attn.v_proj": (32, 64),
              "self_attn.o_proj": (64, 64), "mlp.gate_proj": (96, 64), "mlp.up_proj": (96, 64),
              "mlp.down_proj": (64, 96)}

    def as_awq(rows, columns):
        drawn = Drawn(random, rows, columns, 4, 32, symmetric=False, spread=0.1)
        return drawn.awq(), drawn.expected

    def as_gptq(rows, columns):
        drawn = Drawn(random, rows, columns, 4, 32, symmetric=False, shuffled=True, spread=0.1)
        # Older writers give every layer a bias of nought.
        return drawn.gptq(4, True, True) | {".bias": np.zeros(rows, np.float16)}, drawn.expected

    def as_fp8(rows, columns):
        values, scales, expected = fp8(random, rows, columns, (32, 32), spread=0.1)
        return {".weight": values, ".weight_scale_inv": scales}, expected

    for name, quantization, draw in (
            ("llama_awq", awq_config(32), as_awq), ("llama_gptq", gptq_config(4, 32, desc_act=True), as_gptq),
            ("llama_fp8", {"quant_method": "fp8", "weight_block_size": [32, 32]}, as_fp8)):
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
            **{k: v for k, v in LLAMA.items() if k not in ("model_type", "rope_theta")},
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, attn_implementation="eager")).eval()
        plain = {"model.embed_tokens.weight": random.standard_normal((48, 64)),
                 "model.norm.weight": 1 + 0.3 * random.standard_normal(64),
                 "model.layers.0.input_layernorm.weight": 1 + 0.3 * random.standard_normal(64),
                 "model.layers.0.post_attention_layernorm.weight": 1 + 0.3 * random.standard_normal(64)}
        tensors = {key: value.astype(np.float16) for key, value in plain.items()}
        meant = {key: value.astype(np.float32) for key, value in tensors.items()}
        for part, shape in shapes.items():
            packed, meant[f"model.layers.0.{part}.weight"] = draw(*shape)
            tensors |= {f"model.layers.0.{part}{ending}": value for ending, value in packed.items()}
        meant["lm_head.weight"] = meant["model.embed_tokens.weight"]
        model.load_state_dict({key: torch.from_numpy(value) for key, value in meant.items()})
        write(name, LLAMA | {"dtype": "float16", "quantization_config": quantization}, tensors)
        with torch.no_grad():
            model(tokens).logits[0].numpy().astype(np.float32).tofile(OUTPUT / f"{name}.logits")


def main():
    shutil.rmtree(OUTPUT, ignore_errors=True)
    tokens = torch.tensor([[int(t) for t in (GOLDEN / "models" / "tokens.txt").read_text().split()]])
    write_layers(np.random.default_rng(7))
    write_models(np.random.default_rng(8), tokens)


if __name__ == "__main__":
    main()
