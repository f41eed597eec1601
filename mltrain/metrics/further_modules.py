"""The evaluate modules of `evaluation.metrics`: loaded and tried once, then fed with the predictions of a split."""

from __future__ import annotations

import functools
import inspect
import re
import warnings
from collections.abc import Collection, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mltrain.core.errors import ConfigError, shortened
from mltrain.core.logging import log
from mltrain.core.plugins import line_of
from mltrain.metrics.module_loading import KEY, load_module

__all__ = [
    "FurtherModules",
    "Inputs",
    "classification_modules",
    "of_texts",
    "regression_modules",
    "text_modules",
]

Inputs = Mapping[str, Sequence[Any] | NDArray[Any]]

_NAME = re.compile(r"[A-Za-z][\w.-]*")
_LONGEST = 300


class FurtherModules:
    """Modules that the user named, combined by `evaluate.combine`, and the figures that a trial of them gave.

    Args:
        modules: folders or names: see `module_loading`.
        example: what a task of this kind feeds, made up: the modules are tried on it.
        taken: names of figures that the task has itself. A module's figure of such a name gets the module's before it,
            as evaluate does it with those of two modules.

    Raises:
        ConfigError: a module cannot be loaded, wants inputs that the task does not have, raises, or gives what are
            not numbers.
    """

    def __init__(self, modules: Sequence[str], example: Inputs, taken: Collection[str]) -> None:
        import evaluate

        self._given, self._modules = list(modules), [load_module(name) for name in modules]
        # (module, figure) of each figure, in the order in which `combine` gives them; it renames those of one name.
        self._origins = [
            (module, figure)
            for name, module in zip(modules, self._modules, strict=True)
            for figure in _tried(name, module, example)
        ]
        self._combined = evaluate.combine(self._modules)
        pairs = zip(self._together(example), self._origins, strict=True)
        self._renamed = {name: f"{module.name}_{name}" for name, (module, _) in pairs if name in taken}
        self.names = tuple(self._renamed.get(name, name) for name in self._together(example))

    @property
    def inputs(self) -> frozenset[str]:
        """Names of the inputs that the modules take."""
        return frozenset(name for module in self._modules for name in module._feature_names())

    def compute(self, inputs: Inputs) -> dict[str, float]:
        """Return the figures of the predictions of a split, fed at once; NaN where there are none.

        Where a module raises, its own are NaN and the log tells it: a run is not lost for a figure.

        Args:
            inputs: by the names that evaluate gives them, one as long as the other.
        """
        figures = dict.fromkeys(self.names, float("nan"))
        if len(next(iter(inputs.values()))):
            try:
                found = {self._renamed.get(name, name): value for name, value in self._together(inputs).items()}
            except Exception:
                found = self._one_by_one(inputs)
            figures |= {name: found[name] for name in self.names if name in found}
        return figures

    def _together(self, inputs: Inputs) -> dict[str, float]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._combined.add_batch(**inputs)
            return {name: float(value) for name, value in self._combined.compute().items()}

    def _one_by_one(self, inputs: Inputs) -> dict[str, float]:
        """Return the figures of the modules that do not raise, and tell of the others."""
        found: dict[str, float] = {}
        for given, module in zip(self._given, self._modules, strict=True):
            try:
                values = _alone(module, inputs)
                for name, (owner, figure) in zip(self.names, self._origins, strict=True):
                    if owner is module and figure in values:
                        found[name] = float(values[figure])
            except Exception as error:
                log.warning("%s: the figures of %s are NaN here: it raised %s.", KEY, given, _said(error))
                module.writer = None  # forgets what it was fed
        return found


def classification_modules(modules: Sequence[str], num_classes: int, taken: Collection[str]) -> FurtherModules:
    """Return modules for `predictions` and `references`, class indices (N,), and `prediction_scores`.

    The scores are probabilities: of two classes that of the second, (N,), of more that of each, (N, C).
    """
    references = np.arange(2 * num_classes) % num_classes
    predictions = np.concatenate([[num_classes - 1], references[1:]])
    scores = np.full((len(predictions), num_classes), 0.5 / num_classes)
    scores[np.arange(len(predictions)), predictions] += 0.5
    example = {
        "predictions": predictions,
        "references": references,
        "prediction_scores": scores[:, 1] if num_classes == 2 else scores,
    }
    return _once(modules, example, taken, ("classification", num_classes))


def regression_modules(modules: Sequence[str], taken: Collection[str]) -> FurtherModules:
    """Return modules for `predictions` and `references`, numbers (N,)."""
    example = {"predictions": np.array([0.5, 1.0, 2.0, 2.5]), "references": np.array([0.0, 1.0, 2.0, 3.0])}
    return _once(modules, example, taken, ("regression",))


def text_modules(modules: Sequence[str], taken: Collection[str]) -> FurtherModules:
    """Return modules for `predictions` and `references`, N texts each; "" says that there is none."""
    example = {
        "predictions": ["the first answer", "another one", "", "a fourth"],
        "references": ["the first answer", "one", "", ""],
    }
    return _once(modules, example, taken, ("text",))


def of_texts(name: str) -> bool:
    """Return whether the predictions that a module takes are texts.

    Raises:
        ConfigError: it cannot be loaded.
    """
    return _of_texts(name, Path.cwd())


@functools.cache
def _of_texts(name: str, _working_folder: Path) -> bool:
    features = load_module(name).features
    # A list: any one of them will do.
    kinds = features if isinstance(features, list) else [features]
    return any(getattr(kind.get("predictions"), "dtype", None) == "string" for kind in kinds)


_MADE: dict[Hashable, FurtherModules] = {}


def _once(modules: Sequence[str], example: Inputs, taken: Collection[str], kind: Hashable) -> FurtherModules:
    # A task makes an accumulator for each evaluation. Paths begin in the working folder.
    key = (tuple(modules), tuple(taken), kind, Path.cwd())
    if key not in _MADE:
        _MADE[key] = FurtherModules(modules, example, taken)
    return _MADE[key]


def _tried(name: str, module: Any, example: Inputs) -> list[str]:
    """Return the names of the figures of a module on an example."""
    wanted = set(module._feature_names())
    _check_kinds(name, module, example)
    if not wanted <= example.keys():
        raise _refused(
            f"{name} takes {_listed(wanted)}, and this task gives {_listed(example)}", "Take it out, or adapt it."
        )
    try:
        figures = _alone(module, example)
    except Exception as error:
        raise _refused(
            f"{name}, tried on made predictions, raises {_said(error)}{_place(module, error)}", "Mend it."
        ) from error
    if not isinstance(figures, Mapping) or not figures:
        raise _refused(f"{name} gives {type(figures).__name__}, not figures by name", 'Return {"name": number}.')
    for figure, value in figures.items():
        if not isinstance(figure, str) or not _NAME.fullmatch(figure):
            raise _refused(f"{name} gives a figure the name {figure!r}", "Use letters, digits and underscores.")
        if not isinstance(value, int | float | np.number):
            raise _refused(
                f"{figure} of {name} is no number, but {shortened(value, _LONGEST)}", "Return numbers alone."
            )
    return list(figures)


def _alone(module: Any, inputs: Inputs) -> Any:
    """Return what a module by itself makes of the inputs that it takes."""
    module.writer = None  # what it was fed before it raised
    wanted = module._feature_names()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module.add_batch(**{key: value for key, value in inputs.items() if key in wanted})
        return module.compute()


def _check_kinds(name: str, module: Any, example: Inputs) -> None:
    """Refuse a module that would be given texts as numbers, or fractions as whole numbers, which evaluate cuts off."""
    features = module.features if isinstance(module.features, list) else [module.features]
    for key, values in example.items():
        kinds = [str(getattr(columns[key], "dtype", "")) for columns in features if key in columns]
        if isinstance(values[0], str):
            fits, has, needs = "string", "texts", 'datasets.Value("string")'
        elif np.asarray(values).dtype.kind == "f" and np.ndim(values) == 1:
            fits, has, needs = "float", "numbers with fractions", 'datasets.Value("float32")'
        else:
            continue
        if kinds and not any(kind.startswith(fits) or not kind for kind in kinds):
            raise _refused(f"{name} takes {kinds[0]} as {key}, and this task gives {has}", f"Declare {needs}.")


def _refused(what: str, fix: str) -> ConfigError:
    return ConfigError(what, where=KEY, fix=fix)


def _place(module: Any, error: Exception) -> str:
    """Return the line of the module's code that had a part in an error."""
    path = Path(inspect.getfile(type(module)))
    line = line_of(error, path)
    return f" ({path.name}:{line})" if line > 1 else ""


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {shortened(error, _LONGEST)}"


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names))
