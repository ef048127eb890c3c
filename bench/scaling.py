"""How decode time grows with the context, and prefill time with the prompt and the batch, as a table and two plots.

Usage: scaling.py ENGINE_WORKER MODEL OUTPUT_FOLDER [--threads N] [--repeats N]
Each point is the median of repeats taken in random order over all points, so that a disturbance of the
machine does not look like a bend.
"""
import argparse
import json
import pathlib
import random
import statistics

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402  the backend is chosen first

from compare import Worker  # noqa: E402

CONTEXTS = [16, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2016]
PROMPTS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 384, 512, 640, 768, 1024, 1536, 2032]
STREAMS = [1, 2, 3, 4, 6, 8, 12, 16]


def measure(worker, repeats):
    points = ([("context", n) for n in CONTEXTS] + [("prompt", n) for n in PROMPTS] + [("streams", n) for n in STREAMS])
    values = {point: [] for point in points}
    order = random.Random(11)
    seed = 0
    for _ in range(repeats):
        for kind, n in order.sample(points, len(points)):
            seed += 1000
            if kind == "prompt":
                answer = worker.ask({"op": "prefill", "tokens": n, "seed": seed})
                values[kind, n].append(answer["seconds"] * 1e3)
                continue
            streams, prompt = (n, 16) if kind == "streams" else (1, n)
            answer = worker.ask({"op": "decode", "streams": streams, "prompt": prompt, "tokens": 16, "seed": seed})
            values[kind, n].append(answer["seconds"] / (answer["tokens"] / streams) * 1e3)
    return {point: statistics.median(v) for point, v in values.items()}


def plot(path, title, x_label, y_label, xs, ys, per_unit):
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    left.plot(xs, ys, marker="o", color="#1f6f8b")
    left.set(xlabel=x_label, ylabel=y_label, title=title, ylim=(0, None))
    right.plot(xs, [y / x for x, y in zip(xs, ys)], marker="o", color="#99582a")
    right.set(xlabel=x_label, ylabel=per_unit, title="the same, per " + x_label.split()[0].rstrip("s"), xscale="log", yscale="log")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("engine_worker")
    parser.add_argument("model")
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    matplotlib.rcParams["svg.hashsalt"] = "crible"
    worker = Worker([args.engine_worker, args.model, str(args.threads)])
    try:
        medians = measure(worker, args.repeats)
    finally:
        worker.close()
    args.output.mkdir(parents=True, exist_ok=True)
    series = {kind: ([n for k, n in medians if k == kind], [v for (k, _), v in medians.items() if k == kind])
              for kind in ("context", "prompt", "streams")}
    plot(args.output / "decode_context.svg", "decode, 1 stream", "tokens of context", "ms per token", *series["context"],
         "ms per token and token of context")
    plot(args.output / "prefill_prompt.svg", "prefill of one prompt", "tokens of prompt", "ms", *series["prompt"], "ms per token")
    plot(args.output / "decode_streams.svg", "decode, short contexts", "streams", "ms per step", *series["streams"],
         "ms per token")
    for kind, (xs, ys) in series.items():
        print(f"\n| {kind} | " + " | ".join(map(str, xs)) + " |")
        print("|---" * (len(xs) + 1) + "|")
        print("| ms | " + " | ".join(f"{y:.3g}" for y in ys) + " |")
    (args.output / "scaling.json").write_text(json.dumps({f"{k} {n}": v for (k, n), v in medians.items()}, indent=1))


if __name__ == "__main__":
    main()
