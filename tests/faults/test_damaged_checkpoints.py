"""A byte flipped or a file cut at random, in a hundred checkpoints: each is found, and none is loaded."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from faults import check
from runs import history
from warm_process import run_warm

from mltrain.checkpoints.store import CheckpointStore
from mltrain.core.errors import CheckpointError
from mltrain.core.files import read_json
from mltrain.workflows.resume import find_resume_point

DAMAGED = 100
SETTINGS = {"training.ema": {"enabled": True, "decay": 0.9}, "checkpointing.every_n_steps": 3}


def flip(content: bytes, generator: random.Random) -> bytes:
    """Return the content with one bit of one byte changed."""
    place = generator.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << generator.randrange(8)]) + content[place + 1 :]


def cut(content: bytes, generator: random.Random) -> bytes:
    """Return the beginning of the content."""
    return content[: generator.randrange(len(content))]


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {"flipped": flip, "truncated": cut}


@pytest.fixture(scope="module")
def stopped(train_vectors: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stopped at step 10 and has two checkpoints or more."""
    settings = {**SETTINGS, "callbacks": {"stop_at": {"step": 10}}, "run.dir": str(tmp_path_factory.mktemp("stopped"))}
    folder: Path = train_vectors(settings).folder
    assert len(CheckpointStore(folder / "checkpoints").list()) >= 2
    return folder


def copied(run: Path, name: str) -> tuple[Path, Path, Path]:
    """Return a copy of a run, its newest checkpoint and the one before."""
    copy = shutil.copytree(run, Path(name).resolve())
    newest, before = CheckpointStore(copy / "checkpoints").list()[:2]
    return copy, newest, before


def test_a_hundred_damaged_checkpoints_are_found_and_none_is_loaded(
    stopped: Path, caplog: pytest.LogCaptureFixture
) -> None:
    generator, seen = random.Random(4), Counter[tuple[str, str]]()
    run, newest, before = copied(stopped, "run")
    files = sorted(path.name for path in newest.iterdir())
    for number in range(DAMAGED):
        name, damage = files[number % len(files)], list(DAMAGES)[number // len(files) % 2]
        sound = (newest / name).read_bytes()
        (newest / name).write_bytes(DAMAGES[damage](sound, generator))
        with pytest.raises(CheckpointError, match="damaged checkpoint"):
            find_resume_point(newest)
        caplog.clear()
        assert find_resume_point(run).checkpoint == before
        assert f"{newest}: damaged checkpoint" in caplog.text
        (newest / name).write_bytes(sound)
        seen[name, damage] += 1
    assert find_resume_point(run).checkpoint == newest
    kinds = {"MANIFEST.json", "model.safetensors", "ema.safetensors", "optimizer.safetensors", "optimizer.json"}
    assert kinds | {"state.json"} <= {name for name, _ in seen}
    assert len(seen) == 2 * len(files)


def words(run: Path, resume: Path) -> list[str]:
    """Return the command that continues a run to its end."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    Path("c.yaml").write_text(yaml.safe_dump({**config, "callbacks": {}}))
    return ["mltrain", "train", "--config", "c.yaml", "--resume", str(resume)]


def damage_newest(run: Path) -> tuple[Path, Path, str]:
    """Cut the weights of a run's newest checkpoint; returns it, the one before, and what is said of it."""
    newest, before = CheckpointStore(run / "checkpoints").list()[:2]
    weights = newest / "model.safetensors"
    size = weights.stat().st_size
    weights.write_bytes(weights.read_bytes()[: size // 2])
    return newest, before, f"model.safetensors has {size // 2} bytes instead of {size}"


def test_fault_32_a_damaged_checkpoint_that_was_named_is_refused(stopped: Path) -> None:
    run, _, _ = copied(stopped, "run")
    newest, _, why = damage_newest(run)
    metrics, entries = (run / "metrics.jsonl").read_bytes(), sorted(run.rglob("*"))
    result = run_warm(words(run, newest), Path.cwd())
    check(32, result, "named", checkpoint=newest, why=why)
    assert (run / "metrics.jsonl").read_bytes() == metrics
    assert sorted(run.rglob("*")) == entries


def test_fault_32_a_run_whose_newest_checkpoint_is_damaged_continues_from_the_one_before(
    stopped: Path, train_vectors: Any
) -> None:
    run, _, _ = copied(stopped, "run")
    newest, before, why = damage_newest(run)
    result = run_warm(words(run, run), Path.cwd())
    check(32, result, "folder", checkpoint=newest, why=why)
    segment = read_json(run / "metadata.json")["segments"][-1]
    assert segment["resumed_from"] == before.name
    straight = train_vectors(SETTINGS)
    assert read_json(run / "summary.json")["model_digest"] == straight.summary["model_digest"]
    assert history(run) == history(straight.folder)
    # The damaged one is kept, for whoever wants to know what happened to it.
    (aside,) = (run / "checkpoints").glob(f"superseded-{newest.name}-*")
    assert (aside / "model.safetensors").stat().st_size == int(why.split()[2])
