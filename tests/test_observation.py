"""What is read of a call, and how often a device is waited for."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from duca_compile.generations import digests, observe_call
from duca_compile.generations.given import Given
from duca_compile.generations.observe_call import Observer
from streams import device
from zoo.case import noise

LATENTS, PROMPT = noise(2, 4, 8, 8), noise(2, 3, 8, seed=1)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pretends that no tensor made from now on lies on the host, but those named `host`; counts the waits."""
    found: list[int] = []
    monkeypatch.setattr(observe_call, "on_host", lambda tensor: hasattr(tensor, "host"))
    run = observe_call._Transfer.run

    def counted(self: observe_call._Transfer) -> None:
        found.append(len(self._parts))
        run(self)

    monkeypatch.setattr(observe_call._Transfer, "run", counted)
    return found


def on_host(tensor: Tensor) -> Tensor:
    tensor.host = True  # type: ignore[attr-defined]
    return tensor


class HostOps(torch.overrides.TorchFunctionMode):
    """What is computed of a tensor on the host lies there, too."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor) and any(hasattr(arg, "host") for arg in args):
            found.host = True  # type: ignore[attr-defined]
        return found


def test_what_lies_on_the_host_is_told_by_its_content() -> None:
    observer, t = Observer(), torch.tensor([900.0, 800.0])
    seen = observer.read(Given([t], [LATENTS], [PROMPT]))
    assert seen.moment.timesteps == (900.0, 800.0)
    assert seen.moment.latents[0] is not None
    assert seen.moment.latents[0].shape == (2, 256)
    assert seen.content == observer.read(Given([t], [LATENTS], [PROMPT.clone()])).content
    assert seen.content != observer.read(Given([t], [LATENTS], [PROMPT.flip(1)])).content
    assert (
        seen.content
        == observer.read(Given([t], [LATENTS], [PROMPT.transpose(0, 1).contiguous().transpose(0, 1)])).content
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_was_read_of_latents_stays_when_a_sampler_writes_to_them(dtype: torch.dtype) -> None:
    observer, latents, output = Observer(), noise(2, 4, 8, 8).to(dtype), noise(2, 4, 8, 8, seed=1).to(dtype)
    moment = observer.read(Given(latents=[latents])).moment
    observer.produced(output, latents, moment)
    (read,) = moment.latents
    assert read is not None
    before = read.clone()
    for written in (latents, output):
        written.zero_()
    assert torch.equal(read, before)
    observer.read(Given(latents=[latents]))
    (made,) = observer.outputs(moment)
    assert made.any()


def test_outputs_are_known_by_the_latents_that_they_were_made_of() -> None:
    """Of all calls over them, and of no other; whoever shares all else."""
    observer, outputs = Observer(), [noise(2, 4, 8, 8, seed=seed) for seed in range(4)]
    moments = [
        observer.read(Given(latents=[given])).moment for given in (LATENTS, noise(2, 4, 8, 8, seed=9), LATENTS.clone())
    ]
    for moment, output in zip(moments, outputs, strict=False):
        observer.produced(output, LATENTS, moment)
    observer.produced(outputs[0].clone(), LATENTS, moments[0])
    observer.read(Given())
    one, other, again = (observer.outputs(moment) for moment in moments)
    assert [len(found) for found in (one, other, again)] == [2, 1, 2]
    assert torch.equal(other[0], observe_call.pick(outputs[1]).double())


def test_writes_that_no_counter_sees() -> None:
    array = np.zeros(4, np.float32)
    shared, observer = torch.from_numpy(array), Observer()
    before = observer.read(Given(conditioning=[shared])).content
    array[2] = 1
    between = observer.read(Given(conditioning=[shared])).content
    shared.data.add_(1)
    assert len({before, between, observer.read(Given(conditioning=[shared])).content}) == 3


def test_a_device_is_waited_for_once_where_the_timestep_lies_on_it(waits: list[int]) -> None:
    observer, t = Observer(), torch.tensor([900])
    first = observer.read(Given([t], [LATENTS], [PROMPT]))
    assert first.moment.timesteps == (900.0,)
    assert first.moment.latents[0] is not None
    assert waits == [3], "timestep, latents and the digest of the prompt, together"
    again = observer.read(Given([t], [LATENTS], [PROMPT]))
    assert again.content == first.content
    assert waits == [3, 2], "the digest is known"
    assert observer.read(Given([t], [LATENTS], [PROMPT.clone()])).content == first.content
    PROMPT.add_(0)
    assert observer.read(Given([t], [LATENTS], [PROMPT])).content == first.content
    assert waits == [3, 2, 3, 3]


def test_a_device_is_not_waited_for_where_the_timestep_lies_on_the_host(waits: list[int]) -> None:
    observer, t = Observer(), on_host(torch.tensor([900.0]))
    with HostOps():
        first = observer.read(Given([t], [LATENTS], [PROMPT]))
        assert first.moment.latents == (None,)
        assert observer.read(Given([t], [LATENTS], [PROMPT])).content == first.content
        assert observer.read(Given([t], [LATENTS], [PROMPT.clone()])).content != first.content
    assert waits == [0, 0, 0]


def test_a_device_is_not_waited_for_where_steps_are_counted(waits: list[int]) -> None:
    """But for conditioning that is new: made anew for every call, it is told by its content alone."""
    observer, t, prompt = Observer(), torch.tensor([900.0]), PROMPT.clone()
    first = observer.read(Given([t], [LATENTS], [prompt]), counted=True)
    again = observer.read(Given([t - 20], [LATENTS], [prompt]), counted=True)
    assert waits == [3, 0]
    assert again.content == first.content
    assert (again.moment.timesteps, again.moment.latents) == ((), (None,))
    anew = observer.read(Given([t - 40], [LATENTS], [prompt.clone()]), counted=True)
    assert anew.content == first.content
    assert anew.moment.timesteps == (860.0,)
    assert waits == [3, 0, 3]


def test_all_comes_from_a_device_in_one_copy_that_float64_is_made_of_on_the_host(
    waits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metal knows no float64."""
    asked: list[torch.dtype] = []
    cpu = Tensor.cpu

    def noted(tensor: Tensor) -> Tensor:
        asked.append(tensor.dtype)
        return cpu(tensor)

    monkeypatch.setattr(Tensor, "cpu", noted)
    observer, output = Observer(), noise(2, 4, 8, 8, seed=1).bfloat16()
    seen = observer.read(Given([torch.tensor([900.5]), torch.tensor(7)], [LATENTS], [PROMPT]))
    observer.produced(output, LATENTS, seen.moment)
    assert asked == [torch.uint8]
    observer.read(Given([torch.tensor([880.0])]))
    assert asked == [torch.uint8] * 2
    assert seen.moment.timesteps == (900.5, 7.0)
    (read,), (made,) = seen.moment.latents, observer.outputs(seen.moment)
    assert read is not None
    assert torch.equal(read, LATENTS.flatten(1).double())
    assert torch.equal(made, output.flatten(1).double())


def test_what_one_stream_picks_is_read_by_another_one_only_when_it_is_there(
    waits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests on streams of their own share an observer."""
    observer, output, t = Observer(), noise(2, 4, 8, 8, seed=1), torch.tensor([900.0])
    with device(monkeypatch, "one", "two") as on:
        moment = observer.read(Given([t], [LATENTS])).moment
        observer.produced(output, LATENTS, moment)
        on.now = on.streams[1]
        observer.read(Given([t], []))
    assert on.faults == []
    assert on.now.waited == ["one"]
    assert len(observer.outputs(moment)) == 1


def test_on_a_device_what_nobody_counts_the_writes_to_is_read_every_time(waits: list[int]) -> None:
    observer, t = Observer(), torch.tensor([900.0])
    with torch.inference_mode():
        prompt = PROMPT.clone()
        first = observer.read(Given([t], [], [prompt])).content
        assert observer.read(Given([t], [], [prompt])).content == first
        prompt[0, 0, 0] += 1
        assert observer.read(Given([t], [], [prompt])).content != first


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.complex64])
def test_digests_of_a_device_see_every_element_and_its_place(dtype: torch.dtype) -> None:
    one = (noise(6, 7) > 0).to(dtype)

    def digest(tensor: Tensor) -> tuple[int, ...]:
        return tuple(digests.of_device(tensor).tolist())

    others = [one.clone() for _ in range(one.numel())]
    for at, other in enumerate(others):
        other.view(-1)[at] = (other.view(-1)[at] == 0).to(dtype)
    swapped = one.flip(0)
    assert len({digest(each) for each in (one, swapped, *others)}) == len(others) + 2
    assert digest(one) == digest(one.t().contiguous().t())
