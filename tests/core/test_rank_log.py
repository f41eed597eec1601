"""The log of the processes beside the first one."""

from __future__ import annotations

from pathlib import Path

import pytest

from mltrain.core.logging import LogContext, close_log, console_log, kept_for_file, log, open_file_log


def test_other_processes_show_nothing_and_keep_their_first_lines_for_their_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    for segment in ("first", "second"):
        with console_log(), kept_for_file(), LogContext.of_a_run():
            log.warning("before the folder of the %s", segment)
            handler = open_file_log(tmp_path / "rank_1.log")
            log.info("in the %s", segment)
            close_log(handler)
    lines = (tmp_path / "rank_1.log").read_text().splitlines()
    told = ["before the folder of the first", "in the first", "before the folder of the second", "in the second"]
    assert [line.split("  ")[-1].strip() for line in lines] == told
    assert [line.split()[2] for line in lines] == ["WARNING", "INFO"] * 2
    assert capsys.readouterr().err == ""
    assert log.handlers == []
