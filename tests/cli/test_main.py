"""The table of commands, the ways to call them, and what becomes of an error."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mltrain.cli import main as module
from mltrain.cli.main import COMMANDS, main
from mltrain.core.errors import ConfigError, DataError
from mltrain.core.version import __version__

BIN = Path(sys.executable).parent


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException | None], None]:
    """Add the command `fail`, which raises what it is told to."""

    def install(error: BaseException | None) -> None:
        def run(arguments: argparse.Namespace) -> int:
            if error is not None:
                raise error
            return arguments.code

        command = types.ModuleType("failing_command", "Fail.")
        command.add_arguments = lambda parser: parser.add_argument("--code", type=int, default=0)
        command.run = run
        monkeypatch.setitem(sys.modules, "failing_command", command)
        monkeypatch.setitem(COMMANDS, "fail", ("failing_command", "fail"))

    return install


def outcome(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Return exit code and standard error of a call; a parser's own exit counts as one."""
    try:
        code = main(arguments)
    except SystemExit as left:
        code = int(left.code or 0)
    return code, capsys.readouterr().err


# ---- the ways to call it -------------------------------------------------------------------------------------------


def test_help_of_every_command_needs_no_torch() -> None:
    program = """
import contextlib, io, sys
from mltrain.cli.main import COMMANDS, main
for arguments in [[], ["--help"], ["--version"], *([verb, "--help"] for verb in COMMANDS)]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            code = main(arguments)
        except SystemExit as left:
            code = left.code
    assert code in (0, None), arguments
    assert len(printed.getvalue()) > 5, arguments
heavy = {"torch", "numpy", "accelerate", "transformers", "mlflow", "pydantic", "PIL", "matplotlib"}
print(sorted(heavy & set(sys.modules)))
"""
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"


def test_importing_the_package_needs_no_torch() -> None:
    program = "import sys, mltrain\nprint('torch' in sys.modules, mltrain.__version__)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).split() == ["False", __version__]


@pytest.mark.parametrize(
    "command",
    [
        [str(BIN / "mltrain"), "train"],
        [str(BIN / "mltrain"), "--config", "x.yaml"],
        [str(BIN / "ml-train")],
        [sys.executable, "-m", "mltrain", "train"],
        [sys.executable, "-m", "mltrain", "--config", "x.yaml"],
        [sys.executable, str(Path(module.__file__).parents[1]), "train"],
    ],
    ids=["verb", "no verb", "script", "module", "module, no verb", "folder"],
)
def test_every_way_to_train_reaches_the_same_parser(command: list[str]) -> None:
    ended = subprocess.run([*command, "--num_epoch", "3"], capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr == "error: unrecognized arguments: --num_epoch. Did you mean --num_epochs?\n"


def test_a_script_names_its_verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("ml-split", "ml-train.exe"):
        monkeypatch.setattr(sys, "argv", [f"/somewhere/{name}", "--help"])
        with pytest.raises(SystemExit):
            main()
        assert capsys.readouterr().out.startswith(f"usage: {name.removesuffix('.exe')} ")
    for name in ("mltrain", "ml-dance"):
        monkeypatch.setattr(sys, "argv", [f"/somewhere/{name}", "--help"])
        assert main() == 0
        assert capsys.readouterr().out.startswith("usage: mltrain <command> ")


def test_no_arguments_and_help_list_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["-h"], ["--help"]):
        assert main(arguments) == 0
        printed = capsys.readouterr().out
        assert all(f"  {verb} " in printed and text in printed for verb, (_, text) in COMMANDS.items())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mltrain {__version__}\n"


@pytest.mark.parametrize(
    ("verb", "hint"),
    [
        ("trian", "Did you mean train?"),
        ("splitt", "Did you mean split?"),
        ("dance", f"Known: {', '.join(COMMANDS)}."),
        ("", "Known: "),
    ],
)
def test_an_unknown_command(capsys: pytest.CaptureFixture[str], verb: str, hint: str) -> None:
    code, text = outcome(capsys, verb)
    assert code == 2
    assert text.startswith(f"error: unknown command {verb!r}. {hint}")
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["train", "--epochs", "3"], "unrecognized arguments: --epochs. Did you mean --num_epochs?"),
        (["train", "--batchsize=3"], "unrecognized arguments: --batchsize=3. Did you mean --batch_size?"),
        (["train", "--num_ep", "3"], "unrecognized arguments: --num_ep. Did you mean --num_epochs?"),
        (["train", "--zzz"], "unrecognized arguments: --zzz. See mltrain train --help."),
        (["train", "--lr"], "argument --lr: expected one argument. See mltrain train --help."),
        (["--conifg", "x.yaml"], "unrecognized arguments: --conifg. Did you mean --config?"),
        (["split", "--folds", "x"], "argument --folds: invalid int value: 'x'. See mltrain split --help."),
        (["split"], "one of the arguments --raw_data/--raw-data --table is required. See mltrain split --help."),
    ],
)
def test_a_mistake_in_the_flags_gives_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    assert outcome(capsys, *arguments) == (2, f"error: {line}\n")


def test_debug_may_stand_before_the_verb(capsys: pytest.CaptureFixture[str], failing: Any) -> None:
    failing(DataError("bad"))
    for arguments in (["--debug", "fail"], ["fail", "--debug"]):
        code, text = outcome(capsys, *arguments)
        assert code == 2
        assert "Traceback" in text


# ---- what becomes of an error --------------------------------------------------------------------------------------


def test_the_code_of_a_command_is_passed_on(failing: Any) -> None:
    failing(None)
    assert main(["fail"]) == 0
    assert main(["fail", "--code", "143"]) == 143


DEFECT = "(a defect of mltrain; --debug shows where)"
IN_A_WORKER = """Caught KeyError in DataLoader worker process 0.
Original Traceback (most recent call last):
  File x
KeyError: 'y'
"""


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("is empty", where="a.csv:3", fix="Fill it."), 2, "a.csv:3: is empty. Fill it."),
        (DataError("two\nlines"), 2, "two lines"),
        (PermissionError(13, "Permission denied", "runs/a"), 2, "runs/a: Permission denied. Mend that and run again."),
        (OSError(28, "No space left on device"), 2, "this machine: No space left on device. Mend that and run again."),
        (ZeroDivisionError("division\nby zero"), 1, f"ZeroDivisionError: division by zero {DEFECT}"),
        (KeyError("x"), 1, f"KeyError: 'x' {DEFECT}"),
        (FileNotFoundError(2, "No such file", "x"), 1, f"FileNotFoundError: [Errno 2] No such file: 'x' {DEFECT}"),
        (RuntimeError(IN_A_WORKER), 1, f"KeyError: 'y' (in a loader process) {DEFECT}"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_is_one_line_and_a_traceback_only_with_debug(
    capsys: pytest.CaptureFixture[str], failing: Any, error: Exception, code: int, line: str
) -> None:
    failing(error)
    assert outcome(capsys, "fail") == (code, f"error: {line}\n")
    got, text = outcome(capsys, "fail", "--debug")
    assert got == code
    assert text.startswith("Traceback (most recent call last):\n")
    assert text.endswith(f"error: {line}\n")


def test_a_gpu_that_is_full_is_no_defect(capsys: pytest.CaptureFixture[str], failing: Any) -> None:
    import torch

    failing(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nGPU 0 has"))
    code, text = outcome(capsys, "fail")
    assert code == 2
    assert text.startswith(
        "error: the GPU has too little memory: CUDA out of memory. Tried to allocate 2 GiB. GPU 0 has."
    )
    assert "Lower training.batch_size" in text


def test_every_problem_of_a_configuration_has_a_line(capsys: pytest.CaptureFixture[str], failing: Any) -> None:
    failing(ConfigError("not valid", problems=["a: one.", "b: two."]))
    assert outcome(capsys, "fail") == (2, "error: a: one.\nerror: b: two.\n")


def test_of_several_processes_one_speaks_of_the_users_error_and_each_of_a_defect(
    capsys: pytest.CaptureFixture[str], failing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    failing(DataError("bad"))
    assert outcome(capsys, "fail") == (2, "")
    failing(KeyError("x"))
    assert outcome(capsys, "fail")[1] != ""


def test_an_interrupt(capsys: pytest.CaptureFixture[str], failing: Any) -> None:
    failing(KeyboardInterrupt())
    assert outcome(capsys, "fail") == (130, "")


def test_a_very_long_error_is_cut(capsys: pytest.CaptureFixture[str], failing: Any) -> None:
    failing(RuntimeError("x" * 100_000))
    assert len(outcome(capsys, "fail")[1]) < 600


def test_a_reader_that_went_away_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run([BIN / "mltrain", "--help"], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_an_error_of_a_plugin_is_laid_at_its_line(capsys: pytest.CaptureFixture[str], failing: Any) -> None:
    from mltrain.core.plugins import load_plugins

    Path("my_task.py").write_text("import json\n\n\ndef work():\n    return json.loads('{')\n")
    load_plugins(["my_task.py"])
    plugin = next(found for name, found in sys.modules.items() if name.startswith("mltrain_plugin_my_task_"))
    try:
        plugin.work()
    except ValueError as error:
        failing(error)
    code, text = outcome(capsys, "fail")
    assert code == 1
    assert text.startswith("error: my_task.py:5: JSONDecodeError: ")
    assert "raised in a plugin" in text
