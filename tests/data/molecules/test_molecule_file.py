"""An archive of molecules is read whole, and everything wrong with it is told in one line before any compute."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from molecules import written

from mltrain.core.errors import DataError
from mltrain.data.examples.molecules import simulate
from mltrain.data.molecules.elements import formula
from mltrain.data.molecules.molecule_checks import check_molecules, nearest_points
from mltrain.data.molecules.molecule_dataset import centred
from mltrain.data.molecules.molecule_file import read_molecules

Arrays = dict[str, Any]


def changed(name: str, index: Any, value: Any) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        arrays[name][index] = value

    return change


def scaled(factor: float, *names: str) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        for name in names:
            arrays[name] = arrays[name] * factor

    return change


def replaced(name: str, value: Any) -> Callable[[Arrays], None]:
    return lambda arrays: arrays.update({name: value})


# Of simulated molecules: 2 geometries each of ammonia (0, 1; 4 atoms), formaldehyde, hydrogen cyanide and water.
WRONG: list[tuple[str, Callable[[Arrays], None], str]] = [
    ("missing", lambda arrays: arrays.pop("n_grid"), r"has no array n_grid\. The page distributed-charges says"),
    ("misnamed", lambda arrays: arrays.update(esp_=arrays.pop("esp")), r"has no array esp \(but esp_\)"),
    ("flat", replaced("Z", np.ones(8, int)), r"Z: has the shape \(8,\), not 2 dimensions"),
    ("other shape", lambda arrays: arrays.update(R=arrays["R"][:, :3]), r"R: has the shape \(8, 3, 3\), .*4, 3\)"),
    ("texts", lambda arrays: arrays.update(mono=arrays["mono"].astype(str)), r"mono: holds <U\d+, no numbers"),
    ("real elements", lambda arrays: arrays.update(Z=arrays["Z"] * 1.0), r"Z: holds float64, no whole numbers"),
    ("numbered names", replaced("name", np.arange(8)), r"name: holds int64, no texts"),
    ("empty", lambda arrays: arrays.update({key: value[:0] for key, value in arrays.items()}), "holds no molecule"),
    ("no atoms", changed("N", 2, 0), r"N\[2\]: is 0, not 1 to 4"),
    ("many points", changed("n_grid", 3, 99), r"n_grid\[3\]: is 99, not 1 to 24"),
    ("NaN", changed("esp", (5, 7), np.nan), r"esp\[5, 7\]: is nan\. Give a number, or leave the geometry out"),
    ("beyond float32", replaced("Q", np.full(8, 1e39)), r"Q\[0\]: is 1e\+39, more than float32 holds"),
    ("infinite", changed("R", (1, 2, 0), np.inf), r"R\[1, 2, 0\]: is inf"),
    ("unknown element", changed("Z", (0, 1), 79), r"Z\[0, 1\]: is 79, no atomic number .* Known are H, He"),
    ("hole", changed("Z", (0, 1), 0), r"Z\[0, 1\]: is 0, but N says 4 atoms"),
    ("atom behind the last", changed("Z", (6, 3), 1), r"Z\[6, 3\]: is not 0, but N says 3 atoms"),
    ("position behind the last", changed("R", (6, 3, 1), 1.0), r"R\[6, 3\]: is not 0, but N says 3 atoms"),
    ("monopole behind the last", changed("mono", (6, 3), 0.1), r"mono\[6, 3\]: is not 0, but N says 3 atoms"),
    ("not neutral", changed("mono", (4, 0), 2.0), r"mono\[4\]: adds up to .* e, but the total charge is 0"),
    ("positions in Bohr", scaled(1.8897, "R", "vdw_surface"), r"R: atoms lie 1\.\d+ times as far apart as bonds"),
    ("positions in nm", scaled(0.1, "R", "vdw_surface"), r"R\[0, 0\]: is 0\.\d+ Angstrom from atom \d, too close"),
    ("inside", changed("vdw_surface", (2, 9), 0.0), r"vdw_surface\[2, 9\]: lies inside an atom, at 0\.\d+ of its van"),
    ("potential in kcal/mol/e", scaled(627.5, "esp"), r"esp\[0, \d+\]: is .*, too much for Hartree/e"),
    ("no potential", scaled(0.0, "esp"), r"esp: is 0 Hartree/e at most"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, change: Callable[[Arrays], Any], message: str) -> None:
    arrays = simulate(2, seed=1, points=24)
    change(arrays)
    path = tmp_path / "wrong.npz"
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=message) as caught:
        check_molecules(read_molecules(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_archives_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.npz: there is no such file"):
        read_molecules(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("R, Z")
    with pytest.raises(DataError, match=r"text\.npz: cannot be read as a NumPy archive \(it is no \.npz file\)"):
        read_molecules(tmp_path / "text.npz")
    (tmp_path / "empty.npz").write_bytes(b"")
    with pytest.raises(DataError, match=r"empty\.npz: cannot be read as a NumPy archive \(the file is empty\)"):
        read_molecules(tmp_path / "empty.npz")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(DataError, match=r"cannot be read .*no archive"):
        read_molecules(tmp_path / "one.npy")
    whole = written(tmp_path).read_bytes()
    (tmp_path / "torn.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"torn\.npz: cannot be read"):
        read_molecules(tmp_path / "torn.npz")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"R, Z", r"\(Z is no array\)"), (b"", r"\(Z is no array\)"), (b"\x93NUMPY", "cannot be read")],
)
def test_members_that_are_no_arrays_are_told(tmp_path: Path, content: bytes, message: str) -> None:
    path = written(tmp_path, Z=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("Z.npy", content)
    with pytest.raises(DataError, match=message):
        read_molecules(path)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    path = written(tmp_path, name=np.array([{"a": 1}] * 64, dtype=object))
    with pytest.raises(DataError, match="Object arrays cannot be loaded"):
        read_molecules(path)


def test_names_and_charges_may_be_missing_and_ions_have_theirs(tmp_path: Path) -> None:
    molecules = read_molecules(written(tmp_path, name=None))
    check_molecules(molecules)
    assert sorted(set(molecules.names)) == ["CH2O", "CHN", "H2O", "H3N"]
    arrays = simulate(16, seed=3, points=24)
    arrays["mono"][:, 0] += 1.0
    with pytest.raises(DataError, match=r"mono\[0\]: adds up to 1\.000 e, .* ions as an array Q"):
        check_molecules(read_molecules(written(tmp_path, mono=arrays["mono"])))
    check_molecules(read_molecules(written(tmp_path, mono=arrays["mono"], Q=np.ones(64))))


def test_formulas_are_hills() -> None:
    assert formula([1, 1, 8]) == "H2O"
    assert formula([8, 6, 1, 1, 1, 1]) == "CH4O"
    assert formula([17, 6, 35]) == "CBrCl"


def test_points_that_are_padding_are_not_looked_at(tmp_path: Path) -> None:
    arrays = simulate(16, seed=3, points=24)
    arrays["n_grid"][:] = 20
    arrays["vdw_surface"][:, 20:], arrays["esp"][:, 20:] = 0.0, 99.0
    molecules = read_molecules(written(tmp_path, **arrays))
    check_molecules(molecules)
    nearest = nearest_points(molecules, in_radii=True)
    assert np.isinf(nearest[:, 20:]).all()
    np.testing.assert_allclose(nearest[:, :20].min(axis=1), 1.4, atol=2e-2)


def test_the_digests_are_of_the_content_without_padding(tmp_path: Path) -> None:
    arrays = simulate(16, seed=3, points=24)
    wide = {name: np.pad(arrays[name], [(0, 0), (0, 3)]) for name in ("Z", "mono")}
    wide["R"] = np.pad(arrays["R"], [(0, 0), (0, 3), (0, 0)])
    molecules, wider = read_molecules(written(tmp_path)), read_molecules(written(tmp_path / "wide", **wide))
    assert wider.elements.shape == (64, 7)
    assert molecules.content_digests() == wider.content_digests()
    assert molecules.geometry_digests() == wider.geometry_digests()
    arrays["esp"][5, 3] += 1e-3
    other = read_molecules(written(tmp_path / "other", **arrays))
    assert [one != two for one, two in zip(molecules.content_digests(), other.content_digests(), strict=True)] == [
        index == 5 for index in range(64)
    ]
    assert molecules.geometry_digests() == other.geometry_digests()


def test_far_from_the_origin_a_molecule_loses_nothing() -> None:
    draw = np.random.default_rng(0)
    positions, points = draw.normal(size=(5, 3)), draw.normal(size=(9, 3)) * 5
    here = centred(positions, points, 3, 7)
    there = centred(positions + 1e4, points + 1e4, 3, 7)
    for one, two in zip(here[:2], there[:2], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-6)
    np.testing.assert_allclose(here[0][:3].mean(axis=0), 0.0, atol=1e-7)
    assert not here[0][3:].any()
    assert not here[1][7:].any()
