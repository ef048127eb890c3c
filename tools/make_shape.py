"""Writes a model folder that has a shape and no weights: config.json of a published model, and a tokenizer of the
same vocabulary whose words mean nothing. For `crible serve FOLDER --load-format dummy`.

Usage: make_shape.py FOLDER [--model qwen3-8b | qwen3-32b-awq | qwen3-30b-a3b | qwen3-0.6b]
The sizes are those of the models' own config.json (huggingface.co/Qwen). Python's standard library alone.
"""
import argparse
import itertools
import json
import pathlib

QWEN3 = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "silu", "rms_norm_eps": 1e-6,
         "rope_theta": 1000000, "max_position_embeddings": 40960, "vocab_size": 151936, "head_dim": 128,
         "num_key_value_heads": 8, "attention_bias": False, "torch_dtype": "bfloat16", "bos_token_id": 151643,
         "eos_token_id": 151645}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}
SHAPES = {
    "qwen3-0.6b": QWEN3 | {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
                           "num_attention_heads": 16, "tie_word_embeddings": True},
    "qwen3-8b": QWEN3 | {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
                         "num_attention_heads": 32, "tie_word_embeddings": False},
    "qwen3-32b-awq": QWEN3 | {"hidden_size": 5120, "intermediate_size": 25600, "num_hidden_layers": 64,
                              "num_attention_heads": 64, "tie_word_embeddings": False, "torch_dtype": "float16",
                              "quantization_config": AWQ},
    "qwen3-30b-a3b": QWEN3 | {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 2048,
                              "intermediate_size": 6144, "moe_intermediate_size": 768, "num_experts": 128,
                              "num_experts_per_tok": 8, "norm_topk_prob": True, "decoder_sparse_step": 1,
                              "mlp_only_layers": [], "num_hidden_layers": 48, "num_attention_heads": 32,
                              "num_key_value_heads": 4, "tie_word_embeddings": False},
}
SPECIAL = {151643: "<|endoftext|>", 151644: "<|im_start|>", 151645: "<|im_end|>"}
TEMPLATE = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")


def byte_characters():
    """The 256 characters that stand for bytes in byte-level BPE (GPT-2)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(b) if b in shown else chr(next(others)) for b in range(256)]


def vocabulary(size):
    words = byte_characters()
    letters = "etaoinshrdlucmfw"
    for length in itertools.count(3):
        for word in itertools.product(letters, repeat=length):
            if len(words) == min(size, min(SPECIAL)):
                return {word: index for index, word in enumerate(words)}
            words.append("\u0120" + "".join(word))


def tokenizer(size):
    added = [{"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
              "special": True} for i, text in SPECIAL.items()]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": r"\s?\p{L}+|\s?\p{N}+|\s+|[^\s\p{L}\p{N}]+"},
             "behavior": "Isolated", "invert": False}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]}, "post_processor": None,
            "decoder": byte_level, "model": {"type": "BPE", "dropout": None, "unk_token": None,
                                             "continuing_subword_prefix": "", "end_of_word_suffix": "",
                                             "fuse_unk": False, "byte_fallback": False, "ignore_merges": True,
                                             "vocab": vocabulary(size), "merges": []}}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--model", choices=SHAPES, default="qwen3-8b")
    args = parser.parse_args()
    shape = SHAPES[args.model]
    args.folder.mkdir(parents=True, exist_ok=True)

    def write(name, content):
        (args.folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    write("config.json", shape)
    write("tokenizer.json", tokenizer(shape["vocab_size"]))
    write("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE,
                                    "eos_token": "<|im_end|>", "add_bos_token": False})


if __name__ == "__main__":
    main()
