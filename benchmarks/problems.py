"""What every contender trains: one model from the same weights, on the same samples in the same order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset, Sampler

Batch = dict[str, torch.Tensor]

SEED = 42
NUM_CLASSES = 10
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 1e-2
MAX_NORM = 1.0
LOG_EVERY = 50


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, NUM_CLASSES))


def _wide_mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(32, 3000), nn.ReLU(), nn.Linear(3000, 3000), nn.ReLU(), nn.Linear(3000, NUM_CLASSES))


def _simple_cnn() -> nn.Module:
    from mltrain.models.small_networks import SimpleCNN

    return SimpleCNN(NUM_CLASSES, channels=1, image_size=8, width=16)


class PrivateReady(nn.Module):
    """A model of mltrain's for images (C, S, S), with its layers that mix examples replaced, from pixels to logits."""

    def __init__(self, architecture: str, channels: int, image_size: int, **options: Any) -> None:
        from mltrain.models.private_layers import adapt_for_privacy
        from mltrain.models.registry import build_image_model

        super().__init__()
        self.network = build_image_model(
            architecture, num_classes=NUM_CLASSES, channels=channels, image_size=image_size, options=options
        )
        adapt_for_privacy(self.network)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        from mltrain.models.registry import logits_of

        return logits_of(self.network(pixels))


@dataclass(frozen=True)
class Network:
    """A model, and the inputs that it takes."""

    title: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch_size: int


PRIVATE_NETWORKS = {
    "private_mlp": Network("mlp, 8 x 8 images, batch 64", partial(PrivateReady, "mlp", 1, 8), (1, 8, 8), 64),
    "tiny_net": Network(
        "tiny_net, 32 x 32 images, batch 64", partial(PrivateReady, "tiny_net", 3, 32), (3, 32, 32), 64
    ),
    "vit_tiny": Network(
        "vit_tiny of 2 layers, 64 x 64 images, batch 16",
        partial(PrivateReady, "vit_tiny", 3, 64, num_hidden_layers=2),
        (3, 64, 64),
        16,
    ),
    "resnet18": Network(
        "resnet18 of half the width, 32 x 32 images, batch 16",
        partial(PrivateReady, "resnet18", 3, 32, embedding_size=32, hidden_sizes=[32, 64, 128, 256]),
        (3, 32, 32),
        16,
    ),
}
SCALED_NETWORKS = {
    "conv": Network(
        "simple_cnn with group norms, 16 x 16 images, windows of 64",
        partial(PrivateReady, "simple_cnn", 3, 16, width=32),
        (3, 16, 16),
        64,
    ),
    "vit": Network(
        "vit_tiny of 2 layers and width 96, 32 x 32 images, windows of 16",
        partial(
            PrivateReady,
            "vit_tiny",
            3,
            32,
            num_hidden_layers=2,
            patch_size=8,
            hidden_size=96,
            intermediate_size=384,
        ),
        (3, 32, 32),
        16,
    ),
}
NETWORKS = {
    "mlp": Network("32-64-10 MLP, batch 4", _mlp, (32,), 4),
    "wide_mlp": Network("32-3000-3000-10 MLP, batch 4", _wide_mlp, (32,), 4),
    "cnn": Network("simple_cnn of width 16, 8 x 8 images, batch 32", _simple_cnn, (1, 8, 8), 32),
    **PRIVATE_NETWORKS,
    **SCALED_NETWORKS,
}


class Samples(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Gaussian inputs in memory, labelled by a fixed linear map."""

    def __init__(self, shape: tuple[int, ...], size: int) -> None:
        generator = torch.Generator().manual_seed(SEED)
        self.inputs = torch.randn(size, *shape, generator=generator)
        labelling = torch.randn(self.inputs[0].numel(), NUM_CLASSES, generator=generator)
        self.labels = (self.inputs.flatten(1) @ labelling).argmax(dim=1)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.inputs[index], self.labels[index]


class Order(Sampler[int]):
    """The sample order that mltrain's own plan gives in the first epoch."""

    def __init__(self, size: int) -> None:
        from mltrain.data.plan import ShuffledPlan

        self._order: list[int] = ShuffledPlan(size, size, SEED).window(0, 0).tolist()

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[int]:
        return iter(self._order)


class Problem:
    """One epoch of `steps` steps.

    Args:
        name: key of NETWORKS.
        steps: optimizer steps, each on one full batch.
    """

    def __init__(self, name: str, steps: int) -> None:
        self.network, self.steps = NETWORKS[name], steps
        self.batch_size = self.network.batch_size
        self.samples = Samples(self.network.shape, steps * self.batch_size)
        self.order = Order(len(self.samples))

    def model(self) -> nn.Module:
        """Return the model with its initial weights."""
        torch.manual_seed(SEED)
        return self.network.build()

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return a fused AdamW."""
        return torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)

    def probe(self, model: nn.Module) -> float:
        """Return the mean loss of the first 256 samples: equal for all contenders that did the same."""
        with torch.no_grad():
            return F.cross_entropy(model(self.samples.inputs[:256]), self.samples.labels[:256]).item()


def collate(items: list[Any]) -> Batch:
    """Return a batch of samples."""
    inputs, labels = zip(*items, strict=True)
    return {"inputs": torch.stack(inputs), "labels": torch.stack(labels)}
