"""The count of the paper's rows (`python benchmarks paper flops`), and the models that it is of."""

import pytest
import torch
from torch import nn

from face import pages
from face.draw import table_lines
from helpers import compiled
from paper.flops import command, report
from paper.flops.counting import studied
from paper.flops.models import Experts
from paper.flops.row import UNCACHED, Row
from paper.flops.rows import ROWS
from paper.flops.total import total
from stdit3 import STDiT3
from zoo.case import noise, randomise
from zoo.survey import survey

NOT_TO_THE_DIGIT = {
    ("dit", "FORA, N = 3"), ("flux", "Delta-DiT, N = 2"), ("flux", "TeaCache"), ("opensora", "FORA, N = 2"),
    ("opensora", "PAB 246"), ("opensora", "PAB 357"), ("opensora", "PAB 579"),
}  # fmt: skip


def row(model: str, label: str) -> Row:
    (found,) = [row for row in ROWS if (row.model, row.label) == (model, label)]
    return found


def test_a_step_of_dit_has_the_published_flops() -> None:
    counted = total(row("dit", "uncached, 50 steps"))
    assert round(counted.theirs, 3) == 23.735
    assert round(counted.ours, 3) == 23.723
    assert studied("dit").cost(UNCACHED, "full").ours == 474_466_811_904
    assert counted.remainder == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "label", "ours"),
    [("flux", "uncached, 50 steps", 3719.23), ("flux", "DuCa, N = 4", 1169.93), ("dit", "DuCa (b), N = 3", 9.55)],
)
def test_a_row_has_the_published_flops(model: str, label: str, ours: float) -> None:
    counted = total(row(model, label))
    assert round(counted.ours, 2) == ours
    assert counted.remainder == 0


def test_the_page_is_of_the_rows_that_were_counted() -> None:
    totals, page = command.read(), pages.PAPER.read_text()
    assert [(each.model, each.label) for each in totals] == [(each.model, each.label) for each in ROWS]
    for block in (*report.tables(totals), *report.methods(totals)):
        assert "\n".join(table_lines(block)) in page


def test_the_readme_says_how_many_are_reproduced() -> None:
    remainders = [each.remainder for each in command.read() if each.remainder is not None]
    told = f"{remainders.count(0)} of {len(remainders)} come out to the digit"
    assert told in pages.README.read_text()


def test_what_differs_by_more_than_a_hundredth_is_told() -> None:
    totals = command.read()
    assert {(each.model, each.label) for each in totals if each.remainder} == NOT_TO_THE_DIGIT
    assert all(each.extras or each.note for each in totals if abs(each.difference or 0) > 0.01)


def test_the_experts_for_counting_are_those_of_hidream() -> None:
    from diffusers.models.transformers.transformer_hidream_image import MOEFeedForwardSwiGLU

    torch.manual_seed(0)
    theirs = MOEFeedForwardSwiGLU(8, 32, num_routed_experts=4, num_activated_experts=2).eval()
    hidden, shared = theirs.experts[0].w1.out_features, theirs.shared_experts.w1.out_features
    ours = Experts(8, hidden, shared)

    def into(expert: nn.Module) -> torch.Tensor:
        return torch.cat([expert.get_parameter("w1.weight"), expert.get_parameter("w3.weight")])

    with torch.no_grad():
        ours.gate.weight.copy_(theirs.gate.weight)
        ours.into.weight.copy_(torch.stack([into(expert).flatten() for expert in theirs.experts]))
        ours.back.weight.copy_(torch.stack([expert.w2.weight.flatten() for expert in theirs.experts]))
        ours.shared_into.weight.copy_(into(theirs.shared_experts))
        ours.shared_back.weight.copy_(theirs.shared_experts.w2.weight)
        x = noise(2, 5, 8)
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


class TestSTDiT3:
    def model(self) -> nn.Module:
        return randomise(STDiT3(width=32, depth=2, heads=2, text_width=24))

    def call(self, t: float) -> dict[str, object]:
        x, text = noise(2, 4, 3, 8, 6), noise(2, 6, 24, seed=1)
        return {"x": x, "t": torch.full((2,), t), "text": text, "words": 4, "fps": torch.full((2,), 24.0)}

    def test_three_branches_a_block_are_found(self) -> None:
        found = survey(self.model(), self.call(500.0))
        assert (found.graphs, found.branches, found.recomputed) == (1, 2 * 2 * 3, 2 * 2 * 2)

    def test_full_steps_are_the_models(self) -> None:
        model = self.model()
        with torch.no_grad():
            torch.testing.assert_close(compiled(model)(**self.call(500.0)), model(**self.call(500.0)))
