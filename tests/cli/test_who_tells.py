"""Of the processes of a launch one prints what has happened, and each ends with the code that says it."""

from __future__ import annotations

import pytest

from mltrain.cli.failures import guarded
from mltrain.core.errors import TOLD_ELSEWHERE, ConfigError, LostProcessError, SignalError


def ends(error: BaseException, rank: int, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("RANK", str(rank))

    def run(_: None) -> int:
        raise error

    return guarded(run, None, debug=False)


@pytest.mark.parametrize(("rank", "told_by", "tells"), [(0, 0, True), (1, 0, False), (1, 1, True), (2, 1, False)])
def test_one_process_tells_of_a_lost_one(
    rank: int, told_by: int, tells: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends(LostProcessError("rank 3 has died", told_by=told_by), rank, monkeypatch) == 75
    assert capsys.readouterr().err == ("error: rank 3 has died\n" if tells else "")


def test_what_another_process_could_not_go_on_for_may_be_the_users_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ends(LostProcessError("rank 1 has failed", exit_code=2), 0, monkeypatch) == 2


@pytest.mark.parametrize(
    ("error", "rank", "code", "tells"),
    [
        (ConfigError("is wrong"), 0, 2, True),
        (ConfigError("is wrong"), 1, 2, False),
        (ValueError("a defect"), 1, 1, True),
    ],
)
def test_errors_of_its_own(
    error: Exception,
    rank: int,
    code: int,
    tells: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ends(error, rank, monkeypatch) == code
    assert bool(capsys.readouterr().err) == tells
    error.add_note(TOLD_ELSEWHERE)
    assert ends(error, rank, monkeypatch) == code
    assert bool(capsys.readouterr().err) == (rank == 0)


def test_a_signal_does_not_hide_that_another_process_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "0")

    def run(_: None) -> int:
        try:
            raise LostProcessError("rank 1 has died")
        finally:
            raise SignalError(15)

    assert guarded(run, None, debug=False) == 75
    assert capsys.readouterr().err == "error: rank 1 has died\n"
    assert ends(SignalError(15), 0, monkeypatch) == 143
