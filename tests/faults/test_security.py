"""Nothing that is loaded runs code or leads out of its folder."""

from __future__ import annotations

import gzip
import pickle
import pickletools
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from faults import check
from images import noise
from safetensors import safe_open
from warm_process import run_warm

import mltrain
from mltrain.checkpoints.manifest import MANIFEST, write_manifest
from mltrain.core.errors import CheckpointError, ConfigError, RunFolderError
from mltrain.core.files import read_json, write_json
from mltrain.core.run_folder import RunFolder, open_run_folder
from mltrain.models.registry import build_image_model
from mltrain.models.weights import find_weights
from mltrain.tracking import mlflow_address, wandb_address
from mltrain.trainers.registry import TRAINERS
from mltrain.workflows.resume import find_resume_point
from mltrain.workflows.sync import sync

PLAIN = (".html", ".json", ".jsonl", ".log", ".txt", ".yaml", ".lock")


class Bomb:
    """What a malicious file holds: reading it as a pickle makes a file called `ran`."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._marker,)


@pytest.fixture
def bomb(tmp_path: Path) -> Iterator[bytes]:
    """A malicious pickle, known to work; after the test it must not have been read."""
    marker = tmp_path / "ran"
    content = pickle.dumps(Bomb(marker))
    pickle.loads(content)
    assert marker.exists()
    marker.unlink()
    yield content
    assert not marker.exists()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, a configuration and a finished run."""
    folder = tmp_path_factory.mktemp("project")
    for number in range(12):
        split, label = ("train", "train", "val")[number % 3], ("cat", "dog")[number // 3 % 2]
        path = folder / "data" / split / label / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(8, 8, seed=number).save(path)
    content = {
        "task": "image_classification",
        "data": {"data_dir": "data", "image_size": 8, "num_workers": 0},
        "model": {"architecture": "mlp"},
        "training": {"num_epochs": 1, "batch_size": 4},
        "tracking": {"mlflow": {"enabled": False}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    result = run_warm(["mltrain", "--config", "config.yaml", "--run_name", "it"], folder)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(project, tmp_path / "project"))


# --- nothing that is loaded runs code


def could_run_code(path: Path) -> bool:
    """Return whether a file is a pickle, or an archive such as torch.save writes."""
    if zipfile.is_zipfile(path):
        return True
    try:
        return len(list(pickletools.genops(path.read_bytes()))) > 1
    except (ValueError, IndexError, UnicodeDecodeError, EOFError):
        return False


def test_a_pickle_is_known_when_it_is_seen(tmp_path: Path) -> None:
    import torch

    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pt")
    (tmp_path / "b").write_bytes(pickle.dumps([1], protocol=0))
    (tmp_path / "c.txt").write_text("1\n")
    assert [could_run_code(tmp_path / name) for name in ("a.pt", "b", "c.txt")] == [True, True, False]


@pytest.mark.parametrize(
    "trainer", [pytest.param(name, marks=pytest.mark.slow) if name == "dp" else name for name in TRAINERS.names()]
)
def test_a_run_leaves_safetensors_and_texts_alone(train_vectors: Any, trainer: str) -> None:
    settings = {"training.trainer_type": trainer, "training.ema.enabled": True, "training.num_epochs": 1}
    settings["training.dp"] = {"target_epsilon": 8.0, "accountant": "rdp"}
    folder = train_vectors(settings).folder
    for path in (path for path in folder.rglob("*") if path.is_file()):
        assert not could_run_code(path), path
        assert not path.stat().st_mode & 0o111, path
        if path.suffix == ".safetensors":
            with safe_open(path, framework="np") as file:
                assert list(file.keys())
        elif path.suffix == ".gz":
            assert gzip.decompress(path.read_bytes()).decode()
        elif path.suffix == ".png":
            assert path.read_bytes().startswith(b"\x89PNG")
        else:
            assert path.suffix in PLAIN or path.name in ("best", "last") or path.name == ".lock", path
            assert path.suffix != ".json" or isinstance(read_json(path), dict)
            assert path.read_text(encoding="utf-8").isascii() or path.suffix == ".log"


def test_fault_34_weights_that_are_a_pickle(copy: Path, bomb: bytes) -> None:
    (copy / "evil.bin").write_bytes(bomb)
    result = run_warm(["mltrain", "--config", "config.yaml", "model.weights=evil.bin"], copy)
    check(34, result, "weights")


def test_fault_34_a_folder_of_weights_with_a_pickle(copy: Path, bomb: bytes) -> None:
    (copy / "evil").mkdir()
    (copy / "evil" / "pytorch_model.bin").write_bytes(bomb)
    check(34, run_warm(["mltrain", "--config", "config.yaml", "model.weights=evil"], copy), "folder")


def test_a_pickle_with_the_name_of_safetensors_is_not_read(copy: Path, bomb: bytes) -> None:
    (copy / "evil.safetensors").write_bytes(bomb)
    result = run_warm(["mltrain", "--config", "config.yaml", "model.weights=evil.safetensors"], copy)
    assert result.returncode == 2
    assert "evil.safetensors: cannot be read" in result.stderr


def newest_checkpoint(project: Path) -> Path:
    return max(path for path in (project / "runs" / "it" / "checkpoints").iterdir() if path.is_dir())


def test_fault_34_a_checkpoint_with_a_pickle_that_its_manifest_lists(copy: Path, bomb: bytes) -> None:
    checkpoint = newest_checkpoint(copy)
    (checkpoint / "custom_checkpoint_0.pkl").write_bytes(bomb)
    (checkpoint / MANIFEST).unlink()
    write_manifest(checkpoint)
    named = ["--resume", f"runs/it/checkpoints/{checkpoint.name}", "--num_epochs", "2"]
    check(34, run_warm(["mltrain", *named], copy), "checkpoint", checkpoint=checkpoint)


def test_a_plugin_within_a_run_folder_is_not_run(copy: Path) -> None:
    run, marker = copy / "runs" / "it", copy / "ran"
    (run / "evil.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "plugins": ["runs/it/evil.py"]}))
    for command in (["--resume", "runs/it", "--num_epochs", "2"], ["rerun", "runs/it"]):
        result = run_warm(["mltrain", *command], copy)
        assert result.returncode == 2
        assert "'runs/it/evil.py' lies in a run folder, and nothing in there is run" in result.stderr
    assert not marker.exists()


TAGS = ["!!python/object/apply:os.system ['touch ran']", "!!python/name:os.system", "!!python/module:os"]


@pytest.mark.parametrize("tag", TAGS)
def test_yaml_makes_no_objects(tag: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(f"task: image_classification\nseed: {tag}\n")
    write_json(run / "metadata.json", {})
    refused = r"config\.yaml:2: cannot be read as .*python.*without a tag"
    with pytest.raises(ConfigError, match=refused):
        mltrain.train(run / "config.yaml", verbose=False)
    with pytest.raises(ConfigError, match=refused):
        mltrain.train(resume=run, verbose=False)
    (synchronized,) = sync([run])
    assert re.search(refused, str(synchronized.error))
    assert not (tmp_path / "ran").exists()


# --- nothing that is loaded leads out of its folder


@pytest.mark.parametrize("name", ["checkpoints", "logs/train.log", "metrics.jsonl", "tracking/mlflow.json", "model"])
def test_a_link_that_leads_out_of_the_run_folder_is_refused(copy: Path, name: str) -> None:
    link, elsewhere = copy / "runs" / "it" / name, copy / "elsewhere"
    if link.exists():
        link.rename(elsewhere)
    else:
        elsewhere.touch()
    link.symlink_to(elsewhere)
    before = contents(elsewhere)
    with pytest.raises(RunFolderError, match=rf"{name}: is a link that leads out of the run folder\. Put"):
        mltrain.train(None, {"training.num_epochs": 2}, resume=copy / "runs" / "it", verbose=False)
    assert contents(elsewhere) == before


def contents(place: Path) -> list[tuple[Path, bytes]]:
    return [(path, path.read_bytes()) for path in [place, *sorted(place.rglob("*"))] if path.is_file()]


def test_a_link_within_the_run_folder_is_allowed(copy: Path) -> None:
    run = copy / "runs" / "it"
    (run / "logs" / "newest.log").symlink_to("train.log")
    assert open_run_folder(run).path == run.resolve()


@pytest.mark.parametrize("kind", ["a folder", "a file", "pointers"])
def test_a_checkpoint_elsewhere_is_not_loaded(copy: Path, kind: str) -> None:
    checkpoint, elsewhere = newest_checkpoint(copy), copy / "elsewhere"
    if kind == "pointers":
        checkpoint.rename(elsewhere)
        for name in ("best", "last"):
            (checkpoint.parent / name).write_text("../../../elsewhere\n")
        assert find_resume_point(copy / "runs" / "it").checkpoint is None
        return
    moved = checkpoint if kind == "a folder" else checkpoint / "model.safetensors"
    moved.rename(elsewhere)
    moved.symlink_to(elsewhere)
    with pytest.raises((CheckpointError, RunFolderError), match="link"):
        find_resume_point(checkpoint)


@pytest.mark.parametrize("name", ["../../../elsewhere", "/etc", "step-00000001/../../x"])
def test_a_best_checkpoint_elsewhere_is_refused(copy: Path, name: str) -> None:
    """As by a checkpoint that was made by hand, its manifest included."""
    checkpoint = newest_checkpoint(copy)
    text = (checkpoint / "state.json").read_text()
    assert f'"checkpoint": "{checkpoint.name}"' in text
    text = text.replace(f'"checkpoint": "{checkpoint.name}"', f'"checkpoint": "{name}"')
    (checkpoint / "state.json").write_text(text)
    (checkpoint / MANIFEST).unlink()
    write_manifest(checkpoint)
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        mltrain.train(copy / "config.yaml", in_copy(copy), resume=copy / "runs" / "it", verbose=False)


def in_copy(copy: Path) -> dict[str, Any]:
    return {"training.num_epochs": 2, "data.data_dir": str(copy / "data")}


def test_parts_of_weights_lie_beside_their_index(copy: Path) -> None:
    (copy / "secret.safetensors").touch()
    (copy / "w").mkdir()
    for part in ("../secret.safetensors", str(copy / "secret.safetensors"), "pytorch_model.bin"):
        write_json(copy / "w" / "model.safetensors.index.json", {"weight_map": {"a": part}})
        with pytest.raises(ConfigError, match=r"index\.json: names .* no \.safetensors file of its own folder"):
            find_weights(str(copy / "w"), "mlp")


@pytest.mark.parametrize("architecture", ["/etc", "owner/name", "timm/hf-hub:owner/name", "timm/local-dir:/etc", ".."])
def test_a_package_names_no_other_place(copy: Path, architecture: str) -> None:
    package = copy / "runs" / "it" / "model"
    facts = read_json(package / "mltrain.json")
    write_json(package / "mltrain.json", {**facts, "architecture": architecture, "plugins": ["evil.py"]})
    (package / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ConfigError, match="is none of the known models"):
        mltrain.load_model(package)


def test_a_model_configuration_fetches_no_kernel() -> None:
    """transformers takes an implementation called owner/name from the hub, as code."""
    values = {"model_type": "vit", "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    evil = dict.fromkeys(["attn_implementation", "_attn_implementation", "experts_implementation"], "owner/kernel")
    evil["auto_map"] = {"AutoModelForImageClassification": "owner/name--evil.Model"}
    model = build_image_model(
        "mine", num_classes=2, channels=3, image_size=16, options={}, config={**values, "num_hidden_layers": 1, **evil}
    )
    assert "owner" not in str(model.config.to_dict())
    assert model.config._attn_implementation in ("eager", "sdpa")


@pytest.mark.parametrize("odd", ["../../x", "a/b", "a\nb", "", "?run_id=1", 7.5, None, ["a"]])
def test_ids_of_trackers_hold_no_paths(odd: Any, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.tracking.mkdir()
    sound = {"tracking_uri": "sqlite:////x.db", "experiment_id": "1", "run_id": "0f"}
    assert mlflow_address.write_address(folder, uri="sqlite:////x.db", experiment_id="1", run_id="0f") is None
    assert mlflow_address.read_address(folder) == sound
    for key in ("run_id", "experiment_id"):
        write_json(folder.tracking / "mlflow.json", {**sound, key: odd})
        assert mlflow_address.read_address(folder) == {}
        assert mlflow_address.run_ids(folder, "sqlite:////x.db") == []
        write_json(folder.tracking / "mlflow.json", {**sound, "others": [{**sound, key: odd}]})
        assert mlflow_address.read_address(folder) == sound
    write_json(folder.tracking / "wandb.json", {"id": odd})
    assert wandb_address.read_address(folder) == {}
    write_json(folder.tracking / "wandb.json", {"id": "0f-3"})
    assert wandb_address.read_address(folder) == {"id": "0f-3"}
