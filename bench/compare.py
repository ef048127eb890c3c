"""Crible against llama.cpp: the same file, threads and work, in interleaved pairs.

Each figure is measured in rounds; in a round both engines do the same work one after the other, in
random order, while the other sleeps. The ratio of a round cancels what the machine did meanwhile; the
table shows the geometric mean of the ratios with a 95% t-interval on their logarithms.
Usage: compare.py ENGINE_WORKER MODEL [--rounds N] [--threads N] [--json FILE]
"""
import argparse
import json
import math
import pathlib
import random
import statistics
import subprocess
import sys

T_975 = {2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 11: 2.201, 14: 2.145, 19: 2.093}

FIGURES = [
    ("prefill, 512 tokens", "tokens/s", {"op": "prefill", "tokens": 512}, lambda a: 512 / a["seconds"]),
    ("prefill, 2048 tokens", "tokens/s", {"op": "prefill", "tokens": 2048}, lambda a: 2048 / a["seconds"]),
    ("decode, 1 stream", "tokens/s", {"op": "decode", "streams": 1, "prompt": 16, "tokens": 96},
     lambda a: a["tokens"] / a["seconds"]),
    ("decode, 4 streams", "tokens/s", {"op": "decode", "streams": 4, "prompt": 16, "tokens": 64},
     lambda a: a["tokens"] / a["seconds"]),
    ("decode, 16 streams", "tokens/s", {"op": "decode", "streams": 16, "prompt": 16, "tokens": 32},
     lambda a: a["tokens"] / a["seconds"]),
    ("decode, 1 stream behind 2048", "tokens/s", {"op": "decode", "streams": 1, "prompt": 2048, "tokens": 48},
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


def interval(ratios):
    logs = [math.log(r) for r in ratios]
    mean = statistics.fmean(logs)
    half = T_975.get(len(logs) - 1, 2.1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("engine_worker")
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="")
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    rival = pathlib.Path(__file__).parent / "llama_cpp_worker.py"
    commands = {"crible": [args.engine_worker, args.model, str(args.threads)],
                "llama.cpp": [sys.executable, str(rival), args.model, str(args.threads)]}
    order = random.Random(7)
    rows = []

    ready = {name: [] for name in commands}
    for _ in range(5 if not args.only else 0):
        for name in order.sample(list(commands), 2):
            worker = Worker(commands[name])
            ready[name].append(worker.hello["ready_seconds"])
            worker.close()
    if not args.only:
        ratios = [b / a for a, b in zip(ready["crible"], ready["llama.cpp"])]
        rows.append(("time to ready", "s", statistics.median(ready["crible"]), statistics.median(ready["llama.cpp"]),
                     *interval(ratios)))

    workers = {name: Worker(command) for name, command in commands.items()}
    print(f"{workers['llama.cpp'].hello['version']}, {args.threads} threads, {args.rounds} rounds, {args.model}")
    for number, (title, unit, command, rate) in enumerate(FIGURES):
        if args.only not in title:
            continue
        values = {name: [] for name in workers}
        for round_number in range(args.rounds + 1):
            for name in order.sample(list(workers), 2):
                # No two prompts of a run start alike: a prefix cache must not help where none is asked for.
                answer = workers[name].ask({**command, "seed": 1_000_000 * number + 1000 * round_number + 17})
                if round_number > 0:  # the first round warms both up
                    values[name].append(rate(answer))
        ratios = [a / b for a, b in zip(values["crible"], values["llama.cpp"])]
        rows.append((title, unit, statistics.median(values["crible"]), statistics.median(values["llama.cpp"]),
                     *interval(ratios)))
        print(f"  {title}: {rows[-1][2]:.1f} against {rows[-1][3]:.1f} {unit}, ratio {rows[-1][4]:.2f}", file=sys.stderr)
    for worker in workers.values():
        worker.close()

    print("| figure | unit | Crible | llama.cpp | ratio (more is better) | 95% interval |")
    print("|---|---|---|---|---|---|")
    for title, unit, ours, theirs, ratio, low, high in rows:
        print(f"| {title} | {unit} | {ours:.4g} | {theirs:.4g} | {ratio:.2f} | {low:.2f} to {high:.2f} |")
    if args.json:
        args.json.write_text(json.dumps([dict(zip(("figure", "unit", "crible", "llama_cpp", "ratio", "low", "high"), row))
                                         for row in rows], indent=1))


if __name__ == "__main__":
    main()
