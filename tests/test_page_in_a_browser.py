"""The page of a report, as a browser shows it: no error, every picture drawn, nothing wider than the window."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from duca_compile.report.explain import Report, explain
from tiny import Tiny, tiny_call
from zoo.case import noise
from zoo.core import CORE, example_dit

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")]
MEASURE = """<script>
const drawn = [...document.querySelectorAll("svg")].map(each => each.getBoundingClientRect());
document.title = JSON.stringify({
  "pictures": drawn.length,
  "empty": drawn.filter(box => box.width < 10 || box.height < 10).length,
  "overflow": document.documentElement.scrollWidth - document.documentElement.clientWidth,
});
</script></body>"""
REPORTS: dict[str, Callable[[], Report]] = {
    "the default": lambda: explain(example_dit(), **CORE["example DiT"].call(900.0)),
    "several recipes": lambda: explain(Tiny().eval(), *tiny_call(), duca_options={"method": "duca"}),
    "decided at run time": lambda: explain(Tiny().eval(), *tiny_call(), duca_options={"method": "teacache"}),
    "not accelerated": lambda: explain(nn.Linear(3, 3).eval(), noise(2, 3)),
}


def shown(page: Path) -> tuple[str, str]:
    """The document that came of it, and what the browser says."""
    assert BROWSER is not None
    profile = page.with_name("profile")
    options = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--window-size=1100,900")
    command = [BROWSER, *options, "--enable-logging=stderr", "--dump-dom", page.as_uri()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout, ran.stderr


@pytest.mark.parametrize("name", REPORTS)
def test_the_page_is_drawn_without_an_error(name: str, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    REPORTS[name]().to_html(page)
    page.write_text(page.read_text(encoding="utf-8").replace("</body>", MEASURE), encoding="utf-8")
    document, said = shown(page)
    assert "CONSOLE" not in said
    title = re.search(r"<title>(\{.*?\})</title>", document)
    assert title
    found = json.loads(title[1])
    assert found["empty"] == 0
    assert found["overflow"] == 0
    assert (found["pictures"] > 0) == (name != "not accelerated")


def test_an_error_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text('<!DOCTYPE html><body><svg><rect width="nan" height="1"/></svg></body>')
    assert "Expected length" in shown(page)[1].partition("CONSOLE")[2]
