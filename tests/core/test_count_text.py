"""Numbers of things as people read them."""

from __future__ import annotations

import pytest

from mltrain.core.count_text import count_text


@pytest.mark.parametrize(
    ("count", "thing", "text"),
    [
        (0, "worker", "0 workers"),
        (1, "process", "1 process"),
        (2, "process", "2 processes"),
        (1024, "batch", "1,024 batches"),
    ],
)
def test_singular_and_plural(count: int, thing: str, text: str) -> None:
    assert count_text(count, thing) == text
