"""What `mltrain privacy` answers, prints and draws."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from mltrain.cli.main import main
from mltrain.core.errors import ConfigError
from mltrain.privacy.accounting import Accountant, default_delta
from mltrain.privacy.rounding import shown_up
from mltrain.workflows.privacy_plan import PrivacyPlan, privacy_plan

SAMPLES = 2000


@pytest.fixture
def config(vectors: dict[str, Any], tmp_path: Path) -> Path:
    dp = {"accountant": "rdp", "noise_multiplier": 1.2}
    path = tmp_path / "config.yaml"
    training = {"num_epochs": 4, "batch_size": 10, "gradient_accumulation_steps": 2, "dp": dp}
    path.write_text(
        yaml.safe_dump({**vectors, "data": {"num_workers": 0, "train_size": SAMPLES}, "training": training})
    )
    return path


def command(config: Path, *words: object) -> int:
    return main(["privacy", "--config", str(config), *map(str, words)])


def table(printed: str) -> list[list[str]]:
    return [line.split() for line in printed.splitlines() if len(line.split()) == 6 and line.split()[0].isdecimal()]


def test_epsilon_for_a_noise(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(config, "--num_processes", 3) == 0
    accountant = Accountant(60 / SAMPLES, 1.2, default_delta(SAMPLES), "rdp")
    printed = capsys.readouterr().out
    assert "2000 training examples, delta 0.0002339;" in printed
    assert "60 examples a step on average, q = 0.03, 4 epochs: 136 steps." in printed
    assert (
        f"Noise multiplier 1.2 gives epsilon {shown_up(accountant.epsilon(136))} after the last step, by rdp."
        in printed
    )
    assert "Training stops" not in printed
    rows = table(printed)
    assert [(row[0], row[1]) for row in rows] == [(n, b) for b in ("30", "60", "120") for n in ("2", "4", "8")]
    assert rows[4] == ["4", "60", "0.03000", "136", "1.2", shown_up(accountant.epsilon(136))]
    assert rows[8][5] == shown_up(Accountant(0.06, 1.2, accountant.delta, "rdp").epsilon(8 * 17))


def test_the_table_of_given_rows_and_its_picture(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--epochs", "5,1", "--batch_sizes", "20", "--noise_multiplier", "0.9", "--output", "plans/new")
    for name in ("privacy_plan.png", "privacy_plan_2.png", "privacy_plan_3.png"):
        assert command(config, *words) == 0
        printed = capsys.readouterr().out
        assert printed.endswith(f"Drawn: {Path('plans/new') / name}\n")
        with Image.open(Path("plans/new") / name) as picture:
            assert picture.format == "PNG"
            assert picture.width > 400
    assert [row[:5] for row in table(printed)] == [
        ["1", "40", "0.02000", "50", "0.9"], ["5", "40", "0.02000", "250", "0.9"],
    ]  # fmt: skip


def test_noise_for_an_epsilon_disregards_the_configured_noise(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(config, "--target_epsilon", 2, "--epochs", 4, "--batch_sizes", 10) == 0
    plan = privacy_plan(config, target_epsilon=2.0, epochs=[4], batch_sizes=[10])
    noise = plan.run.noise_multiplier
    assert noise is not None
    accountant = Accountant(0.01, noise, default_delta(SAMPLES), "rdp")
    assert 1.999 < accountant.epsilon(400) <= 2.0
    printed = capsys.readouterr().out
    assert f"Epsilon 2 takes a noise multiplier of {shown_up(noise, 6)} (by rdp: epsilon " in printed
    assert noise <= float(table(printed)[0][4]) < noise + 1e-3


def test_the_log_tells_the_noise_of_the_answer_and_not_of_each_row(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(config, "--target_epsilon", 2.0625, "--epochs", "3,5", "--batch_sizes", "10,20") == 0
    captured = capsys.readouterr()
    assert len(table(captured.out)) == 4
    assert captured.err.count("Noise multiplier") == 1


def test_rows_above_the_target_are_marked_with_the_step_that_ends_them(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = Accountant(0.01, 0.8, default_delta(SAMPLES), "rdp").epsilon(250)
    words = ("--noise_multiplier", 0.8, "--epochs", "1,4", "--batch_sizes", "10", "--target_epsilon", repr(target))
    assert command(config, *words) == 0
    printed = capsys.readouterr().out
    assert "above the target" in printed
    within, above = (line.split() for line in printed.splitlines() if line.split()[:1] in (["1"], ["4"]))
    assert len(within) == 6
    assert above[6:] == ["stops", "after", "step", "250"]
    assert float(above[5]) > target


def test_noise_and_target_say_where_training_stops(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    accountant = Accountant(0.01, 0.8, default_delta(SAMPLES), "rdp")
    target = accountant.epsilon(250)
    words = ("--noise_multiplier", 0.8, "--epochs", 4, "--batch_sizes", 10)
    assert command(config, *words, "--target_epsilon", repr(target)) == 0
    assert f"Training stops after step 250, in epoch 3: the next would pass epsilon {target:g}." in (
        capsys.readouterr().out
    )
    assert command(config, *words, "training.dp.target_epsilon=100") == 0
    assert "All 400 steps stay within epsilon 100." in capsys.readouterr().out
    assert command(config, *words, "training.dp.target_epsilon=0.2") == 0
    assert "Not one step stays within epsilon 0.2: nothing would be trained." in capsys.readouterr().out


def test_prv_is_the_default_and_no_noise_is_told(config: Path, vectors: dict[str, Any]) -> None:
    data = {"num_workers": 0, "train_size": 300}
    plan = privacy_plan({**vectors, "data": data}, noise_multiplier=2.0, epochs=[1], batch_sizes=[8])
    assert (plan.accountant, plan.num_samples, plan.asked, plan.run.stops_after) == ("prv", 300, "epsilon", None)
    assert plan.run.epsilon == Accountant(8 / 300, 2.0, default_delta(300)).epsilon(3 * 38)
    assert privacy_plan(config, noise_multiplier=0.0).run.epsilon == float("inf")


def test_with_samples_no_data_is_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "digits.yaml"
    content = {"task": "image_classification", "data": {"data_dir": "nowhere"}, "model": {"architecture": "simple_cnn"}}
    path.write_text(yaml.safe_dump(content))
    assert command(path, "--noise_multiplier", 1, "training.dp.accountant=rdp") == 2
    assert "nowhere" in capsys.readouterr().err
    assert command(path, "--noise_multiplier", 1, "--samples", 50_000, "training.dp.accountant=rdp") == 0
    assert "50000 training examples" in capsys.readouterr().out


def test_a_row_without_a_figure_says_why(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--samples", 50, "training.batch_size=10", "training.dp.accountant=prv", "--noise_multiplier", 5)
    assert command(config, *words, "--epochs", "1,1000000000", "--batch_sizes", 10) == 0
    printed = capsys.readouterr().out
    first, second = table(printed)
    assert 0 < float(first[5]) < 10
    assert second[3:] == ["3000000000", "5", "-"]
    assert "No figure: training.dp.accountant: prv cannot compute epsilon for noise_multiplier 5, sample" in printed
    assert command(config, *words, "training.num_epochs=1000000000") == 2
    assert "Use training.dp.accountant=rdp" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("training.dp.noise_multiplier=null",), "neither a noise nor an epsilon is given. Add --target_epsilon 3"),
        (("--samples", 19), "training.batch_size: a step would hold 20 examples, over accumulation and processes"),
        (("--batch_sizes", "10,1500"), "--batch_sizes: a step would hold 3000 examples"),
        (("--samples", 0), "--samples: is 0. Use 1 or more."),
        (("--noise_multiplier", -1), "--noise_multiplier: is -1. Use 0 or more."),
        (("--target_epsilon", 0), "--target_epsilon: is 0. Use a value above 0."),
        (("--target_epsilon", 0.01), "training.dp.target_epsilon: is 0.01, but rdp finds no epsilon below"),
        (("training.dp.target_delta=0.01",), "training.dp.target_delta: is 0.01, and must be less than 1/N"),
        (("training.dp.acountant=rdp",), "Did you mean"),
    ],
)
def test_mistakes(config: Path, words: tuple[object, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(config, *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(Path().glob("*.png"))


def test_rows_that_are_no_numbers(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text, wrong in {"10,,20": "", "ten": "ten", "5,0": "0", "1.5": "1.5"}.items():
        with pytest.raises(SystemExit) as caught:
            command(config, "--epochs", text)
        assert caught.value.code == 2
        assert f"argument --epochs: '{wrong}' is not a whole number of 1 or more" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").write_text("")
    assert command(config, "--output", "file") == 2
    assert "cannot be written" in capsys.readouterr().err


def test_from_python(config: Path) -> None:
    plan = privacy_plan(config, {"training.num_epochs": 1}, epochs=[1, 2], batch_sizes=[10])
    assert isinstance(plan, PrivacyPlan)
    assert [row.steps for row in plan.table] == [100, 200]
    with pytest.raises(ConfigError, match="--epochs: is 0"):
        privacy_plan(config, epochs=[0])


def test_help_does_without_torch() -> None:
    code = "import sys; from mltrain.cli.main import main\ntry: main(['privacy', '--help'])\nexcept SystemExit: pass\n"
    check = "assert not {'torch', 'opacus', 'scipy', 'matplotlib'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code + check], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--target_epsilon" in done.stdout
