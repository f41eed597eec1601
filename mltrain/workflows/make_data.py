"""Data sets that the project can write itself, to be tried without a download."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mltrain.core.errors import ConfigError
from mltrain.core.registry import nearest

__all__ = ["DATASETS", "DataMaker", "make_data", "next_command"]

_EXAMPLES = "mltrain.data.examples"


class DataMaker(NamedTuple):
    """Who writes a data set, and what to do with it.

    what: the data in a few words.
    writer: `module:function` below `mltrain.data.examples`; the function takes the output folder and returns what it
        has written, in words.
    next: the command to run next; `{output}` stands for the output folder.
    """

    what: str
    writer: str
    next: str


DATASETS: dict[str, DataMaker] = {
    "breast_cancer": DataMaker(
        "569 breast masses, a table of 30 measurements and the diagnosis",
        "sklearn_tables:write_breast_cancer",
        "ml-split --table {output}/breast_cancer.csv --label diagnosis --folds 5",
    ),
    "diabetes": DataMaker(
        "442 patients, a table of 10 measurements and the progression of the disease",
        "sklearn_tables:write_diabetes",
        "ml-split --table {output}/diabetes.csv --label progression --folds 5",
    ),
    "digits": DataMaker(
        "1,797 handwritten digits as PNG class folders",
        "digits:write",
        "ml-split --raw_data {output}/raw --folds 5",
    ),
    "fmri": DataMaker(
        "a simulated fMRI experiment: 6,000 samples of video, sound and text, and 360 voxels of three subjects",
        "fmri:write",
        "ml-train --config configs/fmri_simulated.yaml data.data_dir={output}",
    ),
    "messages": DataMaker(
        "3,000 simulated messages, ham and spam, with the evidence in the spam",
        "messages:write",
        "ml-split --table {output}/messages.csv --label label --content text --folds 5",
    ),
    "molecules": DataMaker(
        "320 perturbed small molecules with a simulated electrostatic potential",
        "molecules:write",
        "ml-train --config configs/charges_molecules.yaml data.data_dir={output}",
    ),
}


def make_data(name: str, output: str | Path) -> str:
    """Write a data set below `output` and return what was written, in words.

    Raises:
        ConfigError: unknown name.
        DataError: something else is there already.
    """
    module, _, function = _maker(name).writer.partition(":")
    write: Callable[[Path], str] = getattr(importlib.import_module(f"{_EXAMPLES}.{module}"), function)
    return write(Path(output))


def next_command(name: str, output: Path) -> str:
    """Return the command to run when a data set has been written."""
    return " ".join(shlex.quote(word.format(output=output)) for word in _maker(name).next.split())


def _maker(name: str) -> DataMaker:
    if name not in DATASETS:
        close = nearest(name, list(DATASETS))
        hint = f"Did you mean {close}?" if close else f"Known: {', '.join(DATASETS)}."
        raise ConfigError(f"unknown data set {name!r}", where="make-data", fix=hint)
    return DATASETS[name]
