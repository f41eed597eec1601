"""Modules of the user's: what is found, what is tried, what is refused in one line."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mltrain.core.errors import ConfigError
from mltrain.metrics.further_modules import classification_modules, regression_modules, text_modules

INTEGERS = '"predictions": datasets.Value("int64"), "references": datasets.Value("int64")'
FLOATS = INTEGERS.replace("int64", "float32")
SCORES = '"prediction_scores": datasets.Value("float32"), "references": datasets.Value("int64")'
CODE = """import datasets
import evaluate
{more}

class {kind}(evaluate.Metric):
    def _info(self):
        features = datasets.Features({{{features}}})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, **inputs):
        {body}
"""
BODY = "return {'agreement': sum(a == b for a, b in zip(inputs['predictions'], inputs['references'])) / 4}"


@pytest.fixture
def write() -> Callable[..., str]:
    """Write a module's folder below the working one and return its name."""

    def make(
        name: str, body: str = BODY, *, features: str = INTEGERS, more: str = "", kind: str = "Mine", text: str = ""
    ) -> str:
        Path(name).mkdir()
        code = text or CODE.format(kind=kind, features=features, body=body, more=more)
        Path(name, f"{name}.py").write_text(code)
        return f"./{name}"

    return make


def refusal(*modules: str) -> str:
    with pytest.raises(ConfigError) as error:
        classification_modules(modules, 2, ("accuracy",))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_or_its_file_is_found_and_fed_once(write: Callable[..., str]) -> None:
    write("one", more="calls = []", body="calls.append(len(inputs['predictions'])); " + BODY)
    predictions, references = np.array([0, 1, 1, 1]), np.array([0, 1, 0, 1])
    for name in ("one", "./one", "one/", "one/one.py", str(Path("one").resolve())):
        modules = classification_modules([name], 2, ())
        assert modules.names == ("agreement",)
        assert modules.inputs == {"predictions", "references"}
        found = modules.compute({"predictions": predictions, "references": references})
        assert found == {"agreement": 0.75}
        assert classification_modules([name], 2, ()) is modules


PREPARES = """

    def _download_and_prepare(self, manager):
        from pathlib import Path
        self.file = Path(self.data_dir, "value.txt")
        self.file.write_text("2.5")
"""


def test_what_a_module_prepares_is_kept_and_nothing_else(
    write: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    inputs = {"predictions": [1], "references": [1]}
    assert classification_modules([write("plain")], 2, ()).compute(inputs) == {"agreement": 0.25}
    assert not list(scratch.iterdir())
    body = "return {'value': float(self.file.read_text())}" + PREPARES
    assert classification_modules([write("prepared", body)], 2, ()).compute(inputs) == {"value": 2.5}
    assert [path.name for path in scratch.rglob("*.*")] == ["value.txt"]


def test_files_beside_it_can_be_imported(write: Callable[..., str]) -> None:
    write("helped", more="from .other import VALUE", body="return {'value': VALUE}", features=FLOATS)
    Path("helped", "other.py").write_text("VALUE = 1.5\n")
    Path("imported").mkdir()
    Path("imported", "imported.py").write_text("from evaluate import Metric\nfrom .it import Mine\n")
    Path("imported", "it.py").write_text(Path("helped", "helped.py").read_text().replace("from .other", "from .value"))
    Path("imported", "value.py").write_text("VALUE = 2.5\n")
    inputs = {"predictions": [1.0], "references": [1.0]}
    assert regression_modules(["helped"], ()).compute(inputs) == {"value": 1.5}
    assert regression_modules(["imported"], ()).compute(inputs) == {"value": 2.5}


def test_scores_are_given_to_those_that_take_them(write: Callable[..., str]) -> None:
    two = write("two", "return {'highest': max(inputs['prediction_scores'])}", features=SCORES)
    modules = classification_modules([two, write("plain", kind="Plain")], 2, ())
    inputs = {"predictions": [1], "references": [1], "prediction_scores": [0.75]}
    assert modules.compute(inputs) == {"highest": 0.75, "agreement": 0.25}
    nested = SCORES.replace('datasets.Value("float32")', 'datasets.Sequence(datasets.Value("float32"))')
    three = write("three", "return {'width': len(inputs['prediction_scores'][0])}", features=nested)
    assert classification_modules([three], 3, ()).compute(
        {"predictions": [1], "references": [1], "prediction_scores": np.ones((1, 3))}
    ) == {"width": 3.0}


def test_names_that_are_taken_get_the_modules(write: Callable[..., str]) -> None:
    bodies = {"first": "return {'accuracy': 1}", "second": "return {'b': 1}", "third": "return {'b': 2}"}
    names = [write(name, body, kind=name.title()) for name, body in bodies.items()]
    assert classification_modules(names, 2, ("accuracy",)).names == ("first_accuracy", "second_b", "third_b")


FRAIL = """first = inputs['predictions'][0]
        if first == 7:
            raise ValueError('seven')
        return {'first': first}"""


def test_a_module_that_fails_later_costs_no_run(write: Callable[..., str], caplog: pytest.LogCaptureFixture) -> None:
    name = write("frail", FRAIL)
    modules = classification_modules([name, write("other", kind="Other")], 2, ())
    with caplog.at_level("WARNING", logger="mltrain"):
        found = modules.compute({"predictions": [7, 1], "references": [0, 1]})
        assert math.isnan(found["first"])
        assert found["agreement"] == 0.25
        found = modules.compute({"predictions": [0.5, "x"], "references": [0, 1]})
        assert all(math.isnan(value) for value in found.values())
    assert "evaluation.metrics: the figures of ./frail are NaN here: it raised ValueError: seven." in caplog.text
    assert modules.compute({"predictions": [1, 1], "references": [0, 1]}) == {"first": 1.0, "agreement": 0.25}
    assert all(math.isnan(value) for value in modules.compute({"predictions": [], "references": []}).values())


NO_INFO = "import evaluate\nclass Mine(evaluate.Metric): pass\n"
LISTS = INTEGERS.replace('datasets.Value("int64")', 'datasets.Sequence(datasets.Value("int64"))')
MISTAKES = {
    "raises": ({"body": "return {'x': 1 / 0}"}, "raises ZeroDivisionError: division by zero (bad.py:11)"),
    "matrix": ({"body": "return {'m': [[1, 2]]}"}, "m of ./bad is no number, but [[1, 2]]. Return numbers alone."),
    "none": ({"body": "return {'m': None}"}, "m of ./bad is no number, but None."),
    "text": ({"body": "return {'m': 'high'}"}, "m of ./bad is no number, but high."),
    "empty": ({"body": "return {}"}, "./bad gives dict, not figures by name"),
    "unnamed": ({"body": "return 3"}, "./bad gives int, not figures by name"),
    "name": ({"body": "return {'a b': 1}"}, "./bad gives a figure the name 'a b'. Use letters"),
    "inputs": ({"features": '"sentences": datasets.Value("string")'}, "./bad takes sentences, and this task gives "),
    "features": ({"features": LISTS}, "raises ValueError: Predictions and/or references don't match"),
    "syntax": ({"text": "def ("}, "bad/bad.py:1: SyntaxError: invalid syntax. Mend the module."),
    "import": ({"text": "\nimport nowhere\n"}, "bad/bad.py:2: ModuleNotFoundError: No module named 'nowhere'. Mend"),
    "no metric": ({"text": "x = 1\n"}, "'./bad/bad.py' defines no evaluate.Metric"),
    "no info": ({"text": NO_INFO}, "./bad/bad.py cannot be set up (NotImplementedError)"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "said"), MISTAKES.values(), ids=MISTAKES)
def test_what_cannot_be_used_is_refused(write: Callable[..., str], change: dict[str, str], said: str) -> None:
    assert said in refusal(write("bad", **change))


def test_what_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import evaluate

    for name in ("HF_METRICS_CACHE", "HF_MODULES_CACHE", "HF_EVALUATE_CACHE", "DOWNLOADED_EVALUATE_PATH"):
        monkeypatch.setattr(evaluate.config, name, tmp_path / "cache")
    assert "no file 'nowhere/nowhere.py'. A folder of yours holds a file of its own name" in refusal("./nowhere")
    assert "no file 'nowhere.py'" in refusal("nowhere.py")
    for name in ("accuracy", "somebody/their_metric"):
        assert f"{name!r} is not in the cache of the Hugging Face hub and cannot be fetched. Check" in refusal(name)


def test_a_run_folders_own_code_is_not_run(write: Callable[..., str]) -> None:
    write("metric", text="raise AssertionError('it was run')\n")
    for name in ("config.yaml", "metadata.json"):
        Path(name).touch()
    Path("checkpoints").mkdir()
    assert "lies in a run folder, and nothing in there is run" in refusal("./metric")


def test_of_modules_with_one_figure_the_other_keeps_its_name_where_one_fails(write: Callable[..., str]) -> None:
    frail = write("frail", FRAIL, kind="Frail")
    modules = classification_modules([frail, write("sound", "return {'first': 0.5}", kind="Sound")], 2, ())
    assert modules.names == ("frail_first", "sound_first")
    found = modules.compute({"predictions": [7, 1], "references": [0, 1]})
    assert math.isnan(found["frail_first"])
    assert found["sound_first"] == 0.5


def test_fractions_are_not_cut_to_whole_numbers_and_texts_are_not_read_as_such(write: Callable[..., str]) -> None:
    name = write("whole")
    with pytest.raises(
        ConfigError, match="whole takes int64 as predictions, and this task gives numbers with fractions"
    ):
        regression_modules([name], ())
    with pytest.raises(ConfigError, match="whole takes int64 as predictions, and this task gives texts"):
        text_modules([name], ())
