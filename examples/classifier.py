"""A small CNN for Fashion-MNIST, used only to judge generated images; run this file to train it.

python examples/classifier.py
"""

from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from fashion import load

WEIGHTS = Path(__file__).parent / "weights" / "classifier.pt"


class Classifier(nn.Module):
    """Images `[B, 1, 28, 28]` in [-1, 1] to `(logits [B, 10], features [B, 128])`."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 7 * 7, 128), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(128, 10)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(images)
        return self.head(features), features


def trained_classifier() -> Classifier:
    model = Classifier()
    model.load_state_dict(torch.load(WEIGHTS, weights_only=True))
    return model.eval()


@torch.no_grad()
def accuracy(model: Classifier, images: Tensor, labels: Tensor) -> float:
    hits = sum(int((model(part)[0].argmax(1) == want).sum()) for part, want in batches(images, labels, 500))
    return hits / len(labels)


def batches(images: Tensor, labels: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(images.split(size), labels.split(size), strict=True))


def main(epochs: int = 6, batch: int = 128, lr: float = 2e-3) -> None:
    torch.manual_seed(0)
    images, labels = load("train")
    model = Classifier()
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
    steps = epochs * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps + epochs)
    for epoch in range(epochs):
        model.train()
        order = torch.randperm(len(images))
        for pick in track(order.split(batch), description=f"epoch {epoch + 1}/{epochs}"):
            loss = F.cross_entropy(model(images[pick])[0], labels[pick], label_smoothing=0.05)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            if schedule.last_epoch < steps:
                schedule.step()
        print(f"test accuracy {accuracy(model.eval(), *load('t10k')):.4f}")
    WEIGHTS.parent.mkdir(exist_ok=True)
    torch.save(
        {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()},
        WEIGHTS,
    )


if __name__ == "__main__":
    main()
