"""Class and span by one model: weights of the losses, the score, one encoder or two, and a packed model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from span_tables import TINY, span_config, span_rows, write_span_table
from torch import nn

import mltrain
from mltrain.config.load import check_config
from mltrain.core.errors import ConfigError, MltrainError
from mltrain.data.text.tokenizers import train_wordpiece
from mltrain.models.text_models import text_inputs
from mltrain.tasks.base import task_config_class
from mltrain.tasks.joint import Joint
from mltrain.tasks.span_decoding import span_losses, token_scores

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("joint")
    write_span_table(data / "texts.csv", span_rows(60))
    return data


def task_of(folder: Path, overrides: dict[str, Any] | None = None) -> Joint:
    return Joint(check_config(span_config(folder, "joint"), overrides or {}, task_config_class).config)


def batch_of(task: Joint, count: int = 10) -> dict[str, torch.Tensor]:
    dataset = task.datasets()["train"]
    return task.collate([dataset.load(row, None) for row in range(count)])


def test_the_loss_is_the_weighted_sum_of_its_parts(folder: Path) -> None:
    task = task_of(folder, {"model.loss_weights": {"classification": 0.25, "span": 2.0}})
    model, batch = task.build_model().eval(), batch_of(task)
    losses = task.losses(model, batch)
    parts = losses.parts
    torch.testing.assert_close(losses.values, 0.25 * parts["classification_loss"] + 2.0 * parts["span_loss"])
    by_class = F.cross_entropy(losses.outputs["logits"], batch["labels"], reduction="none")
    torch.testing.assert_close(parts["classification_loss"], by_class)
    assert task.metric_names()[:3] == ("loss", "classification_loss", "span_loss")


def test_two_encoders_are_the_models_of_the_two_tasks(folder: Path) -> None:
    """The same scores as a classifier and a model of spans by themselves; neither sees the other's gradient."""
    task = task_of(folder, {"model.shared_encoder": False, "data.max_length": 64, "data.stride": 8})
    model: Any = task.build_model().eval()
    batch = batch_of(task)
    assert batch["windows"].shape[1] == 1
    losses = task.losses(model, batch)
    starts, ends = token_scores(model.span, batch)
    torch.testing.assert_close(losses.parts["span_loss"], span_losses(starts, ends, batch))
    alone = {name: batch[name][:, 0] for name in INPUTS}
    torch.testing.assert_close(
        losses.outputs["logits"], model.classification(**text_inputs(model.classification, alone)).logits
    )
    losses.parts["span_loss"].sum().backward()
    assert not any(part.grad.any() for part in model.classification.parameters() if part.grad is not None)


def test_of_two_encoders_the_classifier_alone_pools(folder: Path) -> None:
    options = {**TINY, "pooling": "mean", "head_layers": "all"}
    task = task_of(folder, {"model.shared_encoder": False, "model.options": options})
    model: Any = task.build_model()
    width = model.span.config.hidden_size * (model.span.config.num_hidden_layers + 1)
    assert model.classification.classifier.in_features == model.span.qa_outputs.in_features == width
    assert (model.classification.config.pooling, model.span.config.pooling) == ("mean", "own")
    with pytest.raises(ConfigError, match="is of classifiers"):
        task_of(folder, {"model.options": options}).build_model()


def test_class_scores_are_the_mean_over_the_windows_of_a_row(folder: Path) -> None:
    task = task_of(folder)
    model, batch = task.build_model().eval(), batch_of(task)
    logits = task.losses(model, batch).outputs["logits"]
    for row in range(10):
        parts = [
            model(**{name: batch[name][row, window][None] for name in INPUTS})
            for window in range(int(batch["windows"][row].sum()))
        ]
        torch.testing.assert_close(logits[row], torch.cat([part.logits for part in parts]).mean(dim=0))


def test_losses_without_any_weight_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"model.loss_weights: classification and span are both 0"):
        task_of(folder, {"model.loss_weights": {"classification": 0, "span": 0}})


def test_a_figure_that_is_one_of_a_part_is_asked_after(folder: Path) -> None:
    monitored = {"checkpointing": {"monitor": "val_accuracy", "mode": "max"}}
    with pytest.raises(ConfigError, match=r"no metric 'val_accuracy'. Did you mean val_classification_accuracy"):
        mltrain.train({**span_config(folder, "joint"), **monitored}, verbose=False)


def test_learned_weights_are_those_of_kendall(folder: Path) -> None:
    task = task_of(folder, {"model.loss_weights": "uncertainty"})
    model: Any = task.build_model().eval()
    batch, variances = batch_of(task), torch.tensor([-3.0, 1.0])
    with torch.no_grad():
        model.log_variances.values.copy_(variances)
    losses = task.losses(model, batch)
    both = torch.stack([losses.parts["classification_loss"], losses.parts["span_loss"]], dim=1)
    weights = (-variances).exp()
    torch.testing.assert_close(losses.values, (both * weights + variances / 2).sum(dim=1))
    for number, name in enumerate(("classification_weight", "span_weight")):
        torch.testing.assert_close(losses.parts[name], weights[number].expand(10))
        assert name in task.metric_names()
    losses.values.mean().backward()
    torch.testing.assert_close(model.log_variances.values.grad, 0.5 - weights * both.detach().mean(dim=0))


def test_learned_weights_find_the_scale_of_the_losses(folder: Path) -> None:
    """At the optimum a task's weight is half of one over its mean loss."""
    task = task_of(folder, {"model.loss_weights": "uncertainty"})
    model: Any = task.build_model().eval()
    batch = batch_of(task)
    optimizer = torch.optim.LBFGS(model.log_variances.parameters(), max_iter=60)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = task.losses(model, batch).values.mean()
        value.backward()
        return value

    optimizer.step(closure)
    with torch.no_grad():
        parts = task.losses(model, batch).parts
    for task_name in ("classification", "span"):
        assert float(parts[f"{task_name}_weight"][0]) == pytest.approx(
            0.5 / float(parts[f"{task_name}_loss"].mean()), rel=1e-2
        )


def test_the_score_is_the_weighted_mean_of_metrics(folder: Path) -> None:
    task = task_of(folder, {"model.score_weights": {"classification_accuracy": 3.0, "span_exact_match": 1.0}})
    model, metrics, batch = task.build_model().eval(), task.metrics(), batch_of(task, 20)
    metrics.update(task.losses(model, batch).outputs, batch)
    found = metrics.compute()
    assert found["score"] == pytest.approx(0.75 * found["classification_accuracy"] + 0.25 * found["span_exact_match"])
    assert set(found) == set(metrics.names)
    other = task.metrics()
    other.merge(metrics.state())
    assert other.compute() == found


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ({"model.score_weights": {"span_f2": 1.0}}, r"model\.score_weights: has 'span_f2', .* Did you mean 'span_f1'"),
        ({"model.score_weights": {"span_f1": 0.0}}, r"model\.score_weights: has weights below 0, or of 0 in sum"),
        ({"data.positive_class": "spma"}, r"data\.positive_class: is 'spma', .* Did you mean 'spam'"),
        ({"model.loss_weights": "learned"}, r"model\.loss_weights"),
        ({"data.label_column": "kind"}, r"there is no column 'kind'"),
    ],
)
def test_what_cannot_be_is_refused_before_training(folder: Path, overrides: dict[str, Any], problem: str) -> None:
    with pytest.raises(MltrainError, match=problem):
        task_of(folder, overrides)


@pytest.mark.usefixtures("quick_reports")
@pytest.mark.parametrize(
    "wish", [{"model.shared_encoder": False}, {"model.architecture": "cnn_text", "model.options": {}}], ids=str
)
def test_either_shape_is_packed(folder: Path, tmp_path: Path, wish: dict[str, Any]) -> None:
    """And monitored by a metric of either task."""
    monitor = {"checkpointing.monitor": "val/span_exact_match", "checkpointing.mode": "max"}
    overrides = {**wish, **monitor, "training.num_epochs": 1, "run.dir": str(tmp_path)}
    result = mltrain.train(span_config(folder, "joint"), overrides, verbose=False)
    packed = mltrain.load_model(result.folder)
    (row,) = packed.predict(("how much", "win £500 now"))
    assert set(row) == {"class", "probability", "answer", "start", "end", "score"}
    assert packed.facts["model_digest"] == result.summary["model_digest"]
    assert result.summary["best"]["metric"] == "val/span_exact_match"


def test_the_monitor_must_be_a_metric(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"checkpointing\.monitor"):
        mltrain.train(span_config(folder, "joint"), {"checkpointing.monitor": "val/f1"}, verbose=False)


@pytest.mark.parametrize("shared", [True, False])
def test_initial_weights_of_an_encoder_from_a_folder(folder: Path, tmp_path: Path, shared: bool) -> None:
    """Saved with a pooler, which a shared encoder has no use for."""
    from transformers import BertConfig, BertModel

    theirs = BertModel(BertConfig(vocab_size=200, max_position_embeddings=32, pad_token_id=0, **TINY))
    theirs.save_pretrained(tmp_path / "encoder")
    train_wordpiece(["call now £500"], 100, lowercase=True).save_pretrained(tmp_path / "encoder")
    wish = {
        "model.architecture": str(tmp_path / "encoder"), "model.options": {}, "model.weights": "DEFAULT",
        "model.shared_encoder": shared,
    }  # fmt: skip
    task = task_of(folder, wish)
    model: Any = task.build_model()
    for encoder in [model.encoder] if shared else [model.classification.bert, model.span.bert]:
        assert torch.equal(encoder.embeddings.word_embeddings.weight, theirs.embeddings.word_embeddings.weight)
        layer = "encoder.layer.0.output.dense.weight"
        assert torch.equal(encoder.get_parameter(layer), theirs.get_parameter(layer))
    again, _ = Joint.unpack(json.loads(json.dumps(task.package())))
    again.load_state_dict(model.state_dict())


def test_only_the_heads_are_trained_where_the_backbone_is_frozen(folder: Path) -> None:
    for shared in (True, False):
        wish = {"model.freeze": "backbone", "model.shared_encoder": shared, "model.loss_weights": "uncertainty"}
        model: nn.Module = task_of(folder, wish).build_model()
        trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        heads = ("classifier.", "spans.") if shared else ("classification.classifier.", "span.qa_outputs.")
        assert trained == {name for name, _ in model.named_parameters() if name.startswith((*heads, "log_variances."))}
