"""Small image classifiers that train in seconds on a CPU. Pixels (B, C, H, W), float, to logits (B, num_classes)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mltrain.models.registry import register_image_model

__all__ = ["MLP", "SimpleCNN", "TinyNet"]


class MLP(nn.Sequential):
    """Fully connected layers with ReLU between them.

    Args:
        hidden: widths of the hidden layers.
        dropout: share of hidden units dropped in training.
    """

    def __init__(
        self, num_classes: int, channels: int, image_size: int, hidden: Sequence[int] = (256, 128), dropout: float = 0.0
    ) -> None:
        _refuse_empty("hidden", hidden)
        layers: list[nn.Module] = [nn.Flatten()]
        width = channels * image_size * image_size
        for size in hidden:
            layers += [nn.Linear(width, size), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
            width = size
        super().__init__(*layers, nn.Linear(width, num_classes))


class SimpleCNN(nn.Module):
    """Three blocks of convolution, batch norm, ReLU and pooling, then one linear layer over the mean of the map.

    Args:
        width: channels of the first block; each next block has twice as many.
        dropout: share of features dropped before the linear layer in training.
    """

    def __init__(self, num_classes: int, channels: int, image_size: int, width: int = 32, dropout: float = 0.0) -> None:
        _refuse_empty("width", [width])
        super().__init__()
        blocks: list[nn.Module] = []
        for index in range(3):
            wide = width * 2**index
            blocks += [nn.Conv2d(channels, wide, 3, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
            # An 8 x 8 image is not halved below 2 x 2.
            if image_size // 2 ** (index + 1) >= 2:
                blocks.append(nn.MaxPool2d(2))
            channels = wide
        self.features = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits."""
        features: Tensor = self.features(pixels).mean(dim=(2, 3))
        logits: Tensor = self.head(self.dropout(features))
        return logits


class TinyNet(nn.Module):
    """Two strided convolutions with group norm: no state but weights, so its gradient is the same however it is cut.

    Args:
        width: channels of the first convolution; the second has twice as many. A multiple of 4.
    """

    def __init__(self, num_classes: int, channels: int, image_size: int, width: int = 16) -> None:
        _refuse_empty("width", [width])
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=2, padding=1),
            nn.GroupNorm(4, width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.GroupNorm(4, 2 * width),
            nn.ReLU(),
        )
        side = -(-image_size // 4)
        self.head = nn.Linear(2 * width * side * side, num_classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.head(self.features(pixels).flatten(1))
        return logits


def _refuse_empty(name: str, sizes: Sequence[int]) -> None:
    # torch itself builds layers of no units, which learn nothing.
    if any(size < 1 for size in sizes):
        raise ValueError(f"{name} is {', '.join(map(str, sizes))}; a layer has at least 1")


register_image_model("mlp")(MLP)
register_image_model("simple_cnn")(SimpleCNN)
register_image_model("tiny_net")(TinyNet)
