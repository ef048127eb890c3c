"""The prefix cache over the end of the process, on the default model."""
import signal

from conftest import Server

PROMPT = "In the beginning the old harbour was quiet, and the boats lay in two rows along the wall. " * 6


def ask(server):
    reply = server.complete(PROMPT, max_tokens=24, ignore_eos=True)
    return reply["choices"][0]["text"], reply["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_a_restart_hits_and_says_the_same(tmp_path):
    kept = tmp_path / "prefixes"
    flags = ("--prefix-cache-file", str(kept))
    server = Server(tmp_path, *flags)
    try:
        text, cached = ask(server)
        assert cached == 0
        warm_text, warm_cached = ask(server)
        assert (warm_text, warm_cached > 0) == (text, True)
        status, _, saved = server.request("/admin/prefix_cache/save", {})
        assert status == 200 and saved["blocks"] * 16 >= warm_cached
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=60) == 0
        assert "prefix cache:" in server.log.read_text()

        server = Server(tmp_path, *flags)
        assert server.metric("crible:restored_prefix_blocks_total") * 16 >= warm_cached
        assert ask(server) == (text, warm_cached)
        server.stop()

        content = bytearray(kept.read_bytes())
        content[len(content) // 2:] = b""
        kept.write_bytes(content)
        server = Server(tmp_path, *flags)
        assert "was cut off" in server.log.read_text()
        assert ask(server) == (text, 0)
    finally:
        server.stop()


def test_saving_without_a_file_says_what_to_do(server):
    status, _, reply = server.request("/admin/prefix_cache/save", {})
    assert status == 400
    assert "--prefix-cache-file" in reply["error"]["message"]
