"""An autoencoder of several modalities whose bottleneck also predicts responses, one linear readout a voxel.

All its layers have weights of their own kind alone (linear, convolution), and no example meets another: its gradient is
the same however a batch is cut, and `dp` can clip it. Pictures are cut into patches that do not overlap, so that the
frames of a window, which lie below one another in one picture, share weights and do not touch. Their decoder is the
mirror image, with sub-pixel convolutions (Shi et al. 2016) in place of transposed ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MultimodalAutoencoder", "PictureDecoder", "PictureEncoder", "VectorDecoder", "VectorEncoder"]

Shape = tuple[int, ...]


class PictureEncoder(nn.Module):
    """Pictures of a window (B, W, C, H, X) to features of each (B, W, F).

    Args:
        shape: (C, H, X) of a picture; its sides are filled with zeros up to a multiple of 2 x `patch`.
        features: F.
        width: channels of the first convolution; the second has twice as many.
        patch: side of the patches of the first convolution; the second joins 2 x 2 of them.
    """

    def __init__(self, shape: Shape, features: int, width: int, patch: int) -> None:
        super().__init__()
        channels, *sides = shape
        self.missing = [-side % (2 * patch) for side in sides]
        self.grid = [-(-side // (2 * patch)) for side in sides]
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.joined = nn.Conv2d(width, 2 * width, 2, stride=2)
        self.features = nn.Linear(2 * width * prod(self.grid), features)

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the features."""
        below, right = self.missing
        stacked = F.pad(pictures, (0, right, 0, below)).transpose(1, 2).flatten(2, 3)
        found = F.gelu(self.joined(F.gelu(self.patches(stacked))))
        each = found.reshape(len(found), -1, pictures.shape[1], *self.grid).transpose(1, 2).flatten(2)
        return F.gelu(self.features(each))


class PictureDecoder(nn.Module):
    """Features (B, W, F) to pictures (B, W, C, H, X); the arguments are those of `PictureEncoder`."""

    def __init__(self, shape: Shape, features: int, width: int, patch: int) -> None:
        super().__init__()
        channels, *self.sides = shape
        self.grid = [-(-side // (2 * patch)) for side in self.sides]
        self.features = nn.Linear(features, 2 * width * prod(self.grid))
        self.apart = nn.Conv2d(2 * width, 4 * width, 1)
        self.pixels = nn.Conv2d(width, channels * patch * patch, 1)
        self.patch = patch

    def forward(self, features: Tensor) -> Tensor:
        """Return the pictures."""
        count, window, _ = features.shape
        each = F.gelu(self.features(features)).reshape(count, window, -1, *self.grid)
        maps = each.transpose(1, 2).flatten(2, 3)
        apart = F.gelu(F.pixel_shuffle(self.apart(maps), 2))
        stacked = F.pixel_shuffle(self.pixels(apart), self.patch)
        height, across = self.sides
        pictures = stacked.reshape(count, -1, window, stacked.shape[2] // window, stacked.shape[3]).transpose(1, 2)
        return pictures[..., :height, :across]


class VectorEncoder(nn.Module):
    """Vectors of a window (B, W, D) to features of each (B, W, F).

    Args:
        shape: (D,).
        features: F.
        hidden: width of the layer between.
    """

    def __init__(self, shape: Shape, features: int, hidden: int) -> None:
        super().__init__()
        self.hidden, self.features = nn.Linear(shape[0], hidden), nn.Linear(hidden, features)

    def forward(self, vectors: Tensor) -> Tensor:
        """Return the features."""
        return F.gelu(self.features(F.gelu(self.hidden(vectors))))


class VectorDecoder(nn.Module):
    """Features (B, W, F) to vectors (B, W, D); the arguments are those of `VectorEncoder`."""

    def __init__(self, shape: Shape, features: int, hidden: int) -> None:
        super().__init__()
        self.hidden, self.vectors = nn.Linear(features, hidden), nn.Linear(hidden, shape[0])

    def forward(self, features: Tensor) -> Tensor:
        """Return the vectors."""
        vectors: Tensor = self.vectors(F.gelu(self.hidden(features)))
        return vectors


class MultimodalAutoencoder(nn.Module):
    """Windows of several modalities to a bottleneck, from there to voxels and back.

    Args:
        shapes: modality -> shape of one sample: (D,) is a vector, (H, X) a picture of one channel (a spectrogram, say),
            (C, H, X) a picture.
        window: samples of each modality, W.
        voxels: of each readout: one a subject, or a single one for all.
        bottleneck: size of the bottleneck, Z.
        features: of each sample of each modality.
        width, patch: of `PictureEncoder`.
        hidden: of `VectorEncoder`, and of the layer between all features and the bottleneck.
        dropout: share of the features before the bottleneck that is dropped in training.
    """

    def __init__(
        self,
        shapes: Mapping[str, Shape],
        window: int,
        voxels: Sequence[int],
        *,
        bottleneck: int,
        features: int,
        width: int,
        patch: int,
        hidden: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.shapes, self.window = {name: tuple(shape) for name, shape in shapes.items()}, window
        pictures, vectors = {"width": width, "patch": patch}, {"hidden": hidden}
        self.encoders, self.decoders = nn.ModuleDict(), nn.ModuleDict()
        for name, shape in self.shapes.items():
            if len(shape) == 1:
                self.encoders[name] = VectorEncoder(shape, features, **vectors)
                self.decoders[name] = VectorDecoder(shape, features, **vectors)
            else:
                self.encoders[name] = PictureEncoder(_picture(shape), features, **pictures)
                self.decoders[name] = PictureDecoder(_picture(shape), features, **pictures)
        self.dropout = nn.Dropout(dropout)
        self.fusion = nn.Linear(len(shapes) * window * features, hidden)
        self.bottleneck = nn.Linear(hidden, bottleneck)
        self.unfold = nn.ModuleDict({name: nn.Linear(bottleneck, window * features) for name in self.shapes})
        # One matrix for all subjects: a subject's readout is its rows.
        self.readout = nn.Linear(bottleneck, sum(voxels))

    def forward(self, stimuli: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return "bottleneck" (B, Z), "fmri" (B, sum of voxels) and, by modality, its reconstruction.

        Args:
            stimuli: modality -> standardized samples (B, W, ...).
        """
        found = [
            encoder(stimuli[name].reshape(-1, self.window, *_picture(self.shapes[name])))
            for name, encoder in self.encoders.items()
        ]
        features = self.dropout(torch.cat([each.flatten(1) for each in found], dim=1))
        bottleneck = self.bottleneck(F.gelu(self.fusion(features)))
        outputs = {"bottleneck": bottleneck, "fmri": self.readout(bottleneck)}
        for name, decoder in self.decoders.items():
            unfolded = F.gelu(self.unfold[name](bottleneck)).reshape(len(bottleneck), self.window, -1)
            outputs[name] = decoder(unfolded).reshape(stimuli[name].shape)
        return outputs


def _picture(shape: Shape) -> Shape:
    """Return the shape with a channel, where it is a picture without one."""
    return (1, *shape) if len(shape) == 2 else shape
