"""Weights & Biases, without its client in the training process. An optional extra: `mltrain[wandb]`."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from typing import Any

from mltrain.core.errors import ConfigError
from mltrain.core.run_folder import RunFolder
from mltrain.tracking.base import register_tracker
from mltrain.tracking.followed_tracker import FollowedTracker, typed
from mltrain.tracking.wandb_address import read_address

__all__ = ["WandbTracker"]


@register_tracker("wandb")
class WandbTracker(FollowedTracker):
    """Shows the run in W&B. The API key comes from the environment or from `wandb login`, and is never written.

    Settings:
        project: its project. None: the data set's name.
        entity: user or team. None: that of the API key.
        mode: "online", or "offline": files below `tracking/` of the run folder, for `wandb sync`. None: the
            environment's WANDB_MODE, else online.
        finish_timeout_s: how long `close` waits for everything to be sent.
    """

    name, title = "wandb", "W&B"

    def __init__(self, folder: RunFolder, settings: Mapping[str, Any]) -> None:
        super().__init__(folder, settings)
        self._mode = settings.get("mode") or os.environ.get("WANDB_MODE") or "online"

    @classmethod
    def check(cls, settings: Mapping[str, Any]) -> None:
        """Refuse to go on without the package."""
        if importlib.util.find_spec("wandb") is None:
            raise ConfigError(
                "needs the package wandb, which is not installed",
                where="tracking.wandb.enabled",
                fix='Run pip install "mltrain[wandb]", or set it to false.',
            )

    def sink_settings(self) -> dict[str, Any]:
        """Return the settings with the mode that counts."""
        return {**self.settings, "mode": self._mode}

    def where(self) -> str:
        """Return the run's address, or the command that sends its files."""
        if self._mode == "offline":
            return f"wandb sync {typed(self.folder.tracking / 'wandb')}/offline-run-*"
        return str(read_address(self.folder).get("url") or "wandb.ai")
