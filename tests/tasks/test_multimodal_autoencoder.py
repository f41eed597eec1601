"""Stimuli to voxels and back as a task: losses, runs under every trainer, packages, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from recordings import recordings_config, write_recordings
from runs import history, largest_difference, weights

import mltrain
from mltrain.cli.main import main
from mltrain.config.load import check_config, load_config
from mltrain.core.errors import ConfigError, DataError, MltrainError
from mltrain.tasks.base import task_config_class
from mltrain.tasks.multimodal_autoencoder import MultimodalTask

SUBJECTS = {"data.split_by": "subject", "model.readout": "shared"}


@pytest.fixture(scope="module", autouse=True)
def _no_pictures() -> Iterator[None]:
    """Leave out what takes most of a short run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mltrain.workflows.session.draw_curves", lambda *_, **__: None)
        patch.setattr("mltrain.tasks.multimodal_report.draw_voxel_correlation", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two subjects of different voxels, and five of aligned ones."""
    folder = tmp_path_factory.mktemp("recordings")
    write_recordings(folder / "fmri")
    write_recordings(folder / "aligned", voxels=(6, 6, 6, 6, 6))
    return folder


@pytest.fixture(scope="module")
def config(place: Path) -> dict[str, Any]:
    return recordings_config(place / "fmri", place / "runs")


@pytest.fixture(scope="module")
def straight(config: dict[str, Any]) -> Any:
    """A run that nothing disturbed."""
    return mltrain.train(config, {"run.name": "straight", "checkpointing.every_n_steps": 3})


def task_of(config: dict[str, Any], **overrides: Any) -> MultimodalTask:
    return MultimodalTask(check_config(config, overrides, task_config_class).config)


def batch_of(task: MultimodalTask, split: str, count: int) -> dict[str, torch.Tensor]:
    dataset = task.datasets()[split]
    return task.collate([dataset.load(index, None) for index in range(count)])


@pytest.mark.parametrize("loss", ["mse", "mae", "correlation"])
def test_the_loss_is_the_weighted_sum_of_its_parts(config: dict[str, Any], loss: str) -> None:
    settings = {"model.fmri_loss": loss, "model.fmri_weight": 3.0, "model.reconstruction_weights": {"audio": 0.25}}
    task = task_of(config, **settings)
    model, batch = task.build_model(), batch_of(task, "train", 5)
    losses = task.losses(model, batch)
    parts = losses.parts
    assert list(parts) == ["fmri", "reconstruction_video", "reconstruction_audio", "reconstruction_text"]
    assert ("loss", *parts, *task.metrics().names) == task.metric_names()
    expected = (
        3 * parts["fmri"]
        + parts["reconstruction_video"]
        + 0.25 * parts["reconstruction_audio"]
        + parts["reconstruction_text"]
    )
    torch.testing.assert_close(losses.values, expected)
    for index in range(5):
        alone = task.losses(model, {name: values[index : index + 1] for name, values in batch.items()})
        torch.testing.assert_close(alone.values, losses.values[index : index + 1])


def test_targets_are_standardized_by_the_training_split_alone(place: Path, config: dict[str, Any]) -> None:
    task = task_of(config)
    times = task.recordings.parts["train"].times + task.recordings.delay
    voxels = np.concatenate([np.load(place / "fmri" / f"subject_0{number}.npy")[times] for number in (1, 2)], axis=1)
    batch = batch_of(task, "test", 4)
    expected = (batch["fmri"].numpy() - voxels.mean(axis=0)) / voxels.std(axis=0)
    np.testing.assert_allclose(task.pipeline.standard_fmri(batch["fmri"]), expected, rtol=1e-4, atol=1e-5)


def test_a_shared_readout_is_compared_with_each_subject(place: Path) -> None:
    task = task_of(recordings_config(place / "aligned", place / "runs"), **SUBJECTS)
    model = task.build_model()
    assert model(task.pipeline.standard_stimuli(batch_of(task, "train", 2)))["fmri"].shape == (2, 6)
    for split, part in task.recordings.parts.items():
        outputs = task.losses(model, batch_of(task, split, 3)).outputs
        assert outputs["fmri"].shape == outputs["fmri_target"].shape == (3, 6 * len(part.subjects))
        assert torch.equal(outputs["fmri"][:, :6], outputs["fmri"][:, -6:])


def test_a_run_leaves_figures_of_each_subject(straight: Any) -> None:
    summary = straight.summary
    assert summary["status"] == "completed"
    names = {"voxel_correlation", "fmri_mse", "fmri_mae", "fmri_explained", "video_explained", "reconstruction_text"}
    for split in ("train", "val", "test"):
        assert names <= summary[split].keys()
        report = (straight.folder / "reports" / f"voxels_{split}.txt").read_text().splitlines()
        assert [line.split()[0] for line in report] == ["subject", "subject_01", "subject_02"]
        means = [float(line.split()[3]) for line in report[1:]]
        mean = (10 * means[0] + 7 * means[1]) / 17
        assert mean == pytest.approx(summary[split]["voxel_correlation"], abs=2e-3)
    assert summary["train"]["loss"] < history(straight.folder)[0].get("train/loss", float("inf"))


def test_logged_parts_are_means_over_all_examples(straight: Any) -> None:
    config = load_config(straight.folder / "config.yaml", {}, task_config_class).config
    task, packed = MultimodalTask(config), mltrain.load_model(straight.folder)
    for split, dataset in task.datasets().items():
        with torch.inference_mode():
            losses = task.losses(packed.module, batch_of(task, split, len(dataset)))
        metrics = task.metrics()
        metrics.update(losses.outputs, {})
        expected = {name: float(part.mean()) for name, part in losses.parts.items()} | metrics.compute()
        assert {name: straight.summary[split][name] for name in expected} == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("step", [4, pytest.param(7, marks=pytest.mark.slow)])
def test_stopped_and_resumed_equals_straight(straight: Any, config: dict[str, Any], step: int) -> None:
    stopped = mltrain.train(
        config,
        {"run.name": f"stop {step}", "callbacks": {"stop_at": {"step": step}}, "checkpointing.every_n_steps": 3},
    )
    assert stopped.summary["steps"] == step
    resumed = mltrain.train(None, {"callbacks": {}}, resume=stopped.folder)
    assert resumed.summary["status"] == "completed"
    assert resumed.summary["model_digest"] == straight.summary["model_digest"]
    assert history(resumed.folder) == history(straight.folder)


def test_a_run_goes_on_only_with_its_own_data(place: Path, config: dict[str, Any], tmp_path: Path) -> None:
    data = Path(shutil.copytree(place / "fmri", tmp_path / "fmri"))
    changed = {**config, "data": {**config["data"], "data_dir": str(data)}}
    stopped = mltrain.train(changed, {"run.name": "other data", "callbacks": {"stop_at": {"step": 2}}})
    values = np.load(data / "audio.npy")
    np.save(data / "audio.npy", values + np.float16(0.5))
    with pytest.raises(MltrainError, match=r"1 of all splits with other content: audio\.npy"):
        mltrain.train(None, {"callbacks": {}}, resume=stopped.folder)


def test_every_cut_of_a_window_gives_the_same_gradient(config: dict[str, Any]) -> None:
    settings = {
        "optimizer.name": "sgd",
        "optimizer.lr": 0.2,
        "scheduler.name": "none",
        "training.max_grad_norm": None,
        "checkpointing.selection": "last",
        "training.num_epochs": 1,
    }
    found = []
    for batch_size, accumulation in [(16, 1), (4, 4)]:
        cut = {"training.batch_size": batch_size, "training.gradient_accumulation_steps": accumulation}
        result = mltrain.train(config, {**settings, **cut, "run.name": f"cut {batch_size}"})
        found.append(weights(result.folder))
    assert largest_difference(*found) < 2e-6


@pytest.mark.parametrize(
    "overrides",
    [
        {"training.trainer_type": "accelerate"},
        pytest.param({"data.num_workers": 2}, marks=pytest.mark.slow),
        pytest.param({"training.eval_batch_size": 5}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_the_same_bits(straight: Any, config: dict[str, Any], overrides: dict[str, Any]) -> None:
    result = mltrain.train(config, {"run.name": f"same {overrides}", **overrides})
    assert result.summary["model_digest"] == straight.summary["model_digest"]


def test_mixed_precision_trains_to_about_the_same(straight: Any, config: dict[str, Any]) -> None:
    result = mltrain.train(config, {"run.name": "mixed", "training.trainer_type": "mixed_precision"})
    assert result.summary["test"]["loss"] == pytest.approx(straight.summary["test"]["loss"], rel=0.02)


@pytest.mark.usefixtures("quick_reports")
@pytest.mark.parametrize(
    ("mode", "loss", "standardize"),
    [("ghost", "correlation", True), pytest.param("hooks", "mse", False, marks=pytest.mark.slow)],
)
def test_private_training(config: dict[str, Any], mode: str, loss: str, standardize: bool) -> None:
    """What is standardized by the training split has to be accepted; what is taken as it is has not."""
    private = {"noise_multiplier": 0.5, "max_grad_norm": 1.0, "accountant": "rdp", "grad_sample_mode": mode}
    settings = {"training.trainer_type": "dp", "training.dp": private, "model.fmri_loss": loss}
    settings |= {"data.standardize": standardize, "training.num_epochs": 1}
    if standardize:
        with pytest.raises(ConfigError, match="the standardization would be computed from the training data"):
            mltrain.train(config, {"run.name": f"dp {mode}", **settings})
        private["accept_fitted_leak"] = True
    result = mltrain.train(config, {"run.name": f"dp {mode}", **settings})
    assert result.summary["status"] == "completed"
    assert result.summary["privacy"]["epsilon"] > 0
    assert np.isfinite(result.summary["test"]["loss"])


@pytest.mark.slow
@pytest.mark.parametrize("changes", [SUBJECTS, {"data.modalities": ["text"], "data.window": 1}], ids=str)
def test_other_data_trains(place: Path, changes: dict[str, Any]) -> None:
    config = recordings_config(place / "aligned", place / "runs")
    result = mltrain.train(config, {**changes, "run.name": f"other {sorted(changes)}"})
    assert result.summary["status"] == "completed"
    rows = mltrain.load_model(result.folder).predict(
        {name: np.load(place / "aligned" / f"{name}.npy")[:4] for name in changes.get("data.modalities", ALL)}
    )
    assert set(rows[0]["fmri"]) == (
        {"shared"} if changes is SUBJECTS else {f"subject_0{number}" for number in range(1, 6)}
    )


ALL = ("video", "audio", "text")


def spoiled(values: Any, value: float) -> Any:
    changed = values.copy()
    changed[7, 2] = value
    return changed


def test_a_package_predicts_what_evaluation_saw(place: Path, straight: Any, tmp_path: Path) -> None:
    package = Path(shutil.copytree(straight.folder / "model", tmp_path / "package"))
    packed = mltrain.load_model(package)
    task = MultimodalTask(load_config(straight.folder / "config.yaml", {}, task_config_class).config)
    stimuli = {name: np.load(place / "fmri" / f"{name}.npy") for name in ALL}
    rows = packed.predict(stimuli)
    assert [row["time"] for row in rows] == list(range(1, 240))
    assert rows[5]["response_time"] == rows[5]["time"] + task.recordings.delay
    dataset = task.datasets()["test"]
    with torch.inference_mode():
        outputs = task.losses(packed.module, batch_of(task, "test", len(dataset))).outputs
    for index, expected in enumerate(task.predictions(outputs)):
        row = rows[int(dataset.sample_id(index)) - 1]
        assert row["bottleneck"] == pytest.approx(expected["bottleneck"], abs=1e-4)
        assert row["fmri"].keys() == expected["fmri"].keys() == {"subject_01", "subject_02"}
        for subject, voxels in expected["fmri"].items():
            assert row["fmri"][subject] == pytest.approx(voxels, abs=1e-4)
    (one,) = packed.predict({name: values[6:8] for name, values in stimuli.items()})
    assert one["fmri"]["subject_02"] == pytest.approx(rows[6]["fmri"]["subject_02"], abs=1e-5)
    assert str(place) not in (package / "mltrain.json").read_text(), "a package does not name the machine"


def test_voxels_are_predicted_in_the_units_of_the_data(place: Path, config: dict[str, Any], tmp_path: Path) -> None:
    """The same responses on another scale: the same standardized targets, and predictions on that scale."""
    data = Path(shutil.copytree(place / "fmri", tmp_path / "fmri"))
    np.save(data / "subject_01.npy", 100 + 20 * np.load(data / "subject_01.npy"))
    first, second = task_of(config), task_of(config, **{"data.data_dir": str(data)})
    torch.manual_seed(3)
    model = first.build_model()
    batch, scaled = batch_of(first, "test", 3), batch_of(second, "test", 3)
    one, other = (task.losses(model, items) for task, items in ((first, batch), (second, scaled)))
    torch.testing.assert_close(one.values, other.values, rtol=1e-3, atol=1e-4)
    for a, b in zip(first.predictions(one.outputs), second.predictions(other.outputs), strict=True):
        assert b["fmri"]["subject_01"] == pytest.approx(
            [100 + 20 * value for value in a["fmri"]["subject_01"]], abs=0.1
        )
        assert b["fmri"]["subject_02"] == pytest.approx(a["fmri"]["subject_02"], abs=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stimuli: [1], r"predict: cannot predict from a list. Give a dict of arrays: video, audio, text"),
        (lambda stimuli: {"video": stimuli["video"]}, r"cannot predict from video"),
        (
            lambda stimuli: {**stimuli, "text": stimuli["text"][:, :3]},
            r"text has the shape \(240, 3\). Give \(time, 32\)",
        ),
        (lambda stimuli: {n: v[:1] for n, v in stimuli.items()}, r"shape \(1, 3, 24, 24\).* with at least 2 times"),
        (lambda stimuli: {**stimuli, "video": 3}, r"predict: video has the shape \(\)"),
        (lambda stimuli: {**stimuli, "text": [[1], [1, 2]]}, r"predict: text is no array"),
        (
            lambda stimuli: {**stimuli, "text": stimuli["text"] + 1j},
            r"predict: text holds complex\d+\. Give an array of real numbers",
        ),
        (lambda stimuli: {**stimuli, "text": spoiled(stimuli["text"], np.nan)}, "text has NaN or infinity at time 7"),
        (
            lambda stimuli: {**stimuli, "audio": spoiled(stimuli["audio"], np.inf)},
            "audio has NaN or infinity at time 7",
        ),
        (
            lambda stimuli: {**stimuli, "text": spoiled(stimuli["text"].astype(float), 1e39)},
            "predict: text has a number beyond those of float32 at time 7",
        ),
    ],
)
def test_wrong_inputs_are_told(place: Path, straight: Any, change: Any, message: str) -> None:
    stimuli = {name: np.load(place / "fmri" / f"{name}.npy") for name in ALL}
    with pytest.raises(DataError, match=message):
        mltrain.load_model(straight.folder).predict(change(stimuli))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"data.split_by": "subject"}, r"model\.readout: a readout of each subject's own says nothing of subjects"),
        ({"model.readout": "shared"}, r"dataset\.yaml: a shared readout needs voxels that are the same places"),
        (
            {"model.reconstruction_weights": {"vidio": 1.0}},
            r"weights\.vidio: there is no modality.*Did you mean 'video'",
        ),
        (
            {"model.fmri_weight": 0, "model.reconstruction_weights": dict.fromkeys(ALL, 0)},
            r"model\.fmri_weight: all weights of the loss are 0",
        ),
        ({"data.splits_dir": "splits"}, r"data\.splits_dir: has no effect here"),
        ({"data.gap": -1}, r"data\.gap: must be"),
        ({"data.gap": "auto", "data.delay": 240}, r"data\.delay: is 240, which leaves 0 of 240 samples"),
        ({"model.options": {"hiden": 3}}, r"model\.options\.hiden: has no effect here.* Set model\.hidden instead"),
        ({"model.options": {"bottleneck": 8}}, r"model\.options\.bottleneck: .* Set model\.bottleneck instead"),
        (
            {"model.options": {"zzz": 8}},
            r"model\.options\.zzz: has no effect here: the keys of this model .*Leave it out",
        ),
        ({"model.patch": 17}, r"model\.patch: is 17, but audio has pictures of 16 x 8\. Set it to at most 16"),
        (
            {"model.patch": 25, "data.modalities": ["video", "text"]},
            r"model\.patch: is 25, but video has pictures of 24 x 24\. Set it to at most 24",
        ),
        ({"model.fmri_loss": "mean"}, r"model\.fmri_loss: must be"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_is_told(config: dict[str, Any], overrides: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message) as caught:
        task_of(config, **overrides)
    assert "\n" not in str(caught.value)


def test_constant_voxels_are_told(
    place: Path, config: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = Path(shutil.copytree(place / "fmri", tmp_path / "fmri"))
    voxels = np.load(data / "subject_02.npy")
    voxels[:, 3] = 5
    np.save(data / "subject_02.npy", voxels)
    task = task_of(config, **{"data.data_dir": str(data)})
    assert task.pipeline.readouts["subject_02"].constant.tolist() == [3]
    assert "1 of 7 voxels of subject_02 do not vary in the training split, such as number 3" in caplog.text
    np.save(data / "subject_02.npy", np.ones_like(voxels))
    with pytest.raises(DataError, match="no voxel of subject_02 varies in the training split"):
        task_of(config, **{"data.data_dir": str(data)}).data_facts()


def test_it_trains_from_the_command_line(place: Path, config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    arguments = ["--num_epochs", "1", "--run_name", "it", f"run.dir={tmp_path}", "data.fold=2"]
    assert main(["train", "--config", str(tmp_path / "c.yaml"), *arguments]) == 0
    summary = json.loads((tmp_path / "it" / "summary.json").read_text())
    assert summary["status"] == "completed"


def test_a_missing_array_ends_the_command_with_one_line(
    place: Path, config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = Path(shutil.copytree(place / "fmri", tmp_path / "fmri"))
    (data / "audio.npy").unlink()
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    assert main(["train", "--config", str(tmp_path / "c.yaml"), f"data.data_dir={data}"]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].endswith("audio.npy: there is no such file. Put it there, or leave out its name.")
