"""llama.cpp (through llama-cpp-python's C bindings) as a bench worker.

Speaks the protocol of bench/engine_worker.cc: one JSON command a line on standard input, one JSON
answer a line on standard output, so that bench/compare.py can put both through the same work in turn.
"""
import ctypes
import json
import sys
import time

import llama_cpp as ll
import numpy as np


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def silent(level, text, data):
    del level, text, data


class Worker:
    def __init__(self, model_path, threads, context, max_streams):
        started = time.perf_counter()
        ll.llama_log_set(silent, None)
        ll.llama_backend_init()
        model_params = ll.llama_model_default_params()
        self.model = ll.llama_model_load_from_file(model_path.encode(), model_params)
        params = ll.llama_context_default_params()
        params.n_ctx = context
        params.n_batch = 2048
        params.n_ubatch = 512
        params.n_threads = threads
        params.n_threads_batch = threads
        params.n_seq_max = max_streams
        params.kv_unified = True
        self.context = ll.llama_init_from_model(self.model, params)
        self.memory = ll.llama_get_memory(self.context)
        self.vocabulary = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(self.model))
        self.batch = ll.llama_batch_init(2048, 0, max_streams)
        self.prefill_tokens([1, 2, 3], 0, 0)
        ll.llama_memory_clear(self.memory, True)
        self.ready_seconds = time.perf_counter() - started

    def add(self, index, token, position, sequence, logits):
        self.batch.token[index] = token
        self.batch.pos[index] = position
        self.batch.n_seq_id[index] = 1
        self.batch.seq_id[index][0] = sequence
        self.batch.logits[index] = logits

    def decode(self, count):
        self.batch.n_tokens = count
        code = ll.llama_decode(self.context, self.batch)
        if code != 0:
            raise RuntimeError(f"llama_decode returned {code}")

    def argmax(self, index):
        logits = np.ctypeslib.as_array(ll.llama_get_logits_ith(self.context, index), shape=(self.vocabulary,))
        return int(np.argmax(logits))

    def prefill_tokens(self, tokens, sequence, start):
        for first in range(0, len(tokens), 2048):
            part = tokens[first:first + 2048]
            last = first + len(part) == len(tokens)
            for i, token in enumerate(part):
                self.add(i, token, start + first + i, sequence, last and i == len(part) - 1)
            self.decode(len(part))
        return self.argmax(len(part) - 1)

    def random_tokens(self, count, seed):
        return [int(t) for t in np.random.default_rng(seed).integers(100, self.vocabulary - 100, count)]

    def prefill(self, tokens, seed):
        ll.llama_memory_clear(self.memory, False)
        prompt = self.random_tokens(tokens, seed)
        started = time.perf_counter()
        self.prefill_tokens(prompt, 0, 0)
        return {"seconds": time.perf_counter() - started}

    def hit(self, tokens, suffix, seed):
        ll.llama_memory_clear(self.memory, False)
        prefix = self.random_tokens(tokens, seed)
        started = time.perf_counter()
        self.prefill_tokens(prefix + self.random_tokens(suffix, seed + 1), 0, 0)
        miss = time.perf_counter() - started
        ll.llama_memory_seq_rm(self.memory, 0, tokens, -1)
        started = time.perf_counter()
        self.prefill_tokens(self.random_tokens(suffix, seed + 2), 0, tokens)
        return {"miss_seconds": miss, "hit_seconds": time.perf_counter() - started}

    def decode_streams(self, streams, prompt, tokens, seed):
        ll.llama_memory_clear(self.memory, False)
        current = [self.prefill_tokens(self.random_tokens(prompt, seed + s), s, 0) for s in range(streams)]
        started = time.perf_counter()
        for step in range(tokens):
            for s in range(streams):
                self.add(s, current[s], prompt + step, s, True)
            self.decode(streams)
            current = [self.argmax(s) for s in range(streams)]
        return {"seconds": time.perf_counter() - started, "tokens": tokens * streams}


def main():
    model, threads = sys.argv[1], int(sys.argv[2])
    worker = Worker(model, threads, context=8192, max_streams=16)
    print(json.dumps({"ready_seconds": worker.ready_seconds,
                      "version": f"llama-cpp-python {ll.__version__}"}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        kind = command.pop("op")
        answer = {"prefill": worker.prefill, "hit": worker.hit, "decode": worker.decode_streams}[kind](**command)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
