"""What a task computes from private data before training: refused, or accepted and told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mltrain.core.errors import ConfigError
from mltrain.core.files import read_json

PRIVATE = {"task": "fitted_vectors", "training.trainer_type": "dp", "training.dp.noise_multiplier": 1.0}


def test_what_was_fitted_on_private_data_is_refused(train_vectors: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="the means would be computed from the training data without noise"):
        train_vectors(PRIVATE)


@pytest.mark.usefixtures("quick_reports")
def test_what_the_user_accepts_stands_in_the_statement(train_vectors: Callable[..., Any]) -> None:
    result = train_vectors({**PRIVATE, "training.dp.accept_fitted_leak": True, "training.num_epochs": 1})
    facts = read_json(Path(result.folder) / "reports" / "privacy.json")
    told = "The means, which the model holds: computed from the training data before training, without noise."
    assert any(text.startswith(told) for text in facts["not_covered"])
    assert any(text.startswith(told) for text in facts["conditions"])
