"""Classes and values from the rows of a table, from the file to a model that predicts, and every refusal."""

from __future__ import annotations

import csv
import math
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
import torch.nn.functional as F
from runs import history, largest_difference, weights
from sklearn import metrics

import mltrain
from mltrain.config.load import check_config
from mltrain.core.errors import ConfigError, DataError
from mltrain.data.tables.table import read_table
from mltrain.tasks.base import task_config_class
from mltrain.tasks.tabular import Tabular

HEADER = ["size", "gap", "colour", "same", "note", "label", "value", "part"]
TRANSFORMER = {"model.architecture": "tabular_transformer", "model.options": {"width": 8, "depth": 1, "heads": 2}}
# One cut of a window draws other dropout masks than another.
CALM = {"model.options": {"hidden": [12], "dropout": 0.0}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 rows: numbers, some of them missing, a category with one that training lacks, a constant and a free text."""
    draw = random.Random(0)
    folder = tmp_path_factory.mktemp("rows")
    with (folder / "rows.csv").open("w", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(HEADER)
        for number in range(90):
            part = "train" if number < 54 else "val" if number < 72 else "test"
            size, gap, colour = draw.gauss(50, 10), draw.gauss(0, 1), draw.choice(["red", "green"])
            value = 1000 + 30 * (size - 50) * (1 if colour == "red" else -1) + 100 * gap + draw.gauss(0, 5)
            label = "large" if value > 1000 else "small"
            shown = "blue" if number == 80 else "" if number % 17 == 3 else colour
            gap_shown = "" if number % 10 == 4 else f"{gap:.6f}"
            lines.writerow([f"{size:.6f}", gap_shown, shown, 7, f"note {number}" * 2, label, f"{value:.4f}", part])
    return folder


def settings(data: Path, **changes: Any) -> dict[str, Any]:
    base = {
        "task": "tabular",
        "data": {
            "data_dir": str(data), "table": "rows.csv", "split_column": "part", "num_workers": 0, "target": "label",
            "ignore": ["note", "value"],
        },
        "model": {"architecture": "mlp"},
        "training": {"num_epochs": 3, "batch_size": 8},
        "optimizer": {"lr": 0.01},
        "scheduler": {"name": "none"},
        "tracking": {"log_every_n_steps": 2, "mlflow": {"enabled": False}, "system_metrics": {"enabled": False}},
        "reproducibility": {"num_threads": 1},
    }  # fmt: skip
    return {**base, **changes}


VALUE = {"data.target": "value", "data.ignore": ["note", "label"]}


def task_of(data: Path, overrides: dict[str, Any] | None = None) -> Tabular:
    return Tabular(check_config(settings(data), overrides or {}, task_config_class).config)


def train(data: Path, overrides: dict[str, Any] | None = None, **arguments: Any) -> Any:
    return mltrain.train(settings(data), overrides or {}, verbose=False, **arguments)


def batch_of(task: Tabular, split: str) -> dict[str, torch.Tensor]:
    dataset = task.datasets()[split]
    return task.collate([dataset.load(index, None) for index in range(len(dataset))])


def rows_of(data: Path, part: str) -> list[dict[str, str]]:
    with (data / "rows.csv").open(newline="") as stream:
        return [row for row in csv.DictReader(stream) if row["part"] == part]


@pytest.fixture(autouse=True)
def _few_pictures(quick_reports: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn for the runs that several tests share, which are made before."""
    for name in ("write_classification_report", "write_regression_report"):
        monkeypatch.setattr(f"mltrain.tasks.tabular_targets.{name}", lambda *_, **__: None)


@pytest.fixture(scope="module")
def classes(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A classifier."""
    return train(data, {"run.dir": str(tmp_path_factory.mktemp("classes")), "training.num_epochs": 10})


@pytest.fixture(scope="module")
def values(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A regression."""
    return train(data, {**VALUE, "run.dir": str(tmp_path_factory.mktemp("values")), "training.num_epochs": 10})


# ---- batches and losses ----------------------------------------------------------------------------------------------


def test_batches_hold_standard_numbers_and_numbered_categories(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    task = task_of(data)
    batch = batch_of(task, "train")
    assert batch["numbers"].shape == (54, 3)  # size, gap, and whether gap is missing
    missing = batch["numbers"][:, 2] == 1
    assert int(missing.sum()) == 5
    assert not batch["numbers"][missing, 1].any()
    torch.testing.assert_close(batch["numbers"][:, 0].mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(batch["numbers"][:, 0].std(correction=0), torch.tensor(1.0))
    assert sorted(set(batch["categories"][:, 0].tolist())) == [1, 2, 3]  # green, red, missing
    assert sorted(batch_of(task, "test")["categories"][:, 0].tolist())[0] == 0  # blue
    assert {name: tensor.dtype for name, tensor in batch.items()} == {
        "numbers": torch.float32, "categories": torch.int64, "labels": torch.int64
    }  # fmt: skip
    assert "1 column is left out, the same in all training rows: same." in caplog.text


def test_what_evaluation_holds_changes_nothing_of_what_is_fitted(data: Path, tmp_path: Path) -> None:
    text = (data / "rows.csv").read_text().splitlines()
    changed = [line if ",train" in line else "1e6,1e6,violet,7,note,small,5,test" for line in text[1:]]
    (tmp_path / "rows.csv").write_text("\n".join([text[0], *changed]))
    assert task_of(tmp_path).fitted() == task_of(data).fitted()


@pytest.mark.parametrize("architecture", [{}, TRANSFORMER], ids=["mlp", "transformer"])
def test_losses_are_those_of_torch_and_independent_of_each_other(data: Path, architecture: dict[str, Any]) -> None:
    for overrides in ({"training.label_smoothing": 0.1}, VALUE):
        task = task_of(data, {**overrides, **architecture})
        model, batch = task.build_model().eval(), batch_of(task, "val")
        losses = task.losses(model, batch)
        if overrides is VALUE:
            mean, std = (torch.tensor(float(task.package()["target"][name])) for name in ("mean", "std"))
            expected = ((losses.outputs - batch["targets"]) / std).square()
            torch.testing.assert_close(losses.outputs, model(batch["numbers"], batch["categories"])[:, 0] * std + mean)
        else:
            expected = F.cross_entropy(losses.outputs, batch["labels"], label_smoothing=0.1, reduction="none")
        torch.testing.assert_close(losses.values, expected, atol=1e-5, rtol=1e-4)
        alone = [task.losses(model, {name: part[k : k + 1] for name, part in batch.items()}).values for k in range(4)]
        torch.testing.assert_close(losses.values[:4], torch.cat(alone))


def test_targets_far_from_zero_keep_their_differences(data: Path, tmp_path: Path) -> None:
    with (tmp_path / "rows.csv").open("w", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(HEADER)
        for row in csv.DictReader((data / "rows.csv").open(newline="")):
            lines.writerow([row[name] if name != "value" else f"{1.7e9 + float(row[name]):.4f}" for name in HEADER])
    near, far = (
        batch_of(task_of(folder, VALUE), "val")["standard_targets"].sort().values for folder in (data, tmp_path)
    )
    torch.testing.assert_close(near, far, atol=1e-6, rtol=1e-5)


# ---- runs ------------------------------------------------------------------------------------------------------------


def test_a_classification_names_its_figures(classes: Any) -> None:
    assert set(classes.summary["test"]) == {"loss", "accuracy", "f1_macro", "precision", "recall", "f1", "auroc"}
    assert classes.summary["best"]["metric"] == "val/loss"
    assert classes.summary["train"]["accuracy"] > 0.9
    assert (classes.folder / "logs" / "classification_report_test.txt").is_file()
    assert (classes.folder / "reports" / "confusion_matrix_test.png").is_file()


def test_the_figures_of_a_regression_are_scikit_learns_in_the_unit_of_the_target(data: Path, values: Any) -> None:
    assert values.summary["train"]["r2"] > 0.8
    rows = rows_of(data, "test")
    predicted = [row["value"] for row in mltrain.load_model(values.folder).predict(rows)]
    true = [float(row["value"]) for row in rows]
    figures = values.summary["test"]
    assert figures["mae"] == pytest.approx(metrics.mean_absolute_error(true, predicted), rel=1e-5)
    assert figures["rmse"] == pytest.approx(metrics.root_mean_squared_error(true, predicted), rel=1e-5)
    assert figures["r2"] == pytest.approx(metrics.r2_score(true, predicted), rel=1e-5)
    report = (values.folder / "logs" / "regression_report_test.txt").read_text()
    assert "examples" in report
    assert f"{figures['mae']:.6g}" in report
    assert (values.folder / "reports" / "predicted_over_true_test.png").is_file()


@pytest.mark.parametrize("kind", ["classes", "values"])
def test_a_package_predicts_from_dicts_and_tables(
    data: Path, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    packed = mltrain.load_model(request.getfixturevalue(kind).folder)
    rows = rows_of(data, "test")
    (tmp_path / "test.csv").write_text("\n".join([",".join(HEADER), *(",".join(row.values()) for row in rows)]))
    expected = packed.predict(rows)
    assert packed.predict(tmp_path / "test.csv") == packed.predict(str(tmp_path / "test.csv")) == expected
    numbers = [
        {
            "size": np.float64(row["size"]),
            "gap": float(row["gap"]) if row["gap"] else math.nan,
            "colour": row["colour"] or None,
        }
        for row in rows
    ]
    assert packed.predict(numbers) == expected
    assert packed.predict(pandas.DataFrame(numbers)) == packed.predict(pandas.DataFrame(rows)) == expected
    (alone,) = packed.predict(numbers[0])
    assert next(iter(alone)) == ("class" if kind == "classes" else "value")
    name, tolerance = next(iter(expected[0].items()))[0], 1e-6
    if kind == "values":
        assert alone[name] == pytest.approx(expected[0][name], rel=tolerance)
    else:
        right = [row["class"] == known["label"] for row, known in zip(expected, rows, strict=True)]
        run = request.getfixturevalue(kind)
        assert sum(right) / len(right) == pytest.approx(run.summary["test"]["accuracy"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "cannot predict from a value of type int"),
        ([3], "cannot predict from a value of type list"),
        ({"size": 1, "colour": "red", "gpa": 1}, r"row 0 has no 'gap'\. Did you mean it by 'gpa'\?"),
        ({"size": "tall", "gap": 1, "colour": "red"}, "row 0: the column 'size' has 'tall', which is no finite number"),
        (
            {"size": 1e300, "gap": 1, "colour": "red"},
            r"row 0: the column 'size' has 1e\+300, which is no finite number",
        ),
        (
            [{"size": -1e39, "gap": 1, "colour": "red"}],
            r"row 0: the column 'size' has -1e\+39, which is no finite number",
        ),
    ],
)
def test_predicting_from_something_else_is_refused(classes: Any, given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        mltrain.load_model(classes.folder).predict(given)


def test_a_table_with_bad_values_is_told_by_line(classes: Any, tmp_path: Path) -> None:
    for wrong, shown in [("x", "'x'"), ("1e39", r"1e\+39, which is no finite number of float32")]:
        (tmp_path / "new.csv").write_text(f"size,gap,colour\n1,2,red\n1,{wrong},red\n")
        with pytest.raises(DataError, match=rf"new\.csv:3: the column 'gap' has {shown}"):
            mltrain.load_model(classes.folder).predict(tmp_path / "new.csv")


@pytest.mark.parametrize(
    "overrides",
    [{}, pytest.param({**VALUE, **TRANSFORMER}, marks=pytest.mark.slow)],
    ids=["classes, mlp", "values, transformer"],
)
def test_stopped_and_resumed_is_the_same_to_the_bit(data: Path, overrides: dict[str, Any], tmp_path: Path) -> None:
    straight = train(data, {**overrides, "checkpointing.every_n_steps": 2})
    stopped = train(data, {**overrides, "checkpointing.every_n_steps": 2, "callbacks": {"stop_at": {"step": 9}}})
    assert stopped.summary["status"] == "interrupted"
    resumed = mltrain.train(None, {"callbacks": {}}, resume=stopped.folder, verbose=False)
    assert resumed.summary["model_digest"] == straight.summary["model_digest"]
    assert history(resumed.folder) == history(straight.folder)


def test_a_run_goes_on_with_the_rows_in_another_order_and_not_with_others(data: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text((data / "rows.csv").read_text())
    straight = train(tmp_path)
    stopped = train(tmp_path, {"callbacks": {"stop_at": {"step": 9}}})
    head, *lines = (data / "rows.csv").read_text().splitlines()
    (tmp_path / "rows.csv").write_text("\n".join([head, *reversed(lines)]))
    resumed = mltrain.train(None, {"callbacks": {}}, resume=stopped.folder, verbose=False)
    assert resumed.summary["model_digest"] == straight.summary["model_digest"]
    again = train(tmp_path, {"callbacks": {"stop_at": {"step": 9}}})
    lines[0] = lines[0].replace(",train", ",val")
    (tmp_path / "rows.csv").write_text("\n".join([head, *lines]))
    with pytest.raises(ConfigError, match="moved from train to val"):
        mltrain.train(None, {"callbacks": {}}, resume=again.folder, verbose=False)


@pytest.mark.parametrize(
    "overrides", [pytest.param(CALM, marks=pytest.mark.slow), {**VALUE, **CALM}], ids=["classes", "values"]
)
def test_every_cut_of_a_window_gives_the_same_weights(data: Path, overrides: dict[str, Any]) -> None:
    plain = {
        "optimizer.name": "sgd", "optimizer.lr": 0.1, "training.num_epochs": 1, "training.max_grad_norm": None,
        "checkpointing.selection": "last", "optimizer.weight_decay": 0.0,
    }  # fmt: skip
    cuts = [(8, 1), (2, 4)]
    found = [
        weights(
            train(
                data,
                {
                    **plain,
                    **overrides,
                    "training.batch_size": size,
                    "training.gradient_accumulation_steps": times,
                },
            ).folder
        )
        for size, times in cuts
    ]
    assert largest_difference(found[0], found[1]) < 2e-6


@pytest.mark.parametrize(
    "overrides",
    [pytest.param({}, marks=pytest.mark.slow), {**VALUE, **TRANSFORMER}],
    ids=["classes, mlp", "values, transformer"],
)
def test_every_trainer_trains_it(data: Path, overrides: dict[str, Any]) -> None:
    short = {**overrides, "training.num_epochs": 1}
    digests = {
        name: train(data, {**short, "training.trainer_type": name}).summary["model_digest"]
        for name in ("standard", "accelerate")
    }
    assert digests["standard"] == digests["accelerate"]
    mixed = train(data, {**short, "training.trainer_type": "mixed_precision", "training.amp_dtype": "bfloat16"})
    assert math.isfinite(mixed.summary["test"]["loss"])
    private = {"training.trainer_type": "dp", "training.dp": {"noise_multiplier": 1.0, "target_delta": 1e-3}}
    with pytest.raises(ConfigError, match="accept_fitted_leak: the features would be computed from the training data"):
        train(data, {**short, **private})
    private["training.dp"]["accept_fitted_leak"] = True
    assert math.isfinite(train(data, {**short, **private}).summary["test"]["loss"])


@pytest.mark.parametrize("kind", [pytest.param("classes", marks=pytest.mark.slow), "values"])
def test_another_run_may_give_what_would_be_fitted(
    data: Path, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    run, usual = request.getfixturevalue(kind), VALUE if kind == "values" else {}
    head, *lines = (data / "rows.csv").read_text().splitlines()
    (tmp_path / "rows.csv").write_text("\n".join([head, *lines[20:]]))
    for folder in (run.folder, run.folder / "model"):
        task = task_of(tmp_path, {**usual, "data.fitted_by": str(folder)})
        assert task.fitted() == {}
        assert task.package()["features"] == mltrain.load_model(run.folder).facts["features"]
        if kind == "values":
            assert task.package()["target"] == mltrain.load_model(run.folder).facts["target"]
    assert task_of(tmp_path, usual).package()["features"] != task.package()["features"]
    private = {"training.trainer_type": "dp", "training.dp": {"noise_multiplier": 1.0, "target_delta": 1e-3}}
    result = train(tmp_path, {**usual, **private, "data.fitted_by": str(run.folder), "training.num_epochs": 1})
    assert math.isfinite(result.summary["test"]["loss"])
    other = {} if kind == "values" else VALUE
    with pytest.raises(ConfigError, match=r"data\.fitted_by: \S+ is a (regression|classification), this is a"):
        task_of(data, {**other, "data.fitted_by": str(run.folder)})
    with pytest.raises(ConfigError, match="holds no model of the task tabular"):
        task_of(data, {"data.fitted_by": str(tmp_path)})


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "error", "message"),
    [
        ({"data.target": "labl"}, DataError, "no column 'labl'.*Did you mean 'label'.*data.target"),
        ({"data.target": "same"}, DataError, "training has a single class in the column 'same', 7"),
        ({"data.kind": "regression"}, DataError, r"csv:2: the column 'label' has '\w+', which is no finite"),
        ({**VALUE, "training.label_smoothing": 0.1}, ConfigError, "training.label_smoothing: is for classes"),
        ({**VALUE, "data.positive_class": "small"}, ConfigError, "data.positive_class: is for classes"),
        ({"data.positive_class": "smal"}, ConfigError, "which is no class of the data. Did you mean 'small'"),
        ({"data.target": "colour", "data.positive_class": "red"}, DataError, "the column 'colour' has no value"),
        ({"data.numeric": ["same"], "data.categorical": []}, DataError, "all columns are the same in all training"),
        ({"data.numeric": ["colour"]}, DataError, "the column 'colour' has 'red', which is no finite number"),
        ({"model.architecture": "mpl"}, ConfigError, "unknown tabular model 'mpl'"),
        ({"data.target": "same", "data.kind": "regression"}, DataError, "the target 'same' is 7 in all training rows"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused_before_any_compute(
    data: Path, overrides: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        task_of(data, overrides).build_model()


@pytest.mark.parametrize("name", ["size", "value"])
def test_numbers_beyond_float32_are_bad_values(
    data: Path, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head, first, *lines = (data / "rows.csv").read_text().splitlines()
    cells = first.split(",")
    cells[HEADER.index(name)] = "1e39"
    (tmp_path / "rows.csv").write_text("\n".join([head, ",".join(cells), *lines]))
    told = (
        rf"\S+rows\.csv:2: the column '{name}' has 1e\+39, which is no finite number of float32 \(at most 3\.4e\+38\)"
    )
    with pytest.raises(DataError, match=told):
        task_of(tmp_path, VALUE)
    task = task_of(tmp_path, {**VALUE, "data.on_bad_rows": "skip"})
    assert re.search(f"1 row is left out: {told}", caplog.text)
    assert len(task.datasets()["train"]) == 53


def test_the_group_of_the_split_is_no_feature(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = ["x,who,label", *(f"{k * 37 % 101},p{k // 2 % 12},{'ab'[k % 2]}" for k in range(96))]
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    mltrain.split_rows(tmp_path / "rows.csv", label="label", group="who", folds=2)
    task = task_of(tmp_path, {"data.split_column": None, "data.ignore": []})
    assert [column["name"] for column in task.package()["features"]["numbers"]] == ["x"]
    assert task.package()["features"]["categories"] == []
    assert "The column 'who' is left out: it says which rows belong together." in caplog.text
    assert len(read_table(tmp_path / "rows.csv")) == 96
