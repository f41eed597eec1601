"""Configurations of transformers' models: from a folder, from the hub, or a package's. No code is fetched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mltrain.core.errors import ConfigError, one_line

__all__ = ["config_elsewhere", "portable_name", "without_checkpoint"]

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# What a configuration file says of its own weights and labels, not of the architecture; and of implementations, which
# transformers would fetch as code where they are called owner/name.
_OF_THE_CHECKPOINT = (
    "_attn_implementation", "_experts_implementation", "_name_or_path", "attn_implementation", "auto_map", "dtype",
    "experts_implementation", "id2label", "label2id", "num_labels", "problem_type", "quantization_config",
    "torch_dtype", "transformers_version",
)  # fmt: skip


def without_checkpoint(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without what it says of the weights and labels that it was saved with."""
    return {name: value for name, value in values.items() if name not in _OF_THE_CHECKPOINT}


def portable_name(architecture: str) -> str:
    """Return the name of a model; of a folder of this machine only its last part."""
    return Path(architecture).name if Path(architecture).expanduser().is_absolute() else architecture


def config_elsewhere(name: str) -> tuple[dict[str, Any], str] | None:
    """Return the configuration of a folder that `save_pretrained` wrote, or of a hub name, and where its weights are.

    None: the name is neither.

    Raises:
        ConfigError: the folder has no configuration, or the hub's cannot be had.
    """
    from transformers import PreTrainedConfig

    path = Path(name).expanduser()
    if path.is_dir():
        folder = next((place for place in (path, path / "model") if (place / "config.json").is_file()), None)
        if folder is None:
            raise ConfigError(
                f"{name} has no config.json",
                where="model.architecture",
                fix="Name a folder that transformers' save_pretrained wrote.",
            )
        return _config_values(folder / "config.json"), str(folder)
    if not _HUB_NAME.fullmatch(name):
        return None
    try:
        values, _ = PreTrainedConfig.get_config_dict(name)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{name} is no folder here, and the hub does not give its configuration ({_first_line(error)})",
            where="model.architecture",
            fix=f"Where there is a network run `hf download {name} --local-dir FOLDER`, then set "
            "model.architecture: FOLDER.",
        ) from None
    return values, name


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0].rstrip(".")


def _config_values(path: Path) -> dict[str, Any]:
    from transformers import PreTrainedConfig

    try:
        values: dict[str, Any] = PreTrainedConfig._dict_from_json_file(path)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot be read ({one_line(error)})", where=str(path), fix="Write the folder again with save_pretrained."
        ) from None
    return values
