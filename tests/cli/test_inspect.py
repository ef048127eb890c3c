"""crible inspect against what the files are known to hold: the gguf package and config.json are the oracles."""
import json
import os
import pathlib
import subprocess

import pytest
from gguf import GGUFReader

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEFAULT_MODEL = ROOT / "models" / "default.gguf"
GOLDEN = ROOT / "tests" / "golden"


def run(*arguments):
    binary = os.environ.get("CRIBLE_BINARY")
    assert binary and os.access(binary, os.X_OK), "set CRIBLE_BINARY to the built program"
    return subprocess.run([binary, "inspect", *map(str, arguments)], capture_output=True, text=True, timeout=120)


def inspect(*arguments):
    done = run(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_gguf_file_as_the_gguf_package_reads_it():
    told = inspect(DEFAULT_MODEL)
    reader = GGUFReader(DEFAULT_MODEL)
    totals = {}
    for tensor in reader.tensors:
        total = totals.setdefault(tensor.tensor_type.name, [0, 0, 0])
        total[0] += 1
        total[1] += int(tensor.n_elements)
        total[2] += int(tensor.n_bytes)
    assert {t["type"]: [t["tensors"], t["elements"], t["bytes"]] for t in told["tensor_types"]} == totals
    assert told["parameters"] == sum(total[1] for total in totals.values())
    assert told["file_bytes"] == sum(total[2] for total in totals.values())
    assert told["weight_bytes"] == told["file_bytes"]
    for ours, key in {"layers": "block_count", "context_length": "context_length", "embedding": "embedding_length",
                      "heads": "attention.head_count", "kv_heads": "attention.head_count_kv"}.items():
        assert told[ours] == reader.fields[f"llama.{key}"].contents(), ours
    assert told["tokenizer"]["vocabulary"] == len(reader.fields["tokenizer.ggml.tokens"].data)
    assert told["tokenizer"]["kind"].startswith("gpt2 (pre-tokenizer ")
    assert "<|im_end|>" in told["tokenizer"]["end_tokens"]
    assert told["chat_template"]["source"] == reader.fields["tokenizer.chat_template"].contents()
    assert "add_generation_prompt" in told["chat_template"]["features"]


def test_what_fits_follows_from_bytes_per_token():
    told = inspect(DEFAULT_MODEL, "--budget", 1 << 30, "--budget", 50 << 20)
    per_token = told["kv_bytes_per_token"]
    assert per_token["f16"] == 2 * 2 * told["layers"] * told["kv_heads"] * told["head_size"]
    assert per_token["f32"] == 2 * per_token["f16"] == 2 * per_token["bf16"]
    assert per_token["int8"] == per_token["f16"] // 2 + 2 * 4 * told["layers"] * told["kv_heads"]
    large, small = told["budgets"]
    for dtype, fit in large["fits"].items():
        left = (1 << 30) - told["weight_bytes"]
        assert fit["tokens"] == left // (16 * per_token[dtype]) * 16
        assert fit["full_context_sequences"] == fit["tokens"] // told["context_length"]
    assert all(fit["tokens"] == 0 for fit in small["fits"].values())  # less than the weights alone


@pytest.mark.parametrize("folder", sorted(p for p in (GOLDEN / "models").iterdir() if p.is_dir()),
                         ids=lambda p: p.name)
def test_a_folder_as_its_configuration_says(folder):
    config = json.loads((folder / "config.json").read_text())
    told = inspect(folder)
    for ours, theirs in {"layers": "num_hidden_layers", "embedding": "hidden_size", "heads": "num_attention_heads",
                         "vocabulary": "vocab_size", "context_length": "max_position_embeddings"}.items():
        assert told[ours] == config[theirs], ours
    assert [t["type"] for t in told["tensor_types"]] == ["BF16"]
    assert told["file_bytes"] == 2 * told["parameters"]
    assert "tokenizer.json" in told["tokenizer"]["error"]
    # The same weights as GGUF: as many parameters, but for RoPE factors that are a tensor there.
    twin = folder.with_suffix(".gguf")
    factors = sum(int(t.n_elements) for t in GGUFReader(twin).tensors if t.name == "rope_freqs.weight")
    assert inspect(twin)["parameters"] == told["parameters"] + factors


# Bytes per weight once loaded: Q4_1, half because act-order mixes the groups, Q8_0.
@pytest.mark.parametrize("name,kind,size", [("llama_awq", "awq 4 bit", 20 / 32), ("llama_gptq", "gptq 4 bit", 2),
                                            ("llama_fp8", "fp8", 34 / 32)])
def test_a_quantised_matrix_counts_once(name, kind, size):
    told = inspect(GOLDEN / "quantised" / name)
    quantised = next(t for t in told["tensor_types"] if t["type"] == kind)
    assert quantised["tensors"] == 7
    assert quantised["elements"] == 2 * 64 * 64 + 2 * 32 * 64 + 3 * 96 * 64
    others = sum(t["bytes"] for t in told["tensor_types"] if t["type"] != kind)
    assert told["weight_bytes"] == others + size * quantised["elements"]


def test_text_for_people():
    shown = run(DEFAULT_MODEL).stdout
    for part in ("llama", "context", "layers of width", "tokenizer", "chat template", "KV bytes per token", "int8"):
        assert part in shown, part


def test_what_is_wrong_is_said_and_is_exit_code_2(tmp_path):
    for arguments, said in (((tmp_path / "absent.gguf",), "there is no such file or folder"),
                            ((tmp_path,), "holds no config.json"), ((), "model is required"),
                            ((DEFAULT_MODEL, "--budget", "-1"), "--budget")):
        done = run(*arguments)
        assert done.returncode == 2
        assert said in done.stderr + done.stdout
        assert not done.stdout or "Traceback" not in done.stdout
