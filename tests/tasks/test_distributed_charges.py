"""Distributed charges: losses of single molecules, every trainer, exact continuation, packages, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT, SHARED_DATA
from molecules import random_rotation, written
from per_example import relative_error
from runs import history, largest_difference, weights

import mltrain
from mltrain.cli.main import main
from mltrain.config.load import check_config
from mltrain.core.errors import ConfigError, DataError
from mltrain.core.files import read_json
from mltrain.privacy.clipping import ClippedGradients
from mltrain.tasks import distributed_charges_report
from mltrain.tasks.base import task_config_class
from mltrain.tasks.distributed_charges import DistributedCharges
from mltrain.workflows import session
from mltrain.workflows.train import train

BOHR, HARTREE = 0.529177210903, 627.5094740631


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """40 geometries of four molecules: 20 to train on, in 3 windows an epoch, the last one ragged."""
    project = tmp_path_factory.mktemp("charges")
    written(project / "data", geometries=10)
    return {
        "task": "distributed_charges",
        "data": {
            "data_dir": str(project / "data"),
            "file": "molecules.npz",
            "folds": 3,
            "test_ratio": 0.25,
            "num_workers": 0,
        },
        "model": {"n_dcm": 2, "features": 8, "iterations": 1, "radial_basis": 6},
        "training": {"num_epochs": 2, "batch_size": 8},
        "optimizer": {"lr": 0.01},
        "checkpointing": {"every_n_steps": 2},
        "tracking": {"log_every_n_steps": 1, "mlflow": {"enabled": False}, "system_metrics": {"enabled": False}},
        "reproducibility": {"num_threads": 1},
        "run": {"dir": str(project / "runs")},
    }


@pytest.fixture(scope="module")
def straight(config: dict[str, Any]) -> Any:
    """A run that nothing disturbed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "draw_curves", lambda *_, **__: None)
        return train(config, {}, verbose=False)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes most of a short run."""
    monkeypatch.setattr(session, "draw_curves", lambda *_, **__: None)
    monkeypatch.setattr(distributed_charges_report, "draw_potential", lambda *_: None)


def task_of(config: dict[str, Any], overrides: dict[str, Any] | None = None) -> DistributedCharges:
    return DistributedCharges(check_config(config, overrides or {}, task_config_class).config)


def batch_of(task: DistributedCharges, split: str, count: int) -> dict[str, torch.Tensor]:
    dataset = task.datasets()[split]
    return task.collate([dataset.load(index, None) for index in range(count)])


def in_order_of_the_file(task: DistributedCharges) -> list[Any]:
    """Return the samples of all splits: the order of a split is that of contents, which a move changes."""
    found = {
        int(index): dataset.load(number, None)
        for split, dataset in task.datasets().items()
        for number, index in enumerate(task._splits.splits[split])
    }
    return [found[index] for index in sorted(found)]


# ---- losses ----------------------------------------------------------------------------------------------------------


def test_losses_are_weighted_mean_squares_of_each_molecule_by_hand(config: dict[str, Any]) -> None:
    task = task_of(config, {"model.esp_w": 0.3, "model.charge_w": 20.0})
    batch, model = batch_of(task, "train", 7), task.build_model()
    losses = task.losses(model, batch)
    charges, places = (
        tensor.detach().numpy() for tensor in model(batch["elements"], batch["positions"], batch["total_charge"])
    )
    for index in range(7):
        atoms = np.flatnonzero(batch["elements"][index].numpy())
        errors = []
        for point, reference in zip(batch["points"][index].numpy(), batch["potential"][index].numpy(), strict=True):
            distances = np.linalg.norm(point - places[index, atoms], axis=-1) / BOHR
            errors.append(HARTREE * np.sum(charges[index, atoms] / distances) - reference)
        mono = charges[index, atoms].sum(axis=1) - batch["monopoles"][index, atoms].numpy()
        expected = 0.3 * np.mean(np.square(errors)) + 20.0 * np.mean(np.square(mono))
        assert float(losses.values.detach()[index]) == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(losses.parts["esp_loss"] + losses.parts["mono_loss"], losses.values)


def test_a_loss_depends_on_its_molecule_alone_and_not_on_padding(config: dict[str, Any]) -> None:
    task = task_of(config)
    model, items = task.build_model(), [task.datasets()["train"].load(index, None) for index in range(6)]
    together = task.losses(model, task.collate(items)).values
    for index, item in enumerate(items):
        alone = {name: torch.from_numpy(np.stack([array])) for name, array in item.items()}
        count = int((alone["elements"] > 0).sum())
        alone |= {name: alone[name][:, :count] for name in ("elements", "positions", "monopoles")}
        torch.testing.assert_close(task.losses(model, alone).values[0], together[index], rtol=1e-5, atol=1e-5)


def test_a_turned_and_moved_file_has_the_same_losses(config: dict[str, Any], tmp_path: Path) -> None:
    """In single precision, from the file on: what a frame changes is rounding, a few times 1e-6 of the potential."""
    arrays = dict(np.load(Path(config["data"]["data_dir"]) / "molecules.npz"))
    rotation, atoms = random_rotation(1).numpy(), arrays["Z"] > 0
    arrays["R"] = np.where(atoms[..., None], arrays["R"] @ rotation.T + 5.0, 0.0).astype(np.float32)
    arrays["vdw_surface"] = (arrays["vdw_surface"] @ rotation.T + 5.0).astype(np.float32)
    moved = task_of(config, {"data.data_dir": str(written(tmp_path, **arrays).parent)})
    task = task_of(config)
    model = task.build_model()
    first, second = (each.collate(in_order_of_the_file(each)) for each in (task, moved))
    potentials = [task.losses(model, batch).outputs["potential"] for batch in (first, second)]
    torch.testing.assert_close(potentials[0], potentials[1], rtol=0, atol=1e-3)


@pytest.mark.parametrize("mode", ["hooks", "ghost"])
def test_clipped_gradients_are_those_of_single_molecules(config: dict[str, Any], mode: Any) -> None:
    task = task_of(config, {"model.iterations": 2})
    torch.manual_seed(0)
    model, batch = task.build_model(), batch_of(task, "train", 6)
    parameters, bound = list(model.parameters()), 1.0
    expected = [torch.zeros_like(parameter) for parameter in parameters]
    for index in range(6):
        alone = {name: tensor[index : index + 1] for name, tensor in batch.items()}
        gradients = torch.autograd.grad(task.losses(model, alone).values.sum(), parameters, allow_unused=True)
        found = [gradient for gradient in gradients if gradient is not None]
        norm = torch.stack([gradient.double().norm() for gradient in found]).norm()
        for total, gradient in zip(expected, gradients, strict=True):
            if gradient is not None:
                total += gradient * (bound / norm).clamp(max=1.0).float()
    clipped = ClippedGradients(model, bound, mode)
    clipped.add(task.losses(model, batch).values)
    assert relative_error(clipped.sums, expected) < 1e-5


# ---- runs ------------------------------------------------------------------------------------------------------------


def test_a_run_leaves_metrics_and_reports(straight: Any) -> None:
    assert straight.summary["status"] == "completed"
    names = {"loss", "esp_loss", "mono_loss", "mono_mae", "mono_rmse", "mono_mean", "mono_std", "esp_rmse"}
    assert names | {"esp_rmse_relative"} == {*straight.summary["test"]}
    assert straight.summary["best"]["metric"] == "val/esp_rmse"
    report = (straight.folder / "reports" / "charges_test.txt").read_text()
    row = next(line.split() for line in report.splitlines() if line.startswith("all"))
    assert int(row[1]) == 10
    assert float(row[-1]) == pytest.approx(straight.summary["test"]["esp_rmse"], abs=1e-3)
    assert float(row[3]) > float(row[4]) > 0
    assert (straight.folder / "reports" / "potential_test.png").stat().st_size > 5000
    facts = read_json(straight.folder / "metadata.json")["data"]
    assert facts["counts"]["train"] == dict.fromkeys(["ammonia", "formaldehyde", "hydrogen_cyanide", "water"], 5)


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("step", [3, 4, pytest.param(1, marks=pytest.mark.slow)])
def test_stopped_and_resumed_equals_straight(straight: Any, config: dict[str, Any], step: int) -> None:
    stopped = train(config, {"callbacks": {"stop_at": {"step": step}}}, verbose=False)
    assert stopped.summary["status"] == "interrupted"
    resumed = train(None, {"callbacks": {}}, resume=stopped.folder, verbose=False)
    assert resumed.summary["model_digest"] == straight.summary["model_digest"]
    assert history(resumed.folder) == history(straight.folder)


@pytest.mark.usefixtures("no_pictures")
def test_every_cut_of_a_window_gives_the_same_weights(config: dict[str, Any]) -> None:
    settings = {"optimizer.name": "sgd", "optimizer.lr": 1e-5, "scheduler.name": "none"}
    settings |= {"training.num_epochs": 1, "training.max_grad_norm": None}
    found = []
    for batch_size, accumulation in ((8, 1), (4, 2), (1, 8)):
        cut = {"training.batch_size": batch_size, "training.gradient_accumulation_steps": accumulation}
        found.append(weights(train(config, settings | cut, verbose=False).folder))
    assert largest_difference(found[0], found[1]) < 2e-6
    assert largest_difference(found[0], found[2]) < 2e-6
    start = weights(train(config, settings | {"optimizer.lr": 1e-12}, verbose=False).folder)
    assert largest_difference(found[0], start) > 1e-3


@pytest.mark.usefixtures("no_pictures")
def test_accelerate_gives_the_same_bits(straight: Any, config: dict[str, Any]) -> None:
    other = train(config, {"training.trainer_type": "accelerate"}, verbose=False)
    assert other.summary["model_digest"] == straight.summary["model_digest"]


@pytest.mark.usefixtures("no_pictures")
def test_bfloat16_trains(straight: Any, config: dict[str, Any]) -> None:
    mixed = train(config, {"training.trainer_type": "mixed_precision"}, verbose=False)
    assert mixed.summary["status"] == "completed"
    assert 0 < largest_difference(weights(mixed.folder), weights(straight.folder)) < 0.1
    losses = [result.summary["val"]["loss"] for result in (mixed, straight)]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_reports", "no_pictures")
def test_private_training_works(config: dict[str, Any]) -> None:
    private = {
        "training.trainer_type": "dp",
        "training.dp": {"noise_multiplier": 1.0, "accountant": "rdp", "max_grad_norm": 1.0},
        "training.num_epochs": 1,
    }
    assert train(config, private, verbose=False).summary["status"] == "completed"


# ---- the package -----------------------------------------------------------------------------------------------------


def test_a_package_predicts_what_the_run_computes(straight: Any, config: dict[str, Any]) -> None:
    packed, task = mltrain.load_model(straight.folder), task_of(config)
    batch = batch_of(task, "test", 5)
    with torch.no_grad():
        outputs = task.losses(packed.module, batch).outputs
    data, indices = task._splits.molecules, task._splits.splits["test"][:5]
    given = [
        {"Z": data.elements[i, :count].tolist(), "R": data.positions[i, :count], "points": data.points[i]}
        for i, count in zip(indices, data.counts[indices], strict=True)
    ]
    for index, (row, expected) in enumerate(zip(packed.predict(given), task.predictions(outputs), strict=True)):
        count = int(data.counts[indices[index]])
        assert len(row["charges"]) == len(row["positions"]) == len(row["atoms"]) == 2 * count
        for name in ("charges", "positions", "monopoles", "dipole"):
            np.testing.assert_allclose(row[name], expected[name], atol=2e-5, err_msg=name)
        assert sum(row["charges"]) == pytest.approx(0.0, abs=1e-6)
        np.testing.assert_allclose(row["monopoles"], np.array(row["charges"]).reshape(count, 2).sum(axis=1), atol=1e-9)
        by_hand = np.array(row["charges"]) @ np.array(row["positions"]) / BOHR
        np.testing.assert_allclose(row["dipole"], by_hand, atol=1e-9)
        np.testing.assert_allclose(np.array(row["potential"]) * HARTREE, outputs["potential"][index], atol=1e-3)
    json.dumps(row)
    assert packed.predict(given[0]) == packed.predict(given[:1])


def test_ions_keep_their_charge_and_molecules_of_any_size_are_taken(straight: Any) -> None:
    predict = mltrain.load_model(straight.folder).predict
    chain = [[0.0, 0.0, 1.1 * number] for number in range(12)]
    ion, atom = predict([{"Z": [6] * 12, "R": chain, "charge": -1}, {"Z": [8], "R": [[3.0, 0.0, 0.0]]}])
    assert sum(ion["charges"]) == pytest.approx(-1.0, abs=1e-5)
    assert sum(atom["charges"]) == pytest.approx(0.0, abs=1e-6)
    # Of a single atom nothing points anywhere.
    np.testing.assert_allclose(atom["positions"], [[3.0, 0.0, 0.0]] * 2, atol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("water", "cannot predict from a value of type str"),
        (7, "cannot predict from a value of type int"),
        ([{"Z": [8]}], r"predict, molecule 0: is \['Z'\]\. Give dicts of Z"),
        ([{"Z": [8], "R": [[0, 0, 0]], "r": 1}], r"molecule 0: is \['R', 'Z', 'r'\]"),
        ([{"Z": [8], "R": [0, 0, 0]}], r"has Z of shape \(1,\) and R of shape \(3,\)"),
        ([{"Z": [8], "R": [[0, 0, "x"]]}], "holds no numbers"),
        ([{"Z": [8], "R": [[0, 0, float("nan")]]}], "has a number that is not finite"),
        ([{"Z": [8], "R": [[0, 0, 1e39]]}], "has a number that is not finite"),
        ([{"Z": [8], "R": np.zeros((1, 3)) + 1j}], r"holds no numbers \(they are complex\)"),
        ([{"Z": [8.5], "R": [[0, 0, 0]]}], r"has the element 8\.5, which"),
        ([{"Z": [8, 1], "R": [[0, 0, 0], [0, 0, 0]]}], r"has two atoms 0\.000 Angstrom apart"),
        ([{"Z": [8], "R": [[0, 0, 0]], "points": [1, 2, 3]}], r"has points of shape \(3,\)"),
        (
            [{"Z": [8], "R": [[0, 0, 0]], "points": [[2, 0, 0], [0, 0, 0]]}],
            "molecule 0: point 1 lies on a charge, where the potential has no value",
        ),
        ([{"Z": [9], "R": [[0, 0, 0]]}], r"has the element 9, .* It knows H, C, N, O\."),
    ],
)
def test_what_cannot_be_predicted_from_is_told(straight: Any, given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        mltrain.load_model(straight.folder).predict(given)


# ---- what is refused before any compute ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.esp_w": 0.0, "model.charge_w": 0.0}, "model: esp_w and charge_w are both 0"),
        ({"model.max_displacement": 2.0}, r"model\.max_displacement: is 2 Angstrom, and points .* as close as 1\.6\d+"),
        ({"data.fold": 3}, r"data\.fold: is 3, but data\.folds is 3"),
        ({"data.splits_dir": "splits"}, r"data\.splits_dir"),
        ({"model.options": {"heads": 2}}, r"model\.options: painn cannot be built"),
        ({"model.architecture": "schnet"}, r"model\.architecture: unknown charge model 'schnet'"),
    ],
)
def test_wrong_settings_are_refused(config: dict[str, Any], overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        task_of(config, overrides).build_model()


def test_a_run_says_what_is_wrong_with_its_data_in_one_line(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path / "bad", geometries=10, N=np.full(40, 5))
    Path("c.yaml").write_text(json.dumps(config))
    assert main(["train", "--config", "c.yaml", f"data.data_dir={tmp_path / 'bad'}"]) == 2
    error = capsys.readouterr().err
    assert "molecules.npz, N[0]: is 5, not 1 to 4. Correct it." in error
    assert error.count("\n") == 1


# ---- figures ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_simulated_molecules_from_the_command_line(tmp_path: Path) -> None:
    """Two charges an atom hold the lone pairs of the simulation, which one at the nucleus cannot."""
    assert main(["make-data", "molecules"]) == 0
    arguments = ["--config", str(ROOT / "configs" / "charges_molecules.yaml"), "--run_name", "it"]
    assert main(["train", *arguments, "tracking.mlflow.enabled=false", "reproducibility.num_threads=1"]) == 0
    monopoles, fitted, model = figures(Path("runs/it"))
    assert model < 0.5 * fitted < fitted < monopoles


@pytest.mark.slow
@pytest.mark.shared_data
def test_real_potentials_are_fitted_better_than_charges_at_the_nuclei_can(tmp_path: Path) -> None:
    """RHF/6-31G* potentials of held-out geometries: below Mulliken's monopoles, and below the floor of one charge."""
    file = SHARED_DATA / "esp_small.npz"
    if not file.is_file():
        pytest.skip(f"real potentials are not at {file}")
    arguments = ["--config", str(ROOT / "configs" / "esp_small.yaml"), "--run_name", "it", "--num_epochs", "30"]
    extra = [f"data.data_dir={SHARED_DATA}", "tracking.mlflow.enabled=false", "reproducibility.num_threads=1"]
    assert main(["train", *arguments, *extra]) == 0
    monopoles, fitted, model = figures(Path("runs/it"))
    assert model < 0.4 * monopoles
    assert model < 0.8 * fitted


def figures(folder: Path) -> tuple[float, float, float]:
    """Return the errors of monopoles, of fitted charges and of the model on the test split."""
    lines = (folder / "reports" / "charges_test.txt").read_text().splitlines()
    monopoles, fitted, model = next(line.split()[-3:] for line in lines if line.startswith("all"))
    return float(monopoles), float(fitted), float(model)
