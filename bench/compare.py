"""Crible against llama.cpp inside the process: the same file, threads and work, in interleaved pairs.

Each figure is measured in rounds; in a round both engines do the same work one after the other, in
random order, while the other sleeps.
Usage: compare.py ENGINE_WORKER MODEL... [--rounds N] [--threads N] [--only WORDS] [--json FILE]
"""
import argparse
import dataclasses
import json
import pathlib
import random
import subprocess
import sys

import figures

WORK = [
    ("prefill, 512 tokens", "tokens/s", {"op": "prefill", "tokens": 512}, lambda a: 512 / a["seconds"]),
    ("prefill, 2048 tokens", "tokens/s", {"op": "prefill", "tokens": 2048}, lambda a: 2048 / a["seconds"]),
    ("decode, 1 stream", "tokens/s", {"op": "decode", "streams": 1, "prompt": 16, "tokens": 64},
     lambda a: a["tokens"] / a["seconds"]),
    ("decode, 4 streams", "tokens/s", {"op": "decode", "streams": 4, "prompt": 16, "tokens": 48},
     lambda a: a["tokens"] / a["seconds"]),
    ("decode, 16 streams", "tokens/s", {"op": "decode", "streams": 16, "prompt": 16, "tokens": 32},
     lambda a: a["tokens"] / a["seconds"]),
    ("decode, 1 stream behind 2032", "tokens/s", {"op": "decode", "streams": 1, "prompt": 2032, "tokens": 15},
     lambda a: a["tokens"] / a["seconds"]),
    ("HIT, 2000-token prefix + 16", "1/s", {"op": "hit", "tokens": 2000, "suffix": 16}, lambda a: 1 / a["hit_seconds"]),
]


class Worker:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.hello = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"compare: {self.process.args[0]} ended with code {self.process.wait()}")
        return json.loads(line)

    def ask(self, command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def time_to_ready(commands, order, rounds):
    ready = {name: [] for name in commands}
    for _ in range(rounds):
        for name in order.sample(list(commands), 2):
            worker = Worker(commands[name])
            ready[name].append(worker.hello["ready_seconds"])
            worker.close()
    return figures.paired("time to ready", "s", ready["crible"], ready["llama.cpp"])


def shares(hello, ceiling, rows):
    """What our figures are of this machine's ceilings: bytes for decode, 16-bit products for prefill."""
    rate = {row.title: row.ours for row in rows}
    lines = [f"Ceilings with these threads: {ceiling['read_bytes_per_s'] / 1e9:.1f} GB/s read, "
             f"{ceiling['int16_operations_per_s'] / 1e9:.0f} GOP/s of 16-bit multiply-adds."]
    if "decode, 1 stream" in rate:
        share = rate["decode, 1 stream"] * hello["weight_bytes"] / ceiling["read_bytes_per_s"]
        lines.append(f"Decode of 1 stream reads {hello['weight_bytes'] / 1e6:.0f} MB of weights a token: "
                     f"{100 * share:.0f}% of the read ceiling.")
    if "prefill, 512 tokens" in rate and ceiling["int16_operations_per_s"] > 0:
        share = rate["prefill, 512 tokens"] * 2 * hello["parameters"] / ceiling["int16_operations_per_s"]
        lines.append(f"Prefill of 512 computes {2 * hello['parameters'] / 1e9:.2f} GOP a token: "
                     f"{100 * share:.0f}% of the 16-bit ceiling.")
    return "\n".join(lines)


def compare(args, model, order):
    rival = pathlib.Path(__file__).parent / "llama_cpp_worker.py"
    commands = {"crible": [args.engine_worker, model, str(args.threads)],
                "llama.cpp": [sys.executable, str(rival), model, str(args.threads)]}
    rows = [] if args.only else [time_to_ready(commands, order, max(5, args.rounds))]
    workers = {name: Worker(command) for name, command in commands.items()}
    try:
        print(f"{workers['llama.cpp'].hello['version']}, {args.threads} threads, {args.rounds} rounds, {model}\n")
        for number, (title, unit, command, rate) in enumerate(WORK):
            if args.only not in title:
                continue
            values = {name: [] for name in workers}
            for round_number in range(args.rounds + 1):
                for name in order.sample(list(workers), 2):
                    # No two prompts of a run start alike: a prefix cache must not help where none is asked for.
                    answer = workers[name].ask({**command, "seed": 1_000_000 * number + 1000 * round_number + 17})
                    if round_number > 0:  # the first round warms both up
                        values[name].append(rate(answer))
            rows.append(figures.paired(title, unit, values["crible"], values["llama.cpp"]))
            print(f"  {rows[-1].row()}", file=sys.stderr)
        memory = {name: figures.resident_mib(worker.process.pid) for name, worker in workers.items()}
        ceiling = workers["crible"].ask({"op": "ceiling", "tokens": 0, "seed": 0})
    finally:
        for worker in workers.values():
            worker.close()
    print(figures.HEADER)
    for row in rows:
        print(row.row())
    print(f"| memory held at the end | MiB | {memory['crible']:.0f} | {memory['llama.cpp']:.0f} "
          f"| {memory['llama.cpp'] / memory['crible']:.2f} | one reading |\n")
    print(shares(workers["crible"].hello, ceiling, rows) + "\n")
    return {"model": model, "figures": [dataclasses.asdict(row) for row in rows], "memory_mib": memory, "ceiling": ceiling}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("engine_worker")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    order = random.Random(7)
    results = [compare(args, model, order) for model in args.models]
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
