"""A forward that writes to its arguments does so in every recipe."""

import pytest
import torch
from torch import Tensor, fx, nn

import duca_compile
from duca_compile import DucaWarning, Mode
from duca_compile.graph import ir
from duca_compile.passes import rewrite
from helpers import captured, compiled, lenient
from tiny import TinyParts, tiny_call


class Notes(TinyParts):
    """Writes what it knows before the blocks into one argument, adds to another."""

    def forward(self, x: Tensor, t: Tensor, seen: Tensor, count: Tensor) -> Tensor:
        seen[:, 0] = t
        count += 1
        return self.denoised(x * seen[:, :1, None], t) + count


class Leaks(TinyParts):
    """Writes what the blocks compute into an argument."""

    def forward(self, x: Tensor, t: Tensor, seen: Tensor) -> Tensor:
        result = self.denoised(x, t)
        seen.copy_(result)
        return result


@pytest.mark.parametrize("mode", Mode)
def test_every_mode_writes(mode: Mode) -> None:
    x, t = tiny_call(0.5)
    found = captured(Notes().eval(), x, t, torch.zeros(1, 2), torch.zeros(()))
    seen, count = torch.zeros(1, 2), torch.zeros(())
    gm, _ = rewrite(found.capture.gm, found.plan.steps[mode])
    given = {"x": x, "t": t, "seen": seen, "count": count}

    def argument(node: fx.Node) -> Tensor:
        held = ir.value(node)
        blank = torch.zeros([*held.shape], dtype=held.dtype)
        return given.get(node.meta.get("argument", ""), blank)

    gm(*map(argument, ir.placeholders(gm.graph)))
    assert torch.equal(seen, torch.tensor([[0.5, 0.0]]))
    assert count == 1


def test_full_steps_write() -> None:
    torch.manual_seed(0)
    model = Notes().eval()
    fast = compiled(model, cycle=3)
    seen, count, want_seen, want_count = torch.zeros(1, 2), torch.zeros(()), torch.zeros(1, 2), torch.zeros(())
    for step in range(7):
        x, t = tiny_call(1.0 - step / 10)
        with torch.no_grad():
            got, want = fast(x, t, seen, count), model(x, t, want_seen, want_count)
        assert torch.equal(got, want)
        assert torch.equal(seen, want_seen)
        assert torch.equal(count, want_count)


def test_a_changed_argument_of_the_caller_starts_over() -> None:
    """Its content may condition the model: nothing tells that it does not."""
    model = Notes().eval()
    fast = compiled(model, cycle=3)
    seen, count = torch.zeros(1, 2), torch.zeros(())
    with torch.no_grad():
        for step in range(4):
            fast(*tiny_call(1.0 - step / 10), seen, count)
    assert duca_compile.stats(model).steps[Mode.FULL] == 4


def test_what_the_blocks_compute_is_not_cached_where_it_is_written() -> None:
    torch.manual_seed(0)
    model = Leaks().eval()
    fast = lenient(model)
    seen = torch.zeros(1, 10, 2)
    with torch.no_grad():
        with pytest.warns(DucaWarning, match="in place to what the blocks compute"):
            fast(*tiny_call(), seen)
        for t in (0.5, 0.4, 0.3):
            got = fast(*tiny_call(t), seen)
            assert torch.equal(seen, got)
            assert torch.equal(got, model(*tiny_call(t), torch.zeros(1, 10, 2)))


class OtherMemory(TinyParts):
    """Puts a tensor of its own into other memory, or into the same once more, as some quantised layers do."""

    def __init__(self, anew: bool) -> None:
        super().__init__()
        self.anew = anew
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.scale.data = self.scale.data.clone() if self.anew else self.scale.data.contiguous()
        return self.denoised(x * self.scale, t)


@pytest.mark.parametrize("anew", [True, False])
def test_a_weight_put_into_other_memory_is_refused_in_words(anew: bool) -> None:
    model, call = OtherMemory(anew).eval(), tiny_call(0.5)
    with pytest.warns(DucaWarning, match="puts a weight or another tensor into other memory") as caught:
        got = lenient(model)(*call)
    assert torch.equal(got, model(*call))
    assert "fault" not in str(caught[0].message)
