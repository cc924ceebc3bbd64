"""What all benchmarks share: commands that list and explain themselves, and one way to show results."""

import json
import re
import runpy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from count.command import COMMANDS as COUNT
from face import draw, pages
from face.block import Block, Page
from face.origin import Origin, origin
from figures import Ratios, decibels, spread
from paper.command import COMMANDS as PAPER
from quality.command import COMMANDS as QUALITY
from serving.command import COMMANDS as SERVING

ROOT = Path(__file__).parents[1]
MAIN = runpy.run_path(str(ROOT / "benchmarks" / "__main__.py"))
OF = Origin("a machine", "2.13", "python benchmarks quality")
GROUPS = {"count": COUNT, "quality": QUALITY, "paper": PAPER, "serving": SERVING}
OWN = {"quality table": "quality", "serving load": "serving"}
"""What commands that need no name of their own call themselves."""
BLOCK = Block("Title", ("row", "dB"), [("a", "1.0"), ("b", "2.0")], ("A note.",))


def test_every_command_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    MAIN["main"]([])
    told = capsys.readouterr().out
    assert all(f"  {name} " in told and command.line in told for name, command in MAIN["COMMANDS"].items())


@pytest.mark.parametrize(
    "words",
    [
        *([name] for name in MAIN["COMMANDS"] if name not in ("count", "paper")),
        *([group, name] for group, commands in GROUPS.items() for name in commands),
    ],
    ids=" ".join,
)
def test_every_command_explains_itself(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        MAIN["main"]([*words, "--help"])
    assert left.value.code == 0
    told = capsys.readouterr().out
    assert "usage: python benchmarks " in told
    called = " ".join(words)
    assert f"python benchmarks {OWN.get(called, called)}" in told


def test_an_unknown_command_is_an_error() -> None:
    with pytest.raises(SystemExit, match="no command is called 'sped'"):
        MAIN["main"](["sped"])


def test_pages_name_commands_that_there_are() -> None:
    told = [page.read_text() for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md"))]
    found = re.findall(r"python benchmarks ([a-z-]+)(?: ([a-z][a-z-]*))?", "\n".join(told))
    assert {"speed", "quality", "count"} <= {name for name, _ in found} <= MAIN["COMMANDS"].keys()
    for group, commands in GROUPS.items():
        assert {part for name, part in found if name == group} <= {*commands, ""}
    assert not re.search(r"benchmarks/\w+\.py", "\n".join(told))


def test_a_block_is_the_same_in_every_form(capsys: pytest.CaptureFixture[str]) -> None:
    page = Page("Quality", OF, [BLOCK])
    assert draw.markdown(page).splitlines() == [
        "# Quality", "", "a machine, torch 2.13; `python benchmarks quality`.", "", "## Title", "",
        "| row | dB |", "|---|---:|", "| a | 1.0 |", "| b | 2.0 |", "", "A note.",
    ]  # fmt: skip
    found = json.loads(draw.as_json(page))
    assert (found["machine"], found["torch"], found["command"]) == ("a machine", "2.13", "python benchmarks quality")
    assert found["blocks"][0]["rows"] == [["a", "1.0"], ["b", "2.0"]]
    draw.show(page)
    told = capsys.readouterr().out
    assert all(each in told for each in ("Title", "1.0", "A note.", OF.line))


def test_a_table_goes_between_the_marks_of_a_page(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- here -->\nold\n<!-- /here -->\nafter\n")
    for _ in range(2):
        pages.insert(path, "here", BLOCK, OF)
    assert path.read_text().splitlines() == [
        "before", "<!-- here -->", *draw.table_lines(BLOCK), "", f"A note. {OF.line}", "<!-- /here -->", "after",
    ]  # fmt: skip
    pages.insert(path, "here", [BLOCK, BLOCK], OF)
    titled = ["**Title**", "", *draw.table_lines(BLOCK), "", "A note.", ""]
    assert path.read_text().splitlines()[1:-1] == ["<!-- here -->", *titled, *titled, OF.line, "<!-- /here -->"]
    with pytest.raises(ValueError, match="no place that is marked there"):
        pages.insert(path, "there", BLOCK, OF)


def test_an_origin_can_be_typed_again() -> None:
    assert origin("quality few-steps", ["--samplers", "flow, shift 1"]).command == (
        "python benchmarks quality few-steps --samplers 'flow, shift 1'"
    )


def test_ratios_are_of_pairs() -> None:
    ratios = Ratios.of([2.0, 3.0, 8.0], [1.0, 1.0, 2.0])
    assert ratios.told == {"share": 3.0, "least": 2.0, "most": 4.0}
    assert ratios.at(0.9) == 4.0


def test_decibels_are_of_each_image() -> None:
    want = torch.zeros(2, 1, 2, 2)
    images: Tensor = want + torch.tensor([0.2, 2.0])[:, None, None, None]
    assert torch.allclose(decibels(images, want), torch.tensor([20.0, 0.0]), atol=1e-4)
    assert spread(torch.tensor([1.0, 3.0])) == "2.0 ± 1.0"
