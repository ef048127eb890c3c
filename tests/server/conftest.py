"""Runs the built program on the default model: CRIBLE_BINARY names it."""
import json
import os
import pathlib
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "default.gguf"


def binary():
    path = os.environ.get("CRIBLE_BINARY")
    assert path and os.access(path, os.X_OK), "set CRIBLE_BINARY to the built program"
    return path


class Server:
    def __init__(self, folder, *flags, environment=None):
        ready = pathlib.Path(folder) / "ready"
        ready.unlink(missing_ok=True)
        self.log = pathlib.Path(folder) / "server.log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [binary(), "serve", str(MODEL), "--port", "0", "--ready-file", str(ready), "--device-memory-bytes",
                 str(400 << 20), *flags],
                stdout=log, stderr=log, env={**os.environ, **(environment or {})})
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, "not ready within 60 s:\n" + self.log.read_text()
            time.sleep(0.02)
        self.port = int(ready.read_text())
        self.url = f"http://127.0.0.1:{self.port}"

    def request(self, path, body=None, raw=None, headers=None, method=None):
        """Status, headers and JSON (or text) of one exchange; errors are answers too."""
        data = raw.encode() if raw is not None else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json", **(headers or {})},
                                         method=method)
        try:
            reply = urllib.request.urlopen(request, timeout=60)
        except urllib.error.HTTPError as error:
            reply = error
        with reply:
            text = reply.read().decode()
        is_json = reply.headers.get("Content-Type", "").startswith("application/json")
        return reply.status, reply.headers, json.loads(text) if is_json else text

    def complete(self, prompt, **fields):
        status, _, reply = self.request("/v1/completions", {"prompt": prompt, "temperature": 0, **fields})
        assert status == 200, reply
        return reply

    def metric(self, name, label=""):
        for line in self.request("/metrics")[2].splitlines():
            if line.startswith(name + "{") and label in line:
                return float(line.rsplit(" ", 1)[1])
        raise AssertionError(f"no metric {name} {label}")

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def eventually(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("server"))
    yield running
    running.stop()


@pytest.fixture
def own_server(tmp_path):
    """Starts a server with its own flags, for tests that end or change it."""
    started = []

    def start(*flags, **options):
        started.append(Server(tmp_path, *flags, **options))
        return started[-1]

    yield start
    for running in started:
        running.stop()
