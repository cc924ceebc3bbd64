"""Fashion-MNIST (MIT licence) as Debian's package `dataset-fashion-mnist` installs it."""

import gzip
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
CLASSES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Boot")


def read_idx(path: Path, header: int) -> np.ndarray:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: apt-get install dataset-fashion-mnist, or set FASHION_MNIST")
    return np.frombuffer(gzip.decompress(path.read_bytes()), dtype=np.uint8, offset=header)


def load(split: str) -> tuple[Tensor, Tensor]:
    """Images `[n, 1, 28, 28]` in [-1, 1] and labels `[n]` of the split `train` (60,000) or `t10k` (10,000)."""
    pixels = read_idx(FOLDER / f"{split}-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)
    labels = read_idx(FOLDER / f"{split}-labels-idx1-ubyte.gz", 8)
    return torch.from_numpy(pixels / np.float32(127.5) - 1), torch.from_numpy(labels.astype(np.int64))
