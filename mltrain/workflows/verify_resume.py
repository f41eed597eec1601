"""The proof, for a user's own configuration, that a run which is killed anywhere continues to the same bits."""

from __future__ import annotations

import contextlib
import json
import random
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mltrain.config.yaml_file import dump_yaml
from mltrain.core.errors import ConfigError, RunFolderError, one_line
from mltrain.core.files import read_record, write_text
from mltrain.core.logging import log
from mltrain.core.run_folder import RunFolder
from mltrain.core.seeding import stream_key
from mltrain.tracking.metrics_log import read_metrics
from mltrain.workflows.child_runs import ChildRun, Launcher, command_launcher
from mltrain.workflows.kill_points import KillPoint, draw_kill_points, earlier
from mltrain.workflows.killed_run import Kill, KilledRun
from mltrain.workflows.request import ConfigLike
from mltrain.workflows.run_comparison import Comparison, compare_runs
from mltrain.workflows.run_watch import RunWatch, Timeline, observe
from mltrain.workflows.verify_settings import check_verification, verification_settings

__all__ = ["Verification", "verify_resume"]

_CONFIG = "verification.yaml"
_STRAIGHT = "straight"
_MOST_MISSES = 6


@dataclass(frozen=True)
class Verification:
    """What came of it.

    Attributes:
        same: every killed run ended as the straight one did.
        verdict: one line for people.
        kills: in order.
        folder: where the runs are kept, which is done where they differ; else None.
    """

    same: bool
    verdict: str
    kills: tuple[Kill, ...]
    folder: Path | None = None


def verify_resume(
    config: ConfigLike,
    overrides: Mapping[str, Any] | None = None,
    *,
    kills: int = 5,
    num_processes: int = 1,
    output: Path | None = None,
    launcher: Launcher | None = None,
    by_hand: str = "overrides",
) -> Verification:
    """Train straight through, then again with SIGKILLs at random moments, and compare to the bit.

    The moments follow from the configuration's seed and from how long the straight run took.

    Args:
        config, overrides: as `mltrain.train` takes them.
        kills: how many; each hits a run that is going on.
        num_processes: of each run, as for `ml-train --num_processes`.
        output: folder below which the runs lie while they are needed; None: the configuration's `run.dir`.
        launcher: starts the runs; None: as commands.
        by_hand: what the overrides are called in errors.

    Raises:
        MltrainError: the configuration cannot be used, or its run is too short to be killed.
    """
    if kills < 1 or num_processes < 1:
        where = "kills" if kills < 1 else "num_processes"
        raise ConfigError(f"is {min(kills, num_processes)}", where=where, fix="Use 1 or more.")
    loaded, steps = check_verification(config, overrides, num_processes=num_processes, by_hand=by_hand)
    with _new_folder(output or Path(loaded.config.run.dir).expanduser()) as (folder, cleaning):
        settings = verification_settings(loaded, steps, folder)
        write_text(folder / _CONFIG, dump_yaml(settings))
        generator = random.Random(stream_key(loaded.config.seed, "kills"))
        found = _Runs(folder, launcher or command_launcher(num_processes), generator).verify(kills)
        if not found.same:
            cleaning.pop_all()
            found = replace(found, folder=folder)
    return found


@contextlib.contextmanager
def _new_folder(parent: Path) -> Iterator[tuple[Path, contextlib.ExitStack]]:
    """Give a new folder, and what deletes it when the block ends, unless that is told to forget it."""
    made = [path for path in (parent, *parent.parents) if not path.exists()]
    folder = parent.resolve() / f"verify-resume-{secrets.token_hex(4)}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise RunFolderError(
            f"cannot write here ({error.strerror})", where=str(parent), fix="Name another folder with --output."
        ) from None
    with contextlib.ExitStack() as cleaning:
        for path in reversed(made):
            cleaning.callback(_remove_empty, path)
        cleaning.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder, cleaning


def _remove_empty(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.rmdir()


class _FailedError(Exception):
    """A run ended with an exit code other than 0, unkilled."""


class _Runs:
    """The runs of one verification.

    Args:
        folder: where they lie, beside `verification.yaml`.
        launcher: starts them.
        generator: the source of the moments.
    """

    def __init__(self, folder: Path, launcher: Launcher, generator: random.Random) -> None:
        self._folder, self._launcher, self._generator = folder, launcher, generator
        self._timeline = Timeline()
        self._runs: list[KilledRun] = []

    def verify(self, kills: int) -> Verification:
        """Train, kill, continue and compare."""
        try:
            self._train_straight()
            points = draw_kill_points(kills, self._timeline, self._generator)
            same = True
            while points and same:
                points = self._train_killed(points, kills)
                comparison = self._compare(self._runs[-1].folder)
                same, verdict = comparison.same, comparison.verdict
        except _FailedError as failure:
            same, verdict = False, str(failure)
        return Verification(same, verdict, self._kills)

    def _train_straight(self) -> None:
        run, watch = self._start(_STRAIGHT), self._watch(_STRAIGHT)
        try:
            self._timeline = observe(run, watch)
        finally:
            code = run.kill()
        self._check_code(_STRAIGHT, code)
        log.info("Straight through: %d steps in %.1f s.", self._timeline.steps, self._timeline.total_s)

    def _train_killed(self, points: list[KillPoint], wanted: int) -> list[KillPoint]:
        """Train once more and kill; returns, drawn anew, the points that the run's end came before."""
        name = f"killed-{len(self._runs) + 1}"
        run = KilledRun(lambda: self._start(name), self._watch(name), self._timeline)
        self._runs.append(run)
        for number, point in enumerate(points):
            code = run.continue_until(point)
            if code is not None:
                self._check_code(name, code)
                return self._again(points[number:])
            kill = run.kills[-1]
            log.info("Kill %d of %d: %s, at step %d.", len(self._kills), wanted, kill.doing, kill.step)
        self._check_code(name, run.finish())
        return []

    def _again(self, points: list[KillPoint]) -> list[KillPoint]:
        if sum(not run.kills for run in self._runs) > _MOST_MISSES:
            raise ConfigError(
                f"the run trains for {self._timeline.total_s:.2f} s only: it ends before it can be killed",
                where="training.num_epochs",
                fix="Raise it.",
            )
        return [earlier(point, self._generator) for point in points]

    def _start(self, name: str) -> ChildRun:
        """Start a run, or continue it: by the same command, as a queue would."""
        words = ["train", "--config", str(self._folder / _CONFIG), "--run_name", name, "--resume", "auto"]
        marks = f"callbacks.position_marks.file={json.dumps(str(self._marks(name)))}"
        return self._launcher([*words, marks], self._output(name))

    def _watch(self, name: str) -> RunWatch:
        return RunWatch(RunFolder(self._folder / name), self._marks(name))

    def _marks(self, name: str) -> Path:
        return self._folder / f"{name}.marks"

    def _output(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _check_code(self, name: str, code: int) -> None:
        """Raise where a run ended otherwise than by its end."""
        if code == 0:
            return
        lines = self._output(name).read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        what = one_line(errors[-1] if errors else f"see {self._output(name)}")
        if code == ConfigError.exit_code and not self._kills:
            raise ConfigError("", problems=[what])
        after = f"after kill {len(self._kills)}, " if self._kills else ""
        raise _FailedError(f"The run {name} failed {after}with exit code {code}: {what}")

    @property
    def _kills(self) -> tuple[Kill, ...]:
        return tuple(kill for run in self._runs for kill in run.kills)

    def _compare(self, run: Path) -> Comparison:
        straight, killed = RunFolder(self._folder / _STRAIGHT), RunFolder(run)
        comparison = compare_runs(
            read_metrics(straight.metrics),
            read_metrics(killed.metrics),
            digest_then=str(read_record(straight.summary).get("model_digest")),
            digest_now=str(read_record(killed.summary).get("model_digest")),
        )
        if comparison.same and comparison.unmatched:
            told = ", ".join(comparison.unmatched)
            return replace(comparison, same=False, verdict=f"Different: logged by one of the runs only: {told}.")
        return comparison
