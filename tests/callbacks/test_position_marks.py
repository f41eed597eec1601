"""The marks say where a run stands, at every moment of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mltrain.callbacks.base import Loop, register_callback
from mltrain.callbacks.position_marks import PositionMarks, read_marks

SEEN: list[tuple[str, int]] = []


@register_callback("marks_and_looks")
class MarksAndLooks(PositionMarks):
    """Reads after each mark what a program beside the run would."""

    def _mark(self, phase: str, loop: Loop) -> None:
        super()._mark(phase, loop)
        SEEN.append(read_marks(Path("marks")))


def test_every_event_leaves_its_mark(train_vectors: Any) -> None:
    assert read_marks(Path("marks")) == ("starting", 0)
    settings = {"callbacks.marks_and_looks.file": "marks", "training.num_epochs": 2, "data.train_size": 16}
    train_vectors(settings)
    expected = [("training", 0)]
    for epoch in range(2):
        last = 2 * epoch + 2
        expected += [("training", last - 1), ("training", last), ("validating", last), ("training", last)]
    assert [*expected, ("evaluating", 4)] == SEEN
    assert read_marks(Path("marks")) == ("evaluating", 4)


def test_what_is_no_mark_says_nothing(tmp_path: Path) -> None:
    for content in (b"", b"{", b"\xff"):
        (tmp_path / "marks").write_bytes(content)
        assert read_marks(tmp_path / "marks") == ("starting", 0)
