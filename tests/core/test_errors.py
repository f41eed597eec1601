"""Errors for people: one line from what, where and what to do, in this process and from another."""

from __future__ import annotations

import pickle

import pytest

from mltrain.core.errors import ConfigError, DataError, HardwareError, MltrainError, one_line


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MltrainError("bad"), "bad"),
        (MltrainError("bad", where="a.yaml:3"), "a.yaml:3: bad"),
        (MltrainError("bad.", where="a", fix="Mend it."), "a: bad. Mend it."),
        (DataError("bad", fix="Mend it."), "bad. Mend it."),
        (DataError("two\nlines", where="a\r\n b", fix="Do\u2028it."), "a b: two lines. Do it."),
        (ConfigError("bad", where="a"), "a: bad"),
        (ConfigError("not valid", problems=["a: bad.", "b:\nworse."]), "a: bad. b: worse."),
    ],
)
def test_one_line_here_and_in_another_process(error: MltrainError, text: str) -> None:
    assert str(error) == text
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == text
    assert type(again) is type(error)
    assert (again.where, again.fix) == (error.where, error.fix)


def test_the_place_can_be_named_better_later() -> None:
    error = HardwareError("none here", where="training.device", fix="Use a CPU.")
    error.where = "a.yaml:3, training.device"
    assert str(error) == "a.yaml:3, training.device: none here. Use a CPU."


def test_problems_one_a_line() -> None:
    assert ConfigError("bad", where="a").problems == ["a: bad"]
    assert ConfigError("not valid", problems=["a\nb", "c"]).problems == ["a b", "c"]
    assert DataError.exit_code == ConfigError.exit_code == 2


def test_one_line_leaves_a_line_as_it_is() -> None:
    assert one_line("  a  b ") == "  a  b "
    assert one_line("a\n\n  b\n") == "a b"
    assert one_line("") == ""
