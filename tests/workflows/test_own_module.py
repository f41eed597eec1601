"""`mltrain.Trainer`: a module and data sets of a script get what a run from the command line gets."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import history
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import Dataset, TensorDataset

import mltrain
from mltrain.core.digest import model_digest
from mltrain.core.errors import ConfigError, DataError, MltrainError
from mltrain.core.files import read_json
from mltrain.core.seeding import SampleGenerator

CONFIG: dict[str, Any] = {
    "data": {"num_workers": 0},
    "training": {"num_epochs": 3, "batch_size": 8},
    "tracking": {"log_every_n_steps": 2, "mlflow": {"enabled": False}},
    "checkpointing": {"every_n_steps": 3},
    "reproducibility": {"num_threads": 1},
}


class Points(Dataset[Any]):
    """Two classes, with noise from each of the global generators."""

    def __init__(self, count: int, scale: float = 1.0) -> None:
        self.count, self.scale = count, scale

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        point = self.scale * torch.randn(4, generator=torch.Generator().manual_seed(index))
        label = int(point[0] > 0)
        return point + 0.1 * torch.randn(4) + 0.1 * random.random() + 0.1 * float(np.random.rand()), label


def network(dropout: float = 0.3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 2))


def config(**sections: Any) -> dict[str, Any]:
    return {**CONFIG, **{name: {**CONFIG.get(name, {}), **values} for name, values in sections.items()}}


def fit(settings: dict[str, Any] | None = None, resume: Any = None, model: nn.Module | None = None) -> Any:
    trainer = mltrain.Trainer(model or network(), Points(50), Points(21), settings or CONFIG, test_dataset=Points(17))
    return trainer.fit(resume, verbose=False)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return fit(config(run={"dir": str(tmp_path_factory.mktemp("own"))}))


def test_the_module_is_trained_in_place_and_holds_the_chosen_weights(straight: Any, tmp_path: Path) -> None:
    model = network()
    before = model_digest(model.state_dict())
    result = fit(config(training={"ema": {"enabled": True, "decay": 0.5}}), model=model)
    assert result.model is model
    assert not model.training
    assert before != model_digest(model.state_dict()) == result.summary["model_digest"]
    assert result.summary["model_digest"] == model_digest(load_file(result.folder / "model" / "model.safetensors"))
    assert straight.summary["model_digest"] != result.summary["model_digest"]


@pytest.mark.parametrize("other", [{}, {"data": {"num_workers": 2}}], ids=["again", "2 workers"])
def test_same_digest(straight: Any, other: dict[str, Any]) -> None:
    assert fit(config(**other)).summary["model_digest"] == straight.summary["model_digest"]


@pytest.mark.parametrize(("step", "before", "after"), [(5, 0, 2), pytest.param(9, 2, 0, marks=pytest.mark.slow)])
def test_stopped_in_mid_epoch_and_resumed_equals_straight(straight: Any, step: int, before: int, after: int) -> None:
    stopped = fit(config(callbacks={"stop_at": {"step": step}}, data={"num_workers": before}))
    assert (stopped.status, stopped.summary["steps"], stopped.metrics) == ("interrupted", step, {})
    resumed = fit(config(data={"num_workers": after}), resume=stopped.folder)
    assert resumed.folder == stopped.folder
    assert resumed.summary["model_digest"] == straight.summary["model_digest"]
    assert history(resumed.folder) == history(straight.folder)


def test_the_run_folder_is_whole(straight: Any) -> None:
    names = ("config.yaml", "metadata.json", "summary.txt", "metrics.jsonl", "logs/classification_report_test.txt")
    assert all((straight.folder / name).stat().st_size > 0 for name in names)
    data = read_json(straight.folder / "metadata.json")["data"]
    assert data["counts"] == {"train": 50, "val": 21, "test": 17}
    assert data["items_differ_when_read_twice"] == []
    assert straight.metrics["test/accuracy"] == straight.summary["test"]["accuracy"]


def test_other_data_is_refused_on_resume() -> None:
    stopped = fit(config(callbacks={"stop_at": {"step": 2}}))
    trainer = mltrain.Trainer(network(), Points(50, scale=2.0), Points(21), CONFIG, test_dataset=Points(17))
    with pytest.raises(ConfigError, match=r"the data is not that of the run: contents differ"):
        trainer.fit(stopped.folder, verbose=False)


@pytest.mark.slow
def test_fit_again_trains_on_in_a_new_run(train_vectors: Any) -> None:
    train_vectors({"training.num_epochs": 1})
    trainer = mltrain.Trainer(network(), Points(50), config=config(training={"num_epochs": 1}))
    first, second = trainer.fit(verbose=False), trainer.fit(verbose=False)
    assert first.folder != second.folder
    assert first.summary["model_digest"] != second.summary["model_digest"]


def test_a_loss_of_ones_own_matches_plain_torch() -> None:
    """Three windows a epoch, the last ragged, in two microbatches: against a loop over the mean of each window."""
    inputs = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    targets = inputs.sum(dim=1, keepdim=True)
    model, reference = nn.Linear(3, 1), nn.Linear(3, 1)
    reference.load_state_dict(model.state_dict())
    settings = config(
        training={"num_epochs": 1, "batch_size": 4, "gradient_accumulation_steps": 2, "max_grad_norm": None},
        optimizer={"name": "sgd", "lr": 0.1},
        scheduler={"name": "none"},
    )
    result = mltrain.Trainer(
        model,
        TensorDataset(inputs, targets),
        config=settings,
        loss=lambda outputs, labels: (outputs - labels).square().mean(dim=1),
        metrics={"mae": lambda outputs, labels: (outputs - labels).abs().mean(dim=1)},
    ).fit(verbose=False)

    from mltrain.data.plan import ShuffledPlan

    optimizer = torch.optim.SGD(reference.parameters(), lr=0.1)
    plan = ShuffledPlan(20, 8, 42)
    for number in range(plan.windows_per_epoch):
        chosen = torch.as_tensor(np.asarray(plan.window(0, number)))
        optimizer.zero_grad()
        (reference(inputs[chosen]) - targets[chosen]).square().mean().backward()
        optimizer.step()
    for mine, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)
    mae = (model(inputs) - targets).abs().mean().item()
    assert result.metrics["train/mae"] == pytest.approx(mae, rel=1e-5)


class Named(nn.Module):
    """Takes two tensors by name."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.cat([left, right], dim=1))  # type: ignore[no-any-return]


def test_items_that_are_dicts_reach_the_model_by_name() -> None:
    items = [{"left": torch.randn(2), "right": torch.randn(2), "labels": index % 2} for index in range(16)]
    result = mltrain.Trainer(Named(), items, config=config(training={"num_epochs": 1})).fit(verbose=False)
    assert 0 <= result.metrics["train/accuracy"] <= 1


class Sampled:
    """Brings its own way of drawing."""

    def __len__(self) -> int:
        return 16

    def sample_id(self, index: int) -> str:
        return f"mine/{index}"

    def load(self, index: int, generator: SampleGenerator | None) -> tuple[torch.Tensor, int]:
        return torch.full((4,), 0.0 if generator is None else generator.random()), index % 2


def test_a_data_set_that_takes_its_generator_is_taken_as_it_is() -> None:
    trainer = mltrain.Trainer(network(), Sampled(), config=config(training={"num_epochs": 1}))
    assert trainer.fit(verbose=False).status == "completed"


def per_item(value: Any) -> list[Any]:
    return [value] * 8


FLOATS = [(torch.zeros(4), torch.zeros(2))] * 8
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no module": ({"model": 3}, "model: must be a torch.nn.Module, is a int"),
    "no map": ({"train_dataset": iter([])}, "train_dataset: a list_iterator is not map-style"),
    "empty": ({"val_dataset": []}, "val_dataset: is empty"),
    "bare items": ({"train_dataset": per_item(torch.zeros(4).sum())}, "train_dataset: an item is a Tensor"),
    "no labels": ({"train_dataset": per_item({"x": torch.zeros(4)})}, 'train_dataset: a batch has x, but no "labels"'),
    "texts": (
        {"train_dataset": per_item(("a", 1))},
        'train_dataset: "inputs" of a batch is a tuple of 1, not a tensor',
    ),
    "float labels": ({"train_dataset": FLOATS}, "labels of float32 and shape .1, 2., not whole class numbers"),
    "mean criterion": ({"loss": nn.MSELoss()}, r"loss: gives one number .* MSELoss\(reduction='none'\)"),
    "scalar": ({"loss": lambda outputs, labels: outputs.mean()}, "loss: gave one number for 2 examples"),
    "wide": ({"loss": lambda outputs, labels: outputs}, r"loss: gave shape \(2, 2\).*Take the mean"),
    "no function": ({"loss": "mse"}, "loss: must be a function, is a str"),
    "metric": ({"metrics": {"m": lambda o, y: o.mean()}}, r"metrics\['m'\]: gave one number"),
    "task": ({"config": {"task": "image_classification"}}, "task: is 'image_classification', but here the module"),
    "key": ({"config": {"data": {"image_size": 3}}}, "data.image_size: unknown key"),
    "monitor": ({"config": {"early_stopping": {"enabled": True}}, "val_dataset": None}, "there is no validation split"),
    "config": ({"config": 3}, "config: must be the path of a YAML file, or a dict, is 3"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_in_one_line(name: str) -> None:
    given, text = MISTAKES[name]
    arguments = {"model": network(), "train_dataset": Points(50), "val_dataset": Points(21), **given}
    merged = {**CONFIG, **arguments["config"]} if isinstance(arguments.get("config"), dict) else arguments.get("config")
    with pytest.raises((ConfigError, DataError), match=text) as caught:
        mltrain.Trainer(**{**arguments, "config": CONFIG if merged is None else merged}).fit(verbose=False)
    assert "\n" not in str(caught.value)


def test_a_package_of_a_module_says_how_it_is_loaded(straight: Any) -> None:
    with pytest.raises(ConfigError, match=r"Sequential, whose code is yours.*load_state_dict"):
        mltrain.load_model(straight.folder)
    with pytest.raises(ConfigError, match=r"Run the script that called mltrain\.Trainer"):
        mltrain.train(straight.folder / "config.yaml", verbose=False)


def test_a_loss_that_mixes_examples_is_told(caplog: pytest.LogCaptureFixture) -> None:
    points = torch.arange(24.0).reshape(24, 1)
    data = TensorDataset(points, points[:, 0] ** 2)
    with caplog.at_level(logging.WARNING, logger="mltrain"):
        # (16, 1) - (16,) broadcasts to (16, 16): one value an example, each of all targets.
        mltrain.Trainer(
            nn.Linear(1, 1), data, config=config(), loss=lambda outputs, targets: ((outputs - targets) ** 2).mean(1)
        ).fit(verbose=False)
    assert "it depends on the batch" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="mltrain"):
        mltrain.Trainer(
            nn.Linear(1, 1), data, config=config(), loss=lambda outputs, targets: (outputs[:, 0] - targets) ** 2
        ).fit(verbose=False)
    assert "it depends on the batch" not in caplog.text


@pytest.mark.parametrize(
    ("model", "labels", "told"),
    [
        (nn.Linear(2, 2), [0, 1, 5, 1], r"class number 5, but the model has 2 outputs"),
        (nn.Linear(2, 2), [0, 1, -100, 1], r"class number -100"),
        (nn.Flatten(0), [0, 1, 0, 1], r"outputs of shape \(\d+,\) for \d+ examples"),
        (nn.LSTM(2, 2), [0, 1, 0, 1], r"gives a tuple where logits are needed"),
    ],
    ids=["too high", "negative", "flat", "tuple"],
)
def test_outputs_and_labels_that_do_not_fit_are_told(model: nn.Module, labels: list[int], told: str) -> None:
    data = TensorDataset(torch.zeros(len(labels), 2), torch.tensor(labels))
    with pytest.raises(MltrainError, match=told):
        mltrain.Trainer(model, data, config=config()).fit(verbose=False)


def test_a_loss_without_a_gradient_is_told() -> None:
    data = TensorDataset(torch.zeros(8, 2), torch.zeros(8))
    with pytest.raises(MltrainError, match="does not depend on any weight"):
        mltrain.Trainer(
            nn.Linear(2, 1), data, config=config(), loss=lambda outputs, targets: outputs.detach()[:, 0] - targets
        ).fit(verbose=False)


def test_metrics_of_a_wrong_kind_are_told() -> None:
    data = TensorDataset(torch.zeros(8, 2), torch.zeros(8))
    for metrics in ([abs], {"loss": abs}):
        with pytest.raises(ConfigError, match="metrics: must be a dict of names"):
            mltrain.Trainer(nn.Linear(2, 1), data, loss=abs, metrics=metrics)  # type: ignore[arg-type]


def test_a_configuration_with_dotted_keys_is_understood() -> None:
    data = TensorDataset(torch.randn(8, 2), torch.zeros(8).long())
    settings = {**config(), "training.num_epochs": 2}
    assert mltrain.Trainer(nn.Linear(2, 2), data, config=settings).fit(verbose=False).summary["epochs"] == 2


def test_another_loss_or_module_than_the_runs_is_told(caplog: pytest.LogCaptureFixture) -> None:
    data = TensorDataset(torch.randn(16, 2), torch.randn(16))

    def squared(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (outputs[:, 0] - targets) ** 2

    def absolute(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return (outputs[:, 0] - targets).abs()

    def fitted(middle: nn.Module, loss: Any, epochs: int, resume: Any = None) -> Any:
        model = nn.Sequential(nn.Linear(2, 2), middle, nn.Linear(2, 1))
        settings = config(training={"num_epochs": epochs})
        return mltrain.Trainer(model, data, config=settings, loss=loss).fit(resume, verbose=False)

    run = fitted(nn.Tanh(), squared, 1)
    with caplog.at_level(logging.WARNING, logger="mltrain"):
        fitted(nn.Tanh(), squared, 2, run.folder)
        assert "shows itself otherwise" not in caplog.text
        fitted(nn.ReLU(), squared, 3, run.folder)
        assert "The module shows itself otherwise" in caplog.text
        assert "The loss shows" not in caplog.text
        fitted(nn.Tanh(), absolute, 4, run.folder)
        assert "The loss shows itself otherwise" in caplog.text
