"""Every way to get a configuration wrong gives a line for people: place, wish, what stands there, what to write.

The tables hold what is written and, indented below it, the line that meets it; <words> stand for the phrases here.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from config_cases import BASE, problems

PHRASES = {
    "<betas>": "a list of 2 entries, each a number, at least 0 and below 1, or null",
    "<choice>": "'imagenet', 'half', 'none', or a section of keys and values (needed: mean, std)",
    "<count>": "a whole number, at least 1",
    "<device>": "one like auto, cpu, cuda, cuda:1, mps or xpu",
    "<files>": "a list of Python files",
    "<normalize>": "data.transforms.normalize",
    "<section>": "a section of keys and values",
    "<seed>": "a whole number, at least 0 and below 9223372036854775808",
    "<workers>": "'auto', or a whole number, at least 0 and at most 1024",
}


def cases(table: str) -> list[tuple[str, str]]:
    """Return (what is written, the line that meets it)."""
    for phrase, words in PHRASES.items():
        table = table.replace(phrase, words)
    lines = table.strip().splitlines()
    return [(written, answer.strip()) for written, answer in zip(lines[::2], lines[1::2], strict=True)]


IN_A_FILE = r"""
training: {batch_size: 0}
    training.batch_size: must be <count>, is 0.
training: {batch_size: -3}
    training.batch_size: must be <count>, is -3.
training: {batch_size: 8.5}
    training.batch_size: must be <count>, is 8.5.
training: {batch_size: 8.0}
    training.batch_size: must be <count>, is 8.0. Write 8
training: {batch_size: '8'}
    training.batch_size: must be <count>, is '8'. Write it without quotes.
training: {batch_size: true}
    training.batch_size: must be <count>, is true.
training: {batch_size: }
    training.batch_size: must be <count>, is null. Give it a value, or leave it out.
training: {batch_size: [8]}
    training.batch_size: must be <count>, is [8].
training: {batch_size: {a: 8}}
    training.batch_size.a: batch_size holds no keys. It must be <count>.
optimizer: {lr: -1}
    optimizer.lr: must be a number, above 0, is -1.
optimizer: {lr: fast}
    optimizer.lr: must be a number, above 0, is 'fast'.
optimizer: {lr: '1e-3'}
    optimizer.lr: must be a number, above 0, is '1e-3'. Write it without quotes.
optimizer: {lr: .nan}
    optimizer.lr: must be finite, is nan. Write a finite number.
optimizer: {lr: .inf}
    optimizer.lr: must be finite, is inf. Write a finite number.
optimizer: {lr: 2020-01-01}
    optimizer.lr: must be a number, above 0, is '2020-01-01'.
optimizer: {weight_decay: -1}
    optimizer.weight_decay: must be a number, at least 0, or null, is -1.
seed: -1
    seed: must be <seed>, is -1.
seed: 99999999999999999999
    seed: a whole number of more than 64 bits. Write a smaller one.
training: {label_smoothing: 1}
    training.label_smoothing: must be a number, at least 0 and below 1, is 1.
checkpointing: {keep_last: 1}
    checkpointing.keep_last: must be a whole number, at least 2, is 1.
early_stopping: {enabled: 1}
    early_stopping.enabled: must be true or false, is 1.
run: {name: 3}
    run.name: must be a text or null, is 3. Put it in quotes.
run: {tags: {a: 1}}
    run.tags.a: must be a text, is 1. Put it in quotes.
run: {tags: [a]}
    run.tags: must be keys and values, each value a text, is ['a'].
callbacks: {a: null}
    callbacks.a: must be keys and values, is null. Write {} for none
optimizer: {betas: 0.9}
    optimizer.betas: must be <betas>, is 0.9.
optimizer: {betas: [0.9]}
    optimizer.betas: must be <betas>, is [0.9].
optimizer: {betas: [0.9, x]}
    optimizer.betas.1: must be a number, at least 0 and below 1, is 'x'.
optimizer: {betas: [0.9, 1]}
    optimizer.betas.1: must be a number, at least 0 and below 1, is 1.
plugins: a.py
    plugins: must be <files>, is 'a.py'. Write: plugins: [a.py]
plugins: [3]
    plugins: must be <files>, is [3]. Write: plugins: [my_task.py]
plugins: true
    plugins: must be <files>, is true. Write: plugins: [my_task.py]
training: {amp_dtype: bf16}
    training.amp_dtype: must be 'bfloat16' or 'float16', is 'bf16'. Did you mean 'bfloat16'?
training: {amp_dtype: fp16}
    training.amp_dtype: must be 'bfloat16' or 'float16', is 'fp16'. Did you mean 'float16'?
early_stopping: {mode: maximize}
    early_stopping.mode: must be 'min' or 'max', is 'maximize'. Did you mean 'max'?
checkpointing: {selection: 3}
    checkpointing.selection: must be 'best', 'last' or null, is 3.
training: {device: gpu}
    training.device: must be <device>, is 'gpu'. Did you mean 'cuda'?
training: {device: 'cuda:x'}
    training.device: must be <device>, is 'cuda:x'. Did you mean 'cuda:1'?
training: {device: 0}
    training.device: must be <device>, is 0.
training: 5
    training: must be <section>, is 5.
training: [1]
    training: must be <section>, is [1].
training:
    training: must be <section>, is null. Give it keys, or leave it out.
training: {ema: true}
    training.ema: must be <section>, is true. Write ema: {enabled: true}
optimizer: adamw
    optimizer: must be <section>, is 'adamw'. Write optimizer: {name: adamw}
tracking: {mlflow: false}
    tracking.mlflow: must be <section>, is false. Write mlflow: {enabled: false}
scheduler: {min_lr: 1}
    scheduler.min_lr: is 1, above optimizer.lr, which is 0.001. Lower it.
scheduler: {warmup_steps: 1, warmup_epochs: 1}
    scheduler.warmup_epochs: stands beside scheduler.warmup_steps. Keep one of them.
reproducibility: {benchmark: true}
    reproducibility.benchmark: is true and needs reproducibility.deterministic: false. Set that as well.
checkpointing: {monitor: val_loss}
    checkpointing.monitor: needs checkpointing.mode: min or max. Add it.
checkpointing: {mode: min}
    checkpointing.mode: needs checkpointing.monitor: a metric such as val_loss. Add it.
"""


@pytest.mark.parametrize(("written", "answer"), cases(IN_A_FILE))
def test_one_line_of_a_file(written: str, answer: str) -> None:
    assert problems(f"{BASE}{written}\n") == [f"c.yaml:4, {answer}"]


# A key that takes one of several types still gives one line.
IN_DATA = r"""
num_workers: many
    data.num_workers: must be <workers>, is 'many'.
num_workers: Auto
    data.num_workers: must be <workers>, is 'Auto'. Did you mean 'auto'?
num_workers: -1
    data.num_workers: must be <workers>, is -1.
transforms: {normalize: imagnet}
    <normalize>: must be <choice>, is 'imagnet'. Did you mean 'imagenet'?
transforms: {normalize: 3}
    <normalize>: must be <choice>, is 3.
transforms: {normalize: {mean: [1]}}
    <normalize>.std: is missing. Add it: One number a channel.
transforms: {normalize: {mean: [1], std: x}}
    <normalize>.std: must be a list, each a number, is 'x'. Write std: [x]
transforms: {normalize: {mean: [a], std: [1]}}
    <normalize>.mean.0: must be a number, is 'a'.
transforms: {normalize: {means: [1], std: [1]}}
    <normalize>.means: unknown key. Did you mean <normalize>.mean?
"""


@pytest.mark.parametrize(("written", "answer"), cases(IN_DATA))
def test_one_key_of_the_data_section(written: str, answer: str) -> None:
    assert problems(BASE.replace("photos", f"photos, {written}")) == [f"c.yaml:2, {answer}"]


INSTEAD = r"""
data: {data_dir: photos} =>
    c.yaml, data: is missing. Add it: <section> (needed: data_dir).
data: {data_dir: photos} => data:
    c.yaml:2, data: must be <section> (needed: data_dir), is null. Give it keys, or leave it out.
{data_dir: photos} => {}
    c.yaml:2, data.data_dir: is missing. Add it: Folder of the data set; split files name paths relative to it.
{data_dir: photos} => photos
    c.yaml:2, data: must be <section> (needed: data_dir), is 'photos'. Write data: {data_dir: photos}
photos => ''
    c.yaml:2, data.data_dir: must be a text, not empty, is ''.
{architecture: mlp} => resnet18
    c.yaml:3, model: must be <section> (needed: architecture), is 'resnet18'. Write model: {architecture: resnet18}
architecture: mlp => architecture: null
    c.yaml:3, model.architecture: must be a text, is null. Give it a value.
architecture: mlp => architectur: mlp
    c.yaml:3, model.architectur: unknown key. Did you mean model.architecture?
task: images =>
    c.yaml, task: is missing. Add a line such as: task: image_classification
task: images => task:
    c.yaml:1, task: is missing. Add a line such as: task: image_classification
task: images => task: 5
    c.yaml:1, task: must be a text, is 5. Write: task: image_classification
task: images => task: [images]
    c.yaml:1, task: must be a text, is ['images']. Write: task: image_classification
task: images => task: imges
    c.yaml:1, task: unknown task 'imges'. Did you mean 'images'?
"""


@pytest.mark.parametrize(("written", "answer"), cases(INSTEAD))
def test_what_must_not_lack(written: str, answer: str) -> None:
    old, new = written.split(" =>")
    text = "".join(line.replace(old, new.strip()) for line in BASE.splitlines(keepends=True))
    assert problems(text.replace("\n\n", "\n") if not new else text) == [answer]


ON_THE_COMMAND_LINE = r"""
training.batch_size=true
    training.batch_size: must be <count>, is true.
training.batch_size=
    training.batch_size: must be <count>, is null. Give it a value, or leave it out.
training=5
    training: must be <section>, is 5.
training=null
    training: must be <section>, is null. Give it keys, or leave it out.
data=x
    data: must be <section> (needed: data_dir), is 'x'. Write data.data_dir=x
training.ema=true
    training.ema: must be <section>, is true. Write training.ema.enabled=true
data.data_dir.x=1
    data.data_dir.x: data.data_dir is 'photos' and holds no keys. Check the key.
seed.x=1
    seed.x: seed holds no keys. It must be <seed>.
evaluation.metrics=[3]
    evaluation.metrics.0: must be a text, not empty, is 3. Put it in quotes.
run.name={a: b}
    run.name.a: name holds no keys. It must be a text or null.
run.tags.a=1
    run.tags.a: must be a text, is 1. Write run.tags.a='"1"'
plugins=a.py
    plugins: must be <files>, is 'a.py'. Write: plugins: [a.py]
task=imges
    task: unknown task 'imges'. Did you mean 'images'?
optimizer.lr=nan
    optimizer.lr: must be a number, above 0, is 'nan'.
epochs=3
    epochs: unknown key. Here it is called training.num_epochs.
training.batchsize=3
    training.batchsize: unknown key. Did you mean training.batch_size?
callbacks.a=1
    callbacks.a: must be keys and values, is 1.
"""


@pytest.mark.parametrize(("written", "answer"), cases(ON_THE_COMMAND_LINE))
def test_one_argument_of_the_command_line(written: str, answer: str) -> None:
    assert problems(BASE, [written]) == [f"command line, {answer}"]


def test_an_argument_that_is_no_yaml() -> None:
    assert problems(BASE, ["optimizer.lr=[1"]) == [
        "command line, optimizer.lr: cannot read the value '[1': not valid YAML (a bracket or brace that is opened "
        "here is not closed). Write it as in a YAML file; a text in quotes."
    ]


@pytest.mark.parametrize("key", [".", ".a", "a.", "training..batch_size", "training."])
def test_what_is_no_key(key: str) -> None:
    assert problems(BASE, [f"{key}=1"]) == [f"command line: {key!r} is not a key. Write section.key=value."]


def test_a_long_value_is_cut() -> None:
    (line,) = problems(f"{BASE}training: {{batch_size: {'x' * 5000}}}\n")
    assert len(line) < 200
    assert line.endswith("xxx....")


def test_plugins_that_cannot_be_had() -> None:
    Path("text.txt").write_text("")
    Path("folder").mkdir()
    for name, words in {
        "gone.py": "no file 'gone.py'",
        "folder": "no file",
        "text.txt": "is not a Python file",
    }.items():
        (line,) = problems(f"{BASE}plugins: [{name}]\n")
        assert line.startswith("c.yaml:4, plugins: ")
        assert words in line


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("import math\n\nmath.sqrt(-1)\n", "p.py:3: ValueError: "),
        ("def f():\n    return 1 / 0\n\nf()\n", "p.py:2: ZeroDivisionError: division by zero"),
        ("import no_such_module_at_all\n", "p.py:1: ModuleNotFoundError: No module named"),
        ("x = 1\ndef f(:\n", "p.py:2: SyntaxError: "),
        ("raise SystemExit(3)\n", "p.py:1: SystemExit: 3"),
        ("raise BaseException('odd')\n", "p.py:1: BaseException: odd"),
    ],
)
def test_a_plugin_that_raises_is_named_with_its_line_and_can_be_mended(code: str, line: str) -> None:
    Path("p.py").write_text(code)
    (problem,) = problems(f"{BASE}plugins: [p.py]\n")
    assert problem.startswith(line)
    assert problem.endswith("Mend the plugin.")
    Path("p.py").write_text("seed = 1\n")
    problems(f"{BASE}plugins: [p.py]\nseed: -1\n")  # loaded now: the next problem is met
