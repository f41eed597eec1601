"""TensorBoard, without its client in the training process."""

from __future__ import annotations

from mltrain.tracking.base import register_tracker
from mltrain.tracking.followed_tracker import FollowedTracker, typed

__all__ = ["TensorBoardTracker"]


@register_tracker("tensorboard")
class TensorBoardTracker(FollowedTracker):
    """Keeps `tensorboard/` of the run folder: every value, the configuration, and the figures of `reports/`.

    Settings:
        finish_timeout_s: how long `close` waits for the files to be written.
    """

    name, title = "tensorboard", "TensorBoard"

    def where(self) -> str:
        """Return the command that shows the run beside its neighbours."""
        return f"tensorboard --logdir {typed(self.folder.path.parent)}"

    def sent_text(self, sent: int) -> str:
        """Return that the file was written anew: it always is."""
        return f"written anew with {sent} values"
