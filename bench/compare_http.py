"""Crible's server against llama.cpp's over real streaming HTTP: the same file, threads and token-exact
prompts, in interleaved pairs. Times are taken on the client: send -> first token, first -> last token.

Usage: compare_http.py CRIBLE LLAMA_SERVER MODEL [--rounds N] [--threads N] [--json FILE]
"""
import argparse
import asyncio
import dataclasses
import json
import pathlib
import random
import socket
import subprocess
import time
import urllib.request

import figures

STREAMS = 16
CONTEXT = 2048  # per stream


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    def __init__(self, name, command, port):
        self.name, self.port = name, port
        self.log = open(f"/tmp/compare_http_{name}_{port}.log", "w", encoding="utf-8")
        started = time.perf_counter()
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"{name} ended with code {self.process.returncode}; see {self.log.name}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
                    if answer.status == 200:
                        break
            except OSError:
                time.sleep(0.005)
        self.ready_seconds = time.perf_counter() - started

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()


async def completion(port, prompt, tokens):
    """One streamed completion over a connection of its own: seconds to the first token, to the last, and frames."""
    body = json.dumps({"model": "default", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True,
                       "ignore_eos": True}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    start = time.perf_counter()
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                 b"Connection: close\r\nContent-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body)
    first = last = None
    frames = 0
    async for line in reader:
        if line.startswith(b"HTTP/1.1 ") and b" 200" not in line:
            raise RuntimeError((line + await reader.read()).decode(errors="replace"))
        if not line.startswith(b"data: {"):
            continue
        choices = json.loads(line[6:]).get("choices") or []
        if choices and choices[0].get("text") or (choices and choices[0].get("finish_reason") is None):
            last = time.perf_counter()
            first = first or last
            frames += 1
    writer.close()
    if first is None:
        raise RuntimeError("a stream without a token")
    return first - start, last - first, frames


def random_tokens(count, seed, vocabulary):
    source = random.Random(seed)
    return [source.randrange(100, vocabulary - 100) for _ in range(count)]


class Work:
    def __init__(self, vocabulary):
        self.vocabulary = vocabulary

    def tokens(self, count, seed):
        return random_tokens(count, seed, self.vocabulary)

    async def ttft(self, port, seed, length):
        return 1 / (await completion(port, self.tokens(length, seed), 1))[0]

    async def hit(self, port, seed):
        prefix = self.tokens(1984, seed)
        await completion(port, prefix + self.tokens(16, seed + 1), 1)
        return 1 / (await completion(port, prefix + self.tokens(16, seed + 2), 1))[0]

    async def decode(self, port, seed, streams, tokens):
        results = await asyncio.gather(*(completion(port, self.tokens(16, seed + s), tokens) for s in range(streams)))
        return sum((tokens - 1) / seconds for _, seconds, _ in results)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("crible")
    parser.add_argument("llama_server")
    parser.add_argument("model")
    parser.add_argument("--vocabulary", type=int, default=49152)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    work = Work(args.vocabulary)
    order = random.Random(7)

    def start(name):
        port = free_port()
        crible = [args.crible, "serve", args.model, "--port", str(port), "--threads", str(args.threads),
                  "--max-num-seqs", str(STREAMS), "--kv-cache-memory-bytes", str(768 << 20)]
        rival = [args.llama_server, "-m", args.model, "--port", str(port), "--host", "127.0.0.1", "-t", str(args.threads),
                 "-np", str(STREAMS), "-c", str(STREAMS * CONTEXT), "--kv-unified", "--no-webui"]
        return Server(name, {"crible": crible, "llama.cpp": rival}[name], port)

    names = ["crible", "llama.cpp"]
    ready = {name: [] for name in names}
    for _ in range(max(5, args.rounds)):
        for name in order.sample(names, 2):
            server = start(name)
            ready[name].append(server.ready_seconds)
            server.close()
    rows = [figures.paired("time to ready (/health 200)", "s", ready["crible"], ready["llama.cpp"])]

    servers = {name: start(name) for name in names}
    try:
        cases = [("TTFT of 512 tokens", "1/s", lambda p, s: work.ttft(p, s, 512)),
                 ("TTFT of 1984 tokens", "1/s", lambda p, s: work.ttft(p, s, 1984)),
                 ("TTFT of a HIT, 1984-token prefix + 16", "1/s", work.hit),
                 ("decode, 1 stream", "tokens/s", lambda p, s: work.decode(p, s, 1, 64)),
                 ("decode, 4 streams", "tokens/s", lambda p, s: work.decode(p, s, 4, 48)),
                 ("decode, 16 streams", "tokens/s", lambda p, s: work.decode(p, s, 16, 32))]
        for number, (title, unit, case) in enumerate(cases):
            values = {name: [] for name in names}
            for round_number in range(args.rounds + 1):
                for name in order.sample(names, 2):
                    seed = 1_000_000 * number + 1000 * round_number + 17
                    value = asyncio.run(case(servers[name].port, seed))
                    if round_number > 0:
                        values[name].append(value)
            rows.append(figures.paired(title, unit, values["crible"], values["llama.cpp"]))
        memory = {name: figures.resident_mib(server.process.pid) for name, server in servers.items()}
    finally:
        for server in servers.values():
            server.close()
    print(f"{args.threads} threads, {args.rounds} rounds, {args.model}\n\n{figures.HEADER}")
    for row in rows:
        print(row.row())
    print(f"| memory held at the end | MiB | {memory['crible']:.0f} | {memory['llama.cpp']:.0f} "
          f"| {memory['llama.cpp'] / memory['crible']:.2f} | one reading |")
    if args.json:
        args.json.write_text(json.dumps({"figures": [dataclasses.asdict(row) for row in rows], "memory_mib": memory}, indent=1))


if __name__ == "__main__":
    main()
