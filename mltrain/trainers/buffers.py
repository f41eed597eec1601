"""The buffers of a model by their places: a model may put another tensor into a place instead of writing into it."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["BufferPlace", "buffer_places"]


class BufferPlace:
    """One buffer of a module.

    Args:
        module: that has the buffer itself.
        name: in this module.
    """

    def __init__(self, module: nn.Module, name: str) -> None:
        self._buffers, self._name = module._buffers, name

    @property
    def tensor(self) -> Tensor:
        """What is there at present."""
        tensor = self._buffers[self._name]
        assert tensor is not None
        return tensor


def buffer_places(model: nn.Module) -> dict[str, BufferPlace]:
    """Return the places of all buffers that a model has, by their names in it; each tensor once."""
    places = {}
    for name, _ in model.named_buffers():
        path, _, own = name.rpartition(".")
        places[name] = BufferPlace(model.get_submodule(path), own)
    return places
