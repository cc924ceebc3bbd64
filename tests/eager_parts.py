"""Methods that leave out parts of the example DiT, or reuse its attentions, written out by hand."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dit import Block, DiT, modulate
from eager_methods import embedded

LABELS = torch.tensor([1, 2])


class EagerDelta:
    """`step` leaves out the blocks of a range, and adds what they changed at the last step that computed them."""

    def __init__(self, model: DiT) -> None:
        self.model = model
        self.changes: dict[range, Tensor] = {}

    def step(self, without: range, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        h, c = embedded(self.model, x, t, y)
        for at, block in enumerate(self.model.blocks):
            if at == without.start:
                h = h + self.changes[without]
            if at not in without:
                h = block(h, c)
        return self.model.unpatchify(self.model.final(h, c))

    def full(self, ranges: Sequence[range], x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        h, c = embedded(self.model, x, t, y)
        seen = [h]
        for block in self.model.blocks:
            h = block(h, c)
            seen.append(h)
        self.changes = {each: seen[each.stop] - seen[each.start] for each in ranges}
        return self.model.unpatchify(self.model.final(h, c))


class EagerAttention:
    """Attentions are computed, or what they added to the stream is added again."""

    def __init__(self, model: DiT) -> None:
        self.model = model
        self.added: list[Tensor] = []

    def step(self, reused: bool, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        h, c = embedded(self.model, x, t, y)
        before, self.added = self.added, []
        for at, block in enumerate(self.model.blocks):
            assert isinstance(block, Block)
            shift1, scale1, gate1, shift2, scale2, gate2 = block.modulation(c)[:, None].chunk(6, dim=-1)
            if reused:
                self.added.append(before[at])
            else:
                self.added.append(gate1 * block.attn(modulate(block.norm1(h), scale=scale1[:, 0], shift=shift1[:, 0])))
            h = h + self.added[-1]
            h = h + gate2 * block.mlp(modulate(block.norm2(h), scale=scale2[:, 0], shift=shift2[:, 0]))
        return self.model.unpatchify(self.model.final(h, c))


class HeldModules:
    """Some submodules of a model give their last result again while they are held."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        self.held: set[str] = set()
        self.results: dict[nn.Module, Tensor] = {}
        for path, module in model.named_modules():
            name = path.rpartition(".")[2]
            if name in names:
                module.forward = self._around(name, module, module.forward)

    def _around(self, name: str, module: nn.Module, compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def forward(*args: object, **kwargs: object) -> Tensor:
            if name not in self.held:
                self.results[module] = compute(*args, **kwargs)
            return self.results[module]

        return forward
