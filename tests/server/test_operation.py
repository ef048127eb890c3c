"""Starting, changing and ending a real server."""
import concurrent.futures
import json
import signal
import subprocess
import time

import openai
import pytest

from conftest import MODEL, Server, binary, eventually


def run(*arguments):
    return subprocess.run([binary(), "serve", *map(str, arguments)], capture_output=True, text=True, timeout=60)


def test_reconfigured_live_under_load(own_server):
    server = own_server()
    reference = server.complete("The sea is", max_tokens=40, ignore_eos=True)["choices"][0]["text"]
    knobs = [{"max-num-seqs": 4, "enable-prefix-caching": False}, {"max-num-seqs": 16, "enable-chunked-prefill": True},
             {"max-num-batched-tokens": 64}, {"enable-prefix-caching": True}]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(server.complete, "The sea is", max_tokens=40, ignore_eos=True) for _ in range(12)]
        for change in knobs:
            status, _, reply = server.request("/admin/reconfigure", change)
            assert status == 200, reply
            assert {name: reply["effective"][name] for name in change} == change
        assert [answer.result()["choices"][0]["text"] for answer in answers] == [reference] * 12
    config = server.request("/admin/config")[2]
    assert config["requested"]["max-num-seqs"] == 16
    assert set(config) >= {"requested", "resolved", "effective", "adjustments", "memory_plan", "model", "machine"}


def test_sigterm_drains_then_ends(own_server):
    server = own_server()
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)
    stream = client.completions.create(model="default", prompt="x", max_tokens=60, stream=True,
                                       extra_body={"ignore_eos": True})
    next(stream)
    server.process.send_signal(signal.SIGTERM)
    assert eventually(lambda: server.process.poll() is not None or server.request("/health")[0] == 503)
    assert list(stream)[-1].choices[0].finish_reason == "length"
    assert server.process.wait(timeout=30) == 0


def test_a_second_signal_ends_at_once(own_server):
    server = own_server()
    body = json.dumps({"prompt": "x", "max_tokens": 8000, "ignore_eos": True}).encode()
    with server.connect() as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert eventually(lambda: server.metric("vllm:num_requests_running") == 1)
        server.process.send_signal(signal.SIGINT)
        assert eventually(lambda: server.request("/health")[0] == 503)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=10) == 1


def test_the_key_guards_all_but_health(own_server):
    server = own_server(environment={"CRIBLE_API_KEY": "k1"})
    assert server.request("/health")[0] == 200
    assert server.request("/metrics")[0] == 401
    assert server.request("/v1/models", headers={"Authorization": "Bearer k1"})[0] == 200
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=server.url + "/v1", api_key="k2", max_retries=0).models.list()


def test_a_busy_port_ends_with_its_number(server):
    ended = run(MODEL, "--port", server.port)
    assert ended.returncode == 1
    assert str(server.port) in ended.stderr


def test_wrong_arguments_and_models_end_with_2(tmp_path):
    truncated = tmp_path / "truncated.gguf"
    truncated.write_bytes(MODEL.read_bytes()[:5000])
    nonsense = tmp_path / "nonsense.gguf"
    nonsense.write_bytes(b"not a model at all" * 100)
    for arguments, fragment in [
        ((), "usage"),
        ((MODEL, "--max-num-seq", "4"), "did you mean 'max-num-seqs'"),
        ((MODEL, "--gpu-memory-utilization", "2"), "gpu-memory-utilization"),
        ((tmp_path / "missing.gguf",), "missing.gguf"),
        ((truncated,), "truncated.gguf"),
        ((nonsense,), "nonsense.gguf"),
    ]:
        ended = run(*arguments, "--port", "0") if arguments else run()
        assert ended.returncode == 2, (arguments, ended.stderr)
        assert fragment in ended.stderr
        assert len(ended.stderr.splitlines()) < 6, "one clear message"


def test_help_lists_every_setting():
    shown = run("--help")
    assert shown.returncode == 0
    for flag in ("--max-num-seqs", "--[no-]enable-prefix-caching", "--drain-timeout", "--config"):
        assert flag in shown.stdout


def test_it_prints_what_is_in_effect(server):
    printed = server.log.read_text()
    for part in ("configuration in effect", "max-num-seqs", "memory plan", "KV cache", f"ready on {server.url}"):
        assert part in printed
