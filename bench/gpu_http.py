"""The server on a GPU over real streaming HTTP: what docs/benchmarks/gpu.md states, in one table. Starts the server,
drives it from processes of their own, ends it.

Usage: gpu_http.py CRIBLE MODEL_FOLDER [--only ready,ttft,decode,throughput,hit,mixed,reconfigure] [--json FILE] [-- FLAGS]
FLAGS go to `crible serve`. Prompts are token ids, all different unless a prefix is shared on purpose. Beside a figure stands
its floor: bytes over the read rate or operations over the matmul rate, whichever is more, of the model alone. The two rates
are those that `crible_gpu --only ceilings` measured on an H100 (docs/benchmarks/gpu.md); --read-rate and --matmul-rate change them.
"""
import argparse
import asyncio
import json
import multiprocessing
import pathlib
import random
import re
import socket
import statistics
import subprocess
import sys
import time
import urllib.request

VOCABULARY = 150_000
WORKERS = 8


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def tokens(count, seed):
    source = random.Random(seed)
    return [source.randrange(300, VOCABULARY) for _ in range(count)]


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def completion(port, prompt, output, delay=0.0):
    """Send time and the arrivals of frames with text, seconds of the machine's clock. A frame may hold several tokens:
    of a client that was not read in time, or up to the end of a character."""
    await asyncio.sleep(delay)
    body = json.dumps({"model": "bench", "prompt": prompt, "max_tokens": output, "temperature": 0, "stream": True,
                       "ignore_eos": True, "stream_options": {"include_usage": True}}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    sent = time.monotonic()
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                 b"Connection: close\r\nContent-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body)
    arrivals = []
    tail = b""
    while chunk := await reader.read(1 << 16):
        now = time.monotonic()
        arrivals.extend([now] * chunk.count(b'"finish_reason":null'))
        tail = tail[-400:] + chunk
    writer.close()
    used = re.search(rb'"completion_tokens":(\d+)', tail)
    if used is None or int(used[1]) != output:
        raise RuntimeError(f"an answer without its {output} tokens: " + tail[-400:].decode(errors="replace"))
    return sent, arrivals


def run_jobs(port, jobs, streams, result):
    """Jobs (prompt tokens, seed, output tokens, delay) with so many streams at once, in this process."""

    async def all_jobs():
        gate = asyncio.Semaphore(streams)

        async def one(job):
            async with gate:
                return await completion(port, tokens(job[0], job[1]), job[2], job[3])

        return await asyncio.gather(*(one(job) for job in jobs))

    try:
        result.put(asyncio.run(all_jobs()))
    except Exception as error:  # to the parent, which ends the run
        result.put(error)


def spread(port, jobs, streams, workers=WORKERS):
    workers = min(workers, streams)
    queue = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=run_jobs, args=(port, jobs[w::workers], streams // workers, queue))
                 for w in range(workers)]
    for process in processes:
        process.start()
    results = []
    for _ in processes:
        part = queue.get()
        if isinstance(part, Exception):
            raise part
        results += part
    for process in processes:
        process.join()
    return results


class Floor:
    """Least times of a decoder of the Qwen3 kind on this GPU, from its config.json. Of a mixture of experts a step reads
    those that uniform routing is expected to reach."""

    def __init__(self, model, flags, read_rate, matmul_rate):
        c = json.loads((model / "config.json").read_text(encoding="utf-8"))
        fp8 = "fp8" in [flags[i + 1] for i, flag in enumerate(flags) if flag == "--quantization"]
        fp8_cache = "fp8" in [flags[i + 1] for i, flag in enumerate(flags) if flag == "--kv-cache-dtype"]
        self.read_rate, self.matmul_rate = read_rate, matmul_rate * (2 if fp8 else 1)
        heads, kv_heads, size = c["num_attention_heads"], c["num_key_value_heads"], c["head_dim"]
        four_bits = c.get("quantization_config", {}).get("bits") == 4 and not fp8
        # 4 bits, and a scale of 2 bytes and a zero point of half a byte for each group.
        self.element_bytes = 0.5 + 2.5 / c["quantization_config"]["group_size"] if four_bits else 1 if fp8 else 2
        attention = c["num_hidden_layers"] * c["hidden_size"] * (2 * heads + 2 * kv_heads) * size
        self.experts, self.experts_used = c.get("num_experts", 0), c.get("num_experts_per_tok", 0)
        self.expert = 3 * c["num_hidden_layers"] * c["hidden_size"] * c.get("moe_intermediate_size", 0)  # one in each layer
        dense = 0 if self.experts else 3 * c["num_hidden_layers"] * c["hidden_size"] * c["intermediate_size"]
        self.always = attention + dense
        self.layers = self.always + self.experts_used * self.expert  # that a token passes
        self.head_bytes = 2 * c["hidden_size"] * c["vocab_size"]
        self.kv_bytes = c["num_hidden_layers"] * 2 * kv_heads * size * (1 if fp8_cache else 2)
        self.attention = c["num_hidden_layers"] * 4 * heads * size  # operations of a query and a key

    def step_ms(self, tokens, context, sequences=1):
        """`tokens` new ones of each sequence, the last of `context`."""
        seen = tokens * (context - tokens) + tokens * (tokens + 1) / 2
        operations = sequences * (2 * tokens * self.layers + self.attention * seen)
        reached = 0
        if self.experts:
            reached = self.experts * (1 - (1 - self.experts_used / self.experts) ** (sequences * tokens))
        weights = (self.always + reached * self.expert) * self.element_bytes + self.head_bytes
        moved = weights + sequences * context * self.kv_bytes
        return 1e3 * max(moved / self.read_rate, operations / self.matmul_rate)


class Server:
    def __init__(self, crible, model, flags):
        self.port = free_port()
        command = [crible, "serve", str(model), "--port", str(self.port), "--served-model-name", "bench", *flags]
        self.log = open("/tmp/gpu_http_server.log", "w", encoding="utf-8")
        start = time.monotonic()
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(pathlib.Path(self.log.name).read_text(encoding="utf-8")[-3000:])
            try:
                if self.get("/health").status == 200:
                    break
            except OSError:
                time.sleep(0.01)
        self.ready_seconds = time.monotonic() - start

    def get(self, path):
        return urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60)

    def json(self, path):
        return json.load(self.get(path))

    def metric(self, name):
        return float(re.search(rf"^{re.escape(name)}(?:{{[^}}]*}})? ([0-9.e+-]+)$", self.get("/metrics").read().decode(), re.M)[1])

    def post(self, path, body):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        try:
            return json.load(urllib.request.urlopen(request, timeout=120))
        except urllib.error.HTTPError as error:
            raise RuntimeError(error.read().decode()) from error

    def close(self):
        self.process.terminate()
        self.process.wait()


class Bench:
    def __init__(self, server, floor):
        self.server = server
        self.floor = floor
        self.rows = []
        self.seed = 0

    def row(self, figure, value, unit, note="", floor=None):
        """floor: the best value that the hardware allows, a least time or a greatest rate."""
        share = None if floor is None else min(floor / value, value / floor)
        self.rows.append({"figure": figure, "value": value, "unit": unit, "floor": floor, "note": note})

        def text(number):
            return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"

        print(f"| {figure} | {text(value)} {unit} | {'' if floor is None else text(floor)} "
              f"| {'' if share is None else f'{share:.0%}'} | {note} |", flush=True)

    def next_seed(self):
        self.seed += 1
        return self.seed

    def one(self, prompt, output):
        return asyncio.run(completion(self.server.port, prompt, output))

    def ready(self):
        self.row("start to ready", self.server.ready_seconds, "s")
        plan = self.server.json("/admin/config")["memory_plan"]
        used = subprocess.run(["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"],
                              capture_output=True, text=True, check=False).stdout.split()
        if used:
            used = int(used[0]) * 2**20
            self.row("GPU memory in use over the plan", 100 * (used / plan["planned_bytes"] - 1), "%",
                     f"{used / 2**30:.2f} GiB in use, {plan['planned_bytes'] / 2**30:.2f} planned, "
                     f"budget {plan['budget_bytes'] / 2**30:.2f}")

    def ttft(self):
        for length, runs in ((128, 20), (2048, 10), (8192, 6)):
            values = []
            for _ in range(runs + 1):
                sent, arrivals = self.one(tokens(length, self.next_seed()), 1)
                values.append(1e3 * (arrivals[0] - sent))
            self.row(f"TTFT of {length} tokens", statistics.median(values[1:]), "ms",
                     f"{runs} runs, {min(values[1:]):.1f} to {max(values[1:]):.1f}", self.floor.step_ms(length, length))

    def decode(self):
        values = []
        for _ in range(3):
            _, arrivals = self.one(tokens(960, self.next_seed()), 129)
            values.append(1e3 * (arrivals[-1] - arrivals[0]) / 128)
        self.row("decode, one stream, context 960 to 1,088", statistics.median(values), "ms a token",
                 "3 runs: " + ", ".join(f"{v:.3f}" for v in values), self.floor.step_ms(1, 1024))

    def throughput(self, streams=256, requests=512, prompt=128, output=1024):
        spread(self.server.port, [(prompt, self.next_seed(), 16, 0.0) for _ in range(streams)], streams)
        names = ("crible:engine_steps_total", "crible:engine_step_seconds_total", "crible:engine_device_wait_seconds_total",
                 "crible:engine_steps_ahead_total")
        before = [self.server.metric(name) for name in names]
        results = spread(self.server.port, [(prompt, self.next_seed(), output, 0.0) for _ in range(requests)], streams)
        steps, seconds, waited, ahead = (self.server.metric(name) - value for name, value in zip(names, before))
        start, end = min(sent for sent, _ in results), max(arrivals[-1] for _, arrivals in results)
        gaps = [1e3 * (b - a) for _, arrivals in results for a, b in zip(arrivals, arrivals[1:])]
        self.row(f"output tokens/s, {streams} streams, {prompt}/{output}", requests * output / (end - start), "tokens/s",
                 f"{requests} requests; ITL median {statistics.median(gaps):.1f}, p99 {quantile(gaps, 0.99):.1f} ms",
                 1e3 * streams / self.floor.step_ms(1, prompt + output // 2, streams))
        self.row(f"host time a step, {streams} streams", 1e3 * (seconds - waited) / steps, "ms",
                 f"{100 * ahead / steps:.1f}% of {steps:.0f} steps launched while the one before ran")

    def hit(self):
        prefix = tokens(16000, self.next_seed())
        self.one(prefix + tokens(64, self.next_seed()), 1)
        values = []
        for _ in range(8):
            sent, arrivals = self.one(prefix + tokens(64, self.next_seed()), 1)
            values.append(1e3 * (arrivals[0] - sent))
        self.row("HIT TTFT, 16,000-token prefix + 64", statistics.median(values), "ms",
                 f"8 runs, {min(values):.1f} to {max(values):.1f}", self.floor.step_ms(64, 16064))

    def mixed(self):
        for budget in (512, 1024, 2048):
            self.server.post("/admin/reconfigure", {"max-num-batched-tokens": budget})
            jobs = [(8192, self.next_seed(), 384, 0.4 * (i % 16)) for i in range(32)]
            results = spread(self.server.port, jobs, 16)
            gaps = [1e3 * (b - a) for _, arrivals in results for a, b in zip(arrivals, arrivals[1:])]
            first = [1e3 * (arrivals[0] - sent) for sent, arrivals in results]
            self.row(f"p99 ITL, 16 streams of 8,192/384, chunk {budget}", quantile(gaps, 0.99), "ms",
                     f"median {statistics.median(gaps):.1f}, worst {max(gaps):.0f}; TTFT median {statistics.median(first):.0f} ms")

    def reconfigure(self):
        changes = [{"max-num-seqs": 64}, {"max-num-batched-tokens": 8192}, {"enable-prefix-caching": False},
                   {"gpu-memory-utilization": 0.7}, {"enable-chunked-prefill": False, "max-num-batched-tokens": 0},
                   {"max-model-len": 16384}, {"kv-cache-dtype": "fp8"}, {"kv-cache-dtype": "auto"},
                   {"enable-chunked-prefill": True, "enable-prefix-caching": True, "gpu-memory-utilization": 0.9,
                    "max-num-seqs": 256, "max-model-len": 0, "max-num-batched-tokens": 2048}]
        worst = 0.0
        for change in changes:
            start = time.monotonic()
            self.server.post("/admin/reconfigure", change)
            worst = max(worst, time.monotonic() - start)
            self.one(tokens(64, self.next_seed()), 4)
        self.row("slowest reconfiguration", worst, "s", f"of {len(changes)} changes over 8 knobs, as the client sees it")


def main():
    flags = sys.argv[sys.argv.index("--") + 1:] if "--" in sys.argv else []
    parser = argparse.ArgumentParser()
    parser.add_argument("crible")
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--only", default="ready,ttft,decode,throughput,hit,mixed,reconfigure")
    parser.add_argument("--read-rate", type=float, default=3.124, help="TB/s")
    parser.add_argument("--matmul-rate", type=float, default=703, help="TFLOP/s of BF16")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args(sys.argv[1:len(sys.argv) - len(flags) - ("--" in sys.argv)])
    server = Server(args.crible, args.model, flags)
    bench = Bench(server, Floor(args.model, flags, 1e12 * args.read_rate, 1e12 * args.matmul_rate))
    print(f"crible serve {args.model.name} {' '.join(flags)}\n\n| figure | value | floor | share | |\n|---|---|---|---|---|", flush=True)
    time.sleep(2)  # graphs of decode batches are captured while nobody waits
    try:
        for part in args.only.split(","):
            try:
                getattr(bench, part)()
            except (RuntimeError, OSError) as error:
                print(f"| {part} | failed: {str(error)[-400:]} | |", flush=True)
                if server.process.poll() is not None:
                    print(pathlib.Path(server.log.name).read_text(encoding="utf-8")[-3000:])
                    break
    finally:
        server.close()
    if args.json:
        args.json.write_text(json.dumps(bench.rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
