"""What the tests name on the command line."""

from typing import Any

import torch
from torch import Tensor, nn

from tiny import Tiny, tiny_call
from zoo.case import noise
from zoo.core import example_dit

LABELS = torch.tensor([1, 2])
module = example_dit()
number = 5


def dit() -> tuple[nn.Module, dict[str, Any]]:
    return example_dit(), {"x": noise(2, 1, 8, 8), "t": torch.full((2,), 900.0), "y": LABELS}


def tiny() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    return Tiny(), tiny_call()


def tiny_in_three() -> tuple[nn.Module, list[Tensor], dict[str, Any]]:
    x, t = tiny_call()
    return Tiny(), [x], {"t": t}


def plain() -> tuple[nn.Module, Tensor]:
    return nn.Linear(4, 4), noise(2, 4)


def training() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    class Dropping(Tiny):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return nn.functional.dropout(super().forward(x, t), 0.5, self.training)

    return Dropping().train(), tiny_call()


def raises() -> tuple[nn.Module, Tensor]:
    raise LookupError("no weights\nin this folder")


def raises_when_called() -> tuple[nn.Module, Tensor]:
    return nn.Linear(4, 4), noise(2, 5)


def exits() -> nn.Module:
    raise SystemExit("no weights")


def is_interrupted() -> nn.Module:
    raise KeyboardInterrupt


def prints() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    print("loading")
    return tiny()


def named_in_another_language() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    class Übersetzer(Tiny):
        def forward(self, 潜在: Tensor, t: Tensor) -> Tensor:
            return super().forward(潜在, t)

    return Übersetzer(), tiny_call()


def without_numbers() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return Tiny().to("meta"), tuple(each.to("meta") for each in tiny_call())


def alone() -> nn.Module:
    return Tiny()


def generate(model: Any) -> Tensor:
    x = noise(2, 1, 8, 8)
    for t in range(980, -20, -40):
        x = x - 0.05 * model(x, torch.full((2,), float(t)), LABELS)[:, :1]
    return x


def generate_and_print(model: Any) -> Tensor:
    print("generating")
    return generate(model)


def generate_nothing(model: Any) -> Tensor:
    result: Tensor = model(noise(2, 4))
    return result
