"""The picture of a run: which curves it shows, and that nothing odd keeps it from being drawn."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mltrain.workflows.curves import _panels, draw_curves

RECORDS: list[dict[str, Any]] = [
    {"step": 2, "train/step_loss": 1.0, "train/lr": 0.1, "train/samples_per_s": 5.0},
    {"step": 4, "train/step_loss": 0.5, "train/lr": 0.05},
    {"step": 4, "train/loss": 0.7, "val/loss": 0.8, "train/accuracy": 0.5, "val/accuracy": None},
    {"step": 8, "train/loss": 0.4, "val/loss": None, "train/accuracy": 0.75, "val/accuracy": 0.5},
]


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        colours = image.convert("RGB").getcolors(1 << 20)
        assert colours is not None
        assert len(colours) > 20, "nothing is drawn"
        return image.size


def test_a_panel_for_each_metric_that_train_and_validation_share() -> None:
    assert _panels(RECORDS) == {
        "loss": {"train, by step": "train/step_loss", "train": "train/loss", "validation": "val/loss"},
        "accuracy": {"train": "train/accuracy", "validation": "val/accuracy"},
        "learning rate": {"learning rate": "train/lr"},
    }


def drawn_texts(monkeypatch: pytest.MonkeyPatch, records: list[dict[str, Any]]) -> list[str]:
    """Return the titles and the entries of the legends of a picture."""
    from matplotlib.figure import Figure

    texts: list[str] = []

    def note(figure: Figure, *_: Any, **__: Any) -> None:
        for axes in figure.axes:
            legend = axes.get_legend()
            texts.extend([axes.get_title(), *(text.get_text() for text in (legend.get_texts() if legend else []))])

    monkeypatch.setattr(Figure, "savefig", note)
    draw_curves(records, Path("x.png"), title="x")
    return texts


def test_what_is_not_private_is_labelled_and_epsilon_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = ["train/loss", "val/loss", "train/accuracy", "train/step_loss"]
    records = [{**record, "non_private": [name for name in record if name in listed]} for record in RECORDS]
    assert drawn_texts(monkeypatch, [*records, {"step": 8, "privacy/epsilon": 1.5}]) == [
        "loss (not private)", "train, by step", "train", "validation",
        "accuracy", "train (not private)", "validation",
        "learning rate",
        "epsilon",
    ]  # fmt: skip
    assert not any("private" in text for text in drawn_texts(monkeypatch, RECORDS))


def test_without_validation_the_loss_is_shown_all_the_same() -> None:
    records = [{key: value for key, value in record.items() if not key.startswith("val/")} for record in RECORDS]
    assert _panels(records)["loss"] == {"train, by step": "train/step_loss", "train": "train/loss"}


def test_the_picture_grows_with_the_panels(tmp_path: Path) -> None:
    draw_curves(RECORDS, tmp_path / "three.png", title="three")
    draw_curves([{"step": 1, "train/lr": 0.1}], tmp_path / "one.png", title="one")
    more = {f"{split}/metric_{n}": 0.5 for split in ("train", "val") for n in range(5)}
    draw_curves([*RECORDS, {"step": 9, **more}], tmp_path / "eight.png", title="eight")
    one, three, eight = (size(tmp_path / f"{name}.png") for name in ("one", "three", "eight"))
    assert three == (3 * one[0], one[1])
    assert eight[1] == pytest.approx(3 * one[1], abs=3)


@pytest.mark.parametrize(
    "records", [[], [{"step": 1}], [{"step": 1, "train/loss": None}], [{"step": 1, "test/loss": 1.0}]]
)
def test_where_there_is_nothing_to_show_there_is_no_picture(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    draw_curves(records, tmp_path / "x.png", title="x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("title", ["cost_$x$", "a$_$b", "$\\frac{", "🐝 蜜蜂", "", "a_b^c"])
def test_odd_names_are_drawn_without_a_word(tmp_path: Path, title: str) -> None:
    records = [{"step": step, f"train/{title}": 1.0, f"val/{title}": 2.0, "train/lr": 0.1} for step in (1, 2)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_curves(records, tmp_path / "x.png", title=title)
    size(tmp_path / "x.png")


def test_one_point_and_very_large_values(tmp_path: Path) -> None:
    draw_curves([{"step": 3, "train/loss": 1e30, "val/loss": 1e-30}], tmp_path / "x.png", title="x")
    size(tmp_path / "x.png")
