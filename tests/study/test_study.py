"""Whole studies of the real program on the real model: what they leave, and how they fail."""
import hashlib
import json
import os
import resource
import signal
import sqlite3
import subprocess
import time

import jsonschema
import pytest

from conftest import ROOT, TINY


def trial_ids(folder):
    with sqlite3.connect(f"file:{folder / 'study.sqlite'}?mode=ro", uri=True) as store:
        return [row[0] for row in store.execute("SELECT id FROM trial")]


def digests(folder):
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in ("report.md", "report.json", "report.html")}


def children_of(pid):
    found = subprocess.run(["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def test_report_follows_its_schema_and_is_measured(finished):
    folder, _ = finished
    report = json.loads((folder / "report.json").read_text())
    jsonschema.validate(report, json.loads((ROOT / "docs/report.schema.json").read_text()))
    assert report["failures"] == []
    by_name = {entry["name"]: entry for entry in report["configurations"]}
    assert set(by_name) == {"prefix_off", "prefix_on"}
    on, off = by_name["prefix_on"], by_name["prefix_off"]
    assert on["effective"]["enable-prefix-caching"] is True
    assert off["effective"]["enable-prefix-caching"] is False
    assert off["metrics"]["ttft_hit_ms"] is None, "without a prefix cache there is no HIT to measure"
    assert on["metrics"]["ttft_hit_ms"]["n"] == 2
    assert on["metrics"]["ttft_hit_ms"]["p50"] < on["metrics"]["ttft_miss_ms"]["p50"]
    # The plan fills what the utilisation of 0.9 of 768 MiB leaves, in whole blocks.
    assert 0.85 * 768 < on["metrics"]["device_memory_mib"]["p50"] <= 0.9 * 768


def test_every_trial_is_there_once_and_valid(finished):
    folder, _ = finished
    ids = trial_ids(folder)
    assert len(ids) == len(set(ids)) == 8
    report = json.loads((folder / "report.json").read_text())
    assert all(entry["status"] == "measured" for entry in report["configurations"]), report["configurations"]


def test_plain_output_when_not_a_terminal(finished):
    _, done = finished
    assert "\x1b" not in done.stdout
    assert "[8/8]" in done.stdout


def test_report_twice_gives_identical_bytes(crible, finished):
    folder, _ = finished
    first = digests(folder)
    assert crible.run("report", folder).returncode == 0
    assert digests(folder) == first
    french = crible.run("report", folder, "--lang", "fr")
    assert french.returncode == 0 and digests(folder)["report.md"] != first["report.md"]
    assert crible.run("report", folder, "--lang", "en").returncode == 0
    assert digests(folder) == first


def test_resume_of_a_finished_study_changes_no_measurement(crible, finished):
    folder, _ = finished
    before = trial_ids(folder)
    done = crible.run("resume", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert trial_ids(folder) == before


def test_promoted_configuration_is_the_measured_one(crible, finished):
    folder, _ = finished
    report = json.loads((folder / "report.json").read_text())
    effective = {entry["name"]: entry["effective"] for entry in report["configurations"]}
    proposed = {verdict["configuration"] for verdict in report["verdicts"] if verdict["configuration"]}
    written = {path.stem for path in (folder / "artifacts").glob("*.json")}
    assert written == proposed
    for name in proposed:
        assert json.loads((folder / "artifacts" / f"{name}.json").read_text()) == effective[name]
        script = folder / "artifacts" / f"{name}.sh"
        assert os.access(script, os.X_OK)
        switch = "--enable-prefix-caching" if effective[name]["enable-prefix-caching"] else "--no-enable-prefix-caching"
        assert f" {switch}" in script.read_text()


def test_kill_in_the_middle_then_resume(crible, tiny_spec, tmp_path):
    folder = tmp_path / "study"
    process = crible.start("run", tiny_spec, "--out", folder)
    deadline = time.monotonic() + 600
    servers = []
    while time.monotonic() < deadline and process.poll() is None:
        servers = children_of(process.pid) or servers
        if (folder / "study.sqlite").exists() and len(trial_ids(folder)) >= 2:
            break
        time.sleep(0.01)
    process.kill()
    process.communicate()
    kept = trial_ids(folder)
    assert 2 <= len(kept) < 8
    for pid in servers:  # the server dies with the study that started it
        for _ in range(500):
            if not os.path.exists(f"/proc/{pid}") or "Z" in open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0]:
                break
            time.sleep(0.01)
        else:
            pytest.fail(f"server {pid} outlived its study")
    done = crible.run("resume", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    ids = trial_ids(folder)
    assert len(ids) == len(set(ids)) == 8 and set(kept) <= set(ids)


def test_a_server_that_is_killed_is_a_failure_and_the_study_goes_on(crible, tiny_spec, tmp_path):
    folder = tmp_path / "study"
    process = crible.start("run", tiny_spec, "--out", folder)
    while process.poll() is None and not ((folder / "study.sqlite").exists() and trial_ids(folder)):
        time.sleep(0.01)
    server, = children_of(process.pid)
    os.kill(server, signal.SIGKILL)
    output, errors = process.communicate(timeout=280)
    assert process.returncode == 0, output + errors
    ids = trial_ids(folder)
    assert len(ids) == len(set(ids)) == 8
    report = json.loads((folder / "report.json").read_text())
    assert {failure["cause"] for failure in report["failures"]} <= {"crash", "unknown"}
    assert any(failure["cause"] == "crash" for failure in report["failures"])


def test_interrupt_ends_cleanly_and_says_how_to_go_on(crible, tiny_spec, tmp_path):
    folder = tmp_path / "study"
    process = crible.start("run", tiny_spec, "--out", folder)
    while process.poll() is None and not ((folder / "study.sqlite").exists() and trial_ids(folder)):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"crible study resume {folder}" in errors
    assert (folder / "report.md").exists()


def test_equal_effective_configurations_stop_the_study(crible, tmp_path):
    done = crible.run("run", ROOT / "examples/aa.yaml", "--out", tmp_path / "aa")
    assert done.returncode == 1
    assert "'first' and 'second' have equal effective values" in done.stderr
    assert trial_ids(tmp_path / "aa") == []
    report = json.loads((tmp_path / "aa" / "report.json").read_text())
    assert report["failures"][0]["cause"] == "effective_mismatch"


def test_a_configuration_that_does_not_fit_is_a_row_and_the_other_goes_on(crible, tmp_path):
    spec = tmp_path / "spec.yaml"
    spec.write_text(TINY.replace("{name: prefix_off,", "{name: prefix_off, gpu-memory-utilization: 0.05,")
                    .replace("blocks: 2", "blocks: 1"))
    done = crible.run("run", spec, "--out", tmp_path / "study")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "study" / "report.json").read_text())
    status = {entry["name"]: entry["status"] for entry in report["configurations"]}
    assert status == {"prefix_off": "failed", "prefix_on": "measured"}
    assert report["failures"][0]["cause"] == "out_of_memory"


BAD_SPECS = [
    ("configuratons: []\n" + TINY, "configurations"),
    (TINY.replace("enable-prefix-caching: false", "enable-prefix-cache: false"), "enable-prefix-caching"),
    (TINY.replace("pairs: 1", "pair: 1"), "pairs"),
    (TINY.replace("blocks: 2", "blocks: 0"), "blocks"),
    (TINY.replace("max-num-seqs: 4", "max-num-seqs: lots"), "max-num-seqs"),
    (TINY.replace("ttft_repeat_ms", "ttft_repeet_ms"), "ttft_repeat_ms"),
    (TINY.replace("models/default.gguf", "models/nowhere.gguf"), "models/nowhere.gguf"),
    (TINY.replace("engine: crible", "engine: vllm"), "vllm"),
    ("study: [", ""),
]


@pytest.mark.parametrize("text,fragment", BAD_SPECS)
def test_bad_specs_are_errors_that_name_the_place(crible, tmp_path, text, fragment):
    spec = tmp_path / "bad.yaml"
    spec.write_text(text)
    done = crible.run("run", spec, "--out", tmp_path / "study")
    assert done.returncode == 2, done.stderr
    assert fragment in done.stderr
    assert not (tmp_path / "study" / "study.sqlite").exists()


def test_bad_arguments(crible, tmp_path):
    assert crible.run().returncode == 2
    assert crible.run("run").returncode == 2
    assert crible.run("run", tmp_path / "missing.yaml").returncode == 2
    assert crible.run("resume", tmp_path).returncode == 2
    assert crible.run("report", tmp_path).returncode == 2
    assert crible.run("--help").returncode == 0


def test_a_folder_that_holds_a_study_is_not_written_over(crible, tiny_spec, finished):
    folder, _ = finished
    before = digests(folder)
    done = crible.run("run", tiny_spec, "--out", folder)
    assert done.returncode == 2 and "resume" in done.stderr
    assert digests(folder) == before


def test_two_at_once_on_one_store(crible, tiny_spec, tmp_path):
    folder = tmp_path / "study"
    first = crible.start("run", tiny_spec, "--out", folder)
    while first.poll() is None and not (folder / "study.sqlite").exists():
        time.sleep(0.01)
    second = crible.run("resume", folder)
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=120)
    assert second.returncode != 0 and "study.sqlite" in second.stderr


def test_full_disk_is_named_and_what_is_stored_stays(crible, tiny_spec, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (96 * 1024, 96 * 1024))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    done = crible.run("run", tiny_spec, "--out", tmp_path / "study", preexec_fn=limit)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "study.sqlite" in done.stderr
    if (tmp_path / "study" / "study.sqlite").exists():
        ids = trial_ids(tmp_path / "study")
        assert len(ids) == len(set(ids))
