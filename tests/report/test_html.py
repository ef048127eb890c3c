"""The page is well-formed, asks for nothing, and opens in a browser without an error in its console."""
import html.parser
import shutil
import subprocess

import pytest

from conftest import KINDS

VOID = {"meta", "link", "br", "hr", "img", "input"}
SVG_LEAVES = {"line", "rect", "path"}


class Structure(html.parser.HTMLParser):
    """Checks that tags close in order; counts elements; gathers every address."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.counts, self.addresses, self.handlers = [], {}, [], []

    def note(self, tag, attributes):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        for name, value in attributes:
            if name in ("href", "src", "action", "data", "srcset", "poster"):
                self.addresses.append(value)
            if name.startswith("on"):
                self.handlers.append((tag, name))

    def handle_starttag(self, tag, attrs):
        self.note(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.note(tag, attrs)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> at {self.getpos()} closes {self.open[-1:]}"
        self.open.pop()


def structure_of(folder):
    parser = Structure()
    parser.feed((folder / "report.html").read_text(encoding="utf-8"))
    parser.close()
    return parser


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("language", ["en", "fr"])
def test_well_formed_and_self_contained(reports, kind, language):
    parser = structure_of(reports[kind, language])
    assert parser.open == []
    assert parser.handlers == []
    assert "script" not in parser.counts and "iframe" not in parser.counts
    outside = [a for a in parser.addresses if not a.startswith("#") and a != "data:,"]
    assert outside == []
    assert parser.counts["h1"] == 1 and parser.counts["h2"] == 6


def test_figures_show_what_was_measured(reports):
    assert structure_of(reports["complete", "en"]).counts["svg"] == 7
    assert "svg" not in structure_of(reports["empty", "en"]).counts


def browser():
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if shutil.which(name):
            return name
    pytest.fail("no Chromium found: install the package chromium (scripts/setup test does)")


@pytest.mark.parametrize("kind, language", [("complete", "fr"), ("hostile", "en")])
def test_opens_without_console_messages(reports, tmp_path, kind, language):
    page = reports[kind, language] / "report.html"
    run = subprocess.run(
        [browser(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", f"--user-data-dir={tmp_path}",
         "--enable-logging=stderr", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=500)  # a hang, not slowness
    assert run.returncode == 0, run.stderr[-2000:]
    # What the content security policy blocks, and any script error, would stand there.
    assert [line for line in run.stderr.splitlines() if "CONSOLE" in line] == []
    parser = Structure()
    parser.feed(run.stdout)
    assert parser.counts["h2"] == 6, "the browser read the same document"
    assert "script" not in parser.counts
