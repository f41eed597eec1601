"""Run folders: one run a folder, one writer at a time, one line when it cannot be had."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mltrain.core.errors import RunFolderError
from mltrain.core.run_folder import RunFolder, create_run_folder, open_run_folder, refuse_folder_early

RUNS = Path("runs")


def line(error: pytest.ExceptionInfo[RunFolderError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def python(program: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


def test_a_new_folder_has_its_subfolders() -> None:
    folder = create_run_folder(RUNS / "deep", "a", numbered=False)
    assert folder.path == (RUNS / "deep" / "a").resolve()
    assert folder.name == "a"
    assert sorted(path.name for path in folder.path.iterdir()) == ["checkpoints", "logs", "reports", "tracking"]


def test_names_of_the_program_are_numbered() -> None:
    assert [create_run_folder(RUNS, "a", numbered=True).name for _ in range(3)] == ["a", "a_2", "a_3"]
    (RUNS / "b").touch()
    (RUNS / "c").symlink_to("nowhere")
    assert [create_run_folder(RUNS, name, numbered=True).name for name in "bc"] == ["b_2", "c_2"]


def test_a_name_of_the_user_that_is_taken_is_refused() -> None:
    create_run_folder(RUNS, "a", numbered=False).config.touch()
    (RUNS / "b").mkdir()
    create_run_folder(RUNS, "c", numbered=False)
    for name, said in {
        "a": "this run already exists. Choose another --run_name, or continue it with --resume runs/a.",
        "b": "is there already, and is no run. Choose another --run_name.",
        "c": "this run was ended before it had begun, or is about to begin. If no process is at it, give the command "
        "that started it, with --run_name c --resume auto.",
    }.items():
        with pytest.raises(RunFolderError) as raised:
            create_run_folder(RUNS, name, numbered=False)
        assert line(raised) == f"runs/{name}: {said}"
    with pytest.raises(RunFolderError, match=r"before it had begun.*--run_name c --resume auto"):
        open_run_folder(RUNS / "c")


def test_a_folder_that_a_killed_run_left_before_it_began_is_taken_where_that_is_asked_for() -> None:
    folder = create_run_folder(RUNS, "a", numbered=False)
    folder.lock().release()
    for name in ("logs/train.log", "metadata.json", ".config.yaml.7-8.tmp"):
        (folder.path / name).touch()
    refuse_folder_early(RUNS, "a", may_be_left=True)
    assert create_run_folder(RUNS, "a", numbered=False, may_be_left=True) == folder
    assert (folder.path / "metadata.json").is_file()


@pytest.mark.parametrize("name", ["config.yaml", "notes.txt", "checkpoints/step-00000001/MANIFEST.json", "a.tmp"])
def test_a_folder_that_holds_anything_else_is_never_taken(name: str) -> None:
    folder = create_run_folder(RUNS, "a", numbered=False)
    (folder.path / name).parent.mkdir(exist_ok=True)
    (folder.path / name).touch()
    with pytest.raises(RunFolderError, match="already"):
        refuse_folder_early(RUNS, "a", may_be_left=True)
    with pytest.raises(RunFolderError, match="already"):
        create_run_folder(RUNS, "a", numbered=False, may_be_left=True)


@pytest.mark.parametrize(
    "name", ["", " ", ".", "..", ".hidden", "a/b", "a\\b", "a\0", "a\nb", "a\tb", "\x1b[31m", "a\udce9"]
)
def test_names_that_no_folder_should_have(name: str) -> None:
    for numbered in (True, False):
        with pytest.raises(RunFolderError) as raised:
            create_run_folder(RUNS, name, numbered=numbered)
        assert line(raised).startswith("run.name: ")
    assert not RUNS.exists()


def test_a_name_that_is_too_long_is_refused_before_the_disk_does() -> None:
    assert create_run_folder(RUNS, "ü" * 100, numbered=False).path.is_dir()
    with pytest.raises(RunFolderError, match=r"it has 202 bytes\. Use at most 200\.$"):
        create_run_folder(RUNS, "ü" * 101, numbered=True)


@pytest.mark.parametrize("name", ["a b", "ünï", "🐝", "a=1.5,b", "-x", "CON"])
def test_other_names_are_free(name: str) -> None:
    assert create_run_folder(RUNS, name, numbered=False).path.is_dir()


def test_a_parent_that_cannot_be_written_gives_a_line() -> None:
    Path("file").touch()
    for parent in (Path("file"), Path("file/deeper"), Path("/proc/runs")):
        with pytest.raises(RunFolderError) as raised:
            create_run_folder(parent, "a", numbered=True)
        assert line(raised).startswith(f"{parent}: cannot write here (")
        assert line(raised).endswith("Choose another run.dir, or mend its permissions.")


def test_of_several_at_once_each_gets_a_folder_of_its_own() -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: create_run_folder(RUNS, "a", numbered=True).name, range(16)))
    assert sorted(folders) == sorted(["a", *(f"a_{number}" for number in range(2, 17))])


def test_of_several_processes_one_gets_the_users_name() -> None:
    program = f"""
import time
from pathlib import Path
from mltrain.core.run_folder import create_run_folder, RunFolderError
time.sleep(max(0, {time.time() + 1.0} - time.time()))
try:
    create_run_folder(Path("runs"), "a", numbered=False)
    print("made")
except RunFolderError as error:
    print(error)
"""
    processes = [python(program) for _ in range(4)]
    said = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert said.count("made") == 1
    assert sum("is about to begin" in text or "is there already" in text for text in said) == 3


def test_an_earlier_run_is_opened() -> None:
    made = create_run_folder(RUNS, "a", numbered=False)
    (RUNS / "b").mkdir()
    for target in (RUNS / "b", Path("nowhere"), Path("a\0b")):
        with pytest.raises(RunFolderError, match="not a run folder"):
            open_run_folder(target)
    made.config.write_text("x: 1\n")
    made.reports.rmdir()
    assert open_run_folder(RUNS / "a") == made
    assert made.reports.is_dir()
    made.reports.rmdir()
    made.reports.touch()
    with pytest.raises(RunFolderError, match="cannot write here"):
        open_run_folder(RUNS / "a")


def test_a_second_writer_is_refused_until_the_first_ends() -> None:
    folder = create_run_folder(RUNS, "a", numbered=False)
    with folder.lock():
        with pytest.raises(RunFolderError) as raised:
            RunFolder(folder.path).lock()
        assert line(raised) == (
            f"{folder.path}: another process is writing into this run folder. "
            "Wait for it to end, or start a run of another name."
        )
    with folder.lock():
        pass


HOLDER = """
import os, sys, time
from pathlib import Path
from mltrain.core.run_folder import RunFolder
lock = RunFolder(Path("runs/a")).lock()
if os.fork() == 0:  # as the workers of a DataLoader are: they outlive a parent that is killed, for seconds
    print("held", flush=True)  # by the child: a child that has not run yet holds what its parent held
    time.sleep(20)
    os._exit(0)
time.sleep(20)
"""


def test_the_lock_of_a_killed_process_is_free_at_once_even_if_its_children_live() -> None:
    folder = create_run_folder(RUNS, "a", numbered=False)
    holder = python(HOLDER)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(RunFolderError, match="another process is writing"):
        folder.lock()
    children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    try:
        assert [Path(f"/proc/{child}").exists() for child in children] == [True]
        with folder.lock():
            pass
    finally:
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        holder.stdout.close()


def test_a_forked_child_does_not_free_the_lock_of_its_parent() -> None:
    folder = create_run_folder(RUNS, "a", numbered=False)
    with folder.lock():
        if (child := os.fork()) == 0:
            os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(RunFolderError, match="another process is writing"):
            folder.lock()


def test_a_lock_that_cannot_be_made_gives_a_line() -> None:
    with pytest.raises(RunFolderError, match="cannot write here"):
        RunFolder(Path("/proc/nowhere")).lock()
    Path("file").touch()
    with pytest.raises(RunFolderError, match="cannot write here"):
        RunFolder(Path("file")).lock()
