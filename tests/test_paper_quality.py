"""`python benchmarks paper quality` on a tiny model: its figures mean nothing here, and every part of it has to run."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dit import DiT
from duca_compile.methods.base import FULL
from duca_compile.methods.duca import DuCa
from duca_compile.methods.first_block import FirstBlock
from duca_compile.methods.fora import FORA
from duca_compile.methods.magcache import MagCache
from duca_compile.methods.teacache import TeaCache
from face.origin import Origin
from paper.quality import command, drawing, generate, matching, settings, tables
from paper.quality.generate import Bench, Made, errors, made
from paper.quality.settings import PARTS, UNCACHED, Setting
from zoo.case import randomise

OF = Origin("a machine", "2.13", "python benchmarks paper quality")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(randomise(DiT(patch=7, width=32, depth=2, heads=2)), 8, 2, tmp_path)


def test_images_are_made_once_and_errors_are_of_cached_steps(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = Setting("FORA", FORA(3))
    done = made(bench, setting)
    assert (done.images.shape, done.full) == ((2, 1, 28, 28), 3)
    assert 1.5 < done.speedup < 8 / 3
    assert (made(bench, Setting("half", fewer=2)).full, made(bench, UNCACHED).speedup) == (4, 1)
    found = errors(bench, setting)
    assert [error > 1e-5 for error in found] == [step % 3 != 0 for step in range(8)]
    monkeypatch.setattr(generate, "compiled", lambda *_: pytest.fail("made again"))
    assert torch.equal(made(bench, replace(setting, name="another name")).images, done.images)
    assert errors(bench, setting) == found


def test_what_methods_decide_is_foretold(bench: Bench) -> None:
    known = matching.record(bench)
    assert (len(known.moves), len(known.ratios), known.ratios[0]) == (8, 8, 1.0)
    assert matching.sequence(TeaCache(0.0), 8, known) == [FULL] * 8
    assert matching.sequence(FirstBlock(1e9), 8, known) == [FULL] + ["skip"] * 7
    assert matching.sequence(MagCache(known.ratios, 1e9, 5, 0.0), 8, known)[1:6] == ["skip"] * 5
    (_, whole), (_, foretold) = matching.speedups(bench, [FORA(1), FORA(3)], known)
    assert whole == 1.0
    assert foretold == pytest.approx(made(bench, Setting("FORA", FORA(3))).speedup)


def test_every_part_is_a_table_and_every_figure_is_drawn(
    tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of samples that were not made: noise."""
    monkeypatch.setattr(tables, "made", _pretended)
    monkeypatch.setattr(drawing, "made", _pretended)
    for module in (tables, drawing):
        monkeypatch.setattr(module, "errors", lambda bench, setting: [0.0, 0.1, 0.2])
    both = [(2.0, Setting("fewer steps", fewer=2)), (2.0, Setting("duca", DuCa(2)))]
    monkeypatch.setattr(matching, "settings", lambda bench: both)
    command.write(bench, PARTS, tmp_path, OF)
    assert {path.name for path in tmp_path.glob("*.png")} == {f"paper_{name}.png" for name in drawing.FIGURES}
    blocks = [make(bench) for make in tables.BLOCKS.values()]
    assert all(len(row) == len(block.headings) for block in blocks for row in block.rows)
    assert tables.BLOCKS.keys() == set(PARTS)
    assert len(tables.of_selectors(bench).rows) == len(settings.selectors()) == 10


def _pretended(bench: Bench, setting: Setting) -> Made:
    drawn = torch.Generator().manual_seed(len(setting.name))
    return Made(torch.rand(3, 1, 28, 28, generator=drawn), 2.0, 25)
