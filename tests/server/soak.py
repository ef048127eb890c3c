"""Soak: a real server under random load for as long as asked. Lengths, streams, cancellations, disconnects,
slow readers, priorities, forks, time-outs and live changes of configuration, all at random from one seed.

It holds that every request is answered or was given up by its own client, that resident memory stays flat (its peak
in the last third of the time against the middle third: each sees every configuration), and that at the end no block is
referenced and nothing runs.

    CRIBLE_BINARY=build/release/bin/crible .venv/test/bin/python tests/server/soak.py --minutes 30
"""
import argparse
import collections
import http.client
import json
import random
import signal
import socket
import sys
import tempfile
import threading
import time

from conftest import Server, eventually

WORDS = "the sea is calm and a small boat goes out to find what the old map promised beyond the last island".split()
KNOBS = [
    {"max-num-seqs": 4}, {"max-num-seqs": 24}, {"max-num-batched-tokens": 64, "max-num-seqs": 16},
    {"max-num-batched-tokens": 512}, {"enable-prefix-caching": False}, {"enable-prefix-caching": True},
    {"scheduling-policy": "priority"}, {"scheduling-policy": "fcfs"}, {"kv-cache-dtype": "f32"}, {"kv-cache-dtype": "auto"},
    {"kv-cache-memory-bytes": 50 << 20, "max-model-len": 1024}, {"kv-cache-memory-bytes": 64 << 20, "max-model-len": 2048},
    {"long-prefill-token-threshold": 16, "max-num-batched-tokens": 64}, {"long-prefill-token-threshold": 0},
]
# Small enough to pre-empt; and so that memory depends on the configuration in little but the activations.
MEMORY = ("--kv-cache-memory-bytes", str(64 << 20), "--max-model-len", "2048")


class Tally:
    def __init__(self):
        self.lock = threading.Lock()
        self.counts = collections.Counter()
        self.failures = []

    def add(self, outcome):
        with self.lock:
            self.counts[outcome] += 1

    def fail(self, what):
        with self.lock:
            self.failures.append(what)


def random_body(rng):
    shared = " ".join((WORDS * 12)[: rng.choice([0, 40, 80, 160])])
    words = int(2 ** rng.uniform(0, 9.5))
    body = {"prompt": shared + " " + " ".join(rng.choice(WORDS) for _ in range(words)),
            "max_tokens": int(2 ** rng.uniform(0, 7)), "temperature": rng.choice([0, 0.8]), "seed": rng.randrange(1000),
            "ignore_eos": rng.random() < 0.5}
    if rng.random() < 0.2:
        body["n"] = rng.randrange(2, 4)
    if rng.random() < 0.3:
        body["priority"] = rng.randrange(3)
    if rng.random() < 0.1:
        body["cache_salt"] = rng.choice(["a", "b"])
    if rng.random() < 0.05:
        body["timeout"] = rng.uniform(0.05, 2)
    return body


def post(port, body, timeout=300):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    return connection


def expect_answer(reply, tally, body):
    """Reads a whole reply; says how it ended."""
    text = reply.read().decode()
    if reply.status in (429, 504):
        return tally.add(str(reply.status))
    if reply.status == 400 and "context" in text + "max-model-len":
        return tally.add("400 over a shorter context")
    if reply.status != 200:
        return tally.fail(f"{reply.status}: {text[:300]}")
    if body.get("stream"):
        if "[DONE]" in text:
            return tally.add("streamed")
        known = "deadline_exceeded" in text or "max-model-len was changed" in text
        return tally.add("ended in the stream") if known else tally.fail(f"a stream without an end: {text[-300:]}")
    choices = json.loads(text)["choices"]
    if len(choices) == body.get("n", 1) and all(c["finish_reason"] in ("stop", "length") for c in choices):
        return tally.add("answered")
    return tally.fail(f"incomplete: {text[:300]}")


def client(port, seed, deadline, tally):
    rng = random.Random(seed)
    while time.monotonic() < deadline:
        body = random_body(rng)
        body["stream"] = rng.random() < 0.6
        try:
            connection = post(port, body)
            manner = rng.random()
            if manner < 0.1:  # goes away before any answer
                time.sleep(rng.uniform(0, 0.3))
                tally.add("left before the answer")
            elif manner < 0.2 and body["stream"]:  # goes away in the middle, with a reset
                reply = connection.getresponse()
                reply.read(rng.randrange(1, 400))
                connection.sock and connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                tally.add("left in the middle")
            elif manner < 0.25:  # reads late
                time.sleep(rng.uniform(0, 2))
                expect_answer(connection.getresponse(), tally, body)
            else:
                expect_answer(connection.getresponse(), tally, body)
            connection.close()
        except (OSError, http.client.HTTPException) as error:
            tally.fail(f"{type(error).__name__}: {error}")


def operator(server, seed, deadline, tally):
    rng = random.Random(seed)
    while time.monotonic() < deadline:
        time.sleep(rng.uniform(1, 12))
        if rng.random() < 0.2:
            path, body = rng.choice([("/admin/reset_prefix_cache", {}), ("/admin/prefix_cache/save", {})])
        else:
            path, body = "/admin/reconfigure", rng.choice(KNOBS)
        status, _, reply = server.request(path, body)
        # Two changes may contradict each other, and a cache that is off cannot be saved: refused, and nothing happens.
        tally.add(f"{path} {status}")
        if status not in (200, 400):
            tally.fail(f"{path} {body}: {status} {reply}")


def peaks(samples):
    """Highest resident MiB in each third of the time."""
    start, end = samples[0][0], samples[-1][0]
    thirds = [[], [], []]
    for t, size in samples:
        thirds[min(2, int(3 * (t - start) / (end - start)))].append(size / 2**20)
    return [max(third) for third in thirds]


def watch(server, deadline, samples):
    while time.monotonic() < deadline:
        samples.append((time.monotonic(), server.metric("crible:process_resident_bytes")))
        time.sleep(0.5)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--clients", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mib", type=float, default=8, help="growth of memory that is still called flat")
    options = parser.parse_args()

    tally, samples = Tally(), []
    with tempfile.TemporaryDirectory() as folder:
        server = Server(folder, *MEMORY, "--max-waiting-requests", "64", "--request-timeout", "240",
                        "--prefix-cache-file", folder + "/prefixes", "--log-level", "warning")
        deadline = time.monotonic() + options.minutes * 60
        threads = [threading.Thread(target=client, args=(server.port, options.seed * 1000 + i, deadline, tally))
                   for i in range(options.clients)]
        threads.append(threading.Thread(target=operator, args=(server, options.seed, deadline, tally)))
        threads.append(threading.Thread(target=watch, args=(server, deadline, samples)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        def figure(name):
            return server.metric(name)

        whole = eventually(lambda: figure("crible:kv_blocks_used") == 0 and figure("vllm:num_requests_running") == 0 and
                           figure("vllm:num_requests_waiting") == 0 and figure("crible:live_completions") == 0, 60)
        if not whole:
            tally.fail("blocks or requests are left at the end: " + "; ".join(
                f"{name} {figure(name):.0f}" for name in ("crible:kv_blocks_used", "vllm:num_requests_running",
                                                          "vllm:num_requests_waiting", "crible:live_completions")))
        reference = server.complete("The sea is", max_tokens=8)["choices"][0]["text"]
        figures = {name: figure(name) for name in ("crible:engine_steps_total", "vllm:generation_tokens_total",
                                                   "vllm:num_preemptions_total", "crible:reconfigurations_total",
                                                   "vllm:prefix_cache_hits_total", "crible:slow_readers_total")}
        server.process.send_signal(signal.SIGTERM)
        if server.process.wait(timeout=60) != 0:
            tally.fail("the server did not end in order:\n" + server.log.read_text()[-2000:])
        again = Server(folder, *MEMORY, "--prefix-cache-file", folder + "/prefixes")
        if again.complete("The sea is", max_tokens=8)["choices"][0]["text"] != reference:
            tally.fail("after a restart on the kept prefixes the tokens differ")
        again.stop()

    first, middle, last = peaks(samples)
    if last - middle > options.mib:
        tally.fail(f"resident memory grew from {middle:.1f} to {last:.1f} MiB")
    print(json.dumps({"minutes": options.minutes, "seed": options.seed, "outcomes": dict(sorted(tally.counts.items())),
                      "figures": figures, "peak_mib_by_thirds": [round(first, 1), round(middle, 1), round(last, 1)],
                      "failures": tally.failures[:20],
                      "failed": len(tally.failures)}, indent=2))
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
