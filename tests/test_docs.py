"""The pages for readers: short where they should be, links that lead somewhere, examples that work."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

import duca_compile
import op_calls
from duca_compile.analysis import token_rules
from duca_compile.methods import METHODS, PRESETS
from duca_compile.methods.base import FULL
from duca_compile.methods.published import PUBLISHED
from duca_compile.methods.schedules import NAMED
from duca_compile.methods.selectors import RANDOM, SELECTORS
from duca_compile.plan.options import OF_A_TUNED_FILE, Options
from helpers import STEPS, captured, compiled
from packages import InMemory
from pages import LINK, ROOT, blocks_of, rows_of
from rule_checks import check_calls
from serving.load import small_dit
from tiny import Tiny, tiny_call
from zoo.case import noise
from zoo.core import example_dit

README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
PAGES = [README, CONTRIBUTING, *sorted((ROOT / "docs").glob("*.md"))]


def test_the_guides_are_short() -> None:
    assert len(README.read_text().splitlines()) <= 250
    assert len(CONTRIBUTING.read_text().splitlines()) <= 120


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if "://" not in link:
            path, _, heading = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not heading or heading in headings(target), link


def headings(page: Path) -> set[str]:
    """As links name them."""
    found = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in found}


def test_every_page_is_linked_and_says_first_what_it_is_for() -> None:
    for page in PAGES[1:]:
        assert str(page.relative_to(ROOT)) in README.read_text()
        assert page.read_text().splitlines()[2].startswith("This page ")


def test_the_short_table_of_quality_is_of_the_rows_of_the_long_one() -> None:
    short, long = (rows_of(marked(page)) for page in (README, ROOT / "docs" / "measured.md"))
    assert set(long) <= set(rows_of((ROOT / "benchmarks" / "results" / "quality.md").read_text()))
    assert set(short) <= set(long)
    assert len(short) > 6


def marked(page: Path) -> str:
    (found,) = re.findall(r"<!-- quality -->\n(.*)\n<!-- /quality -->", page.read_text(), re.DOTALL)
    return str(found)


def shown(name: str) -> Any:
    """The class of this name from an example for contributors."""
    (block,) = [block for block in blocks_of(CONTRIBUTING) if f"class {name}" in block]
    namespace: dict[str, Any] = {"__name__": __name__}
    exec(block, namespace)
    return namespace[name]


def test_the_pass_that_contributors_are_shown() -> None:
    class Turns(Tiny):
        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return super().forward(x, t).transpose(1, 2).transpose(1, 2) * 2

    found = captured(Turns().eval(), *tiny_call())
    values = [torch.randn(node.meta["val"].shape) for node in found.capture.gm.graph.find_nodes(op="placeholder")]
    want = found.capture.gm(*values)
    result = shown("CancelTransposes")().run(found.capture.gm, found.plan.steps[FULL])
    found.capture.gm.recompile()
    assert result.count == 1
    assert all(torch.equal(a, b) for a, b in zip(found.capture.gm(*values), want, strict=True))


def test_the_token_rule_that_contributors_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = [block for block in blocks_of(CONTRIBUTING) if "# RULES" in block]
    rule, call = ("{" + line.split("  #")[0] + "}" for line in block.strip().splitlines())
    ((packet, known),) = eval(rule, vars(token_rules).copy()).items()
    ((same, make),) = eval(call, vars(op_calls).copy()).items()
    assert packet is same
    monkeypatch.setitem(token_rules.RULES, packet, known)
    assert check_calls(make, examples=15)


def test_the_method_that_contributors_are_shown() -> None:
    model = example_dit()
    fast, x, labels = compiled(model, method=shown("KeepAttention")(cycle=3)), noise(2, 1, 8, 8), torch.tensor([1, 2])
    for t in STEPS[:6]:
        x = x - 0.05 * fast(x, torch.full((2,), t), labels)[:, :1]
    assert duca_compile.stats(model).steps == {FULL: 2, "keep-attention": 4}


def test_the_method_that_users_are_shown() -> None:
    (block,) = [block for block in blocks_of(README) if '"method": "taylorseer"' in block]
    namespace: dict[str, Any] = {"model": Tiny().eval(), "torch": torch}
    exec(block, namespace)
    (graph,) = duca_compile.explain(namespace["fast"], *tiny_call()).graphs
    assert list(graph.flops) == [FULL, "forecast"]


@pytest.mark.parametrize("name", ["compilers.md", "serving.md"])
def test_the_blocks_of_pages_that_have_many(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, as one program; nothing is compiled to files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.compiler, "save_cache_artifacts", lambda: (b"all", None))
    monkeypatch.setattr(torch.compiler, "load_cache_artifacts", lambda found: None)
    InMemory(monkeypatch)
    model, call = small_dit(), (noise(2, 1, 28, 28), torch.full((2,), 900.0), torch.tensor([1, 10]))
    namespace: dict[str, Any] = {"duca_compile": duca_compile, "torch": torch, "Path": Path, "model": model}
    namespace |= dict(zip(("x", "t", "labels"), call, strict=True))
    namespace |= {"fast": compiled(model), "request": "one"}
    for block in blocks_of(ROOT / "docs" / name):
        exec(block, namespace)
    assert torch.equal(namespace["prediction"], model(*call))
    if name == "compilers.md":
        promised = re.findall(r"^print\((.+)\)  # (.+)$", blocks_of(ROOT / "docs" / name)[-2], re.MULTILINE)
        assert [str(eval(asked, namespace)) for asked, _ in promised] == [told for _, told in promised]
        assert len(promised) == 3


def test_every_option_and_method_is_told() -> None:
    shared, page = README.read_text(), (ROOT / "docs" / "methods.md").read_text()
    of_methods = {each.name for kind in METHODS.values() for each in fields(kind)}  # type: ignore[arg-type]
    of_all = {each.name for each in fields(Options)} | {"preset", "tuned"}
    assert told_first(shared.partition("## Options")[2]) == of_all - {*OF_A_TUNED_FILE}
    methods, options, schedules, selectors, published = page.split("\n## ")[1:]
    assert told_first(options) == of_methods
    assert told_first(methods) == {f'"{name}"' for name in METHODS}
    assert told_first(schedules) - {"[0, 4, 9, ...]"} == {f'"{name}"' for name in NAMED}
    assert told_first(selectors) == {f'"{name}"' for name in (*SELECTORS, RANDOM)}
    assert all(f'`"{name}"`' in published for name in PUBLISHED)
    assert all(f'"{name}"' in shared for name in (*METHODS, *PRESETS) if name not in PUBLISHED)


def told_first(text: str) -> set[str]:
    """What the first column of its tables names, but for their heads."""
    first = re.findall(r"^\| (`[^|]*) \|.*\n(?!\|---)", text, re.MULTILINE)
    return {name for cell in first for name in re.findall(r"`([^`]+)`", cell)}
