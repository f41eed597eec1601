"""Models of tables: shapes, what they learn, categories that training did not have, and wrong options."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mltrain.core.errors import ConfigError
from mltrain.models.tabular_models import TABULAR_MODELS, build_tabular_model, register_tabular_model

NAMES = ["mlp", "tabular_transformer"]


def build(name: str, numbers: int = 3, sizes: tuple[int, ...] = (3, 4), outputs: int = 2, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_tabular_model(name, num_numbers=numbers, sizes=sizes, num_outputs=outputs, options=options)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("numbers", "sizes"), [(3, (3, 4)), (0, (5,)), (2, ())])
def test_any_mix_of_columns(name: str, numbers: int, sizes: tuple[int, ...]) -> None:
    model = build(name, numbers, sizes).eval()
    rows = torch.randn(6, numbers), torch.stack([torch.randint(size, (6,)) for size in sizes] or [torch.empty(6, 0)], 1)
    categories = rows[1].long().reshape(6, len(sizes))
    outputs = model(rows[0], categories)
    assert outputs.shape == (6, 2)
    alone = torch.cat([model(rows[0][k : k + 1], categories[k : k + 1]) for k in range(6)])
    torch.testing.assert_close(outputs, alone)


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_an_interaction_of_a_number_and_a_category(name: str) -> None:
    model = build(name, 2, (3,), **({"width": 16, "depth": 1} if name == "tabular_transformer" else {}))
    numbers, categories = torch.randn(128, 2), torch.randint(1, 3, (128, 1))
    labels = ((numbers[:, 0] > 0) == (categories[:, 0] == 1)).long()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = F.cross_entropy(model(numbers, categories), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float((model.eval()(numbers, categories).argmax(1) == labels).float().mean()) > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_an_unseen_category_is_nothing_and_stays_so(name: str) -> None:
    model = build(name)
    embeddings = [layer for layer in model.modules() if isinstance(layer, nn.Embedding) and layer.padding_idx == 0]
    assert len(embeddings) == 2
    model(torch.randn(4, 3), torch.zeros(4, 2, dtype=torch.int64)).sum().backward()
    for layer in embeddings:
        assert not layer.weight[0].any()
        assert layer.weight.grad is not None
        assert not layer.weight.grad.any()


def test_a_number_is_a_token_of_its_own_weights() -> None:
    tokens = build("tabular_transformer", 3, ()).numbers
    numbers = torch.randn(5, 3)
    weight, bias = (values.view(3, -1) for values in (tokens.weights.weight, tokens.weights.bias))
    torch.testing.assert_close(tokens(numbers), numbers[:, :, None] * weight + bias)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mpl", {}, "unknown tabular model 'mpl'. Did you mean 'mlp'"),
        ("mlp", {"hiden": [3]}, "model.options.hiden: mlp has no option 'hiden'. Did you mean hidden"),
        ("mlp", {"hidden": [0]}, "mlp cannot be built .hidden: 0; each must be at least 1"),
        ("tabular_transformer", {"width": 10}, "width is 10, no multiple of heads, 4"),
        ("tabular_transformer", {"depth": 0}, "each must be at least 1"),
    ],
)
def test_wrong_options(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(name, **options)


def test_a_plugin_may_add_a_model() -> None:
    @register_tabular_model("test_linear")
    class Linear(nn.Linear):
        def __init__(self, num_numbers: int, sizes: Any, num_outputs: int) -> None:
            super().__init__(num_numbers, num_outputs)

    assert "test_linear" in TABULAR_MODELS.names()
    assert isinstance(build("test_linear"), Linear)
