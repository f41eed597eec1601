"""Name -> implementation, with built-in modules and entry points loaded only when a name is asked for."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from mltrain.core.code_place import code_place
from mltrain.core.errors import ConfigError

__all__ = ["Registry", "nearest"]

T = TypeVar("T")


def nearest(word: str, known: list[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known word closest in spelling to `word`, or None when none is close: 1 is the same, 0 has nothing."""
    matches = difflib.get_close_matches(word, known, n=1, cutoff=cutoff)
    return matches[0] if matches else None


class Registry(Generic[T]):
    """A table of named implementations.

    Args:
        kind: what the names are, for error messages ("trainer").
        builtin: name -> module that registers it on import. Keeps start-up free of unused imports.
        group: entry-point group from which installed packages add names.
        config_key: the configuration key that holds such a name, for error messages.
    """

    def __init__(self, kind: str, *, builtin: dict[str, str], group: str, config_key: str) -> None:
        self.kind, self.config_key, self._group = kind, config_key, group
        self._builtin = builtin
        self._items: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that enters its class or function under `name`. A taken name is refused."""

        def enter(item: T) -> T:
            if missing := sorted(getattr(item, "__abstractmethods__", ())):
                raise ConfigError(
                    f"{self.kind} {name!r} lacks {', '.join(missing)}",
                    where=code_place(item),
                    fix=f"Add {'them' if len(missing) > 1 else 'it'} to the class.",
                )
            foreign = name in self._builtin and self._builtin[name] not in sys.modules
            if foreign or (name in self._items and _identity(self._items[name]) != _identity(item)):
                raise ConfigError(
                    f"{self.kind} {name!r} is registered twice", where=self.config_key, fix="Rename one of them."
                )
            self._items[name] = item
            return item

        return enter

    def names(self) -> list[str]:
        """Return every known name, sorted."""
        return sorted({*self._items, *self._builtin, *(point.name for point in entry_points(group=self._group))})

    def get(self, name: str) -> T:
        """Return the implementation of `name`; an unknown name raises ConfigError with the nearest known one."""
        if name not in self._items and name in self._builtin:
            importlib.import_module(self._builtin[name])
        if name not in self._items:
            self._load_entry_point(name)
        if name not in self._items:
            close = nearest(name.lower(), self.names())
            hint = f"Did you mean {close!r}?" if close else f"Known: {', '.join(self.names()) or 'none'}."
            raise ConfigError(f"unknown {self.kind} {name!r}", where=self.config_key, fix=hint)
        return self._items[name]

    def _load_entry_point(self, name: str) -> None:
        for point in entry_points(group=self._group, name=name):
            try:
                self._items[name] = point.load()
            except Exception as error:
                raise ConfigError(
                    f"{self.kind} {name!r} cannot be imported from {point.value} ({type(error).__name__}: {error})",
                    where=self.config_key,
                    fix="Mend or remove the package that brings it.",
                ) from error


def _identity(item: object) -> tuple[object, ...]:
    """Return what stays the same when a file or a notebook cell is run again and makes its classes anew.

    A plugin may be run under two names: as a plugin, and as a module that another plugin imports.
    """
    name, module = getattr(item, "__qualname__", None), getattr(item, "__module__", None)
    return (id(item),) if name is None else (getattr(sys.modules.get(str(module)), "__file__", module), name)
