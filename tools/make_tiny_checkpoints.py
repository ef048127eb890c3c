#!/usr/bin/env python3
"""Makes tests/golden/models: tiny random checkpoints of every architecture and their logits.

Needs torch, transformers, safetensors, gguf and llama-cpp-python (requirements-golden.txt). Deterministic.
Per variant: NAME/ (a Hugging Face folder: config.json and model.safetensors, BF16), NAME.gguf (the same
weights under GGUF's names and conventions) and NAME.logits (float32, [positions, vocabulary]: transformers
in float32 on the tokens of tokens.txt). Some config.json are spelt as before transformers 5, as most
published checkpoints are.

A variant is only written if
- each feature it is there for matters: without it the logits move by more than MIN_EFFECT;
- llama.cpp, where it computes the variant, finds the same logits from the GGUF file.
"""
import copy
import ctypes
import dataclasses
import json
import pathlib
import shutil
import tempfile

import gguf
import llama_cpp
import numpy as np
import torch
import transformers
from safetensors.torch import load_file

OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden" / "models"
POSITIONS = 40
VOCABULARY = 48
MIN_EFFECT = 1e-2          # relative to the logits' norm
MAX_LLAMA_CPP_ERROR = 2e-3  # its products of float32 weights round activations to nothing less than half
SIZES = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
         "bos_token_id": 1, "eos_token_id": 2, "attn_implementation": "eager"}


@dataclasses.dataclass
class Variant:
    name: str
    architecture: str                  # GGUF's name
    kind: str                          # class prefix in transformers
    config: dict
    without: list = dataclasses.field(default_factory=list)  # changes that must move the logits
    gguf_keys: dict = dataclasses.field(default_factory=dict)
    old_style: dict | None = None      # settings of config.json in place of rope_parameters
    llama_cpp: bool = True


def rope(kind, base=10000.0, **values):
    return {"rope_type": kind, "rope_theta": base, **values}


LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
YARN = {"factor": 4.0, "original_max_position_embeddings": 16}
EXPERTS = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "head_dim": 8}
GEMMA_LAYERS = {"tie_word_embeddings": True, "hidden_activation": "gelu_pytorch_tanh", "head_dim": 8,
                "pad_token_id": 0}

VARIANTS = [
    Variant("llama", "llama", "Llama", {"rope_parameters": rope("default"), "num_key_value_heads": 1}),
    Variant("llama_llama3_biased", "llama", "Llama",
            {"rope_parameters": rope("llama3", 500000.0, **LLAMA3), "attention_bias": True, "mlp_bias": True,
             "tie_word_embeddings": True},
            without=[{"rope_parameters": rope("default", 500000.0)}],
            gguf_keys={"rope.freq_base": 500000.0},
            old_style={"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}}),
    Variant("mistral_window_linear", "llama", "Mistral",
            {"rope_parameters": rope("linear", factor=4.0), "sliding_window": 11, "head_dim": 16,
             "num_attention_heads": 2, "num_key_value_heads": 1},
            without=[{"sliding_window": None}, {"sliding_window": 12}, {"rope_parameters": rope("default")}],
            gguf_keys={"attention.sliding_window": 11, "rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
            llama_cpp=False),
    Variant("qwen2", "qwen2", "Qwen2", {"rope_parameters": rope("default", 1000000.0)},
            gguf_keys={"rope.freq_base": 1000000.0}),
    Variant("qwen2_tied_window", "qwen2", "Qwen2",
            {"rope_parameters": rope("default", 1000000.0), "tie_word_embeddings": True, "use_sliding_window": True,
             "sliding_window": 9, "max_window_layers": 1},
            without=[{"use_sliding_window": False}, {"max_window_layers": 0}],
            gguf_keys={"rope.freq_base": 1000000.0, "attention.sliding_window": 9,
                       "attention.sliding_window_pattern": [False, True]},
            llama_cpp=False),
    Variant("qwen3", "qwen3", "Qwen3",
            {"rope_parameters": rope("default", 1000000.0), "head_dim": 24, "num_attention_heads": 2,
             "num_key_value_heads": 1,
             "tie_word_embeddings": True},
            gguf_keys={"rope.freq_base": 1000000.0}),
    Variant("qwen3_yarn", "qwen3", "Qwen3", {"rope_parameters": rope("yarn", 10000.0, **YARN), "head_dim": 16,
             "num_attention_heads": 2, "num_key_value_heads": 1},
            without=[{"rope_parameters": rope("default")},
                     {"rope_parameters": rope("yarn", 10000.0, attention_factor=1.0, **YARN)}],
            gguf_keys={"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0,
                       "rope.scaling.original_context_length": 16},
            old_style={"rope_theta": 10000.0, "rope_scaling": {"type": "yarn", **YARN}}),
    Variant("gemma2", "gemma2", "Gemma2",
            {"rope_parameters": rope("default"), "query_pre_attn_scalar": 20, "sliding_window": 13,
             "attn_logit_softcapping": 3.0, "final_logit_softcapping": 5.0, **GEMMA_LAYERS},
            without=[{"query_pre_attn_scalar": 8}, {"sliding_window": 64}, {"attn_logit_softcapping": None},
                     {"final_logit_softcapping": None}],
            gguf_keys={"attention.sliding_window": 13, "attention.scale": 20 ** -0.5, "attn_logit_softcapping": 3.0,
                       "final_logit_softcapping": 5.0},
            llama_cpp=False),
    Variant("gemma3", "gemma3", "Gemma3",
            {"rope_parameters": {"full_attention": rope("linear", 100000.0, factor=8.0),
                                 "sliding_attention": rope("default", 1000.0)},
             "query_pre_attn_scalar": 8, "sliding_window": 9, "num_hidden_layers": 6,
             "num_attention_heads": 2, "num_key_value_heads": 1, **GEMMA_LAYERS},
            without=[{"sliding_window": 64},
                     {"rope_parameters": {"full_attention": rope("linear", 100000.0, factor=8.0),
                                          "sliding_attention": rope("default", 100000.0)}},
                     {"rope_parameters": {"full_attention": rope("default", 100000.0),
                                          "sliding_attention": rope("default", 1000.0)}}],
            gguf_keys={"rope.freq_base": 100000.0, "rope.freq_base_swa": 1000.0, "rope.scaling.type": "linear",
                       "rope.scaling.factor": 8.0, "attention.sliding_window": 9},
            old_style={"rope_theta": 100000.0, "rope_local_base_freq": 1000.0, "sliding_window_pattern": 6,
                       "rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
    Variant("qwen3moe", "qwen3moe", "Qwen3Moe",
            {"rope_parameters": rope("default"), "norm_topk_prob": True, **EXPERTS},
            without=[{"norm_topk_prob": False}, {"num_experts_per_tok": 1}]),
    Variant("qwen3moe_plain_mixed", "qwen3moe", "Qwen3Moe",
            {"rope_parameters": rope("default"), "norm_topk_prob": False, "mlp_only_layers": [0],
             "tie_word_embeddings": True, **EXPERTS},
            without=[{"norm_topk_prob": True}],
            gguf_keys={"expert_weights_norm": False}, llama_cpp=False),
]


def make_config(variant, **changes):
    return getattr(transformers, text_class(variant) + "Config")(
        **copy.deepcopy(SIZES | {"tie_word_embeddings": False} | variant.config | changes))


def text_class(variant):
    return variant.kind + ("Text" if variant.kind == "Gemma3" else "")


def make_model(variant, config):
    return getattr(transformers, variant.kind + "ForCausalLM")(config).eval()


def initialise(model, gemma, seed):
    """Weights that leave no part of the network idle; each a BF16 number."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if name.endswith("bias"):
            values *= 0.4
        elif parameter.ndim == 1:
            values = values * 0.3 + (0 if gemma else 1)
        elif "embed_tokens" in name:
            values *= (1 / parameter.shape[-1] ** 0.5) if gemma else 0.5
        elif name.endswith("mlp.gate.weight"):
            values *= 1.5 / parameter.shape[-1] ** 0.5
        else:
            values *= (2.0 if "q_proj" in name or "k_proj" in name else 1.2) / parameter.shape[-1] ** 0.5
        with torch.no_grad():
            parameter.copy_(values.bfloat16().float())


def logits_of(model, tokens):
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].float().numpy()


def difference(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def check_effects(variant, model, tokens, logits):
    for change in variant.without:
        other = make_model(variant, make_config(variant, **change))
        other.load_state_dict(model.state_dict())
        effect = difference(logits_of(other, tokens), logits)
        if effect < MIN_EFFECT:
            raise SystemExit(f"{variant.name}: {change} moves the logits by only {effect:.1e}")


def save_folder(variant, model, folder):
    shutil.rmtree(folder, ignore_errors=True)
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if variant.old_style is not None:
        path = folder / "config.json"
        settings = json.loads(path.read_text())
        del settings["rope_parameters"]
        settings.pop("layer_types", None)
        settings["torch_dtype"] = settings.pop("dtype")
        path.write_text(json.dumps(settings | variant.old_style, indent=2, sort_keys=True) + "\n")


GGUF_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate": "ffn_gate_inp",
}
GEMMA_NAMES = GGUF_NAMES | {"post_attention_layernorm": "post_attention_norm",
                            "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm"}


def pair_neighbours(rows, heads):
    """GGUF llama: the two halves of a head's rows interleaved, so that RoPE turns neighbours."""
    head_size = rows.shape[0] // heads
    return rows.reshape(heads, 2, head_size // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def gguf_tensors(variant, config, weights):
    """name -> float32 array, under GGUF's names and conventions."""
    gemma = variant.kind.startswith("Gemma")
    tensors, experts = {}, {}
    for name, tensor in weights.items():
        values = tensor.float().numpy()
        stem, suffix = name.rsplit(".", 1)
        block, part = "", stem
        if stem.startswith("model.layers."):
            index, part = stem.removeprefix("model.layers.").split(".", 1)
            block = f"blk.{index}."
        if gemma and stem.endswith("norm"):
            values = values + 1
        if variant.architecture == "llama" and part.endswith(("q_proj", "k_proj")):
            heads = config.num_attention_heads if part.endswith("q_proj") else config.num_key_value_heads
            values = pair_neighbours(values, heads)
        if part.startswith("mlp.experts."):
            number, projection = part.removeprefix("mlp.experts.").split(".")
            experts.setdefault(f"{block}ffn_{projection.removesuffix('_proj')}_exps.weight", {})[int(number)] = values
        else:
            tensors[f"{block}{(GEMMA_NAMES if gemma else GGUF_NAMES)[part]}.{suffix}"] = values
    for name, by_number in experts.items():
        tensors[name] = np.stack([by_number[i] for i in sorted(by_number)])
    if config.rope_parameters.get("rope_type") == "llama3":
        original, _ = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](config)
        size = config.head_dim
        plain = 1 / config.rope_parameters["rope_theta"] ** (np.arange(0, size, 2) / size)
        tensors["rope_freqs.weight"] = (plain / original.numpy()).astype(np.float32)
    return tensors


def gguf_keys(variant, config):
    keys = {"context_length": config.max_position_embeddings, "embedding_length": config.hidden_size,
            "block_count": config.num_hidden_layers, "feed_forward_length": config.intermediate_size,
            "attention.head_count": config.num_attention_heads,
            "attention.head_count_kv": config.num_key_value_heads,
            "attention.layer_norm_rms_epsilon": config.rms_norm_eps, "vocab_size": config.vocab_size,
            "rope.freq_base": 10000.0}
    if getattr(config, "head_dim", None):
        keys |= {"attention.key_length": config.head_dim, "attention.value_length": config.head_dim}
    if getattr(config, "num_experts", None):
        keys |= {"expert_count": config.num_experts, "expert_used_count": config.num_experts_per_tok,
                 "expert_feed_forward_length": config.moe_intermediate_size}
    return keys | variant.gguf_keys


def save_gguf(variant, keys, tensors, path, matrix_type):
    writer = gguf.GGUFWriter(path, variant.architecture)
    for key, value in keys.items():
        name = f"{variant.architecture}.{key}"
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string,
               list: writer.add_array}[type(value)]
        add(name, value)
    writer.add_string("tokenizer.ggml.model", "no_vocab")
    for name, values in tensors.items():
        kind = gguf.GGMLQuantizationType.F32
        if values.ndim > 1 and not name.endswith("ffn_gate_inp.weight"):
            kind = matrix_type
        writer.add_tensor(name, gguf.quants.quantize(values.astype(np.float32), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama_cpp_logits(path, tokens):
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    if not model:
        raise SystemExit(f"llama.cpp does not load {path}")
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx = 64
    settings.type_k = settings.type_v = llama_cpp.GGML_TYPE_F32
    settings.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    settings.n_threads = settings.n_threads_batch = 1
    settings.swa_full = True
    context = llama_cpp.llama_init_from_model(model, settings)
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, i, 1, 0, 1
    if llama_cpp.llama_decode(context, batch) != 0:
        raise SystemExit(f"llama.cpp does not run {path}")
    rows = [np.ctypeslib.as_array(ctypes.cast(llama_cpp.llama_get_logits_ith(context, i),
                                              ctypes.POINTER(ctypes.c_float)), (VOCABULARY,)).copy()
            for i in range(len(tokens))]
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return np.stack(rows)


def make(variant, tokens, seed):
    config = make_config(variant)
    model = make_model(variant, config)
    initialise(model, variant.kind.startswith("Gemma"), seed)
    logits = logits_of(model, tokens)
    check_effects(variant, model, tokens, logits)
    folder = OUTPUT / variant.name
    save_folder(variant, model, folder)
    reloaded = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32,
                                                                 attn_implementation="eager").eval()
    if difference(logits_of(reloaded, tokens), logits) > 1e-6:
        raise SystemExit(f"{variant.name}: the saved folder is another model")
    keys, tensors = gguf_keys(variant, config), gguf_tensors(variant, config, load_file(folder / "model.safetensors"))
    if variant.llama_cpp:
        with tempfile.TemporaryDirectory() as scratch:
            path = pathlib.Path(scratch) / "float32.gguf"
            save_gguf(variant, keys, tensors, path, gguf.GGMLQuantizationType.F32)
            error = difference(llama_cpp_logits(path, tokens), logits)
        print(f"{variant.name}: llama.cpp differs by {error:.1e}")
        if error > MAX_LLAMA_CPP_ERROR:
            raise SystemExit(f"{variant.name}: llama.cpp finds other logits from the GGUF file ({error:.1e})")
    save_gguf(variant, keys, tensors, OUTPUT / f"{variant.name}.gguf", gguf.GGMLQuantizationType.BF16)
    logits.astype("<f4").tofile(OUTPUT / f"{variant.name}.logits")


def main():
    shutil.rmtree(OUTPUT, ignore_errors=True)
    OUTPUT.mkdir(parents=True)
    tokens = [int(t) for t in np.random.default_rng(7).integers(3, VOCABULARY, POSITIONS)]
    (OUTPUT / "tokens.txt").write_text(" ".join(map(str, tokens)) + "\n")
    for seed, variant in enumerate(VARIANTS):
        make(variant, tokens, seed)
    total = sum(path.stat().st_size for path in OUTPUT.rglob("*") if path.is_file())
    print(f"{len(VARIANTS)} variants, {total / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
