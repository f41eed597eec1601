"""From a file and the command line to a configuration, and from a saved configuration back to the same one."""

from __future__ import annotations

import copy
import enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from config_cases import BASE, CLASS, class_of, load, problems
from hypothesis import given, settings
from hypothesis import strategies as st

from mltrain.config.load import check_config, name_place, parse_overrides
from mltrain.config.yaml_file import dump_yaml
from mltrain.core.errors import ConfigError, HardwareError, MltrainError

CONTENT = {"task": "images", "data": {"data_dir": "photos"}, "model": {"architecture": "mlp"}}


def test_command_line_beats_file_beats_default() -> None:
    text = BASE + "training: {batch_size: 4, num_epochs: 7}\n"
    training = load(text, ["training.num_epochs=9"]).config.training
    assert (training.num_epochs, training.batch_size, training.gradient_accumulation_steps) == (9, 4, 1)


def test_what_was_set_by_hand_is_kept() -> None:
    loaded = load(BASE, ["optimizer.lr=1e-2", "run.tags.who=me"])
    assert loaded.overrides == {"optimizer.lr": 0.01, "run.tags.who": "me"}
    assert loaded.file == Path("c.yaml")
    assert loaded.config.run.tags == {"who": "me"}


def test_numbers_as_people_write_them() -> None:
    config = load(BASE + "optimizer: {lr: 1e-3, weight_decay: 1, betas: [0.9, 9.9e-1]}\nseed: 1_000\n").config
    assert (config.optimizer.lr, config.optimizer.weight_decay, config.seed) == (0.001, 1.0, 1000)
    assert config.optimizer.betas == [0.9, 0.99]


def test_a_whole_section_and_one_of_its_keys_in_any_order() -> None:
    for arguments in (
        ["training={num_epochs: 3}", "training.batch_size=7"],
        ["training.batch_size=7", "training={num_epochs: 3}"],
    ):
        training = load(BASE + "training: {max_grad_norm: 5.0}\n", arguments).config.training
        assert (training.num_epochs, training.batch_size, training.max_grad_norm) == (3, 7, 1.0)


def test_the_last_of_two_values_of_a_key_counts() -> None:
    assert load(BASE, ["seed=1", "seed=2"]).config.seed == 2


def test_a_key_below_an_empty_section_of_the_file() -> None:
    assert load(BASE + "training:\n", ["training.batch_size=7"]).config.training.batch_size == 7


@pytest.mark.parametrize(
    ("arguments", "overrides"),
    [
        (["training.batch_size = 4"], {"training.batch_size": 4}),
        (["run.name="], {"run.name": None}),
        (["run.name=a=b"], {"run.name": "a=b"}),
        (["run.name=run #3"], {"run.name": "run #3"}),
        (["run.name='2024'"], {"run.name": "2024"}),
        (["optimizer.betas=[0.9, 1e-3]"], {"optimizer.betas": [0.9, 0.001]}),
        (["a.b={c: null}"], {"a.b": {"c": None}}),
    ],
)
def test_overrides_are_read_as_in_a_file(arguments: list[str], overrides: dict[str, Any]) -> None:
    assert parse_overrides(arguments) == overrides


@pytest.mark.parametrize("argument", ["=x", "noequals", "", "=", " =1", "-x=1", "--seed=1", "."])
def test_what_is_no_override(argument: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_overrides([argument])
    assert str(raised.value) == f"command line: cannot read {argument!r}. Write section.key=value, or see --help."


def test_content_at_hand_is_checked_as_a_file_is_and_left_as_it_was() -> None:
    content = {**CONTENT, "training": {"batch_size": 3}}
    before = copy.deepcopy(content)
    assert check_config(content, {"training.num_epochs": 2}, class_of).config.training.num_epochs == 2
    assert content == before
    with pytest.raises(ConfigError, match=r"^training\.batchsize: unknown key\. Did you mean training\.batch_size\?$"):
        check_config({**CONTENT, "training": {"batchsize": 3}}, {}, class_of)


class Name(enum.StrEnum):
    COSINE = "cosine"


def test_values_of_python_become_plain_ones() -> None:
    content = {
        **CONTENT,
        "data": {"data_dir": Path("photos")},
        "optimizer": {"lr": np.float64(0.5), "betas": (0.9, np.float32(0.5))},
        "scheduler": {"name": Name.COSINE},
        "training": {"batch_size": np.int64(4), "ema": {"enabled": np.bool_(True)}},
    }
    config = check_config(content, {}, class_of).config
    assert check_config(_read(dump_yaml(config.model_dump())), {}, class_of).config == config
    assert (config.optimizer.lr, config.optimizer.betas, config.training.batch_size) == (0.5, [0.9, 0.5], 4)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (print, "holds a builtin_function_or_method"),
        ({1}, "holds a set"),
        (b"x", "holds a bytes"),
        (np.zeros(2), "holds a ndarray"),
        (float("nan"), "must be finite"),
        (2**65, "more than 64 bits"),
        ("a\0b", "zero byte"),
        ("a\udce9", "not valid Unicode"),
    ],
)
def test_values_that_no_file_can_hold_are_refused(value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=f"model.options.x: .*{words}"):
        check_config({**CONTENT, "model": {"architecture": "mlp", "options": {"x": value}}}, {}, class_of)


def test_a_number_too_long_to_print_is_refused() -> None:
    with pytest.raises(ConfigError, match="more than 64 bits"):
        check_config({**CONTENT, "seed": 10**5000}, {}, class_of)


def test_an_error_that_names_a_key_is_given_its_place() -> None:
    path = Path("c.yaml")
    path.write_text(BASE + "optimizer:\n  name: adamx\n")

    def placed(error: MltrainError, file: Path | None = path, **overrides: Any) -> str:
        name_place(error, file, {key.replace("__", "."): value for key, value in overrides.items()})
        return str(error)

    error = ConfigError("unknown", where="optimizer.name", fix="Do.")
    assert placed(error) == "c.yaml:5, optimizer.name: unknown. Do."
    assert placed(HardwareError("none", where="training.device")) == "training.device: none"
    assert placed(HardwareError("none", where="training.device"), training__device="x") == (
        "command line, training.device: none"
    )
    assert placed(ConfigError("bad", where="optimizer.options.k")) == "c.yaml:4, optimizer.options.k: bad"
    assert placed(ConfigError("bad", where="runs/a")) == "runs/a: bad"
    assert placed(ConfigError("bad", where="optimizer.name"), None) == "optimizer.name: bad"
    assert placed(ConfigError("bad", where="optimizer.name"), Path("gone.yaml")) == "optimizer.name: bad"


# ---- a resolved configuration repeats the run ----------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
PLAIN = (
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
)
RATE = st.floats(1e-12, 1e3)


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


CONTENTS = st.fixed_dictionaries(
    {
        "task": st.just("images"),
        "data": st.fixed_dictionaries(
            {"data_dir": TEXT}, optional={"fold": st.integers(0, 9), "num_workers": st.sampled_from(["auto", 3])}
        ),
        "model": st.fixed_dictionaries({"architecture": TEXT, "options": st.dictionaries(TEXT, PLAIN, max_size=3)}),
    },
    optional={
        "seed": st.integers(0, 2**63 - 1),
        "training": some(
            num_epochs=st.integers(1, 2**40), batch_size=st.integers(1, 999), max_grad_norm=st.none() | RATE,
            label_smoothing=st.floats(0, 0.999), device=st.sampled_from(["auto", "cuda:1"]),
            ema=some(enabled=st.booleans()),
        ),
        "optimizer": some(lr=RATE, name=TEXT, betas=st.lists(st.floats(0, 0.999), min_size=2, max_size=2)),
        "scheduler": some(name=st.sampled_from(["cosine", "none"]), warmup_epochs=st.floats(0, 99)),
        "run": some(name=st.none() | TEXT, description=TEXT, tags=st.dictionaries(TEXT, TEXT, max_size=2)),
        "callbacks": st.dictionaries(TEXT, st.dictionaries(TEXT, PLAIN, max_size=2), max_size=2),
    },
)  # fmt: skip


def _read(text: str) -> dict[str, Any]:
    from mltrain.config.yaml_file import read_yaml

    Path("saved.yaml").write_text(text, encoding="utf-8")
    return read_yaml(Path("saved.yaml"))[0]


@settings(max_examples=100, deadline=None)
@given(CONTENTS)
def test_a_saved_configuration_loads_equal(content: dict[str, Any]) -> None:
    config = check_config(content, {}, class_of).config
    again = check_config(_read(dump_yaml(config.model_dump())), {}, class_of).config
    assert again == config
    assert repr(again) == repr(config)


def test_the_default_configuration_loads_equal_and_cannot_be_changed() -> None:
    config = load().config
    assert check_config(_read(dump_yaml(config.model_dump())), {}, class_of).config == config
    assert isinstance(config, CLASS)
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3


def test_several_problems_are_told_in_the_order_of_the_file() -> None:
    text = BASE + "optimizer: {lr: -1}\ntraining:\n  num_epochs: x\n  batchsize: 0\nrun:\n  name: 3\n"
    assert [line.split(": ")[0] for line in problems(text, ["seed=-1"])] == [
        "c.yaml:4, optimizer.lr",
        "c.yaml:6, training.num_epochs",
        "c.yaml:7, training.batchsize",
        "c.yaml:9, run.name",
        "command line, seed",
    ]
