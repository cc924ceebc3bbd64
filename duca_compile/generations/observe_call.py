"""Reads of a call's tensors what tells its place, and waits for a device once at most."""

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from duca_compile.generations import digests
from duca_compile.generations.continuity import Moment
from duca_compile.generations.device_streams import Used
from duca_compile.generations.given import Given
from duca_compile.generations.identity import address
from duca_compile.torch_private import version

_PICKED = 256
"""Elements of each sample's latents that are looked at."""
_IN_ALL = 64 * _PICKED
"""The most of them in all: with few of each sample, chance decides whether a sample follows."""
_PLACES = 128
"""Latents whose outputs are remembered, the last ones."""
_ELEMENTS = 2**22
"""The most elements of outputs that are remembered."""
_CALLS = 3
"""Outputs remembered of calls over the same latents: those of guidance in three calls."""


class Observation(NamedTuple):
    """`content` stands for what each conditioning tensor holds; `moment` is where the call stands. `assumed`: the
    tensors, by their place, that were taken for unchanged since they were read last, as nobody counts what is written
    to them."""

    moment: Moment
    content: tuple[Hashable, ...]
    assumed: Mapping[int, Tensor] = {}


class _Unread(NamedTuple):
    """What was picked of an output, by the place of its latents; by which stream."""

    place: bytes
    picked: Tensor
    used: Used


class Observer:
    """Knows the digests of tensors that lie on a device and were not written to since."""

    def __init__(self) -> None:
        self._outputs: OrderedDict[bytes, list[Tensor]] = OrderedDict()
        self._unread: list[_Unread] = []
        self._known: dict[int, tuple[weakref.ref[Tensor], Hashable, bytes]] = {}

    def read(self, call: Given, index: int | None = None, counted: bool = False) -> Observation:
        """What lies on a device is read together with a timestep that does; else it is known by its identity alone.

        Where steps are `counted`, nothing is read of a device, so that the host never waits, but where conditioning is
        not known by its identity.
        """
        device = next((given.device for given in call.timesteps if not on_host(given)), None)
        if counted and all(map(self._is_told, call.conditioning)):
            device = None
        transfer = _Transfer(device)
        reached = [given for given in call.timesteps if transfer.reaches(given)]
        clocks = [given if on_host(given) else transfer.add(given.detach(), torch.float64) for given in reached]
        picked = [
            transfer.add(pick(given), torch.float64) if transfer.reaches(given) else None for given in call.latents
        ]
        outputs = self._take_outputs(transfer)
        content = [self._content(given, transfer) for given in call.conditioning]
        transfer.run()
        for place, output in outputs:
            self._remember_output(place, output)
        times = tuple([float(value) for clock in clocks for value in clock.flatten().tolist()])
        rounding = _rounding(call.latents[0]) if call.latents else 0.0
        dtype = call.timesteps[0].dtype if call.timesteps else None
        moment = Moment(times, tuple(picked), index, rounding, dtype)
        assumed = {at: given for at, given in enumerate(call.conditioning) if _is_assumed(given, transfer)}
        return Observation(moment, tuple([read() for read in content]), assumed)

    def read_again(self, assumed: Mapping[int, Tensor]) -> dict[int, Hashable]:
        """What tensors that were taken for unchanged hold now. The host waits for their device."""
        transfers = {given.device: _Transfer(given.device) for given in assumed.values()}
        found = {at: self._content(given, transfers[given.device]) for at, given in assumed.items()}
        for transfer in transfers.values():
            transfer.run()
        return {at: read() for at, read in found.items()}

    def produced(self, output: Tensor, latents: Tensor, moment: Moment) -> None:
        """Takes note of the output of a call over `latents` that stood at `moment`, where it lies as these do."""
        alike = output.shape[:1] == latents.shape[:1] and output.numel() >= latents.numel() and latents.dim() > 1
        if alike and moment.place is not None:
            unread = _Unread(moment.place, pick(output, latents), Used())
            unread.used.by_current([unread.picked])
            self._unread.append(unread)
            del self._unread[:-_PLACES]

    def outputs(self, moment: Moment) -> Sequence[Tensor]:
        """Of the calls over the latents of `moment`, picked like these: samplers make the next latents of both."""
        return () if moment.place is None else self._outputs.get(moment.place, ())

    def _take_outputs(self, transfer: "_Transfer") -> list[tuple[bytes, Tensor]]:
        """Those that no call has read yet: calls of other generations made them, too, and maybe on other streams."""
        found = []
        for place, picked, used in self._unread:
            if transfer.reaches(picked):
                used.hand_over([picked])
                found.append((place, transfer.add(picked, torch.float64)))
        self._unread.clear()
        return found

    def _remember_output(self, place: bytes, output: Tensor) -> None:
        known = self._outputs.setdefault(place, [])
        self._outputs.move_to_end(place)
        if not any(torch.equal(output, other) for other in known):
            known.append(output)
            del known[:-_CALLS]
        most = min(_PLACES, max(1, _ELEMENTS // max(1, _CALLS * output.numel())))
        while len(self._outputs) > most:
            self._outputs.popitem(last=False)

    def _content(self, tensor: Tensor, transfer: "_Transfer") -> Callable[[], Hashable]:
        if not _is_plain(tensor):
            token = object() if version(tensor) is None else (id(tensor), *_state(tensor))
            return lambda: token
        if on_host(tensor):
            digest = digests.of_host(tensor)
            return lambda: digest
        found, reaches = self._digest(tensor), transfer.reaches(tensor)
        if found is not None and not (reaches and version(tensor) is None):
            return lambda: found
        if not reaches:
            token = (id(tensor), *_state(tensor))
            return lambda: token
        state, read = _state(tensor), transfer.add(digests.of_device(tensor), torch.int64)
        return lambda: self._remember(tensor, state, bytes(read.view(torch.uint8).tolist()))

    def _is_told(self, tensor: Tensor) -> bool:
        """Whether it is told without reading it of a device."""
        return on_host(tensor) or not _is_plain(tensor) or self._digest(tensor) is not None

    def _digest(self, tensor: Tensor) -> bytes | None:
        """Of a tensor on a device that was read, and not written to since, as far as writes are counted."""
        known = self._known.get(id(tensor))
        return known[2] if known is not None and known[0]() is tensor and known[1] == _state(tensor) else None

    def _remember(self, tensor: Tensor, state: Hashable, digest: bytes) -> bytes:
        key, known = id(tensor), self._known
        known[key] = (weakref.ref(tensor, lambda _: known.pop(key, None)), state, digest)
        return digest


def on_host(tensor: Tensor) -> bool:
    return tensor.is_cpu


def _is_plain(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided


def _state(tensor: Tensor) -> tuple[int | None, int | None]:
    return version(tensor), address(tensor)


def _is_assumed(tensor: Tensor, transfer: "_Transfer") -> bool:
    """Whether nobody counts the writes to a tensor that is not read now, but could be."""
    return not transfer.reaches(tensor) and _is_plain(tensor) and version(tensor) is None


def pick(tensor: Tensor, like: Tensor | None = None) -> Tensor:
    """Evenly spaced elements of each sample, `[rows, picked]`: at the places picked of `like`, if given.

    Copied, as samplers write to latents in place: on the host as float64, which it makes of a device's types, too.
    """
    tensor, like = _real(tensor), None if like is None else _real(like)
    picked = tensor.contiguous().as_strided(*_places(tensor.shape, tensor.shape if like is None else like.shape))
    return picked.to(torch.float64, copy=True) if on_host(picked) else picked.clone()


def _real(tensor: Tensor) -> Tensor:
    """Complex numbers as twice as many real ones."""
    return torch.view_as_real(tensor.resolve_conj()).flatten(-2) if tensor.is_complex() else tensor


def _rounding(tensor: Tensor) -> float:
    return torch.finfo(tensor.dtype).eps / 2 if tensor.is_floating_point() or tensor.is_complex() else 0.0


@lru_cache
def _places(shape: torch.Size, like: torch.Size) -> tuple[tuple[int, int], tuple[int, int]]:
    """Size and strides of what is picked of a contiguous tensor of this shape."""
    (rows, size), (_, size_like) = _rows(shape), _rows(like)
    count = min(size_like, max(16, min(_PICKED, _IN_ALL // max(1, rows))))
    return (rows, count), (size, max(1, size_like // max(1, count)))


def _rows(shape: torch.Size) -> tuple[int, int]:
    """How many samples, and the elements of each."""
    rows = shape[0] if len(shape) > 1 else 1
    return rows, shape.numel() // max(1, rows)


class _Transfer:
    """Brings tensors from one device to the host, all at once: as bytes, which the host makes its own types of."""

    def __init__(self, device: torch.device | None) -> None:
        self._device = device
        self._parts: list[Tensor] = []
        self._copies: list[Tensor] = []

    def reaches(self, tensor: Tensor) -> bool:
        return on_host(tensor) or tensor.device == self._device

    def add(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        """The tensor on the host, as numbers of this type. It holds what it should after `run`."""
        if on_host(tensor):
            return tensor.to(dtype)
        copy = torch.empty(tensor.shape, dtype=dtype, device="cpu")
        self._parts.append(tensor.contiguous())
        self._copies.append(copy)
        return copy

    def run(self) -> None:
        if self._parts:
            together = torch.cat([part.flatten().view(torch.uint8) for part in self._parts]).cpu()
            found = together.split_with_sizes([part.nbytes for part in self._parts])
            for copy, part, held in zip(self._copies, self._parts, found, strict=True):
                copy.copy_(held.clone().view(part.dtype).view(part.shape))
