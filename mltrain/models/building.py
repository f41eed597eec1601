"""What the registries of models share: building one with options that are checked, and where weights are published."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import nn

from mltrain.core.errors import ConfigError, MltrainError
from mltrain.core.plugins import plugin_place
from mltrain.core.registry import nearest

__all__ = ["build_with_options", "published_by"]


def build_with_options(
    architecture: str, builder: Callable[..., nn.Module], options: Mapping[str, Any], **given: Any
) -> nn.Module:
    """Return what a builder makes of the arguments that the data decide, `given`, and of the user's options.

    Raises:
        ConfigError: it does not take an option, or fails.
    """
    _check_options(architecture, builder, options, given)
    try:
        return builder(**given, **options)
    except MltrainError:
        raise
    except Exception as error:  # whatever an option does in the code of a library or of a plugin
        raise _cannot_be_built(architecture, error) from error


def published_by(builder: Callable[..., nn.Module], architecture: str) -> str:
    """Return where the weights of what a builder builds were published; raises ConfigError where none were."""
    published: str | None = getattr(builder, "published", None)
    if published is None:
        raise ConfigError(
            f"{architecture} has no published weights", where="model.weights", fix="Set it to null, or to a path."
        )
    return published


def _check_options(
    architecture: str, builder: Callable[..., nn.Module], options: Mapping[str, Any], given: Collection[str]
) -> None:
    parameters = inspect.signature(builder).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    known = [name for name in parameters if name not in given]
    for name in options:
        if name not in known:
            close = nearest(name, known)
            hint = f"Did you mean {close}?" if close else f"It takes: {', '.join(known) or 'no options'}."
            raise ConfigError(f"{architecture} has no option {name!r}", where=f"model.options.{name}", fix=hint)


def _cannot_be_built(architecture: str, error: Exception) -> ConfigError:
    """Return what to tell of a builder that failed: its options are wrong, or, where it is a plugin's, its code."""
    place = plugin_place(error)
    if place is not None:
        what = f"{architecture} cannot be built ({type(error).__name__}: {error})"
        return ConfigError(what, where=place, fix="Mend the plugin, or correct model.options.")
    said = str(error) if isinstance(error, ValueError | RuntimeError) else f"{type(error).__name__}: {error}"
    return ConfigError(f"{architecture} cannot be built ({said})", where="model.options", fix="Correct the options.")
