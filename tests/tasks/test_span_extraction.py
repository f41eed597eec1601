"""Answers in texts: from a table to windows, losses, metrics and a packed model; and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from per_example import relative_error
from span_tables import span_config, span_rows, write_span_table

import mltrain
from mltrain.config.load import check_config
from mltrain.core.errors import ConfigError, DataError
from mltrain.data.text.answers import NO_ANSWER
from mltrain.metrics.squad import squad_figures
from mltrain.models.private_layers import adapt_for_privacy
from mltrain.privacy.clipping import ClippedGradients
from mltrain.tasks.base import task_config_class
from mltrain.tasks.joint import Joint
from mltrain.tasks.span_extraction import SpanExtraction

TASKS = {"span_extraction": SpanExtraction, "joint": Joint}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("spans")
    write_span_table(data / "texts.csv", span_rows(60))
    return data


def task_of(folder: Path, overrides: dict[str, Any] | None = None, name: str = "span_extraction") -> Any:
    settings = {"data.num_workers": 0, **(overrides or {})}
    return TASKS[name](check_config(span_config(folder, name), settings, task_config_class).config)


def batch_of(task: Any, split: str, rows: list[int]) -> dict[str, torch.Tensor]:
    dataset = task.datasets()[split]
    return task.collate([dataset.load(row, None) for row in rows])


@pytest.mark.parametrize("name", TASKS)
def test_a_rows_loss_depends_neither_on_the_others_nor_on_padding(folder: Path, name: str) -> None:
    task = task_of(folder, {"model.options": {"hidden_dropout_prob": 0.0}}, name)
    model = task.build_model().eval()
    rows = list(range(12))
    batch = batch_of(task, "train", rows)
    assert batch["input_ids"].ndim == 3
    assert batch["windows"].sum(dim=1).unique().numel() > 1, "some rows have several windows, some one"
    together = task.losses(model, batch).values
    for row in rows:
        torch.testing.assert_close(task.losses(model, batch_of(task, "train", [row])).values[0], together[row])


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("mode", ["hooks", "ghost"])
@pytest.mark.parametrize("architecture", ["bert_tiny", "cnn_text"])
def test_a_row_of_several_windows_is_clipped_as_one_example(
    folder: Path, name: str, mode: Any, architecture: str
) -> None:
    options = {"cnn_text": {"width": 8, "filters": 6, "kernels": [3, 4], "dropout": 0.0}}
    overrides = {"model.architecture": architecture, "model.options": options.get(architecture, TINY_STILL)}
    if name == "joint":
        overrides |= {"model.loss_weights": "uncertainty", "model.head_dropout": 0.0}
    task = task_of(folder, overrides, name)
    model = task.build_model()
    batch = batch_of(task, "train", list(range(6)))
    assert batch["windows"].shape[1] > 1
    expected = [torch.zeros_like(parameter) for parameter in model.parameters()]
    norms, bound = [], 0.5
    for row in range(6):
        alone = {key: tensor[row : row + 1] for key, tensor in batch.items()}
        found = torch.autograd.grad(task.losses(model, alone).values.sum(), list(model.parameters()))
        norms.append(torch.cat([gradient.flatten() for gradient in found]).norm())
        for total, gradient in zip(expected, found, strict=True):
            total += gradient * (bound / norms[-1]).clamp(max=1.0)
    private = copy.deepcopy(model)
    adapt_for_privacy(private)
    torch.testing.assert_close(task.losses(private, batch).values, task.losses(model, batch).values)
    clipped = ClippedGradients(private, bound, mode)
    torch.testing.assert_close(clipped.add(task.losses(private, batch).values), torch.stack(norms))
    assert relative_error(clipped.sums, expected) < 1e-5
    clipped.close()


TINY_STILL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def test_metrics_are_squads_over_the_words_of_the_original_texts(folder: Path) -> None:
    task = task_of(folder)
    model, rows = task.build_model().eval(), span_rows(60)
    dataset = task.datasets()["train"]
    merged, halves = task.metrics(), [task.metrics(), task.metrics()]
    predicted, right = [], []
    for start in range(0, len(dataset), 5):
        batch = batch_of(task, "train", list(range(start, min(start + 5, len(dataset)))))
        outputs = task.losses(model, batch).outputs
        halves[start % 2].update(outputs, batch)
        for number, row in zip(batch["rows"].tolist(), task.predictions(outputs), strict=True):
            assert rows[number]["text"][row["start"] : row["end"]] == row["answer"] or row["start"] == -1
            predicted.append(row["answer"])
            right.append([rows[number]["answer"]] if rows[number]["answer"] else [])
    for half in halves:
        merged.merge(half.state())
    found = merged.compute()
    assert {name: found[name] for name in ("exact_match", "f1")} == pytest.approx(squad_figures(predicted, right))
    of_some = {}
    for has in (True, False):
        chosen = [pair for pair in zip(predicted, right, strict=True) if bool(pair[1]) == has]
        of_some[has] = squad_figures(*zip(*chosen, strict=True))
    assert found["exact_match_answered"] == pytest.approx(of_some[True]["exact_match"])
    assert found["f1_answered"] == pytest.approx(of_some[True]["f1"])
    assert found["no_answer_accuracy"] == pytest.approx(of_some[False]["exact_match"])
    assert set(merged.names) == set(found)


def test_right_tokens_give_the_answers_of_the_table_to_the_character(folder: Path) -> None:
    task = task_of(folder)
    metrics, rows = task.metrics(), span_rows(60)
    for split, dataset in task.datasets().items():
        batch = batch_of(task, split, list(range(len(dataset))))
        held = batch["targets"][..., 1] > 0
        window = torch.where(held.any(dim=1), held.float().argmax(dim=1), -1)
        places = batch["targets"][torch.arange(len(window)), window.clamp(min=0)]
        outputs = {
            "rows": batch["rows"], "window": window, "first": places[:, 0], "last": places[:, 1],
            "score": torch.ones(len(window)),
        }  # fmt: skip
        for number, row in zip(batch["rows"].tolist(), task.predictions(outputs), strict=True):
            assert (row["start"], row["end"]) == (rows[number]["answer_start"], rows[number]["answer_end"])
            assert row["answer"] == rows[number]["answer"]
        metrics.update(outputs, batch)
    assert set(metrics.compute().values()) == {1.0}


def test_without_rows_that_have_no_answer_there_are_two_figures(folder: Path, tmp_path: Path) -> None:
    write_span_table(tmp_path / "texts.csv", [row for row in span_rows(60) if row["answer"]])
    task = task_of(tmp_path)
    assert task.metrics().names == ("exact_match", "f1")
    assert NO_ANSWER not in task.rows.spans


def test_one_question_for_all_or_none(folder: Path) -> None:
    alone = task_of(folder, {"data.question_column": None})
    asked = task_of(folder, {"data.question_column": None, "data.question": "how much"})
    lengths = [len(task.datasets()["train"].load(0, None).tokens[0][0]) for task in (alone, asked)]
    assert lengths[1] > lengths[0] or len(asked.datasets()["train"].load(0, None).tokens) > 1
    with pytest.raises(ConfigError, match=r"data\.question: is set beside data\.question_column"):
        task_of(folder, {"data.question": "how much"})


def test_splits_that_are_evaluated_go_from_short_rows_to_long_ones(folder: Path) -> None:
    task = task_of(folder, {"data.length_bucketing": True})
    lengths = {
        split: [sum(len(ids) for ids, _ in dataset.load(row, None).tokens) for row in range(len(dataset))]
        for split, dataset in task.datasets().items()
    }
    assert lengths["val"] == sorted(lengths["val"])
    assert list(task.sample_lengths()) == lengths["train"] != sorted(lengths["train"])
    assert task_of(folder).sample_lengths() is None


def test_wrong_answers_are_told_with_their_lines(tmp_path: Path) -> None:
    rows = span_rows(20)
    rows[1]["answer_start"] += 1
    rows[2]["answer_end"] -= 1
    rows[3]["answer_start"] = 4
    rows[4]["answer_start"] = "x"
    write_span_table(tmp_path / "texts.csv", rows)
    with pytest.raises(DataError) as caught:
        task_of(tmp_path, {"data.end_column": "answer_end"})
    lines = "\n".join(caught.value.problems)
    assert "the answer '£" in lines
    for words in ("is not at character", "ends at character", "has no answer, but one begins", "no whole number"):
        assert words in lines or "no finite number" in lines
    assert lines.count("texts.csv:") >= 4


def test_a_tokenizer_without_cls_is_refused(folder: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "call": 2}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(tmp_path / "t")
    task = task_of(folder, {"model.tokenizer": str(tmp_path / "t")})
    with pytest.raises(ConfigError, match=r"model\.tokenizer: the tokenizer puts no token such as \[CLS\]"):
        task.datasets()


def test_answers_that_cannot_be_learned_are_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    task = task_of(folder, {"data.max_answer_length": 1, "data.max_length": 10, "data.stride": 0})
    task.datasets()
    assert "answers lie in no window as a whole, the first at" in caplog.text
    assert "data.max_answer_length = 1 cuts such predictions off" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ({"data.answer_column": "answr"}, r"there is no column 'answr'.*'answer'"),
        ({"data.max_length": 8, "data.stride": 7}, r"data\.stride: is 7, and a window of 8 tokens has room for 5"),
        ({"data.max_length": 9, "data.stride": 4}, r"texts\.csv:\d+: the question has 2 tokens"),
    ],
)
def test_what_cannot_be_is_told_before_training(folder: Path, overrides: dict[str, Any], problem: str) -> None:
    with pytest.raises((ConfigError, DataError), match=problem):
        task_of(folder, overrides).datasets()


def test_a_misspelt_key_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="stride"):
        mltrain.train(span_config(folder, "span_extraction"), {"data.strid": 3}, verbose=False)


EXACT = """import datasets
import evaluate


class Lengths(evaluate.Metric):
    def _info(self):
        texts = {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
        lists = {**texts, "references": datasets.Sequence(datasets.Value("string"))}
        features = [datasets.Features(texts), datasets.Features(lists)]
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references):
        equal = [predicted == right for predicted, right in zip(predictions, references)]
        return {"same": sum(equal) / len(equal), "letters": sum(map(len, references)), "exact_match": 0.0}
"""
KAPPA = """import datasets
import evaluate


class Agreement(evaluate.Metric):
    def _info(self):
        columns = {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
        return evaluate.MetricInfo(description="", citation="", features=datasets.Features(columns))

    def _compute(self, predictions, references):
        return {"agreement": sum(a == b for a, b in zip(predictions, references)) / len(references)}
"""


@pytest.mark.parametrize("name", TASKS)
def test_modules_of_the_users_are_fed_with_answers_as_texts(folder: Path, tmp_path: Path, name: str) -> None:
    """Of both tasks, one of texts gets the answers and one of numbers the classes."""
    (tmp_path / "lengths.py").write_text(EXACT)
    (tmp_path / "agreement.py").write_text(KAPPA)
    modules, before = [str(tmp_path / "lengths.py")], ""
    if name == "joint":
        modules, before = [*modules, str(tmp_path / "agreement.py")], "span_"
    task = task_of(folder, {"evaluation.metrics": modules}, name)
    batch = batch_of(task, "train", list(range(12)))
    metrics, outputs = task.metrics(), task.losses(task.build_model().eval(), batch).outputs
    metrics.update(outputs, batch)
    found = metrics.compute()
    assert set(found) == set(metrics.names)
    right = [span_rows(60)[number]["answer"] for number in batch["rows"].tolist()]
    predicted = [row["answer"] for row in task.predictions(outputs)]
    assert found[f"{before}letters"] == sum(map(len, right)) > 0
    assert found[f"{before}same"] == pytest.approx(sum(map(str.__eq__, predicted, right)) / 12)
    assert found[f"{before}lengths_exact_match"] == 0.0
    assert ("classification_agreement" in found) == (name == "joint")
    if name == "joint":
        assert found["classification_agreement"] == found["classification_accuracy"]


def test_a_module_of_numbers_is_refused_where_there_are_texts_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "agreement.py").write_text(KAPPA)
    with pytest.raises(ConfigError, match=r"agreement\.py takes int64 as predictions, and this task gives texts"):
        mltrain.train(
            span_config(folder, "span_extraction"),
            {"evaluation.metrics": [str(tmp_path / "agreement.py")]},
            verbose=False,
        )
