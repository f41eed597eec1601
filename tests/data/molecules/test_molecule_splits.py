"""Geometries are divided by content and seed, molecule by molecule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from molecules import written

from mltrain.core.errors import ConfigError, DataError
from mltrain.data.examples.molecules import simulate
from mltrain.data.molecules.molecule_dataset import MoleculeDataset
from mltrain.data.molecules.molecule_file import read_molecules
from mltrain.data.molecules.molecule_splits import MoleculeSplits, divide_molecules


def divided(path: Path, **wishes: Any) -> MoleculeSplits:
    return divide_molecules(read_molecules(path), **{"fold": 0, "folds": 3, "test_ratio": 0.25, "seed": 1, **wishes})


def contents(splits: MoleculeSplits) -> dict[str, list[str]]:
    return {split: [splits.digests[index] for index in part] for split, part in splits.splits.items()}


def test_every_molecule_is_in_each_split_in_its_share(tmp_path: Path) -> None:
    splits = divided(written(tmp_path))
    assert splits.facts()["counts"] == {
        split: dict.fromkeys(["ammonia", "formaldehyde", "hydrogen_cyanide", "water"], count)
        for split, count in {"train": 8, "val": 4, "test": 4}.items()
    }
    assert sorted(np.concatenate([*splits.splits.values()])) == list(range(64))
    assert splits.elements == [1, 6, 7, 8]


def test_the_folds_have_one_test_split_and_cover_the_rest_once(tmp_path: Path) -> None:
    path = written(tmp_path)
    parts = [contents(divided(path, fold=fold)) for fold in range(3)]
    assert parts[0]["test"] == parts[1]["test"] == parts[2]["test"]
    once = [*parts[0]["test"], *(digest for part in parts for digest in part["val"])]
    assert sorted(once) == sorted(divided(path).digests)
    assert contents(divided(path, seed=2))["test"] != parts[0]["test"]


def test_the_order_of_the_file_does_not_matter(tmp_path: Path) -> None:
    arrays = simulate(16, seed=3, points=24)
    order = np.random.default_rng(0).permutation(64)
    other = written(tmp_path / "other", **{name: array[order] for name, array in arrays.items()})
    one, two = divided(written(tmp_path)), divided(other)
    assert contents(one) == contents(two)
    assert one.facts() == two.facts()
    names = sorted(set(one.molecules.names))
    assert len({MoleculeDataset(splits, "val", names).sample_id(3) for splits in (one, two)}) == 1


def test_equal_geometries_stay_together(tmp_path: Path) -> None:
    arrays = {name: np.concatenate([array, array]) for name, array in simulate(16, seed=3, points=24).items()}
    arrays["esp"][64:] += 1e-3  # another potential of the same geometry
    splits = divided(written(tmp_path, **arrays))
    geometries = splits.molecules.geometry_digests()
    found = [{geometries[index] for index in part} for part in splits.splits.values()]
    assert sum(map(len, found)) == len(set(geometries)) == 64


def test_whole_molecules_are_held_out(tmp_path: Path) -> None:
    path = written(tmp_path)
    splits = divided(path, hold_out=["water"])
    counts = splits.facts()["counts"]
    assert counts["test"] == {"water": 16}
    assert set(counts["train"]) == set(counts["val"]) == {"ammonia", "formaldehyde", "hydrogen_cyanide"}
    with pytest.raises(ConfigError, match=r"hold_out_molecules: there is no molecule 'wate'\. Did you mean water"):
        divided(path, hold_out=["wate"])
    with pytest.raises(ConfigError, match="holds out every molecule"):
        divided(path, hold_out=["water", "ammonia", "formaldehyde", "hydrogen_cyanide"])
    with pytest.raises(DataError, match=r"(water|formaldehyde) of test has an element that training lacks: O"):
        divided(path, hold_out=["water", "formaldehyde"])


def test_too_few_geometries_and_folds_that_are_not_there_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    with pytest.raises(DataError, match="ammonia has 16 different geometries: too few for 15 folds beside a test"):
        divided(path, folds=15)
    with pytest.raises(ConfigError, match=r"data\.fold: is 3, but data\.folds is 3\. Name 0 to 2"):
        divided(path, fold=3)


def test_one_geometry_under_two_names_is_refused(tmp_path: Path) -> None:
    names = simulate(16, seed=3, points=24)["name"].tolist()
    arrays = {name: np.concatenate([array, array[:1]]) for name, array in simulate(16, seed=3, points=24).items()}
    arrays["name"] = np.array([*names, "steam"])
    with pytest.raises(DataError, match=r"same content under two classes .*molecules\.npz\[0\] = molecules\.npz\[64\]"):
        divided(written(tmp_path, **arrays))


def test_a_sample_is_in_the_units_of_the_fit(tmp_path: Path) -> None:
    splits = divided(written(tmp_path))
    names = ["ammonia", "formaldehyde", "hydrogen_cyanide", "water"]
    dataset, index = MoleculeDataset(splits, "val", names), int(splits.splits["val"][0])
    sample, molecules = dataset.load(0, None), splits.molecules
    np.testing.assert_allclose(sample["potential"], molecules.potential[index] * 627.5094740631, rtol=1e-6)
    np.testing.assert_allclose(sample["points"] + sample["centre"], molecules.points[index], atol=1e-6)
    elements = [splits.elements[place - 1] for place in sample["elements"] if place]
    assert elements == molecules.elements[index][molecules.elements[index] > 0].tolist()
    assert names[sample["molecule"]] == molecules.names[index]
    assert {array.dtype.name for array in sample.values()} == {"int64", "float32", "bool"}
    assert dataset.sample_id(0) == f"{molecules.names[index]}/{molecules.content_digests()[index]}"


def test_the_files_name_geometries_by_their_number(tmp_path: Path) -> None:
    splits = divided(written(tmp_path))
    files = list(splits.files())
    assert len(files) == len({file.path for file in files}) == 64
    assert all(splits.digests[int(file.path.split("[")[1][:-1])] == file.digest for file in files)
