"""The command line that a launcher gives its ranks."""

from __future__ import annotations

import argparse

import pytest

from mltrain.cli.launch_flags import words_of
from mltrain.cli.train import add_arguments


def parsed(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--debug", action="store_true")
    add_arguments(parser)
    return parser.parse_intermixed_args(words)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--config", "a b.yaml", "--num_processes", "2", "--debug"],
        ["seed=3", "--lr", "-1", "training.ema={enabled: true}", "--max-restarts", "2", "--run_name=-x"],
        ["--resume", "auto", "run.description=$HOME $$", "--device", "cpu"],
    ],
)
def test_ranks_get_what_was_given(words: list[str]) -> None:
    arguments = parsed(words)
    assert parsed(words_of(arguments, add_arguments)) == arguments
