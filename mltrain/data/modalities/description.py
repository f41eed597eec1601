"""`dataset.yaml`: what a folder of arrays says of itself."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError

from mltrain.config.explain import explain
from mltrain.config.places import Places
from mltrain.config.section import Section
from mltrain.config.yaml_file import read_yaml
from mltrain.core.errors import DataError

__all__ = ["DESCRIPTION", "Description", "read_description"]

DESCRIPTION = "dataset.yaml"
_FIX = "See the page of the multimodal autoencoder for its keys."


class Description(Section):
    """What a data folder holds. Each name stands for the file `<name>.npy`."""

    tr: float = Field(gt=0.0, description="Seconds from one sample to the next (repetition time).")
    delay: int = Field(ge=0, description="Samples from a stimulus to the response that it is compared with.")
    modalities: list[str] = Field(min_length=1, description="Arrays of stimuli.")
    subjects: list[str] = Field(min_length=1, description="Arrays of responses, one a subject.")
    aligned_voxels: bool = Field(False, description="The same voxel number is the same place in all subjects.")


def read_description(folder: Path) -> Description:
    """Read the description of a data folder.

    Raises:
        DataError: there is no such folder or file, or it says something else than it should.
    """
    file = folder / DESCRIPTION
    if not folder.is_dir():
        raise DataError("there is no such folder", where=str(folder), fix="Set data.data_dir to the data folder.")
    if not file.is_file():
        raise DataError(
            f"has no {DESCRIPTION}",
            where=str(folder),
            fix="Write one with tr, delay, modalities and subjects, or make a folder with: mltrain make-data fmri",
        )
    values, lines = read_yaml(file, flag="data.data_dir")
    if unknown := sorted(values.keys() - Description.model_fields.keys()):
        raise DataError(
            f"unknown key {unknown[0]!r}", where=str(file), fix=f"Known: {', '.join(Description.model_fields)}."
        )
    try:
        return Description.model_validate(values)
    except ValidationError as error:
        told = explain(error, Description, Places(file, lines, {}, ""))
        raise DataError("not valid", problems=list(told.values()), where=str(file), fix=_FIX) from None
