"""`torch.compile`: models compiled in place while a run lasts, so that their names and states stay as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from mltrain.config.schema import Config
from mltrain.config.training import CompileSection
from mltrain.core.errors import ConfigError, HardwareError
from mltrain.core.hardware import check_device
from mltrain.core.logging import log

__all__ = ["Compilation", "check_compilation"]

# torch gives up after 8 programs and computes what is new without any. Which shapes have programs would then depend on
# which came first, and a resumed run has seen others.
_NO_LIMIT = 2**31
_MANY = 16


def check_compilation(config: Config) -> None:
    """Compile a trifle, backward pass included, as the run will its model.

    Raises:
        ConfigError: the backend is not known.
        HardwareError: this machine cannot: it lacks a compiler, say.
    """
    section = config.training.compile
    if not section.enabled:
        return
    from torch._dynamo.exc import InvalidBackend

    values = torch.ones(8, device=check_device(config.training.device), requires_grad=True)
    try:
        _compiled(lambda values: (2 * values).sin(), section)(values).sum().backward()
    except InvalidBackend:
        raise ConfigError(
            f"torch knows no backend {section.backend!r}",
            where="training.compile.backend",
            fix=f"Use one of {', '.join(sorted(torch.compiler.list_backends()))}.",
        ) from None
    except Exception as error:
        log.debug("Nothing can be compiled.", exc_info=True)
        raise HardwareError(
            f"{section.backend} cannot compile on this machine ({_first_line(error)})",
            where="training.compile.enabled",
            fix="Install what it needs (inductor: a C++ compiler such as g++; on GPUs Triton and a C compiler too), or "
            "set it to false.",
        ) from error


class Compilation(contextlib.ExitStack):
    """Models that are called compiled from `compile` until the end of the block.

    With `dynamic: false` the program for a shape follows from the shape alone: a process that resumes a run and has
    seen other shapes before has the same one.

    Args:
        section: the configuration; where it is not enabled nothing is done.
    """

    def __init__(self, section: CompileSection) -> None:
        super().__init__()
        self._section = section
        self._calls: list[_Call] = []
        advice = "" if section.dynamic else " Give batches fewer shapes, or set training.compile.dynamic=true."
        self._watch = _Watch(advice)

    def compile(self, *models: nn.Module) -> None:
        """Compile models in place, each once. Copies that are made of them later are not compiled."""
        if not self._section.enabled:
            return
        if not self._calls:
            self._begin()
        for model in dict.fromkeys(models):
            call = _Call(model, self._section, self._watch)
            # `Module.compile` would set the same attribute, and compile nothing of a model whose class is torch's own
            # (nn.Sequential): torch leaves out frames of its own files.
            self.callback(setattr, model, "_compiled_call_impl", model._compiled_call_impl)
            model._compiled_call_impl = call
            self._calls.append(call)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Call the models uncompiled.

        Within DDP a backward pass is compiled in several programs, so that gradients are exchanged while it lasts; a
        model must not be called outside of it first.
        """
        for call in self._calls:
            call.is_paused = True
        try:
            yield
        finally:
            for call in self._calls:
                call.is_paused = False

    def _begin(self) -> None:
        # Programs of a run before this one are not looked at again.
        torch.compiler.reset()
        self.callback(torch.compiler.reset)
        limits = dict.fromkeys(("recompile_limit", "accumulated_recompile_limit"), _NO_LIMIT)
        self.enter_context(torch._dynamo.config.patch(limits))
        log.info("The model is compiled (%s): the first step of each batch shape takes longer.", self._section.backend)
        if self._section.dynamic:
            log.warning(
                "training.compile.dynamic is true: a program depends on the sizes that came before, so that a resumed "
                "run may differ from a straight one in its last bits."
            )


class _Call:
    """A model's compiled call.

    Args:
        model: called within it, with its hooks.
        section: how it is compiled.
        watch: told of each call.
    """

    def __init__(self, model: nn.Module, section: CompileSection, watch: _Watch) -> None:
        plain: Callable[..., Any] = model._call_impl
        self._plain, self._watch = plain, watch
        self._compiled = _compiled(lambda *arguments, **named: plain(*arguments, **named), section)
        self.is_paused = False

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if self.is_paused:
            return self._plain(*arguments, **named)
        before = _programs()
        outputs = self._compiled(*arguments, **named)
        self._watch.called(compiled=_programs() > before)
        return outputs


class _Watch:
    """Counts calls that had to be compiled, and tells where they are none at all or ever more.

    Args:
        advice: what helps against many of them.
    """

    def __init__(self, advice: str) -> None:
        self._advice = advice
        self._calls, self._kinds, self._told = 0, 0, _MANY

    def called(self, *, compiled: bool) -> None:
        """Take note of a call."""
        self._calls += 1
        if not compiled:
            if self._calls == 1:
                log.warning("Nothing of the model was compiled: torch cannot follow what it computes.")
            return
        self._kinds += 1
        if self._kinds > self._told:
            log.warning(
                "The model has been compiled for more than %d kinds of batches, each of which took its time.%s",
                self._told, self._advice,
            )  # fmt: skip
            self._told *= 2


def _first_line(error: Exception) -> str:
    # What follows tells how to debug torch.
    return next(iter(str(error).splitlines()), type(error).__name__)[:200].rstrip(".")


def _compiled(function: Callable[..., Any], section: CompileSection) -> Callable[..., Any]:
    compiled: Callable[..., Any] = torch.compile(
        function, fullgraph=section.fullgraph, dynamic=section.dynamic, backend=section.backend, mode=section.mode
    )
    return compiled


def _programs() -> int:
    """Return how many graphs this process has compiled."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])
