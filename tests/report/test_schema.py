"""docs/report.schema.json accepts what the program writes, and rejects reports that are broken."""
import copy
import json

import jsonschema
import pytest

from conftest import KINDS, ROOT

SCHEMA = json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def load(folder):
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def test_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("kind", KINDS)
def test_written_reports_are_valid(reports, kind):
    errors = [f"{list(e.path)}: {e.message}" for e in VALIDATOR.iter_errors(load(reports[kind, "en"]))]
    assert errors == []


def test_json_does_not_depend_on_the_language(reports):
    for kind in KINDS:
        assert (reports[kind, "en"] / "report.json").read_bytes() == (reports[kind, "fr"] / "report.json").read_bytes()


def test_unmeasured_is_null_and_measured_is_whole(reports):
    report = load(reports["complete", "en"])
    by_name = {c["name"]: c for c in report["configurations"]}
    assert by_name["chunked_only_safe"]["metrics"]["ttft_hit_ms"] is None
    hit = by_name["optimized_balanced"]["metrics"]["ttft_hit_ms"]
    assert hit["ci95"][0] <= hit["p50"] <= hit["ci95"][1]
    assert hit["n"] == 30 and len(hit["trials"]) == 5
    assert hit["p99"] is None, "30 samples do not support a p99"


def test_indexes_point_into_their_lists(reports):
    for kind in KINDS:
        report = load(reports[kind, "en"])
        names = {c["name"] for c in report["configurations"]}
        for verdict in report["verdicts"]:
            for reason in verdict["reasons"]:
                if reason["contrast"] is not None:
                    contrast = report["contrasts"][reason["contrast"]]
                    assert {reason["configuration"], reason["rival"]} == {contrast["a"], contrast["b"]}
                if reason["constraint"] is not None:
                    assert report["constraints"][reason["constraint"]]["configuration"] == reason["configuration"]
            assert set(verdict["contenders"]) <= names


def walk(node, path=()):
    """Every object of the report, with its path."""
    if isinstance(node, dict):
        yield path, node
        for key, value in node.items():
            yield from walk(value, path + (key,))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from walk(value, path + (index,))


OPEN_OBJECTS = ("requested", "resolved", "effective", "parameters", "by_scenario", "metrics")


def fixed_objects(report):
    """Paths of objects whose keys are fixed, one of each kind."""
    seen = set()
    for path, node in walk(report):
        inside_open = any(key in ("requested", "resolved", "effective", "parameters") for key in path)
        is_map = path and (path[-1] in OPEN_OBJECTS or (len(path) > 1 and path[-2] == "by_scenario"))
        kind = (tuple(sorted(node)), tuple(key for key in path if isinstance(key, str))[:2])
        if node and not inside_open and not is_map and kind not in seen:
            seen.add(kind)
            yield path


def at(node, path):
    for key in path:
        node = node[key]
    return node


def trimmed(report):
    """One of each thing, so that validating it hundreds of times stays quick."""
    report = copy.deepcopy(report)
    for key in ("contrasts", "constraints", "verdicts", "failures", "invalid_trials", "artifacts"):
        report[key] = report[key][:1]
    configuration = next(c for c in report["configurations"] if c["metrics"]["ttft_hit_ms"])
    configuration["metrics"].update({name: None for name in configuration["metrics"] if name != "ttft_hit_ms"})
    configuration["by_scenario"] = {"kv_cache": {"ttft_hit_ms": configuration["metrics"]["ttft_hit_ms"]}}
    report["configurations"] = [configuration]
    return report


def test_missing_and_unknown_keys_are_rejected(reports):
    report = trimmed(load(reports["troubled", "en"]))
    assert VALIDATOR.is_valid(report)
    paths = list(fixed_objects(report))
    assert len(paths) > 15
    for path in paths:
        for key in list(at(report, path)):
            broken = copy.deepcopy(report)
            del at(broken, path)[key]
            assert not VALIDATOR.is_valid(broken), f"accepted without {path} {key}"
        broken = copy.deepcopy(report)
        at(broken, path)["surprise"] = 1
        assert not VALIDATOR.is_valid(broken), f"accepted an unknown key in {path}"


@pytest.mark.parametrize(
    "path, value",
    [
        (("configurations", 0, "status"), "champion"),
        (("configurations", 0, "metrics", "ttft_ms"), 12.5),
        (("configurations", 0, "metrics", "ttft_ms", "ci95"), [1.0]),
        (("configurations", 0, "metrics", "ttft_ms", "n"), 0),
        (("configurations", 0, "metrics", "ttft_ms", "p50"), None),
        (("configurations", 0, "metrics", "ttft_ms", "p50"), "12"),
        (("contrasts", 0, "kind"), "guess"),
        (("verdicts", 0, "kind"), "champion"),
        (("study", "complete"), "yes"),
        (("study", "requests"), -1),
        (("model", "sha256"), "not a sum"),
        (("format_version",), 2),
    ],
)
def test_wrong_values_are_rejected(reports, path, value):
    broken = load(reports["complete", "en"])
    at(broken, path[:-1])[path[-1]] = value
    assert not VALIDATOR.is_valid(broken)


def test_a_winner_needs_a_configuration_and_others_have_none(reports):
    broken = load(reports["complete", "en"])
    broken["verdicts"][0].update(kind="winner", configuration=None)
    assert not VALIDATOR.is_valid(broken)
    broken["verdicts"][0].update(kind="insufficient", configuration="chunked_only_safe")
    assert not VALIDATOR.is_valid(broken)
