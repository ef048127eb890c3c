#!/usr/bin/env python3
"""Makes the first seeds in fuzz/corpus: small valid inputs of each target, and some that stop half-way.

Needs gguf, numpy and safetensors. What fuzzing found later stands beside them and is left alone.
"""

import json
import struct
from pathlib import Path

import gguf
import numpy
from safetensors.numpy import save

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "fuzz/corpus"


def keep(target, name, content):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def gguf_file(path, kind):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_tokenizer_model(kind)
    texts = ["<unk>", "<s>", "</s>", "<0x0A>", "a", "b", "ab", "Ġ", "▁"]
    writer.add_token_list(texts)
    writer.add_token_types([2, 3, 3, 6, 1, 1, 1, 1, 4])
    if kind == "gpt2":
        writer.add_tokenizer_pre("smollm")
        writer.add_token_merges(["a b"])
    else:
        writer.add_token_scores([0, 0, 0, 0, -1, -2, -3, -4, -5])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{{ messages[0].content }}")
    writer.add_tensor("token_embd.weight", numpy.arange(64, dtype=numpy.float32).reshape(2, 32))
    writer.add_tensor("norm", numpy.arange(4, dtype=numpy.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    content = path.read_bytes()
    path.unlink()
    return content


def make_gguf():
    for kind in ("gpt2", "llama"):
        content = gguf_file(CORPUS / "seed.gguf", kind)
        keep("gguf", kind, content)
        keep("gguf", kind + "_half", content[:len(content) // 2])
    keep("gguf", "many_keys", b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60))


def make_safetensors():
    tensors = {"a": numpy.ones((2, 3), numpy.float32), "b.weight": numpy.zeros((4,), numpy.int8), "c": numpy.array(1.5)}
    content = save(tensors, {"format": "pt"})
    keep("safetensors", "three", content)
    keep("safetensors", "half", content[:len(content) // 2])
    keep("safetensors", "empty_table", struct.pack("<Q", 2) + b"{}")
    keep("safetensors", "long_table", struct.pack("<Q", 1 << 63) + b"{}")


def make_tokenizer_json():
    data = (ROOT / "tests/golden/tokenizer_json.bin").read_bytes()
    count, at = struct.unpack_from("<I", data, 4)[0], 8
    for _ in range(count):
        size = data[at]
        name = data[at + 1:at + 1 + size].decode()
        kind, length = struct.unpack_from("<BI", data, at + 1 + size)
        at += 6 + size
        if kind == 0:
            file = json.loads(data[at:at + length])
            # A short vocabulary: what stands around it is what differs.
            known = {token["content"] for token in file["added_tokens"]} | {"<unk>"}
            texts = [text for text in file["model"]["vocab"] if len(text) == 1 or text in known or text.startswith("<0x0")][:120]
            texts += ["in", "the"]
            file["model"]["vocab"] = {text: index for index, text in enumerate(texts)}
            file["model"]["merges"] = [["i", "n"]]
            for token in file["added_tokens"]:
                token["id"] = texts.index(token["content"]) if token["content"] in texts else len(texts)
                if token["content"] not in texts:
                    texts.append(token["content"])
            for token in ((file["post_processor"] or {}).get("special_tokens") or {}).values():
                token["ids"] = [texts.index(token["id"])]
            keep("tokenizer_json", name, json.dumps(file, ensure_ascii=False, separators=(",", ":")))
        at += length


def make_template():
    for path in sorted((ROOT / "tests/cases/chat_templates").glob("*.jinja")):
        keep("template", path.stem, path.read_bytes())
    golden = json.loads((ROOT / "tests/golden/chat_templates.json").read_text(encoding="utf-8"))
    for index in range(0, 600, 20):
        keep("template", f"random_{index}", golden["templates"][index][0])
        keep("template", f"expression_{index}", "{{ " + golden["expressions"][index][0] + " }}")


def make_json():
    chat = {"model": "m", "messages": [{"role": "user", "content": "Hi \u00e9\n"}], "stream": True, "max_tokens": 5, "temperature": 0.5,
            "stop": ["a", "b"], "tools": [{"type": "function", "function": {"name": "f"}}], "stream_options": {"include_usage": True}}
    frame = {"choices": [{"delta": {"content": "x\u00e9", "reasoning": "y"}, "finish_reason": None}],
             "usage": {"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 0}}}
    keep("json", "chat", json.dumps(chat))
    keep("json", "completion", json.dumps({"prompt": [1, 2], "n": 2, "logprobs": 3, "seed": 2 ** 63, "logit_bias": {"5": -1e2}}))
    keep("json", "tokenize", json.dumps({"prompt": "abc", "add_special_tokens": False}))
    keep("json", "detokenize", json.dumps({"tokens": [1, 2, 3]}))
    keep("json", "frame", json.dumps(frame, ensure_ascii=False))
    keep("json", "error", json.dumps({"error": {"message": "no \"x\" \\ud83d"}}))
    keep("json", "escapes", '"\\u0041\\ud83d\\ude00\\n\\/ \\u0000"')
    keep("json", "numbers", "[0, -0, 1e5, -1.5E-3, 123456789012345678901234567890, 0.1]")
    keep("json", "deep", "[" * 70 + "]" * 70)
    keep("json", "lone_surrogate", '{"a": "\\ud800"}')
    keep("json", "half", json.dumps(chat)[:80])


def make_http():
    body = json.dumps({"prompt": "hi", "max_tokens": 3})
    head = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    keep("http", "request", f"\x09{head}Content-Length: {len(body)}\r\n\r\n{body}")
    keep("http", "request_chunked", f"\x03{head}Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n{body}\r\n0\r\n\r\n")
    keep("http", "get", "\x01GET /metrics?x=1 HTTP/1.0\r\n\r\n")
    reply = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    events = 'data: {"a": 1}\n\n: note\r\nevent: e\ndata: one\r\ndata: two\r\n\r\ndata: [DONE]\n\n'
    keep("http", "reply_length", f"\x07{reply}Content-Length: {len(events)}\r\n\r\n{events}")
    keep("http", "reply_chunked", f"\x05HTTP/1.1 100 Continue\r\n\r\n{reply}Transfer-Encoding: chunked\r\n\r\n{len(events):x};x=y\r\n{events}\r\n0\r\nT: z\r\n\r\n")
    keep("http", "reply_until_close", f"\x20HTTP/1.0 500 Bad\r\n\r\n{events}")
    keep("http", "events", "\x02\ufeffdata\rdata: x\r\ndata:y\n\nid: 1\nretry: 5\n\n" + events)
    keep("http", "huge_length", "\x09HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\nx")


def main():
    CORPUS.mkdir(parents=True, exist_ok=True)
    for make in (make_gguf, make_safetensors, make_tokenizer_json, make_template, make_json, make_http):
        make()
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    print(f"{CORPUS}: {len(files)} seeds, {sum(path.stat().st_size for path in files)} bytes")


if __name__ == "__main__":
    main()
