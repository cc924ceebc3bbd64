"""What users put around or into a model: LoRA, ControlNet, image to image, offloading. docs/compatibility.md names it."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import duca_compile
from duca_compile import DucaWarning, Mode
from duca_compile.generations.advice import ANOTHER_WAY
from helpers import STEPS, Generation, compiled, lenient, ours
from pipelines import flux_1, generate
from quantised import Int8, int8, quantised
from zoo.case import noise, randomise
from zoo.core import example_dit

F, C, A = Mode.FULL, Mode.CONSERVATIVE, Mode.AGGRESSIVE
LABELS = torch.tensor([1, 2])
OPTIONS: dict[str, Any] = {"method": "duca", "inner": "eager", "cache_ratio": 0.5}


class Lora(nn.Module):
    """A linear layer with a low rank beside it, as peft puts it in its place."""

    def __init__(self, base: nn.Linear, rank: int = 2) -> None:
        super().__init__()
        self.base, self.scale = base, 1.0
        self.down, self.up = (
            nn.Linear(base.in_features, rank, bias=False),
            nn.Linear(rank, base.out_features, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x)) * self.scale


def plain(model: nn.Module) -> nn.Module:
    return model


def of_torchao(model: nn.Module) -> nn.Module:
    quantization = pytest.importorskip("torchao.quantization")
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    return model


WEIGHTS = pytest.mark.parametrize("weights", [plain, quantised, of_torchao])
Weights = Callable[[nn.Module], nn.Module]


def with_lora(weights: Weights) -> nn.Module:
    model = weights(example_dit())
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, Lora(child))
    for each in loras(model):
        randomise(each.down)
        randomise(each.up)
    return model.eval()


def loras(model: nn.Module) -> list[Lora]:
    return [module for module in model.modules() if isinstance(module, Lora)]


@WEIGHTS
def test_layers_with_a_lora_are_accelerated_as_those_without(weights: Weights) -> None:
    models = weights(example_dit()), with_lora(weights)
    call = noise(2, 1, 8, 8), torch.full((2,), 500.0), LABELS
    (one,), (other,) = (duca_compile.explain(each, *call, duca_options=OPTIONS).graphs for each in models)
    assert one.plan is not None
    assert other.plan is not None
    assert len(other.plan.facts.branches) == len(one.plan.facts.branches)
    for step in (C, A):
        assert [*other.plan.steps[step].actions] == [*one.plan.steps[step].actions]


def other_content(model: nn.Module) -> None:
    """As a hotswap does."""
    for each in loras(model):
        each.up.weight.data.copy_(each.up.weight.data + 0.1)


def other_scale(model: nn.Module) -> None:
    for each in loras(model):
        each.scale = 0.3


def fused(model: nn.Module) -> None:
    """Into plain weights in place; a quantised one is made anew."""
    for each in loras(model):
        weight, added = each.base.weight, each.up.weight @ each.down.weight
        if isinstance(weight, Int8):
            each.base.weight = nn.Parameter(int8(weight.dequantised() + added), requires_grad=False)
        else:
            weight.data += added
        each.up.weight.data.zero_()


CHANGES = [(change, weights) for weights in (plain, quantised, of_torchao) for change in (other_content, other_scale)]


@pytest.mark.parametrize(("change", "weights"), [*CHANGES, (fused, plain), (fused, quantised)])
def test_a_lora_changed_in_the_middle_starts_over(change: Callable[[nn.Module], None], weights: Weights) -> None:
    model = with_lora(weights)
    generation = Generation(model, lenient(model), LABELS)
    assert generation.modes(STEPS[:3]) == [F, C, A]
    change(model)
    assert generation.modes(STEPS[3:5]) == [F, C]


@WEIGHTS
def test_a_model_that_was_offloaded_between_generations_is_cached_again(weights: Weights) -> None:
    """As to a device and back, `to` brings the same numbers into other memory."""
    model = weights(example_dit())
    generation = Generation(model, compiled(model), LABELS)
    first = generation.modes(STEPS[:6])
    model.to(torch.float64).to(torch.float32)
    generation.seed += 1
    assert generation.modes(STEPS[:6]) == first == [F, C, A, C, A, F]


def quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def parts(pipe: Any) -> list[Any]:
    names = ("scheduler", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "transformer")
    return [getattr(pipe, name) for name in names]


def made_again(pipe: Any, model: nn.Module, make: Callable[[], Tensor]) -> bool:
    """Whether what is made after other generations is what is made after none."""
    before = make()
    duca_compile.reset(model)
    return torch.equal(before, make())


def test_a_controlnet_changes_its_residuals_at_every_step_and_the_steps_are_cached() -> None:
    from diffusers import FluxControlNetModel, FluxControlNetPipeline

    pipe, given = flux_1()
    model = pipe.transformer
    control = FluxControlNetModel.from_transformer(
        model, num_layers=1, num_single_layers=1, attention_head_dim=model.config.attention_head_dim,
        num_attention_heads=model.config.num_attention_heads, load_weights_from_transformer=False,
    )  # fmt: skip
    controlled = quiet(FluxControlNetPipeline(*parts(pipe), randomise(control)))
    controlled.transformer = torch.compile(model, backend="duca", options=OPTIONS)
    given |= {"control_image": torch.rand(1, 3, 16, 16), "controlnet_conditioning_scale": 0.5}
    with warnings.catch_warnings():
        warnings.simplefilter("error", DucaWarning)
        generate(controlled, given, "a red dog")
        first = duca_compile.stats(model).steps
        assert first[F] <= 5, "it has to be seen twice that they change"
        assert made_again(controlled, model, lambda: generate(controlled, given, "a blue cat"))


def test_an_image_is_made_from_another_one_at_any_strength() -> None:
    from diffusers import FluxImg2ImgPipeline

    pipe, given = flux_1()
    model = pipe.transformer
    varied = quiet(FluxImg2ImgPipeline(*parts(pipe)))
    varied.transformer = torch.compile(model, backend="duca", options=OPTIONS)
    asked: dict[str, Any] = {
        "generator": torch.Generator(),
        "num_inference_steps": 20,
        "output_type": "pt",
        "return_dict": False,
    }

    def make(strength: float) -> Tensor:
        asked["generator"].manual_seed(0)
        found: Tensor = varied(
            prompt="a red dog", image=torch.full((1, 3, 16, 16), 0.5), strength=strength, **given, **asked
        )[0]
        return found

    make(0.6)
    assert duca_compile.stats(model).steps[F] < 12
    assert made_again(varied, model, lambda: make(0.9))


def moved(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()


class Fetched(nn.Module):
    """A block whose weights are brought in before it runs, each time into other memory, as by group offloading."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def fetch(self) -> None:
        moved(self.block)

    def forward(self, *args: Any) -> Any:
        self.fetch()
        return self.block(*args)


def test_blocks_that_are_offloaded_in_turns_are_computed_at_every_step() -> None:
    """That their weights lie elsewhere at every step looks like another model's; a warning says so, once."""
    model: Any = example_dit()
    model.blocks = nn.ModuleList(Fetched(block) for block in model.blocks)
    fast, x = lenient(model), noise(2, 1, 8, 8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for t in STEPS[:8]:
            call = x, torch.full((2,), t), LABELS
            output = fast(*call)
            assert torch.equal(output, model(*call))
            x = x - 0.05 * output[:, :1]
    assert sum("offloaded one by one" in message for message in ours(caught)) == 1
    found = duca_compile.stats(model)
    assert +found.steps == {F: 7}, "the first call is computed to learn from"
    assert found.resets[ANOTHER_WAY] > 2
