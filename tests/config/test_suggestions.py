"""A key that is not known is met with the one that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_cases import BASE, CLASS, problems

from mltrain.config import suggestions
from mltrain.config.suggestions import known_keys


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        # Keys of other tools.
        ("epochs: 5", "epochs", "Here it is called training.num_epochs."),
        ("training: {epochs: 5}", "training.epochs", "Here it is called training.num_epochs."),
        ("learning_rate: 1", "learning_rate", "Here it is called optimizer.lr."),
        ("optimizer: {learning_rate: 1}", "optimizer.learning_rate", "Here it is called optimizer.lr."),
        ("lr_scheduler: cosine", "lr_scheduler", "Here it is called scheduler.name."),
        ("gradient_clip: 1", "gradient_clip", "Here it is called training.max_grad_norm."),
        ("mixed_precision: fp16", "mixed_precision", "Here it is called training.trainer_type: mixed_precision, with "),
        ("EPOCHS: 5", "EPOCHS", "Here it is called training.num_epochs."),
        ("max-epochs: 5", "max-epochs", "Here it is called training.num_epochs."),
        # Misspelt.
        ("traning: {}", "traning", "Did you mean training?"),
        ("training: {batchsize: 5}", "training.batchsize", "Did you mean training.batch_size?"),
        ("training: {batch-size: 5}", "training.batch-size", "Did you mean training.batch_size?"),
        ("training: {ema: {decai: 5}}", "training.ema.decai", "Did you mean training.ema.decay?"),
        # Misplaced.
        ("batch_size: 5", "batch_size", "Did you mean training.batch_size?"),
        ("training: {lr: 1}", "training.lr", "Did you mean optimizer.lr?"),
        ("early_stopping: {min_lr: 1}", "early_stopping.min_lr", "Did you mean scheduler.min_lr?"),
        ("training: {patience: 1}", "training.patience", "Did you mean scheduler.patience or early_stopping.patience?"),
        ("batchsize: 5", "batchsize", "Did you mean training.batch_size?"),
        # Neither.
        ("run: {qqqq: 5}", "run.qqqq", "Known here: dir, name, description, tags."),
        ("model: {architecture: mlp, zzzz: 1}", "model.zzzz", "Known here: architecture, options, num_classes, w"),
        ("training: {nope: 3}", "training.nope", "Known here: trainer_type, "),
        ("training: {ema: {modules: 3}}", "training.ema.modules", "Known here: enabled, "),
        ("training: {true: 3}", "training.true", "Known here: trainer_type, "),
        ("training: {'': 3}", "training.", "Known here: trainer_type, "),
    ],
)  # fmt: skip
def test_an_unknown_key(text: str, key: str, hint: str) -> None:
    base = BASE.replace("model: {architecture: mlp}\n", "") if text.startswith("model") else BASE
    (line,) = problems(f"{base}{text}\n")
    number = base.count("\n") + 1
    assert line.startswith(f"c.yaml:{number}, {key}: unknown key. {hint}")


def test_every_unknown_key_has_its_own_line() -> None:
    lines = problems(f"{BASE}epochs: 1\ntraining:\n  lr: 1\n  batchsize: 2\n")
    assert [line.split(", ")[0] for line in lines] == ["c.yaml:4", "c.yaml:6", "c.yaml:7"]


def test_every_key_of_another_tool_leads_to_one_of_ours() -> None:
    known = set(known_keys(CLASS))
    for foreign, ours in suggestions._FOREIGN.items():
        assert ours.partition(":")[0] in known, f"{foreign} leads to {ours}"
        assert foreign not in CLASS.model_fields


def test_no_hint_leads_to_a_key_that_the_task_lacks() -> None:
    from mltrain.config.schema import Config

    assert "data.image_size" in set(known_keys(CLASS)) - set(known_keys(Config))
    hint = suggestions.suggestion(Config, Config, "", "img_size")
    assert "image_size" not in hint


def test_keys_of_plugins_sections_are_free() -> None:
    from config_cases import load

    config = load(f"{BASE}callbacks: {{mine: {{epochs: 3}}}}\n", ["tracking.others.mine.learning_rate=3"]).config
    assert config.callbacks == {"mine": {"epochs": 3}}
    assert config.tracking.others == {"mine": {"learning_rate": 3}}
    assert Path("c.yaml").is_file()
