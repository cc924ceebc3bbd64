"""The verdict of a report, and its forms: text of any width, JSON, a page."""

import functools
import json
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import duca_compile
from dit import DiT
from duca_compile import OptionError, Report, explain
from duca_compile.methods.base import FULL
from helpers import Terminal
from tiny import Tiny, tiny_call
from zoo.case import noise, randomise
from zoo.core import CORE, example_dit

CALL = (noise(2, 1, 8, 8), torch.full((2,), 900.0), torch.tensor([1, 2]))


class LongNames(nn.Module):
    """28 blocks under names that no column has room for."""

    def __init__(self) -> None:
        super().__init__()
        self.dit = randomise(DiT(size=8, width=32, depth=28, heads=2))

    def forward(self, *, latents_of_a_name_that_is_far_too_long_for_any_table_of_eighty_columns_or_less: Tensor, t: Tensor, the_class_of_each_image_under_a_name_that_nobody_would_want_to_read_in_a_table_at_all: Tensor) -> Tensor:  # fmt: skip
        return self.dit(
            latents_of_a_name_that_is_far_too_long_for_any_table_of_eighty_columns_or_less,
            t,
            the_class_of_each_image_under_a_name_that_nobody_would_want_to_read_in_a_table_at_all,
        )


@pytest.fixture(scope="module")
def long() -> Report:
    names = LongNames.forward.__annotations__
    given: dict[str, Any] = dict(zip(names, CALL, strict=False))
    options = {"method": "duca", "aggressive_depth": "all-but-last"}
    return explain(LongNames().eval(), **given, duca_options=options)


@pytest.mark.parametrize("width", [40, 60, 80, 132])
def test_nothing_is_wider_than_asked_for_nor_cut(long: Report, width: int) -> None:
    text = long.text(width)
    assert max(map(len, text.splitlines())) <= width
    joined = "".join(text.split())
    assert "…" not in text
    for name in LongNames.forward.__annotations__:
        assert name in joined or name == "return"


def test_eighty_columns_by_default(long: Report) -> None:
    assert str(long) == long.text(80)


def test_equal_blocks_are_one_row(long: Report) -> None:
    """All but the last, which an aggressive step computes."""
    rows = [line.split()[0] for line in str(long).splitlines() if "compute" in line]
    assert rows[0] == "0-26"
    assert rows[2] == "27"
    assert len(str(long).splitlines()) < 60


def test_the_verdict_is_that_of_the_clock() -> None:
    options = {"method": "duca", "cycle": 4}
    report = explain(example_dit(), *CALL, duca_options=options, steps=30)
    sequence = duca_compile.Options.parse(options).sequence(30)
    (graph,) = report.graphs
    assert list(report.verdict.sequence) == sequence
    assert report.verdict.flops == sum(graph.flops[name] for name in sequence)
    assert report.verdict.plain_flops == 30 * graph.flops[FULL]
    assert report.verdict.outcome == "wholly"
    assert report.verdict.cache_bytes == graph.held_bytes
    assert report.verdict.peak_bytes == graph.full_step_bytes


def test_the_peak_has_what_was_stored_earlier_in_it() -> None:
    """Of the two values that a forecast combines, a full step fills one."""
    verdict, (graph,) = (found := explain(example_dit(), *CALL)).verdict, found.graphs
    assert graph.held_bytes == 2 * graph.filled_bytes
    assert verdict.peak_bytes == graph.full_step_bytes + graph.filled_bytes


def test_fifty_steps_or_those_of_the_session() -> None:
    assert len(explain(example_dit(), *CALL).verdict.sequence) == 50
    with duca_compile.session(steps=12):
        assert len(explain(example_dit(), *CALL).verdict.sequence) == 12


@pytest.mark.parametrize("steps", [0, -1, 2.5])
def test_steps_that_make_no_sense(steps: Any) -> None:
    with pytest.raises(OptionError, match="steps must be a whole number"):
        explain(example_dit(), *CALL, steps=steps)


def test_few_steps_are_computed_unless_they_are_counted() -> None:
    report = explain(example_dit(), *CALL, steps=8)
    assert report.verdict.outcome == "not"
    assert "so few steps are computed wholly" in " ".join(str(report).split())
    with duca_compile.session(steps=8):
        assert explain(example_dit(), *CALL).verdict.outcome == "wholly"
    (advice,) = explain(example_dit(), *CALL, steps=12).verdict.advice
    assert "expect less than this" in advice


def test_a_cycle_of_one_is_no_acceleration() -> None:
    report = explain(example_dit(), *CALL, duca_options={"cycle": 1})
    assert report.verdict.outcome == "not"
    assert "give a larger cycle" in str(report)


class Heavy(Tiny):
    """Most of its work lies after its blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.leave = nn.Sequential(nn.Linear(2, 64), nn.Linear(64, 64), nn.Linear(64, 2))


def test_what_runs_in_every_recipe_makes_it_partly() -> None:
    report = explain(Heavy().eval(), *tiny_call(), duca_options={"method": "duca"})
    assert report.verdict.outcome == "partly"
    assert "no schedule makes it more than 1.0x as fast" in " ".join(str(report).split())


class Split(Tiny):
    """Dynamo breaks its graph before a layer that then runs on its own."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        x = super().forward(x, t)
        torch._dynamo.graph_break()
        return self.leave(x)


def test_what_lies_outside_of_the_accelerated_graphs_counts() -> None:
    report = explain(Split().eval(), *tiny_call(), duca_options={"method": "duca"})
    whole = explain(Tiny().eval(), *tiny_call(), duca_options={"method": "duca"})
    assert whole.verdict.plain_flops is not None
    after = 2 * 10 * 2 * 2
    assert report.verdict.plain_flops == whole.verdict.plain_flops + 50 * after
    assert report.verdict.elsewhere == after * 50 / report.verdict.plain_flops
    (refused,) = report.verdict.refused
    assert refused.startswith("1 of 2 graphs: no residual branch")
    assert "TORCH_LOGS=graph_breaks" in str(report)


class Repeated(nn.Module):
    """One graph, which a forward pass runs three times."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Linear(8, 8)

    def once(self, x: Tensor, t: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return x + t.sin()[:, None, None] * self.block(x)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        for _ in range(3):
            x = self.once(x, t)
        return x


def test_a_graph_that_runs_several_times_counts_as_often() -> None:
    report = explain(Repeated().eval(), noise(1, 10, 8), torch.tensor([0.5]))
    assert report.verdict.plain_flops == 50 * 3 * 2 * 10 * 8 * 8


def test_one_line_each() -> None:
    report = explain(Tiny().eval(), *tiny_call())
    assert repr(report) == f"<Report on Tiny: {report.verdict.headline.rstrip('.')}>"
    assert repr(report.graphs) == "(<GraphReport: 1 block, 2 branches, full, forecast>,)"
    refused = explain(nn.Linear(3, 3).eval(), torch.randn(2, 3))
    assert repr(refused) == "<Report on Linear: Not accelerated: every step is the model's own>"
    assert repr(refused.graphs[0]).startswith("<GraphReport: not accelerated, no residual branch")


def test_it_is_printed_in_eighty_columns_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    report = explain(Tiny().eval(), *tiny_call())
    report.show()
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == str(report).splitlines()


def test_it_is_printed_as_wide_as_the_terminal_is(monkeypatch: pytest.MonkeyPatch, long: Report) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    for name, value in {"COLUMNS": "60", "LINES": "30", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    long.show()
    assert [line.rstrip() for line in terminal.getvalue().splitlines()] == long.text(60).splitlines()


def test_json_says_all_of_it(long: Report) -> None:
    found = json.loads(long.to_json())
    (graph,) = long.graphs
    assert found["speedup"] == long.verdict.speedup
    assert found["sequence"] == list(long.verdict.sequence)
    assert found["model"] == "LongNames"
    (told,) = found["graphs"]
    assert {name: each["flops"] for name, each in told["recipes"].items()} == graph.flops
    assert [(each["first"], each["last"]) for each in told["blocks"]] == [(0, 26), (27, 27)]
    assert len(told["blocks"][0]["branches"][0]["names"]) == 27
    assert told["blocks"][1]["branches"][1]["actions"] == {
        "full": "compute",
        "conservative": "1/16 tokens",
        "aggressive": "compute",
    }


KEYS = {
    "model", "headline", "outcome", "speedup", "steps", "sequence", "flops", "plain_flops", "elsewhere", "cache_bytes",
    "peak_bytes", "plain_peak_bytes", "refused", "advice", "graphs",
}  # fmt: skip
OF_GRAPHS = {
    "accelerated", "refusal", "runs", "whole", "latents", "timesteps", "conditioning", "streams", "blocks", "recipes",
    "held_bytes", "filled_bytes", "full_step_bytes", "plain_step_bytes", "uncut", "uncounted", "left", "not_branches",
}  # fmt: skip


def test_the_keys_of_json_stay(long: Report) -> None:
    found = json.loads(long.to_json())
    assert found.keys() == KEYS
    assert found["graphs"][0].keys() == OF_GRAPHS
    refused = json.loads(explain(nn.Linear(3, 3).eval(), torch.randn(2, 3)).to_json())
    assert refused.keys() == KEYS
    assert refused["speedup"] is None
    assert refused["graphs"][0].keys() == {"accelerated", "refusal", "runs", "whole"}


class Tags(HTMLParser):
    """Fails where one is closed that was not opened last."""

    VOID = ("meta", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


MODELS: dict[str, Callable[[], Report]] = {
    "wholly": lambda: explain(example_dit(), *CALL, duca_options={"method": "duca"}),
    "partly": lambda: explain(Heavy().eval(), *tiny_call(), duca_options={"method": "fora"}),
    "not": lambda: explain(nn.Linear(3, 3).eval(), torch.randn(2, 3)),
    "split": lambda: explain(Split().eval(), *tiny_call()),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_page_needs_nothing_else(name: str, tmp_path: Path) -> None:
    report, path = MODELS[name](), tmp_path / "report.html"
    report.to_html(path)
    text, tags = path.read_text(encoding="utf-8"), Tags()
    tags.feed(text)
    assert not tags.open
    assert not {"script", "link", "img", "iframe", "object"} & set(tags.seen)
    assert not [word for word in ("http", "<script", "url(", "@import", "$") if word in text]
    assert tags.seen.count("svg") == (0 if name == "not" else 2)
    assert report.verdict.headline.replace("'", "&#x27;") in text


def test_the_page_shows_every_step(long: Report, tmp_path: Path) -> None:
    long.to_html(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(f"<title>step {step}: {name}</title>" in text for step, name in enumerate(long.verdict.sequence))
    assert "blocks 0-26 (27 alike)" in text


@functools.cache
def of_flux(method: str) -> Report:
    case = CORE["FLUX"]
    return explain(case.build(), **case.call(500.0), options={"method": method})


@pytest.mark.parametrize("method", ["duca", "delta-dit"])
def test_no_name_of_a_recipe_is_broken(method: str) -> None:
    report = of_flux(method)
    recipes = [*report.graphs[0].flops]
    text = str(report).partition("11 branches\n")[2].partition("\n-")[0].split()
    words = {"block", "branch", "and", "source", "stream", "kind", *recipes, "without-", "rear", "front"}
    assert set(text) <= words, "broken after a hyphen, if at all"
    assert method != "duca" or set(recipes) <= set(text)


def test_streams_that_are_joined_are_told_and_drawn(tmp_path: Path) -> None:
    report, path = of_flux("delta-dit"), tmp_path / "report.html"
    assert report.graphs[0].joined == {2: (0, 1)}
    assert "from cat_13, after stream 0 and stream 1, 3 branches" in " ".join(str(report).split())
    assert [each["after"] for each in json.loads(report.to_json())["graphs"][0]["streams"]] == [[], [], [0, 1]]
    report.to_html(path)
    lines = re.findall(r'<line class="(\w+)" x1="(\d+)" y1="(\d+)" x2="(\d+)" y2="(\d+)"', path.read_text())
    downwards = [kind for kind, x1, y1, x2, y2 in lines if x1 == x2 and y1 != y2]
    assert downwards == ["stream"] * 2 * 3, "two in the band of each recipe, none of which leaves out both parts"


def test_the_page_has_recipes_in_the_order_of_the_text(tmp_path: Path) -> None:
    report, path = of_flux("delta-dit"), tmp_path / "report.html"
    report.to_html(path)
    drawn = re.findall(r'<text class="recipe"[^>]*>([^<]+)<', path.read_text())
    assert drawn == [*report.graphs[0].flops] == ["full", "without-rear", "without-front"]
    legend = re.findall(r"</i>([^<]+)</li>", path.read_text())
    assert legend[:3] == drawn


@pytest.mark.parametrize("method", ["duca", "forecast-stack"])
def test_the_peak_of_the_first_step_is_told_from_that_of_all(method: str) -> None:
    report = explain(example_dit(), *CALL, options={"method": method})
    (graph,) = report.graphs
    is_another = report.verdict.peak_bytes != graph.full_step_bytes
    assert ("the first full step, before earlier values are kept" in " ".join(str(report).split())) == is_another
    assert is_another == (method == "forecast-stack")
