"""The pages for users: what they show runs, what they name is there, and no message goes without its line."""

import ast
import itertools
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import duca_compile
from duca_compile import DucaWarning, torch_private
from duca_compile.generations import advice, continuity, tally
from duca_compile.generations import tracker as trackers
from duca_compile.passes import LOWERING, OUTLINING, PIPELINE
from duca_compile.refusal import data_decides
from duca_compile.runtime import failures
from messages import VARIES, fixed, messages, reset_reasons
from pages import ROOT, blocks_of, rows_of
from pipelines import flux_1
from serving.load import small_dit

DOCS = ROOT / "docs"


@pytest.fixture
def eager_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a page compiles by Inductor runs as it is."""
    inner = torch_private.inner_compiler
    monkeypatch.setattr(torch_private, "inner_compiler", lambda asked, changes: inner("eager", {}))


def small_pipeline(*given: Any, **more: Any) -> Any:
    pipe, asked = flux_1()
    pipe.default_sample_size = asked["height"] // pipe.vae_scale_factor
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.usefixtures("eager_inside")
def test_the_quick_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import diffusers

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(diffusers.DiffusionPipeline, "from_pretrained", small_pipeline)
    page = run_blocks("quick_start.md", model=small_dit())
    assert page["found"].steps == {"full": 10, "forecast": 40}
    assert page["report"].verdict.outcome == "wholly"
    assert Path("report.html").exists()
    steps = duca_compile.stats(page["fast"]).steps
    generations = 1 + 1 + 2 + 1
    assert steps["full"] <= 10 * generations + 2, "a generation whose latents are not known yet is computed longer"
    assert steps["forecast"] >= 40 * generations - 2


@pytest.mark.usefixtures("eager_inside")
def test_the_readme(monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers

    monkeypatch.setattr(diffusers.DiffusionPipeline, "from_pretrained", small_pipeline)
    call = torch.randn(2, 1, 28, 28), torch.full((2,), 900.0), torch.tensor([1, 10])
    *blocks, _ = blocks_of(ROOT / "README.md")
    page = run(blocks, model=small_dit(), args=call, kwargs={})
    assert page["report"].verdict.steps == {"full": 10, "forecast": 40}
    assert duca_compile.stats(page["pipe"]).steps == {"full": 10, "forecast": 40}


@pytest.mark.slow
@pytest.mark.usefixtures("eager_inside")
def test_the_readmes_way_to_tune(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    block = blocks_of(ROOT / "README.md")[-1]
    page = run([block], pipe=small_pipeline(), prompts=["a cat", "a blue dog"])
    assert len(page["tuned"].trials) == 18
    assert "(eighteen times in all)" in (ROOT / "README.md").read_text()
    assert duca_compile.Options.parse({"tuned": "flux.json"}).method == page["tuned"].at(5).method


def run_blocks(name: str, **given: Any) -> dict[str, Any]:
    x, t, labels = torch.randn(2, 1, 28, 28), torch.full((2,), 900.0), torch.tensor([1, 10])
    page = {"x": x, "t": t, "labels": labels, **given}
    return run(blocks_of(DOCS / name), **page)


def run(blocks: Sequence[str], **given: Any) -> dict[str, Any]:
    """In order, as one program, in which nothing warns."""
    page = {"torch": torch, "duca_compile": duca_compile, **given}
    with warnings.catch_warnings():
        warnings.simplefilter("error", DucaWarning)
        for block in blocks:
            exec(block, page)
    return page


def test_every_row_on_compatibility_names_tests_that_are_there() -> None:
    rows = [line for line in (DOCS / "compatibility.md").read_text().splitlines() if line.startswith("| ")]
    named = set()
    for row in rows:
        cell = row.rstrip(" |").rpartition(" | ")[2]
        if cell != "test":
            assert "::" in cell or cell.startswith("not tested"), row
            named |= set(re.findall(r"`(test_\w+\.py)::(test_\w+)`", cell))
    assert len(named) > 40
    assert {each for each in named if each[1] not in names_in(each[0])} == set()


def names_in(file: str) -> set[str]:
    found = ast.parse((ROOT / "tests" / file).read_text()).body
    return {each.name for each in found if isinstance(each, ast.FunctionDef)}


HANDED_ON: dict[str, list[str]] = {
    "message": [],
    "self.part.refusal": [],
    "data_decides('the forward pass')": [],
    "data_decides(f'%{node.name} = {node.target}')": [data_decides(VARIES)],
    "_short_of_memory(times)": [failures._short_of_memory(3).replace("3", VARIES)],
    "_ON.get(missed.reason, f'{missed.reason}; {_KEYED}')": [*advice._ON.values()],
}
"""The messages that are no text where they are given, with the texts that they may be; none where each is one of others'."""


def test_troubleshooting_has_every_message_of_the_source() -> None:
    """Its first words, or those of its longest part that is the same for every model."""
    page, told = words((DOCS / "troubleshooting.md").read_text()), all_messages()
    assert len(told) > 60
    assert [text for text in told if words(fixed(text), 6) not in page] == []
    reasons = reset_reasons()
    assert reasons >= {trackers.AMBIGUOUS, "timestep jumped back", "the forward pass took another way"}
    assert [reason for reason in reasons if f"| {reason} |" not in page] == []


def all_messages() -> list[str]:
    texts, handed_on = messages()
    assert handed_on == set(HANDED_ON), "say above what these may be"
    return [*texts, *itertools.chain(*HANDED_ON.values())]


def words(text: str, count: int | None = None) -> str:
    return " ".join(text.replace("`", "").split()[:count])


def test_troubleshooting_has_no_message_that_is_gone() -> None:
    known = [words(fixed(text), 6) for text in all_messages()]
    page = (
        (DOCS / "troubleshooting.md")
        .read_text()
        .partition("\n## The model is")[2]
        .partition("\n## Why steps were full")[0]
    )
    rows = [words(row[2:].partition(" | ")[0]) for row in page.splitlines() if row.startswith("| ")]
    assert [row for row in rows if row != "message" and not any(start in row for start in known)] == []


@pytest.mark.usefixtures("eager_inside")
def test_the_blocks_of_choosing_and_how_it_works() -> None:
    run_blocks("choosing.md", model=small_dit())
    page = run_blocks("how_it_works.md", model=small_dit())
    assert list(page["program"].recipes) == ["full", "conservative", "aggressive"]


def test_how_it_works_has_the_passes_in_their_order() -> None:
    passes = [type(each).__name__ for each in dict.fromkeys(PIPELINE)]
    page = (DOCS / "how_it_works.md").read_text()
    assert re.findall(r"^\| `([A-Z]\w+)` \|", page, re.MULTILINE) == passes
    assert all(f"`{type(each).__name__}`" in page for each in (*LOWERING, *OUTLINING))


def test_choosing_says_what_was_measured() -> None:
    rows = rows_of((DOCS / "choosing.md").read_text().partition("## What quality to expect")[2].partition("\n- ")[0])
    assert len(rows) > 6
    assert set(rows) <= set(rows_of((DOCS / "measured.md").read_text()))


def test_the_index_lists_every_page() -> None:
    index = (DOCS / "README.md").read_text()
    assert all(f"({page.name})" in index for page in DOCS.glob("*.md") if page.name != "README.md")


def test_troubleshooting_has_every_reason_for_a_full_step() -> None:
    page = (DOCS / "troubleshooting.md").read_text().partition("\n## Why steps were full")[2].partition("\n## ")[0]
    reasons = {tally.FIRST, tally.OVER, tally.SCHEDULED, tally.LONG, tally.FAR, tally.NOISE, continuity.AGAIN}
    assert {row[2:].partition(" | ")[0] for row in page.splitlines() if row.startswith("| ")} == {"reason", *reasons}
