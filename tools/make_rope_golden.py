"""Writes tests/golden/rope_frequencies.json: inverse frequencies and attention factors of every RoPE scaling,
as transformers computes them (float32). Needs tools/requirements-golden.txt."""
import json
import pathlib

from transformers import PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/golden/rope_frequencies.json"
LONG = [1.0 + 0.5 * i for i in range(24)]
SHORT = [1.0 + 0.01 * i for i in range(24)]
CASES = [
    ("linear", 64, 10000.0, 8192, {"factor": 4.0}),
    ("linear", 128, 1000000.0, 131072, {"factor": 8.0}),
    ("llama3", 64, 500000.0, 131072, {"factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                      "original_max_position_embeddings": 8192}),
    ("llama3", 128, 500000.0, 131072, {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                       "original_max_position_embeddings": 8192}),
    ("yarn", 128, 1000000.0, 131072, {"factor": 4.0, "original_max_position_embeddings": 32768}),
    ("yarn", 64, 10000.0, 65536, {"factor": 16.0, "original_max_position_embeddings": 4096, "beta_fast": 16.0,
                                  "beta_slow": 2.0, "truncate": False, "attention_factor": 1.5}),
    ("longrope", 48, 10000.0, 131072, {"factor": 32.0, "original_max_position_embeddings": 4096,
                                       "long_factor": LONG, "short_factor": SHORT}),
]


def main():
    rows = []
    for kind, size, base, context, parameters in CASES:
        config = PretrainedConfig(hidden_size=size, num_attention_heads=1, head_dim=size, max_position_embeddings=context)
        config.rope_parameters = {"rope_type": kind, "rope_theta": base, **parameters}
        inverse, attention_factor = ROPE_INIT_FUNCTIONS[kind](config, "cpu", seq_len=context)
        rows.append({"kind": kind, "rotary_size": size, "base": base, "context": context, **parameters,
                     "inverse_frequencies": [float(x) for x in inverse], "result_attention_factor": float(attention_factor)})
    OUT.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


main()
