"""Texts and pairs of texts: from a table to a model that predicts, with transformers too, and every refusal."""

from __future__ import annotations

import csv
import json
import pickle
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
import torch.nn.functional as F
from runs import history, largest_difference, weights

import mltrain
from mltrain.config.load import check_config
from mltrain.core.errors import ConfigError, DataError
from mltrain.data.bucketed_plan import BucketedPlan
from mltrain.data.plan import ShuffledPlan
from mltrain.tasks.base import task_config_class
from mltrain.tasks.sample_order import training_plan
from mltrain.tasks.text_classification import TextClassification

CALM, BAIT = ["see", "you", "at", "home", "later", "for", "dinner", "call", "me", "back"], ["win", "prize", "free"]
BERT = {"architecture": "bert_tiny", "vocab_size": 120, "options": {"hidden_size": 16, "intermediate_size": 24}}
CNN = {"architecture": "cnn_text", "vocab_size": 120, "options": {"width": 8, "filters": 6, "dropout": 0.0}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """72 messages: spam has one of three words; `held` stands in rows that are not trained on alone."""
    draw = random.Random(0)
    folder = tmp_path_factory.mktemp("messages")
    with (folder / "messages.csv").open("w", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(["text", "criterion", "label", "split"])
        for number in range(72):
            words = draw.choices(CALM, k=draw.randint(2, 16))
            split = "train" if number < 48 else "val" if number < 60 else "test"
            if number % 2:
                words.insert(draw.randint(0, len(words)), draw.choice(BAIT))
            if split != "train":
                words.append("held")
            lines.writerow([" ".join(words), f"is it bait {number}", ("ham", "spam")[number % 2], split])
    return folder


def settings(data: Path, model: dict[str, Any]) -> dict[str, Any]:
    return {
        "task": "text_classification",
        "data": {
            "data_dir": str(data), "table": "messages.csv", "split_column": "split", "max_length": 24, "num_workers": 0
        },
        "model": model,
        "training": {"num_epochs": 2, "batch_size": 8},
        "optimizer": {"lr": 0.01},
        "scheduler": {"name": "none"},
        "tracking": {"log_every_n_steps": 2, "mlflow": {"enabled": False}, "system_metrics": {"enabled": False}},
        "reproducibility": {"num_threads": 1},
    }  # fmt: skip


def task_of(data: Path, overrides: dict[str, Any] | None = None, model: Any = BERT) -> TextClassification:
    return TextClassification(check_config(settings(data, model), overrides or {}, task_config_class).config)


def train(data: Path, overrides: dict[str, Any] | None = None, model: Any = BERT) -> Any:
    return mltrain.train(settings(data, model), overrides or {}, verbose=False)


def batch_of(task: TextClassification, split: str, count: int) -> dict[str, torch.Tensor]:
    dataset = task.datasets()[split]
    return task.collate([dataset.load(index, None) for index in range(count)])


def texts_of(data: Path, split: str) -> list[dict[str, str]]:
    with (data / "messages.csv").open(newline="") as stream:
        return [row for row in csv.DictReader(stream) if row["split"] == split]


@pytest.fixture(autouse=True)
def _few_pictures(quick_reports: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn for the run that several tests share, which is made before."""
    monkeypatch.setattr("mltrain.tasks.text_classification.write_classification_report", lambda *_, **__: None)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A trained `bert_tiny`."""
    folder = tmp_path_factory.mktemp("run")
    return train(data, {"run.dir": str(folder), "data.positive_class": "spam"})


# ---- batches and losses ----------------------------------------------------------------------------------------------


def test_the_vocabulary_is_of_the_training_texts_alone(data: Path) -> None:
    vocabulary = task_of(data)._tokenizer.tokenizer.get_vocab()
    assert {*CALM, *BAIT} <= set(vocabulary)
    assert "held" not in vocabulary


def test_batches_are_as_long_as_their_longest_text(data: Path) -> None:
    task = task_of(data)
    dataset = task.datasets()["train"]
    items = [dataset.load(index, None) for index in range(5)]
    batch = task.collate(items)
    lengths = [len(item.ids) for item in items]
    assert batch["input_ids"].shape == (5, max(lengths))
    assert batch["attention_mask"].sum(dim=1).tolist() == lengths
    assert "token_type_ids" not in batch
    pairs = batch_of(task_of(data, {"data.pair_column": "criterion"}), "train", 5)
    assert pairs["token_type_ids"].max() == 1
    assert {tensor.dtype for tensor in pairs.values()} == {torch.int64}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_are_torchs_cross_entropy_and_independent_of_each_other(data: Path, smoothing: float) -> None:
    task = task_of(data, {"training.label_smoothing": smoothing})
    model = task.build_model().eval()
    dataset = task.datasets()["train"]
    items = [dataset.load(index, None) for index in range(6)]
    batch = task.collate(items)
    losses = task.losses(model, batch)
    expected = F.cross_entropy(losses.outputs, batch["labels"], label_smoothing=smoothing)
    torch.testing.assert_close(losses.values.mean(), expected)
    for index, item in enumerate(items):
        alone = task.losses(model, task.collate([item])).values
        torch.testing.assert_close(losses.values[index : index + 1], alone, atol=2e-6, rtol=1e-5)


def test_what_is_cut_is_told(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    task = task_of(data, {"data.max_length": 8})
    dataset = task.datasets()["train"]
    assert max(len(dataset.load(index, None).ids) for index in range(48)) == 8
    texts = [row["text"] for split in ("train", "val", "test") for row in texts_of(data, split)]
    whole = [len(ids) for ids in task._tokenizer.tokenizer(texts)["input_ids"]]
    cut = sum(length > 8 for length in whole)
    assert f"{cut} of 72 texts are cut to data.max_length = 8 tokens." in caplog.text


def test_windows_hold_texts_of_similar_length_where_that_is_wanted(data: Path) -> None:
    assert isinstance(training_plan(task_of(data), 48, 8, 1), ShuffledPlan)
    task = task_of(data, {"data.length_bucketing": True})
    plan = training_plan(task, 48, 8, 1)
    assert isinstance(plan, BucketedPlan)
    lengths = [len(task.datasets()["train"].load(index, None).ids) for index in range(48)]
    spreads = [max(found) - min(found) for w in range(6) if (found := [lengths[i] for i in plan.window(0, w)])]
    assert max(spreads) <= 5


# ---- runs ------------------------------------------------------------------------------------------------------------


def test_a_run_names_its_figures(run: Any) -> None:
    assert set(run.summary["test"]) == {"loss", "accuracy", "f1_macro", "precision", "recall", "f1", "auroc"}
    assert run.summary["best"]["metric"] == "val/f1_macro"
    assert (run.folder / "logs" / "classification_report_test.txt").is_file()
    assert (run.folder / "reports" / "confusion_matrix_test.png").is_file()


def test_the_package_predicts_as_transformers_does(data: Path, run: Any) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    packed = mltrain.load_model(run.folder)
    texts = [row["text"] for row in texts_of(data, "test")] + ["win " * 40]
    rows = packed.predict(texts)
    tokenizer = AutoTokenizer.from_pretrained(run.folder / "model")
    model = AutoModelForSequenceClassification.from_pretrained(run.folder / "model").eval()
    with torch.inference_mode():
        logits = model(**tokenizer(texts, padding=True, truncation=True, return_tensors="pt")).logits
    for row, one in zip(rows, logits.softmax(dim=1), strict=True):
        assert row["class"] == model.config.id2label[int(one.argmax())]
        assert row["probability"] == pytest.approx(float(one.max()), abs=1e-6)
    right = [row["class"] == known["label"] for row, known in zip(rows, texts_of(data, "test"), strict=False)]
    assert sum(right) / len(right) == pytest.approx(run.summary["test"]["accuracy"])


def test_the_package_needs_neither_its_tokenizer_files_nor_the_run(run: Any, tmp_path: Path) -> None:
    shutil.copytree(run.folder / "model", tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        (tmp_path / "model" / name).unlink()
    (row,) = mltrain.load_model(tmp_path / "model").predict("win a prize")
    assert row == mltrain.load_model(run.folder).predict(["win a prize"])[0]


def test_arrays_and_columns_of_texts_are_read_as_lists(run: Any) -> None:
    predict = mltrain.load_model(run.folder).predict
    texts = ["win a prize", "see you at home"]
    assert predict(np.array(texts)) == predict(pandas.Series(texts)) == predict(texts)
    with pytest.raises(DataError, match="a value of type int; the model reads texts"):
        predict(np.array([3]))


@pytest.mark.parametrize("given", [3, ["home", 3], [("home", "later")], b"home"], ids=str)
def test_predicting_from_something_else_is_refused(run: Any, given: Any) -> None:
    with pytest.raises(DataError, match=r"predict: cannot predict from a value of type \w+; the model reads texts"):
        mltrain.load_model(run.folder).predict(given)


def test_half_a_character_is_told_with_its_place(run: Any) -> None:
    with pytest.raises(DataError, match=r"predict: text 1 has U\+D800 at character 3, which is half of a character"):
        mltrain.load_model(run.folder).predict(["fine", "bad\ud800"])


def test_a_misspelt_architecture_is_told_as_such(data: Path) -> None:
    with pytest.raises(ConfigError, match=r"model.architecture: unknown text model 'bert_tinny'. Did you mean 'bert_t"):
        train(data, {"model.architecture": "bert_tinny"})


@pytest.fixture(scope="module")
def pair_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A trained `cnn_text` of pairs, in windows of similar length."""
    return train(data, {**PAIRS, "run.dir": str(tmp_path_factory.mktemp("pairs"))}, CNN)


PAIRS = {
    "data.pair_column": "criterion",
    "data.length_bucketing": True,
    "model.options.dropout": 0.3,
    "checkpointing.every_n_steps": 3,
}


def test_a_model_of_pairs_predicts_pairs(pair_run: Any) -> None:
    predict = mltrain.load_model(pair_run.folder).predict
    pairs = [("see you at home", "is it bait 3"), ("win a prize", "is it bait 4")]
    rows = predict(pairs)
    assert [set(row) for row in rows] == [{"class", "probability"}] * 2
    assert predict(pairs[0])[0]["probability"] == pytest.approx(rows[0]["probability"], abs=1e-6)
    assert predict([]) == []
    with pytest.raises(DataError, match="cannot predict from a value of type str; the model reads pairs of texts"):
        predict(["see you"])


@pytest.fixture(scope="module")
def stopped(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, stopped after 8 of its 12 steps; to be copied."""
    folder = str(tmp_path_factory.mktemp("stopped"))
    done = train(data, {**PAIRS, "run.dir": folder, "callbacks": {"stop_at": {"step": 8}}}, CNN)
    assert done.summary["status"] == "interrupted"
    return Path(done.folder)


def resumed(run: Path) -> Any:
    return mltrain.train(None, {"callbacks": {}, "run.dir": str(run.parent)}, resume=run, verbose=False)


def test_stopped_and_resumed_equals_straight_without_the_cache(
    stopped: Path, pair_run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The run has its tokenizer itself: it is neither trained again nor taken from elsewhere."""
    run = shutil.copytree(stopped, tmp_path / "runs" / stopped.name)
    monkeypatch.setattr("mltrain.tasks.run_tokenizer.train_wordpiece", _refuse)
    monkeypatch.setenv("MLTRAIN_CACHE", str(tmp_path / "empty"))
    done = resumed(run)
    assert done.summary["model_digest"] == pair_run.summary["model_digest"]
    assert history(done.folder) == history(pair_run.folder)


def _refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("the tokenizer was trained again")


def test_a_run_does_not_continue_with_another_tokenizer(stopped: Path, tmp_path: Path) -> None:
    run = shutil.copytree(stopped, tmp_path / "runs" / stopped.name)
    kept = json.loads((run / "fitted.json").read_text())
    kept["tokenizer"]["tokenizer"]["normalizer"]["lowercase"] = False
    (run / "fitted.json").write_text(json.dumps(kept))
    with pytest.raises(ConfigError, match=r"the data is not that of the run: the tokenizer is another"):
        resumed(run)


@pytest.mark.parametrize("bucketed", [pytest.param(False, marks=pytest.mark.slow, id="shuffled"), True])
def test_every_cut_of_a_window_gives_the_same_weights(data: Path, bucketed: bool) -> None:
    found = []
    for batch_size, accumulation in ((12, 1), (2, 6)):
        overrides = {
            "data.length_bucketing": bucketed,
            "optimizer": {"name": "sgd", "lr": 0.5},
            "training": {
                "num_epochs": 1, "batch_size": batch_size, "gradient_accumulation_steps": accumulation,
                "eval_batch_size": 24, "max_grad_norm": None,
            },
            "checkpointing.selection": "last",
        }  # fmt: skip
        found.append(weights(train(data, overrides, CNN).folder))
    assert largest_difference(*found) < 1e-6


def test_other_trainers(data: Path) -> None:
    brief = {"training.num_epochs": 1}
    standard = train(data, brief, CNN)
    accelerate = train(data, {**brief, "training.trainer_type": "accelerate"}, CNN)
    assert accelerate.summary["model_digest"] == standard.summary["model_digest"]
    half = train(data, {**brief, "training.trainer_type": "mixed_precision"}, CNN)
    assert half.summary["status"] == "completed"
    assert half.summary["model_digest"] != standard.summary["model_digest"]


PRIVATE = {
    "data.length_bucketing": True,
    "training.num_epochs": 1,
    "training.trainer_type": "dp",
    "training.dp": {"target_epsilon": 8.0},
}


def test_a_vocabulary_of_private_texts_must_be_accepted(data: Path) -> None:
    with pytest.raises(ConfigError, match=r"the tokenizer would be computed from the training data without noise"):
        train(data, PRIVATE, CNN)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ghost", "hooks"])
@pytest.mark.parametrize(
    "model", [CNN, BERT, {"architecture": "bert_mini"}], ids=lambda model: str(model["architecture"])
)
def test_private_training(data: Path, model: dict[str, Any], mode: str) -> None:
    """Its draws are Poisson's, whatever the lengths are."""
    overrides = {**PRIVATE, "training.dp.grad_sample_mode": mode, "training.dp.accept_fitted_leak": True}
    done = train(data, overrides, model)
    assert done.summary["privacy"]["epsilon"] <= 8
    (row,) = mltrain.load_model(done.folder).predict("win a prize")
    assert row["class"] in ("ham", "spam")


@pytest.mark.slow
def test_gradient_checkpointing_gives_the_same_bits(data: Path) -> None:
    once = train(data, {"training.num_epochs": 1})
    again = train(data, {"training.num_epochs": 1, "training.gradient_checkpointing": True})
    assert again.summary["model_digest"] == once.summary["model_digest"]


# ---- pretrained encoders ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder with its tokenizer and without a head, as the hub has them."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = task_of(data)._tokenizer.tokenizer
    tokenizer.save_pretrained(str(folder))
    torch.manual_seed(5)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    BertModel(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=32, **sizes)).save_pretrained(folder)
    return folder


def test_an_encoders_own_tokenizer_and_weights_are_taken_and_frozen(data: Path, encoder: Path) -> None:
    model = {"architecture": str(encoder), "weights": "DEFAULT", "freeze": "backbone"}
    task = task_of(data, model=model)
    assert not task._tokenizer.is_trained
    done = train(data, {"training.num_epochs": 1}, model)
    trained = weights(done.folder)
    first = mltrain.models.weights.WeightsSource("", (encoder / "model.safetensors",)).tensors()
    layer = "encoder.layer.0.output.dense.weight"
    assert torch.equal(trained[f"bert.{layer}"], first[layer])
    assert done.summary["status"] == "completed"
    facts = json.loads((done.folder / "model" / "mltrain.json").read_text())
    assert facts["architecture"] == encoder.name, "no path of this machine"
    shutil.copytree(done.folder / "model", data / "elsewhere", dirs_exist_ok=True)
    assert mltrain.load_model(data / "elsewhere").predict("win a prize")


def test_weights_that_lie_unused_are_told(data: Path, encoder: Path, caplog: pytest.LogCaptureFixture) -> None:
    task_of(data, model={"architecture": str(encoder)})
    assert "model.weights: DEFAULT takes them" in caplog.text


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"data.positive_class": "spma"}, r"data.positive_class: is 'spma', which is no class.* Did you mean 'spam'"),
        ({"data.text_column": "texts"}, r"text"),
        ({"model.tokenizer": "./nowhere"}, r"model.tokenizer: ./nowhere gives no tokenizer"),
        ({"model.weights": "DEFAULT"}, r"model.weights|bert_tiny has no published weights"),
        ({"data.max_length": 2}, r"data.max_length"),
        ({"model.vocab_size": 10}, r"model.vocab_size"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_be_trained_is_told_before_training(data: Path, overrides: dict[str, Any], told: str) -> None:
    with pytest.raises((ConfigError, DataError), match=told):
        train(data, overrides)


def test_a_positive_class_of_three_is_refused(data: Path, tmp_path: Path) -> None:
    text = (data / "messages.csv").read_text().replace(",ham,train", ",other,train", 1)
    (tmp_path / "messages.csv").write_text(text)
    with pytest.raises(ConfigError, match=r"data.positive_class: is set, but there are 3 classes"):
        task_of(tmp_path, {"data.positive_class": "spam"})
    assert task_of(tmp_path).metrics().names[-1] == "auroc"


def test_workers_that_are_spawned_collate_the_same(data: Path) -> None:
    """They get the task pickled."""
    task = task_of(data, {"data.pair_column": "criterion"})
    expected = batch_of(task, "train", 5)
    dataset, collate = pickle.loads(pickle.dumps((task.datasets()["train"], task.collate)))
    found = collate([dataset.load(index, None) for index in range(5)])
    assert all(torch.equal(found[name], expected[name]) for name in expected)
