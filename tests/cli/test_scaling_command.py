"""What `mltrain scaling` prints, and that docs/scaling.md shows what it prints."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from mltrain.cli.main import main

WORDS = ["scaling", "--memory", "80", "--link", "400"]
SHOWN = re.compile(r"```bash\nmltrain (scaling [^\n]*)\n```\n\n```text\n(.*?)```", re.DOTALL)


def exit_code(words: list[str]) -> object:
    try:
        return main(words)
    except SystemExit as end:  # of the parser
        return end.code


def test_tables(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    more = ["--tokens", "4096", "--device_flops", "989e12", "--accumulation", "1,16"]
    assert main([*WORDS, "--parameters", "7e9", "--processes", "1,64", *more]) == 0
    printed = capsys.readouterr().out
    assert "7,000,000,000 parameters, 7,000,000,000 of them trained, in 32 blocks; adamw: 2 values for each" in printed
    assert "Activations are not counted" in printed
    assert "…" not in printed
    memory, steps = printed.split("A step")
    for table in (memory, steps):
        (ddp,) = [line for line in table.splitlines() if line.split()[:2] == ["64", "DDP"]]
        assert ddp.rstrip().endswith("does not fit")
        (sharded,) = [line for line in table.splitlines() if "FSDP2, ZeRO-3" in line]
        assert not sharded.rstrip().endswith("does not fit")
    assert "efficiency x16" in steps


def test_without_times_only_bytes_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "--parameters", "1e6", "--processes", "2", "--ways", "ddp"]) == 0
    printed = capsys.readouterr().out
    assert "The time of a step is not known" in printed
    assert "efficiency" not in printed


@pytest.mark.parametrize(
    ("parameters", "memory", "total", "sent"),
    [("1e6", "MiB", "15.3", "MB"), ("2000", "KiB", "31.2", "kB"), ("1e9", "GiB", "14.9", "GB")],
)
def test_units_fit_the_model(
    capsys: pytest.CaptureFixture[str], parameters: str, memory: str, total: str, sent: str
) -> None:
    assert main([*WORDS, "--parameters", parameters, "--blocks", "1", "--processes", "2", "--ways", "ddp"]) == 0
    memories, steps = capsys.readouterr().out.split("A step")
    assert f"Memory a rank, {memory}\n" in memories
    (row,) = [line.split() for line in memories.splitlines() if " DDP " in line]
    assert total in row
    assert f"sent x1, {sent} " in steps


def test_json_of_a_configuration(vectors: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.yaml").write_text(yaml.safe_dump(vectors))
    words = [
        "--config",
        "config.yaml",
        "--processes",
        "1,2",
        "--json",
        "--optimizer",
        "sgd",
        "training.ema.enabled=true",
    ]
    assert main([*WORDS, *words]) == 0
    told = json.loads(capsys.readouterr().out)
    alone, ddp = told["rows"][:2]
    assert (alone["way"], alone["processes"], ddp["way"], ddp["processes"]) == ("alone", 1, "ddp", 2)
    size = 4 * told["parameters"]
    memory = {"weights": size, "gradients": size, "optimizer": 0, "ema": size, "gathered": 0, "activations": 0}
    assert alone["memory_bytes"] == ddp["memory_bytes"] == {**memory, "total": 3 * size}
    assert ddp["steps"][0]["sent_bytes"] == size  # 2 (n - 1) / n of the gradient
    assert ddp["steps"][0]["efficiency"] is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "error: --parameters: a model is needed. Give either --parameters or --config."),
        (["--parameters", "1e9", "--config", "x.yaml"], "error: --parameters: a model is needed."),
        (["--parameters", "0.5"], "'0.5' is not a whole number of 1 or more"),
        (["--parameters", "many"], "'many' is not a whole number of 1 or more"),
        (["--parameters", "1e9", "--accumulation", "1,0"], "--accumulation: '0' is not a whole number of 1 or more;"),
        (["--parameters", "1e9", "--ways", "ddp,dp"], "error: --ways: there is no way 'dp'. Known: ddp, zero1,"),
        (["--parameters", "1e9", "--link", "0"], "error: --link: is 0. Use a value above 0."),
        (["--parameters", "1e9", "--blocks", "0"], "error: --blocks: is 0. Use 1 or more."),
        (["--parameters", "1e9", "--optimizer", "adamww"], "unknown optimizer 'adamww'. Did you mean adamw?"),
        (["--parameters", "1e9", "seed=1"], "error: seed: is a key of a configuration. Give --config, or leave it."),
    ],
)
def test_mistakes_are_one_line(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code([*WORDS, "--processes", "1", *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len(error.splitlines()) == 1


def test_the_page_shows_what_the_commands_print(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = SHOWN.findall((ROOT / "docs" / "scaling.md").read_text(encoding="utf-8"))
    assert shown
    for command, text in shown:
        assert main(shlex.split(command)) == 0
        printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
        assert printed == [line.rstrip() for line in text.splitlines()], command
