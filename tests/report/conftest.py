"""Reports of synthetic studies, written once per session by the report_sample program."""
import os
import pathlib
import subprocess

import pytest

KINDS = ["complete", "troubled", "single", "empty", "gpu", "hostile"]
ROOT = pathlib.Path(__file__).resolve().parents[2]


def sample_program() -> pathlib.Path:
    folder = os.environ.get("CRIBLE_BIN_DIR")
    if not folder:
        pytest.fail("CRIBLE_BIN_DIR must name the folder of the built programs (ctest sets it)")
    return pathlib.Path(folder) / "report_sample"


@pytest.fixture(scope="session")
def reports(tmp_path_factory):
    """(kind, language) -> folder that holds report.md, report.json, report.html."""
    folders = {}
    for kind in KINDS:
        for language in ("en", "fr"):
            folder = tmp_path_factory.mktemp(f"{kind}-{language}")
            subprocess.run([sample_program(), kind, language, folder], check=True, timeout=60, stdout=subprocess.DEVNULL)
            folders[kind, language] = folder
    return folders
