"""Fixtures for the study's end-to-end tests: the program, and a folder to run it in.

CRIBLE_BINARY names the program under test. Specs name models/default.gguf relative to the working folder,
so every command runs in the repository's root.
"""
import os
import pathlib
import signal
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]

TINY = """\
study: tiny
target: {engine: crible, model: models/default.gguf}
base: {device-memory-bytes: 805306368, gpu-memory-utilization: 0.9, max-model-len: 512, max-num-seqs: 4}
configurations:
  - {name: prefix_off, enable-prefix-caching: false}
  - {name: prefix_on, enable-prefix-caching: true}
scenarios:
  - kv_cache: {pairs: 1, prefix_tokens: 96, question_tokens: 8, output_tokens: 3}
  - concurrency: {levels: [2], requests_per_stream: 1, prompt_tokens: 16, output_tokens: 4}
blocks: 2
seed: 3
objectives:
  documents: {minimise: kv_cache/ttft_repeat_ms.p50}
"""


class Program:
    def __init__(self, binary):
        self.binary = str(binary)

    def start(self, *arguments, **options):
        return subprocess.Popen(
            [self.binary, "study", *map(str, arguments)], cwd=ROOT, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, **options)

    def run(self, *arguments, timeout=300, **options):
        process = self.start(*arguments, **options)
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=60)
            pytest.fail(f"no end after {timeout} s\n{output}\n{errors}")
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


@pytest.fixture(scope="session")
def crible():
    binary = pathlib.Path(os.environ.get("CRIBLE_BINARY", ROOT / "build/release/bin/crible"))
    assert binary.exists(), f"{binary} is not built; set CRIBLE_BINARY"
    return Program(binary)


@pytest.fixture
def tiny_spec(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def finished(crible, tmp_path_factory):
    """One whole tiny study, shared by the tests that only look at what it left."""
    folder = tmp_path_factory.mktemp("finished")
    spec = folder / "tiny.yaml"
    spec.write_text(TINY)
    done = crible.run("run", spec, "--out", folder / "study")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "study", done
