"""A published encoder, fine-tuned from its folder: what is taken, what is new, and that the ready configurations train.

The figures of docs/fine-tuning.md are those of whole runs; here each configuration trains on a few rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from pretrained import pretrained_encoder
from safetensors.torch import load_file

import mltrain
from mltrain.models.text_models import build_text_model, published_text_weights
from mltrain.models.weight_loading import load_weights
from mltrain.models.weights import find_weights
from mltrain.workflows.split_rows import split_rows

QUIET = {"tracking.mlflow.enabled": False, "tracking.system_metrics.enabled": False, "reproducibility.num_threads": 1}
PRIVATE = {"training.batch_size": 8, "training.dp.accountant": "rdp"}
SHAPE = {"vocab_size": 30522, "pad_id": 0, "max_length": 64, "options": {}}


@pytest.fixture(scope="module")
def encoder() -> Path:
    return pretrained_encoder()


@pytest.mark.parametrize(
    ("head", "new"),
    [("sequence_classification", {"classifier"}), ("question_answering", {"qa_outputs"}), ("encoder", set())],
)
def test_all_of_it_is_taken_and_the_head_alone_is_new(encoder: Path, head: Any, new: set[str]) -> None:
    torch.manual_seed(0)
    model = build_text_model(str(encoder), head, **SHAPE)
    load_weights(model, find_weights("DEFAULT", str(encoder), published_text_weights))
    published = load_file(encoder / "model.safetensors")
    for name, tensor in model.state_dict().items():
        if name.partition(".")[0] in new:
            assert name.removeprefix("bert.") not in published
        else:
            assert torch.equal(tensor, published[name.removeprefix("bert.")]), name


@pytest.fixture
def few_messages(encoder: Path, quick_reports: None) -> None:
    """Data and weights where the configurations look for them."""
    lines = [f"{'spam' if n % 2 else 'ham'}\t{'win' if n % 2 else 'see you at'} {n} now" for n in range(40)]
    Path("data/sms").mkdir(parents=True)
    Path("data/sms/sms_spam.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    split_rows(Path("data/sms/sms_spam.tsv"), label="label", column_names=["label", "text"], quoting="none", folds=5)
    Path("weights").mkdir()
    Path("weights/all-minilm-l6-v2").symlink_to(encoder)


@pytest.mark.slow
@pytest.mark.usefixtures("few_messages")
@pytest.mark.parametrize(
    ("config", "overrides"),
    [
        ("sms_spam_pretrained", {}),
        ("sms_spam_pretrained", {"training.trainer_type": "mixed_precision", "model.lora": {}}),
        ("sms_spam_private", PRIVATE),
        ("sms_spam_private", {**PRIVATE, "model.freeze": None, "model.lora": {}}),
    ],
    ids=["pretrained", "lora", "private", "private_lora"],
)
def test_a_ready_configuration_trains_and_its_package_predicts(config: str, overrides: dict[str, Any]) -> None:
    settings = {**QUIET, **overrides, "training.num_epochs": 1, "run.name": "it"}
    result = mltrain.train(ROOT / "configs" / f"{config}.yaml", settings, verbose=False)
    assert result.summary["status"] == "completed"
    rows = mltrain.load_model(result.folder).predict(["win 7 now", "see you at 8 now"])
    assert {row["class"] for row in rows} <= {"ham", "spam"}
    own_layers = "model.lora" in overrides or config == "sms_spam_private"
    assert (result.folder / "model" / "config.json").exists() == (not own_layers)
    learned = load_file(result.folder / "model" / "model.safetensors")
    published = load_file(Path("weights/all-minilm-l6-v2/model.safetensors"))
    base = ".base_layer" if "model.lora" in overrides else ""
    kept = torch.equal(
        learned[f"bert.encoder.layer.0.output.dense{base}.weight"], published["encoder.layer.0.output.dense.weight"]
    )
    assert kept == own_layers
    norm = torch.equal(learned["bert.embeddings.LayerNorm.weight"], published["embeddings.LayerNorm.weight"])
    assert norm == ("model.lora" in overrides)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "overrides"),
    [("sms_evidence_pretrained", {}), ("sms_evidence_private", PRIVATE)],
    ids=["pretrained", "private"],
)
def test_a_ready_configuration_of_spans_trains_and_its_package_answers(
    encoder: Path, quick_reports: None, config: str, overrides: dict[str, Any]
) -> None:
    rows = [f"win {n} now,spam,{n},4,{4 + len(str(n))}" if n % 2 else f"see you at {n},ham,,-1,-1" for n in range(40)]
    Path("data/sms_evidence").mkdir(parents=True)
    table = Path("data/sms_evidence/sms_evidence.csv")
    table.write_text("\n".join(["text,label,evidence,evidence_start,evidence_end", *rows]) + "\n", encoding="utf-8")
    split_rows(table, label="label", content=["text"], folds=5)
    Path("weights").mkdir()
    Path("weights/all-minilm-l6-v2").symlink_to(encoder)
    settings = {**QUIET, **overrides, "training.num_epochs": 1, "run.name": "it"}
    result = mltrain.train(ROOT / "configs" / f"{config}.yaml", settings, verbose=False)
    assert result.summary["status"] == "completed"
    (row,) = mltrain.load_model(result.folder).predict("win 7 now")
    assert row["answer"] in "win 7 now"
