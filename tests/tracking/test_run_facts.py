from pathlib import Path

from mltrain.core.files import write_json
from mltrain.core.run_folder import create_run_folder
from mltrain.tracking.run_facts import flatten, read_facts


def test_flatten_keeps_every_leaf_under_a_dotted_name():
    nested = {"a": {"b": {"c": 1.5, "d": None}}, "list": [1, "x"], "text": "plain", "flag": True, "empty": {}}
    assert flatten(nested) == {
        "a.b.c": "1.5",
        "a.b.d": "null",
        "list": '[1, "x"]',
        "text": "plain",
        "flag": "true",
        "empty": "{}",
    }


def test_facts_of_a_run(tmp_path):
    folder = create_run_folder(tmp_path, "name", numbered=False)
    folder.config.write_text(
        "data: {data_dir: some/flowers}\n"
        "run: {dir: runs, description: text, tags: {team: red, number: 7}}\n"
        "tracking: {log_every_n_steps: 5, mlflow: {tracking_uri: 'postgresql://me:secret@host/db'}}\n"
    )
    write_json(
        folder.metadata,
        {"git": {"commit": "abc"}, "data": {"digest": "123"}, "packages": {"torch": "2"}, "segments": [{"step": 0}]},
    )
    facts = read_facts(folder)
    assert (facts.name, facts.description, facts.commit) == ("name", "text", "abc")
    assert facts.tags == {"team": "red", "number": "7"}
    assert facts.parameters == {"data.data_dir": "some/flowers", "run.dir": "runs"}
    assert facts.circumstances == {"git.commit": "abc", "data.digest": "123"}
    assert facts.dataset is not None
    assert (facts.dataset.name, facts.dataset.digest) == ("flowers", "123")
    assert facts.dataset.source == str(Path("some/flowers").absolute())


def test_an_empty_folder_says_little(tmp_path):
    facts = read_facts(create_run_folder(tmp_path, "name", numbered=False))
    assert (facts.parameters, facts.tags, facts.circumstances) == ({}, {}, {})
    assert (facts.commit, facts.command_line, facts.dataset) == (None, None, None)
