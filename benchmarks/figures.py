"""Figures that results are told in: decibels, means with their errors, ratios of pairs."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ratios:
    """Of pairs measured in turn, so that they hold where the machine's speed drifts."""

    found: Sequence[float]

    @classmethod
    def of(cls, own: Sequence[float], others: Sequence[float]) -> "Ratios":
        return cls([mine / theirs for mine, theirs in zip(own, others, strict=True)])

    @property
    def median(self) -> float:
        return statistics.median(self.found)

    @property
    def told(self) -> dict[str, float]:
        """The median as a share, the least and the most."""
        return {"share": self.median, "least": min(self.found), "most": max(self.found)}

    def at(self, quantile: float) -> float:
        return sorted(self.found)[round(quantile * (len(self.found) - 1))]


def decibels(images: Tensor, want: Tensor, span: float = 2.0) -> Tensor:
    """PSNR of each image `[n, ...]`, where pixels lie in a range of `span`; 200 dB and more are no difference at all."""
    error = (images - want).square().flatten(1).mean(1).clamp_min(1e-20)
    return 10 * torch.log10(span**2 / error)


def spread(values: Tensor) -> str:
    """Mean and standard error."""
    return f"{values.mean():.1f} ± {values.std() / len(values) ** 0.5:.1f}"


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """L2 norm of the difference over that of what is wanted."""
    found, wanted = found.double().cpu(), wanted.double().cpu()
    return float((found - wanted).norm() / wanted.norm())


def frechet(a: Tensor, b: Tensor) -> float:
    """Fréchet distance of two Gaussians fitted to features `[n, d]` (arXiv 1706.08500)."""
    a, b = a.double(), b.double()
    product = torch.cov(a.T) @ torch.cov(b.T)
    root_trace = torch.linalg.eigvals(product).real.clamp(min=0).sqrt().sum()
    spread_of_both = torch.trace(torch.cov(a.T)) + torch.trace(torch.cov(b.T)) - 2 * root_trace
    return float((a.mean(0) - b.mean(0)).square().sum() + spread_of_both)
