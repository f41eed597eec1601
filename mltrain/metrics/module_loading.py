"""evaluate modules that the user names: a folder or file of his own, or a name on the Hugging Face hub."""

from __future__ import annotations

import contextlib
import inspect
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from mltrain.core.errors import ConfigError, one_line
from mltrain.core.logging import log
from mltrain.core.plugins import import_own_file
from mltrain.core.quiet_library import quiet

__all__ = ["KEY", "load_module"]

KEY = "evaluation.metrics"

# Folders that last as long as the process.
_PREPARED: list[contextlib.ExitStack] = []


def load_module(name: str) -> Any:
    """Return the `evaluate.EvaluationModule` of a name. The module's code is run.

    A folder holds `<folder's name>.py`, as `evaluate.load` wants it; that file is imported where it lies, and nothing
    is written. Any other name is looked up on the hub by `evaluate.load`, which keeps the code in its cache.

    Raises:
        ConfigError: there is no such module, it lies in a run folder, or its code raises; in one line.
    """
    script = _script(name)
    return _from_hub(name) if script is None else _from_file(name, script)


def _script(name: str) -> Path | None:
    """Return the file of a name that means one; None for a name on the hub."""
    path = Path(name)
    script = path if path.suffix == ".py" else path / f"{path.resolve().name}.py"
    if script.is_file():
        return script.resolve()
    if name.startswith((".", "/", "~")) or path.suffix == ".py" or name.count("/") > 1:
        raise ConfigError(
            f"no file {str(script)!r}",
            where=KEY,
            fix=f"A folder of yours holds a file of its own name; paths are taken from {Path.cwd()} on.",
        )
    return None


def _from_file(name: str, script: Path) -> Any:
    shown = name if name.endswith(".py") else f"{name.rstrip('/')}/{script.name}"
    code = import_own_file(shown, script, key=KEY, fix="Mend the module.", with_neighbours=True)
    kind = _main_class(code)
    if kind is None:
        raise ConfigError(
            f"{shown!r} defines no evaluate.Metric", where=KEY, fix="Add one: class Mine(evaluate.Metric)."
        )
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mltrain-metric-"))
        with _telling(f"{shown} cannot be set up", fix="Mend the module."):
            module = kind(keep_in_memory=True, cache_dir=folder, seed=0)
            module.download_and_prepare()
        if any(path.is_file() for path in Path(folder).rglob("*")):
            _PREPARED.append(stack.pop_all())  # files that the module has prepared for its figures
    return module


def _from_hub(name: str) -> Any:
    import evaluate
    from huggingface_hub import constants

    # evaluate would tell the hub of each load, and does not heed HF_HUB_OFFLINE.
    wanted = {"HF_UPDATE_DOWNLOAD_COUNTS": False}
    if constants.HF_HUB_OFFLINE:
        wanted["HF_EVALUATE_OFFLINE"] = True
    else:
        log.info("Asking the Hugging Face hub for the evaluate module %s.", name)
    try:
        with (
            _telling(f"{name!r} cannot be set up", fix="Install what it needs, or take it out."),
            _set(evaluate.config, wanted),
            quiet(evaluate.logging),
        ):
            return evaluate.load(name, keep_in_memory=True, seed=0)
    except ConfigError as error:
        if isinstance(error.__cause__, OSError):
            raise ConfigError(
                f"{name!r} is not in the cache of the Hugging Face hub and cannot be fetched",
                where=KEY,
                fix="Check the name. It needs a network once, without HF_HUB_OFFLINE; a folder, as ./mine, needs none.",
            ) from error
        raise


def _main_class(code: ModuleType) -> type[Any] | None:
    import evaluate

    kinds = (value for value in vars(code).values() if inspect.isclass(value))
    own = (kind for kind in kinds if not kind.__module__.startswith("evaluate."))
    return next((kind for kind in own if issubclass(kind, evaluate.EvaluationModule)), None)


@contextlib.contextmanager
def _telling(what: str, *, fix: str) -> Iterator[None]:
    try:
        yield
    except (Exception, SystemExit) as error:
        said = one_line(error) if str(error) else ""
        raise ConfigError(f"{what} ({type(error).__name__}{': ' * bool(said)}{said})", where=KEY, fix=fix) from error


@contextlib.contextmanager
def _set(target: Any, values: dict[str, Any]) -> Iterator[None]:
    """Give attributes other values for a while."""
    before = {name: getattr(target, name) for name in values}
    try:
        vars(target).update(values)
        yield
    finally:
        vars(target).update(before)
