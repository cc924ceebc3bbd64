"""The call's arguments are told apart by what the graph does with them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import duca_compile
from helpers import captured, captured_core
from tiny import Tiny, tiny_call
from zoo.case import noise

PARTS = {
    "example DiT": ("x", "t", ["y"]),
    "hand-written": ("latents", "timestep", []),
    "FLUX": (
        "hidden_states",
        "timestep",
        ["encoder_hidden_states", "guidance", "img_ids", "pooled_projections", "txt_ids"],
    ),
    "SD3": ("hidden_states", "timestep", ["encoder_hidden_states", "pooled_projections"]),
    "Wan": ("hidden_states", "timestep", ["encoder_hidden_states"]),
}


@pytest.mark.parametrize("name", PARTS)
def test_the_parts(name: str) -> None:
    inputs = captured_core(name).facts.inputs
    latents, timestep, conditioning = PARTS[name]
    assert [inputs.spelled[name] for name in inputs.latents] == [latents]
    assert [inputs.spelled[name] for name in inputs.timesteps] == [timestep]
    assert sorted(inputs.spelled[name] for name in inputs.conditioning) == conditioning


def test_names_in_other_scripts_are_as_the_user_writes_them() -> None:
    class Written(Tiny):
        def forward(self, 潜在: Tensor, время_t: Tensor) -> Tensor:
            return super().forward(潜在, время_t)

    (graph,) = duca_compile.explain(Written().eval(), *tiny_call()).graphs
    assert graph.plan is not None
    inputs = graph.plan.facts.inputs
    told = [inputs.spelled[name] for name in (*inputs.latents, *inputs.timesteps)]
    assert told == ["潜在", "время_t"]


class Clocks(nn.Module):
    """One gated branch; how an argument makes the gate is the test's."""

    def __init__(self, gate: Callable[..., Tensor]) -> None:
        super().__init__()
        self.a, self.clock, self.table = nn.Linear(8, 8), nn.Linear(1, 8), nn.Embedding(1000, 8)
        self.gate = gate

    def stream(self, x: Tensor, gate: Tensor) -> Tensor:
        return self.a(x + gate[:, None] * self.a(x).relu())


def parts(model: nn.Module, *args: Tensor) -> tuple[list[str], list[str], list[str]]:
    inputs = captured(model.eval(), *args).facts.inputs
    found = (inputs.latents, inputs.timesteps, inputs.conditioning)
    latents, timesteps, conditioning = ([inputs.spelled[name] for name in names] for names in found)
    return latents, timesteps, conditioning


def sines(m: Clocks, t: Tensor) -> Tensor:
    return m.clock(t[:, None].sin())


def fourier(m: Clocks, t: Tensor) -> Tensor:
    """Random frequencies times the timestep, as a product of matrices."""
    features = t[:, None] @ m.clock.weight.T
    return m.a(features.cos())


def looked_up(m: Clocks, t: Tensor) -> Tensor:
    return m.table(t.long())


class Named(Clocks):
    def forward(self, x: Tensor, timestep: Tensor, other: Tensor) -> Tensor:
        return self.stream(x, self.gate(self, timestep) + self.gate(self, other))


class Unnamed(Clocks):
    def forward(self, x: Tensor, one: Tensor, two: Tensor) -> Tensor:
        return self.stream(x, self.gate(self, one) + self.gate(self, two))


class StartAndEnd(Clocks):
    def forward(self, x: Tensor, t: Tensor, end_t: Tensor) -> Tensor:
        return self.stream(x, self.gate(self, t) - self.gate(self, end_t))


@pytest.mark.parametrize("gate", [sines, fourier, looked_up])
@pytest.mark.parametrize(("kind", "timesteps"), [(Named, ["timestep"]), (Unnamed, []), (StartAndEnd, ["t", "end_t"])])
def test_times_are_told_by_how_they_are_embedded_and_then_by_their_names(
    gate: Callable[..., Tensor], kind: type[Clocks], timesteps: list[str]
) -> None:
    model = kind(gate)
    _, found, conditioning = parts(model, noise(2, 4, 8), torch.rand(2), torch.rand(2))
    assert sorted(found) == sorted(timesteps)
    assert len(conditioning) == 2 - len(timesteps)


class VideoAndAudio(Clocks):
    def forward(self, latents: Tensor, audio_latents: Tensor, context: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        gate = self.gate(self, t)
        video, audio = self.stream(latents, gate), self.stream(audio_latents, gate)
        return video + context.mean(1, keepdim=True), audio, self.a(context)


def test_every_result_has_its_latents_but_conditioning_is_none() -> None:
    """The states of the text are a result, too: taken for latents, they could change unnoticed."""
    found = parts(VideoAndAudio(sines), noise(2, 4, 8), noise(2, 3, 8), noise(2, 5, 8), torch.rand(2))
    assert found == (["latents", "audio_latents"], ["t"], ["context"])


class Guided(Clocks):
    def forward(self, control: Tensor, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        return self.stream(x + control + y, self.gate(self, t))


def test_among_several_of_the_same_shape_the_usual_name_is_taken() -> None:
    found = parts(Guided(sines), noise(2, 4, 8), noise(2, 4, 8), noise(2, 4, 8), torch.rand(2))
    assert found == (["x"], ["t"], ["control", "y"])


class Classes(Clocks):
    def forward(self, latent: Tensor, t: Tensor) -> Tensor:
        stream = self.stream(self.table(latent), self.gate(self, t))
        return (stream @ self.table.weight.T).transpose(1, 2)


def test_latents_of_discrete_classes() -> None:
    assert parts(Classes(sines), torch.randint(1000, (2, 4)), torch.rand(2)) == (["latent"], ["t"], [])


def embedded_by_layers(m: Clocks, t: Tensor) -> Tensor:
    return m.clock(t[:, None] / 1000).relu()


class SizedByLayers(Clocks):
    """The size of the image is embedded by sines, the time is not."""

    def forward(self, x: Tensor, t: Tensor, size: Tensor) -> Tensor:
        return self.stream(x, embedded_by_layers(self, t) + sines(self, size))


def test_what_is_named_for_time_is_one_although_layers_alone_embed_it() -> None:
    assert parts(SizedByLayers(sines), noise(2, 4, 8), torch.rand(2), torch.rand(2)) == (["x"], ["t"], ["size"])


class Shaped(Clocks):
    """Latents that its result does not look like."""

    def forward(self, given: Tensor, y: Tensor, t: Tensor) -> Tensor:
        x = torch.view_as_real(given).flatten(2) if given.is_complex() else given.flatten(2).transpose(1, 2)
        found = self.stream(x, self.gate(self, t)) + y.mean(1, keepdim=True)
        return torch.view_as_complex(found.unflatten(-1, (-1, 2))) if given.is_complex() else self.gives(found)

    def gives(self, found: Tensor) -> Tensor:
        return found


class Enlarging(Shaped):
    def gives(self, found: Tensor) -> Tensor:
        return nn.functional.interpolate(found.transpose(1, 2).unflatten(-1, (2, 2)), scale_factor=2)


@pytest.mark.parametrize(
    ("kind", "given"),
    [(Shaped, noise(2, 8, 2, 2)), (Enlarging, noise(2, 8, 2, 2)), (Shaped, torch.view_as_complex(noise(2, 4, 4, 2)))],
)
def test_latents_that_the_result_is_another_form_of(kind: type[Shaped], given: Tensor) -> None:
    """An image whose patches the model gives, or a larger one; complex numbers."""
    assert parts(kind(sines), given, noise(2, 5, 8), torch.rand(2)) == (["given"], ["t"], ["y"])
