"""What clients of the OpenAI protocol get from the default model."""
import concurrent.futures
import json
import pathlib
import struct
import socket

import openai
import pytest

from conftest import eventually

CASES = json.loads((pathlib.Path(__file__).resolve().parents[1] / "cases" / "server_bad_input.json").read_text())
CHAT = [{"role": "user", "content": "Name three colours."}]


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0)


def test_streamed_chat_equals_whole(client):
    whole = client.chat.completions.create(model="default", messages=CHAT, temperature=0, max_tokens=24)
    text, roles, reasons, usage = "", [], [], None
    for chunk in client.chat.completions.create(model="default", messages=CHAT, temperature=0, max_tokens=24,
                                                stream=True, stream_options={"include_usage": True}):
        if chunk.usage:
            usage = chunk.usage
            continue
        choice = chunk.choices[0]
        text += choice.delta.content or ""
        roles += [choice.delta.role] if choice.delta.role else []
        reasons += [choice.finish_reason] if choice.finish_reason else []
    assert text == whole.choices[0].message.content != ""
    assert roles == ["assistant"]
    assert reasons == [whole.choices[0].finish_reason]
    assert usage.completion_tokens == whole.usage.completion_tokens
    assert usage.prompt_tokens == whole.usage.prompt_tokens


def test_streamed_completion_equals_whole_for_text_and_tokens(client, server):
    prompt = "The capital of France is"
    tokens = server.request("/tokenize", {"prompt": prompt})[2]["tokens"]
    options = dict(model="default", temperature=0, max_tokens=16)
    whole = client.completions.create(prompt=prompt, **options)
    streamed = "".join(chunk.choices[0].text for chunk in client.completions.create(prompt=prompt, stream=True, **options))
    assert streamed == whole.choices[0].text
    assert client.completions.create(prompt=tokens, **options).choices[0].text == whole.choices[0].text
    assert "Paris" in whole.choices[0].text


def test_the_second_request_finds_the_first_ones_prefix(server):
    prompt = list(range(2000, 2100))
    first = server.complete(prompt, max_tokens=4, cache_salt="prefix test")
    second = server.complete(prompt, max_tokens=4, cache_salt="prefix test")
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == 96
    assert second["choices"][0]["text"] == first["choices"][0]["text"]
    other = server.complete(prompt, max_tokens=4, cache_salt="another")
    assert other["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


def test_stop_string_cuts_across_tokens(server):
    text = server.complete("Once upon a time", max_tokens=24, ignore_eos=True)["choices"][0]["text"]
    stop = text[len(text) // 2:len(text) // 2 + 4]
    reply = server.complete("Once upon a time", max_tokens=24, ignore_eos=True, stop=[stop])
    assert reply["choices"][0]["text"] == text[:text.index(stop)]
    assert reply["choices"][0]["finish_reason"] == "stop"


def test_unicode_stays_whole_in_every_frame(client):
    stream = client.chat.completions.create(
        model="default", temperature=0, max_tokens=40, stream=True,
        messages=[{"role": "user", "content": "Repeat exactly: 🙂🙃 你好 Ünïcödé"}])
    # Strict decoding happened in the client; a character cut in two would show as U+FFFD.
    assert "\ufffd" not in "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def test_a_seed_repeats_and_seeds_differ(server):
    ask = lambda seed: server.complete("My favourite number is", temperature=1.5, seed=seed, max_tokens=12)["choices"][0]["text"]
    assert ask(7) == ask(7)
    assert len({ask(seed) for seed in range(4)}) > 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_bad_input(server, case):
    status, _, reply = server.request(case["path"], case.get("body"), case.get("raw"), method="POST")
    assert status == case["status"], reply
    assert case["message"] in reply["error"]["message"]
    assert set(reply["error"]) == {"message", "type", "param", "code"}


def test_invalid_utf8_is_refused(server):
    with server.connect() as connection:
        body = b'{"prompt": "\xff\xfe"}'
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_a_prompt_longer_than_the_context_is_refused_with_numbers(server):
    limit = server.request("/v1/models")[2]["data"][0]["max_model_len"]
    status, _, reply = server.request("/v1/completions", {"prompt": [5] * (limit + 10)})
    assert status == 400
    assert str(limit) in reply["error"]["message"] and str(limit + 10) in reply["error"]["message"]


def test_bad_requests_do_not_disturb_good_ones(server):
    def good(i):
        return server.complete([100 + i, 200, 300], max_tokens=8, ignore_eos=True)["usage"]["completion_tokens"]

    def bad(i):
        case = CASES[i % len(CASES)]
        return server.request(case["path"], case.get("body"), case.get("raw"), method="POST")[0] == case["status"]

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        goods = [pool.submit(good, i) for i in range(24)]
        bads = [pool.submit(bad, i) for i in range(90)]
        assert [future.result() for future in goods] == [8] * 24
        assert all(future.result() for future in bads)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_frees_its_sequence(server, stream):
    body = json.dumps({"prompt": "x", "max_tokens": 4000, "ignore_eos": True, "stream": stream}).encode()
    connection = server.connect()
    connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert eventually(lambda: server.metric("vllm:num_requests_running") == 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    assert eventually(lambda: server.metric("vllm:num_requests_running") == 0)
    assert eventually(lambda: server.metric("crible:live_completions") == 0)
