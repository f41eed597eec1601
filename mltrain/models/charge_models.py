"""Charge models by name: networks from elements and positions of atoms to point charges around them.

A model is called with
    elements: int64 (B, A), places in the list of elements it was built for, from 1; 0: no atom;
    positions: float32 (B, A, 3), Angstrom, anything finite where there is no atom;
    total_charge: float32 (B,), e;
and returns charges (B, A, K) in e, 0 where there is no atom, of each molecule with its total charge as their sum; and
their places (B, A, K, 3) in Angstrom.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from mltrain.core.errors import ConfigError
from mltrain.core.registry import Registry

__all__ = ["CHARGE_MODELS", "build_charge_model", "register_charge_model"]

CHARGE_MODELS: Registry[Callable[..., nn.Module]] = Registry(
    "charge model",
    builtin={"painn": "mltrain.models.charge_network"},
    group="mltrain.charge_models",
    config_key="model.architecture",
)

register_charge_model = CHARGE_MODELS.register


def build_charge_model(
    architecture: str, *, num_elements: int, settings: Mapping[str, Any], options: Mapping[str, Any]
) -> nn.Module:
    """Return a new charge model with fresh weights.

    Args:
        architecture: its name.
        num_elements: chemical elements.
        settings: n_dcm, features, iterations, radial_basis, cutoff and max_displacement.
        options: further arguments of the architecture.

    Raises:
        ConfigError: unknown architecture, or an option that it does not take.
    """
    builder = CHARGE_MODELS.get(architecture)
    try:
        inspect.signature(builder).bind(num_elements=num_elements, **settings, **options)
        return builder(num_elements=num_elements, **settings, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{architecture} cannot be built ({error})", where="model.options", fix="Correct the options."
        ) from error
