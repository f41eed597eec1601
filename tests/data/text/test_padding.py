"""Sequences as one tensor: nothing is lost, and the mask tells what fills."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mltrain.data.text.padding import pad_batch

sequences = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=12), min_size=1, max_size=8)


@settings(max_examples=100, deadline=None)
@given(sequences=sequences, pad_id=st.integers(0, 5))
def test_values_stand_before_what_fills(sequences: list[list[int]], pad_id: int) -> None:
    values, mask = pad_batch([np.asarray(sequence, dtype=np.int32) for sequence in sequences], pad_id)
    assert values.shape == mask.shape == (len(sequences), max(map(len, sequences)))
    for row, sequence in enumerate(sequences):
        assert values[row].tolist() == sequence + [pad_id] * (values.shape[1] - len(sequence))
        assert mask[row].tolist() == [1] * len(sequence) + [0] * (mask.shape[1] - len(sequence))
