#!/usr/bin/env python3
"""An independent forward pass of a GGUF llama model in float64, and the comparison with Crible's logits.

    float64_forward.py MODEL --logits PROGRAM [--cache DIR]     compare, exit 1 outside the tolerances
    float64_forward.py MODEL --tokenize                         remake tests/golden/prose.tokens

Weights are dequantised by the gguf package; everything after that is NumPy in float64, written from the
architecture's description. The text is teacher-forced: every position sees the true tokens before it, and its
perplexity is that of the true next token.
The hidden states depend on model and text alone and are kept in --cache, named by both their hashes.
"""
import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import time

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROSE = ROOT / "tests/golden/prose.txt"
TOKENS = ROOT / "tests/golden/prose.tokens"
POSITIONS = 2000
MIN_TOP1 = 0.99
MAX_RELATIVE_ERROR = 1e-2
MAX_PERPLEXITY_CHANGE = 5e-3  # relative
ROWS_PER_COMPARISON = 125


class Model:
    def __init__(self, path):
        self.reader = GGUFReader(path)
        self.tensors = {t.name: t for t in self.reader.tensors}

        def key(name):
            return self.reader.fields["llama." + name].contents()
        self.layers = key("block_count")
        self.heads = key("attention.head_count")
        self.kv_heads = key("attention.head_count_kv")
        self.head_size = key("embedding_length") // self.heads
        self.epsilon = key("attention.layer_norm_rms_epsilon")
        self.rope_base = key("rope.freq_base")

    def weight(self, name):
        tensor = self.tensors[name]
        return dequantize(tensor.data, tensor.tensor_type).astype(np.float64)

    def head(self):
        return self.weight("output.weight" if "output.weight" in self.tensors else "token_embd.weight")


def rms_norm(x, weight, epsilon):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + epsilon) * weight


def rotate(x, base):
    """x [positions, heads, size]: neighbours (2i, 2i+1) turn by position / base^(2i/size)."""
    positions, _, size = x.shape
    angle = np.arange(positions)[:, None] * base ** (-np.arange(0, size, 2) / size)
    turned = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angle)[:, None, :]
    return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)


def attention(model, layer, x):
    positions = len(x)

    def project(name, heads):
        return (x @ model.weight(f"blk.{layer}.attn_{name}.weight").T).reshape(positions, heads, model.head_size)
    q = rotate(project("q", model.heads), model.rope_base)
    k = rotate(project("k", model.kv_heads), model.rope_base)
    v = project("v", model.kv_heads)
    out = np.empty_like(q)
    future = np.triu(np.ones((positions, positions), bool), 1)
    for head in range(model.heads):
        group = head * model.kv_heads // model.heads
        score = q[:, head] @ k[:, group].T / np.sqrt(model.head_size)
        score[future] = -np.inf
        score = np.exp(score - score.max(axis=1, keepdims=True))
        out[:, head] = score @ v[:, group] / score.sum(axis=1, keepdims=True)
    return out.reshape(positions, -1) @ model.weight(f"blk.{layer}.attn_output.weight").T


def feed_forward(model, layer, x):
    gate = x @ model.weight(f"blk.{layer}.ffn_gate.weight").T
    up = x @ model.weight(f"blk.{layer}.ffn_up.weight").T
    return (gate / (1 + np.exp(-gate)) * up) @ model.weight(f"blk.{layer}.ffn_down.weight").T


def hidden_states(model, ids):
    """[positions, embedding], after the final norm."""
    x = model.weight("token_embd.weight")[ids]
    for layer in range(model.layers):
        normed = rms_norm(x, model.weight(f"blk.{layer}.attn_norm.weight"), model.epsilon)
        x = x + attention(model, layer, normed)
        normed = rms_norm(x, model.weight(f"blk.{layer}.ffn_norm.weight"), model.epsilon)
        x = x + feed_forward(model, layer, normed)
    return rms_norm(x, model.weight("output_norm.weight"), model.epsilon)


def cached_hidden_states(model, model_path, ids, folder):
    name = hashlib.sha256(pathlib.Path(model_path).read_bytes() + ids.tobytes()).hexdigest()[:32]
    path = pathlib.Path(folder) / f"float64_{name}.npy"
    if path.exists():
        return np.load(path)
    states = hidden_states(model, ids)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npy")
    np.save(partial, states)
    partial.replace(path)
    return states


def log_probabilities(logits, targets):
    """Of targets[i] under logits[i]."""
    largest = logits.max(axis=1)
    total = np.log(np.exp(logits - largest[:, None]).sum(axis=1)) + largest
    return logits[np.arange(len(targets)), targets] - total


def compare(model, states, ids, program, model_path):
    head = model.head()
    process = subprocess.Popen([program, model_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdin.write(" ".join(map(str, ids)).encode())
    process.stdin.close()
    agree, errors, surprise, reference_surprise = 0, [], [], []
    for first in range(0, len(ids), ROWS_PER_COMPARISON):
        rows = min(ROWS_PER_COMPARISON, len(ids) - first)
        reference = states[first:first + rows] @ head.T
        raw = process.stdout.read(4 * rows * len(head))
        if len(raw) != 4 * rows * len(head):
            sys.exit(f"float64_forward: {program} ended after {first} positions with status {process.wait()}")
        ours = np.frombuffer(raw, np.float32).reshape(rows, -1).astype(np.float64)
        agree += int((ours.argmax(1) == reference.argmax(1)).sum())
        targets = ids[first + 1:first + 1 + rows]
        surprise.append(-log_probabilities(ours[:len(targets)], targets))
        reference_surprise.append(-log_probabilities(reference[:len(targets)], targets))
        errors.append(np.linalg.norm(ours - reference, axis=1) / np.linalg.norm(reference, axis=1))
    if process.wait() != 0:
        sys.exit(f"float64_forward: {program} failed with status {process.returncode}")
    errors = np.concatenate(errors)
    return {"positions": len(ids), "top1_agreement": agree / len(ids), "relative_error_mean": errors.mean(),
            "relative_error_p99": float(np.quantile(errors, 0.99)), "relative_error_max": errors.max(),
            "perplexity": float(np.exp(np.concatenate(surprise).mean())),
            "reference_perplexity": float(np.exp(np.concatenate(reference_surprise).mean()))}


def tokenize(model):
    """GPT-2 byte-level BPE from the file's own merges, each digit apart (needs the tokenizers package)."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    fields = model.reader.fields
    vocabulary = {token: i for i, token in enumerate(fields["tokenizer.ggml.tokens"].contents())}
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return tokenizer.encode(PROSE.read_text(), add_special_tokens=False).ids


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--logits", help="the crible_logits program")
    parser.add_argument("--cache", default=ROOT / "build/float64")
    parser.add_argument("--tokenize", action="store_true")
    options = parser.parse_args()
    model = Model(options.model)
    if options.tokenize:
        ids = tokenize(model)
        TOKENS.write_text("\n".join(" ".join(map(str, ids[i:i + 20])) for i in range(0, len(ids), 20)) + "\n")
        print(f"{len(ids)} tokens")
        return
    if not options.logits:
        parser.error("--logits PROGRAM is needed to compare")
    ids = np.array(TOKENS.read_text().split(), np.int64)[:POSITIONS]
    if len(ids) < POSITIONS:
        sys.exit(f"float64_forward: {TOKENS} holds {len(ids)} tokens; {POSITIONS} are needed")
    start = time.monotonic()
    states = cached_hidden_states(model, options.model, ids, options.cache)
    result = compare(model, states, ids, options.logits, options.model)
    result["seconds"] = time.monotonic() - start
    print(json.dumps(result))
    change = abs(result["perplexity"] / result["reference_perplexity"] - 1)
    if (result["top1_agreement"] < MIN_TOP1 or result["relative_error_max"] > MAX_RELATIVE_ERROR
            or change > MAX_PERPLEXITY_CHANGE):
        sys.exit(f"float64_forward: outside the tolerances: top-1 agreement at least {MIN_TOP1}, relative error at "
                 f"most {MAX_RELATIVE_ERROR} at every position, perplexity within {MAX_PERPLEXITY_CHANGE:.1%}")


if __name__ == "__main__":
    main()
