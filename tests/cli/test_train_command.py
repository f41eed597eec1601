"""`mltrain train`: flags and keys, and the line that meets each mistake."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import mltrain.workflows.train  # noqa: F401 (what a command loads: while that lasts there may be one line more)
from mltrain.cli import train as command
from mltrain.cli.main import main
from mltrain.core.logging import log

VECTORS = Path(__file__).resolve().parents[1] / "support" / "vectors_task.py"
CONFIG = f"""task: vectors
plugins: [{VECTORS}]
data: {{num_workers: 0, train_size: 16, val_size: 8}}
model: {{}}
training: {{num_epochs: 1, batch_size: 8}}
tracking: {{mlflow: {{enabled: false}}}}
reproducibility: {{num_threads: 1}}
"""


@pytest.fixture(autouse=True)
def _file() -> Iterator[None]:
    Path("c.yaml").write_text(CONFIG)
    before = (list(log.handlers), log.level, log.propagate)
    yield
    log.handlers, log.propagate = before[0], before[2]
    log.setLevel(before[1])


@pytest.fixture
def train(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Call `mltrain train --config c.yaml ...`; returns exit code and what was printed."""

    def call(*arguments: str) -> tuple[int, str]:
        code = main(["train", "--config", "c.yaml", *arguments])
        return code, capsys.readouterr().err

    return call


@pytest.fixture
def refused(train: Callable[..., tuple[int, str]]) -> Callable[..., str]:
    """Call it with a mistake; returns its one line. Nothing may have been made."""

    def call(*arguments: str) -> str:
        code, text = train(*arguments)
        assert code == 2
        assert text.startswith("error: ")
        assert text.count("\n") == 1, text
        assert not Path("runs").exists()
        return text.removeprefix("error: ").rstrip("\n")

    return call


def overrides(*arguments: str) -> dict[str, Any]:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.given_keys(parser.parse_intermixed_args(arguments))


@pytest.mark.parametrize(
    ("flag", "text", "key", "value"),
    [
        ("fold", "3", "data.fold", 3),
        ("trainer", "accelerate", "training.trainer_type", "accelerate"),
        ("num_epochs", "5", "training.num_epochs", 5),
        ("batch_size", "8", "training.batch_size", 8),
        ("lr", "1e-3", "optimizer.lr", 0.001),
        ("seed", "7", "seed", 7),
        ("num_workers", "auto", "data.num_workers", "auto"),
        ("num_workers", "4", "data.num_workers", 4),
        ("num_workers", "-1", "data.num_workers", -1),
        ("device", "cuda:1", "training.device", "cuda:1"),
        ("run_name", "2024", "run.name", "2024"),
        ("run_name", "null", "run.name", "null"),
        ("run_name", "run #3", "run.name", "run #3"),
    ],
)
def test_flags_are_keys_in_both_spellings(flag: str, text: str, key: str, value: Any) -> None:
    for spelling in {flag, flag.replace("_", "-")}:
        for arguments in ([f"--{spelling}", text], [f"--{spelling}={text}"]):
            found = overrides(*arguments)
            assert found == {key: value}
            assert type(found[key]) is type(value)


def test_every_flag_has_a_test_and_a_key_of_the_configuration() -> None:
    from mltrain.config.schema import Config
    from mltrain.config.suggestions import known_keys

    assert {key for key, _ in command._FLAGS.values()} <= set(known_keys(Config))
    assert set(command._TEXTS) <= set(command._FLAGS)


def test_flags_and_free_overrides_mix_and_the_free_ones_beat_the_flags() -> None:
    assert overrides("optimizer.name=sgd", "--lr", "0.1", "seed=1", "--fold", "2", "optimizer.lr=0.2") == {
        "optimizer.name": "sgd",
        "optimizer.lr": 0.2,
        "seed": 1,
        "data.fold": 2,
    }


# What is given and, indented below it, how the line that meets it begins.
MISTAKES = """
a
    command line: cannot read 'a'. Write section.key=value, or see --help.
--fold x
    command line, data.fold: must be a whole number, at least 0, is 'x'.
--lr -1
    command line, optimizer.lr: must be a number, above 0, is -1.
--num-workers many
    command line, data.num_workers: must be 'auto', or a whole number, at least 0 and at most 1024, is 'many'.
training.batchsize=3
    command line, training.batchsize: unknown key. Did you mean training.batch_size?
epochs=3
    command line, epochs: unknown key. Here it is called training.num_epochs.
task=vektors
    command line, task: unknown task 'vektors'. Did you mean 'vectors'?
--trainer acelerate
    command line, training.trainer_type: unknown trainer 'acelerate'. Did you mean 'accelerate'?
optimizer.name=adamx
    command line, optimizer.name: unknown optimizer 'adamx'. Did you mean adamax?
optimizer.name=sgd optimizer.betas=[0.9,0.99]
    command line, optimizer.betas: sgd has no argument 'betas'. It takes: lr,
optimizer.name=sgd optimizer.options.nesterov=true
    command line, optimizer: sgd refuses its arguments (Nesterov momentum requires
optimizer.options.foo=1
    command line, optimizer.options.foo: adamw has no argument 'foo'. It takes: lr,
early_stopping.enabled=true early_stopping.monitor=val_acuracy
    command line, early_stopping.monitor: no metric 'val_acuracy'. Did you mean val_accuracy?
scheduler.name=plateau scheduler.monitor=lr
    command line, scheduler.monitor: no metric 'lr'. Known: train_loss,
checkpointing.monitor=val/los checkpointing.mode=min
    command line, checkpointing.monitor: no metric 'val/los'. Did you mean val_loss?
data.val_size=0 early_stopping.enabled=true
    early_stopping.monitor: no metric 'val_loss' (there is no validation split).
tracking.others.neptune.a=1
    command line, tracking.others.neptune: unknown tracker 'neptune'. Known: mlflow, tensorboard, wandb
callbacks.mine.a=1
    command line, callbacks.mine: unknown callback 'mine'.
--device gpu
    command line, training.device: must be one like auto, cpu, cuda, cuda:1, mps or xpu, is 'gpu'. Did you mean 'cuda'?
--run_name a/b
    command line, run.name: 'a/b' cannot name a folder.
run.dir=c.yaml
    c.yaml: cannot write here (File exists).
--resume nowhere
    nowhere: not a run folder (it has no config.yaml). Name a folder that ml-train made.
scheduler.min_lr=1
    command line, scheduler.min_lr: is 1, above optimizer.lr, which is 0.001. Lower it.
""".strip().splitlines()


@pytest.mark.parametrize(("given", "line"), list(zip(MISTAKES[::2], MISTAKES[1::2], strict=True)))
def test_a_mistake_gives_one_line_and_leaves_nothing(refused: Callable[..., str], given: str, line: str) -> None:
    assert refused(*given.split()).startswith(line.strip())


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("optimizer:\n  name: adamx\n", "c.yaml:9, optimizer.name: unknown optimizer 'adamx'. Did you mean adamax?"),
        (
            "early_stopping: {enabled: true, monitor: val_los}\n",
            "c.yaml:8, early_stopping.monitor: no metric 'val_los'.",
        ),
        ("callbacks:\n  mine: {}\n", "c.yaml:9, callbacks.mine: unknown callback 'mine'."),
        ("scheduler: {min_lr: 1}\n", "c.yaml:8, scheduler.min_lr: is 1, above optimizer.lr"),
    ],
)
def test_what_needs_torch_to_be_found_wrong_has_its_line_as_well(
    refused: Callable[..., str], text: str, line: str
) -> None:
    Path("c.yaml").write_text(CONFIG + text)
    assert refused().startswith(line)


def test_devices_that_this_machine_lacks(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert refused("--device", "cuda") == (
        "command line, training.device: 'cuda' was asked for, but this machine has no CUDA device that this torch "
        "can use. Use --device auto or --device cpu."
    )
    assert refused("training.trainer_type=mixed_precision", "training.amp_dtype=float16").startswith(
        "command line, training.amp_dtype: float16 needs a GPU"
    )


def test_several_processes_for_a_trainer_of_one(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "standard trains in one process, but 2 were launched" in refused()


def test_without_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--resume", "auto"]):
        assert main(["train", *arguments]) == 2
        assert capsys.readouterr().err == (
            "error: --config: no configuration. Name a YAML file, such as one of configs/.\n"
        )
    for file, words in {"gone.yaml": "no such file", ".": "cannot be read (Is a directory)"}.items():
        assert main(["train", "--config", file]) == 2
        assert capsys.readouterr().err == f"error: {file}: {words}. Check --config.\n"


def test_an_error_of_the_task_is_laid_at_the_plugin(
    train: Callable[..., tuple[int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("broken.py").write_text(
        "from vectors_task import VectorTask\nfrom mltrain.tasks.base import register_task\n\n"
        "@register_task('broken_vectors')\nclass Broken(VectorTask):\n"
        "    def losses(self, model, batch):\n        return batch['lables']\n"
    )
    arguments = [f"plugins=[{VECTORS}, broken.py]", "task=broken_vectors"]
    code, text = train(*arguments)
    assert code == 1
    assert text.splitlines()[-1] == (
        "error: broken.py:7: KeyError: 'lables' (raised in a plugin; --debug shows the traceback)"
    )
    assert "Traceback" not in text
    (run,) = Path("runs").iterdir()
    assert "KeyError: 'lables'" in (run / "logs" / "train.log").read_text()
    code, text = train(*arguments, "--debug")
    assert code == 1
    assert "Traceback (most recent call last):" in text


@pytest.mark.slow
def test_runs_of_one_name(train: Callable[..., tuple[int, str]]) -> None:
    for arguments in (["--lr", "1e-2"], ["--lr", "1e-2"], ["--run_name", "mine"]):
        code, text = train(*arguments)
        assert code == 0, text
    runs = sorted(path.name for path in Path("runs").iterdir())
    assert runs == ["mine", "vectors_lr-0.01_fold_0", "vectors_lr-0.01_fold_0_2"]
    saved = yaml.safe_load(Path("runs", runs[1], "config.yaml").read_text())
    assert saved["optimizer"]["lr"] == 0.01
    assert train("--run_name", "mine") == (
        2,
        "error: runs/mine: this run already exists. "
        "Choose another --run_name, or continue it with --resume runs/mine.\n",
    )
    # The saved configuration repeats the run.
    Path("again.yaml").write_text(Path("runs", runs[1], "config.yaml").read_text())
    assert main(["train", "--config", "again.yaml", "--run-name", "again"]) == 0
    assert digest("again") == digest(runs[1]) != digest("mine")


def digest(run: str) -> str:
    return str(json.loads(Path("runs", run, "summary.json").read_text())["model_digest"])


def test_a_monitor_watched_for_the_wrong_extreme_is_warned_of(train: Callable[..., tuple[int, str]]) -> None:
    code, text = train("early_stopping.enabled=true", "early_stopping.monitor=train_loss", "early_stopping.mode=max")
    assert code == 0
    (warning,) = [line for line in text.splitlines() if " WARNING " in line]
    assert warning.endswith("early_stopping.monitor: the mode is max, but of train_loss the other extreme is better.")
