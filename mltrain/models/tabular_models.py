"""Models of tables by name: standardised numbers and numbered categories to outputs.

Each is built of layers whose gradients are known per example, and keeps no statistics of a batch, so that it can be
trained with differential privacy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mltrain.core.registry import Registry
from mltrain.models.building import build_with_options

__all__ = ["TABULAR_MODELS", "TabularMLP", "TabularTransformer", "build_tabular_model", "register_tabular_model"]

Builder = Callable[..., nn.Module]
"""(num_numbers, sizes, num_outputs, **options) -> module of `numbers`, float (B, num_numbers), and `categories`, int64
(B, len(sizes)), that gives (B, num_outputs). `sizes` has the number of categories of each column; 0 stands for one that
training did not have.
"""

_WIDEST_CATEGORY = 32

TABULAR_MODELS: Registry[Builder] = Registry(
    "tabular model",
    builtin={"mlp": __name__, "tabular_transformer": __name__},
    group="mltrain.tabular_models",
    config_key="model.architecture",
)

register_tabular_model = TABULAR_MODELS.register


def build_tabular_model(
    architecture: str, *, num_numbers: int, sizes: Sequence[int], num_outputs: int, options: Mapping[str, Any]
) -> nn.Module:
    """Return a new model of rows with fresh weights: see `Builder`.

    Raises:
        ConfigError: unknown architecture, or an option that it does not take.
    """
    builder = TABULAR_MODELS.get(architecture)
    return build_with_options(
        architecture, builder, options, num_numbers=num_numbers, sizes=list(sizes), num_outputs=num_outputs
    )


class TabularMLP(nn.Module):
    """Fully connected layers with ReLU between them, over the numbers and an embedding of each category.

    Args:
        num_numbers, sizes, num_outputs: see `Builder`.
        hidden: widths of the hidden layers.
        dropout: share of hidden units dropped in training.
    """

    def __init__(
        self,
        num_numbers: int,
        sizes: Sequence[int],
        num_outputs: int,
        hidden: Sequence[int] = (128, 64),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        _refuse_empty("hidden", hidden)
        widths = [min(_WIDEST_CATEGORY, (size + 1) // 2) for size in sizes]
        self.embeddings = nn.ModuleList(
            nn.Embedding(size, width, padding_idx=0) for size, width in zip(sizes, widths, strict=True)
        )
        layers: list[nn.Module] = []
        inputs = num_numbers + sum(widths)
        for width in hidden:
            layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout)]
            inputs = width
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, num_outputs)

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Return outputs (B, num_outputs)."""
        embedded = [layer(categories[:, column]) for column, layer in enumerate(self.embeddings)]
        outputs: Tensor = self.head(self.layers(torch.cat([numbers, *embedded], dim=1)))
        return outputs


class TabularTransformer(nn.Module):
    """Each column is a token, and a transformer attends among them.

    The FT-Transformer of Gorishniy, Rubachev, Khrulkov and Babenko, "Revisiting Deep Learning Models for Tabular Data",
    NeurIPS 2021, in a smaller size: tokens x_j w_j + b_j of numbers and a vector of each category, blocks that
    normalise before they attend (the first one only before its linear layers), ReGLU, and an output from a token of
    its own.

    Args:
        num_numbers, sizes, num_outputs: see `Builder`.
        width: of a token; a multiple of `heads`.
        depth: number of blocks.
        heads: of attention.
        attention_dropout, dropout: shares dropped in training of the attention's weights and of hidden units.
    """

    def __init__(
        self,
        num_numbers: int,
        sizes: Sequence[int],
        num_outputs: int,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        attention_dropout: float = 0.1,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        _refuse_empty("width, depth and heads", [width, depth, heads])
        if width % heads:
            raise ValueError(f"width is {width}, no multiple of heads, {heads}")
        self.numbers = _NumberTokens(num_numbers, width) if num_numbers else None
        self.categories = nn.ModuleList(_embedding(size, width, unseen=True) for size in sizes)
        self.summary = _embedding(1, width, unseen=False)
        self.blocks = nn.ModuleList(
            _Block(width, heads, attention_dropout, dropout, first=index == 0) for index in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_outputs)

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Return outputs (B, num_outputs)."""
        tokens = [self.summary(torch.zeros(len(numbers), 1, dtype=torch.int64, device=numbers.device))]
        if self.numbers is not None:
            tokens.append(self.numbers(numbers))
        tokens += [layer(categories[:, column : column + 1]) for column, layer in enumerate(self.categories)]
        hidden = torch.cat(tokens, dim=1)
        for block in self.blocks:
            hidden = block(hidden)
        outputs: Tensor = self.head(F.relu(self.norm(hidden[:, 0])))
        return outputs


class _NumberTokens(nn.Module):
    """x_j w_j + b_j for each number x_j: a convolution whose groups are the numbers."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.weights = nn.Conv1d(count, count * width, 1, groups=count)
        for values in (self.weights.weight, self.weights.bias):
            assert values is not None
            nn.init.uniform_(values, -(width**-0.5), width**-0.5)

    def forward(self, numbers: Tensor) -> Tensor:
        """Return tokens (B, count, width)."""
        tokens: Tensor = self.weights(numbers.unsqueeze(2)).view(len(numbers), -1, self.width)
        return tokens


class _Block(nn.Module):
    """Attention among tokens, then linear layers on each; both added to what came in."""

    def __init__(self, width: int, heads: int, attention_dropout: float, dropout: float, *, first: bool) -> None:
        super().__init__()
        hidden = width * 4 // 3
        self.heads = heads
        self.attention_norm = nn.Identity() if first else nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.attention_dropout = nn.Dropout(attention_dropout)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 2 * hidden)
        self.dropout = nn.Dropout(dropout)
        self.narrow = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens (B, T, width)."""
        tokens = tokens + self._attend(self.attention_norm(tokens))
        values, gates = self.widen(self.norm(tokens)).chunk(2, dim=-1)
        added: Tensor = self.narrow(self.dropout(values * F.relu(gates)))
        return tokens + added

    def _attend(self, tokens: Tensor) -> Tensor:
        query, key, value = (
            layer(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        weights = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(dim=-1)
        mixed: Tensor = self.out((self.attention_dropout(weights) @ value).transpose(1, 2).flatten(2))
        return mixed


def _embedding(size: int, width: int, *, unseen: bool) -> nn.Embedding:
    """Return an embedding as wide in its values as a linear layer: torch's own, of variance 1, would drown the numbers.

    unseen: 0 stands for categories that training did not have, and is nothing: a vector of zeros that stays.
    """
    embedding = nn.Embedding(size, width, padding_idx=0 if unseen else None)
    nn.init.uniform_(embedding.weight, -(width**-0.5), width**-0.5)
    if unseen:
        nn.init.zeros_(embedding.weight[0])
    return embedding


def _refuse_empty(name: str, sizes: Sequence[int]) -> None:
    if any(size < 1 for size in sizes):
        raise ValueError(f"{name}: {', '.join(map(str, sizes))}; each must be at least 1")


register_tabular_model("mlp")(TabularMLP)
register_tabular_model("tabular_transformer")(TabularTransformer)
