"""No secret of the environment, and no password of an address, is written by a run or shown by a command."""

from __future__ import annotations

import base64
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from warm_process import run_warm

import mltrain
from mltrain.core.errors import ConfigError
from mltrain.core.logging import close_log, log, open_file_log
from mltrain.core.masking import has_password, masked
from mltrain.workflows.metadata import command_line

SECRETS = {
    "MLFLOW_TRACKING_PASSWORD": "Sesame-one-mlflow-password",
    "MLFLOW_TRACKING_TOKEN": "Sesame-two-mlflow-token",
    "AWS_SECRET_ACCESS_KEY": "Sesame-three-aws-key",
    "WANDB_API_KEY": "5e5a" * 10,
    "HF_TOKEN": "hf_SesameFourHubToken",
}
IN_ADDRESSES = {"MLFLOW_TRACKING_URI": "Sesame-five-in-uri", "HTTPS_PROXY": "Sesame-six-in-proxy"}
PLUGIN = """
from mltrain.callbacks.base import Callback, register_callback


@register_callback("fails")
class Fails(Callback):
    def on_epoch_end(self, loop, epoch, values):
        import os
        raise RuntimeError("no answer from " + os.environ["MLFLOW_TRACKING_URI"])
"""


def start(folder: Path, *overrides: str, **environment: str) -> subprocess.Popen[str]:
    """Start a run with secrets in its environment."""
    return subprocess.Popen(
        [sys.executable, "-m", "mltrain", "--debug", "--config", "config.yaml", *overrides],
        cwd=folder,
        env={**os.environ, **SECRETS, "MLFLOW_TRACKING_USERNAME": "me", "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def traces(secret: str) -> list[bytes]:
    """Return the forms in which a secret may stand in a file: as it is, and as HTTP sends it."""
    return [secret.encode(), *(base64.b64encode(text.encode()).rstrip(b"=") for text in (secret, f"me:{secret}"))]


@pytest.mark.slow
def test_a_run_that_succeeds_and_one_that_fails_write_no_secret(vectors: dict[str, Any], tmp_path: Path) -> None:
    sinks = {"mlflow": {"enabled": True, "finish_timeout_s": 60.0}, "tensorboard": {"enabled": True}}
    if importlib.util.find_spec("wandb") is not None:
        sinks["wandb"] = {"enabled": True, "mode": "offline"}
    config = {**vectors, "training": {"num_epochs": 1, "batch_size": 8}, "tracking": sinks}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    (tmp_path / "fails.py").write_text(PLUGIN)
    away = {
        "MLFLOW_TRACKING_URI": f"http://me:{IN_ADDRESSES['MLFLOW_TRACKING_URI']}@127.0.0.1:9",
        "HTTPS_PROXY": f"http://me:{IN_ADDRESSES['HTTPS_PROXY']}@127.0.0.1:9",
    }
    plugins = f"plugins=[{vectors['plugins'][0]},fails.py]"
    failing = start(tmp_path, "run.name=bad", "callbacks.fails={}", plugins, "tracking.wandb.enabled=false", **away)
    good = start(tmp_path, "run.name=good", MLFLOW_TRACKING_URI="")
    told = {name: process.communicate(timeout=240)[0] for name, process in (("bad", failing), ("good", good))}
    assert (good.returncode, failing.returncode) == (0, 1), told
    for name, text in told.items():
        (tmp_path / f"{name}.out").write_text(text)
    assert "RuntimeError: no answer from http://me:***@127.0.0.1:9" in told["bad"]
    assert "no answer from http://me:***@" in (tmp_path / "runs" / "bad" / "logs" / "train.log").read_text()
    assert "no answer from http://me:***@" in (tmp_path / "runs" / "bad" / "summary.json").read_text()

    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    names = {path.name.partition(".")[0] for path in files}
    assert {"mlflow", "events", "config", "metadata", "train"} <= names
    for path in files:
        content = path.read_bytes()
        for secret in (*SECRETS.values(), *IN_ADDRESSES.values()):
            assert not any(trace in content for trace in traces(secret)), (secret, path)


@pytest.mark.parametrize(
    ("key", "address", "shown"),
    [
        ("tracking.mlflow.tracking_uri", "http://me:Sesame@host:5000", "http://me:***@host:5000"),
        ("tracking.mlflow.tracking_uri", "postgresql://me:Ses/ame@host/db", "postgresql://me:***@host/db"),
        ("tracking.others.mine.address", "https://Sesame@host/x", "https://***@host/x"),
        ("run.tags.store", "mysql://host/db?user=me&password=Sesame", "mysql://host/db?user=me&password=***"),
    ],
)
def test_an_address_with_a_password_is_refused_where_it_would_be_kept(
    vectors: dict[str, Any], key: str, address: str, shown: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        mltrain.train(vectors, {key: address}, verbose=False)
    assert str(raised.value).startswith(f"overrides, {key}: is {shown}, with a password, which the run folder would")
    assert ("MLFLOW_TRACKING_PASSWORD" in str(raised.value)) == key.startswith("tracking.mlflow")
    assert not Path("runs").exists()


def test_the_command_line_shows_no_password_in_an_error(vectors: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(vectors))
    word = "training.device=http://me:Sesame@host"
    result = run_warm(["mltrain", "--debug", "--config", "config.yaml", word], tmp_path)
    assert result.returncode == 2
    assert "http://me:***@host" in result.stderr
    assert "Sesame" not in result.stderr


def test_the_recorded_command_line_has_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/bin/mltrain", "sync", "--tracking_uri", "http://me:Sesame@host", "a b"])
    assert command_line() == "mltrain sync --tracking_uri 'http://me:***@host' 'a b'"


def test_the_log_hides_passwords_in_messages_and_tracebacks(tmp_path: Path) -> None:
    handler = open_file_log(tmp_path / "train.log")
    try:
        log.info("Sent to %s.", "http://me:Sesame@host")
        try:
            raise OSError("postgresql://me:Ses/ame@host is away")
        except OSError:
            log.debug("It failed.", exc_info=True)
    finally:
        close_log(handler)
    text = (tmp_path / "train.log").read_text()
    assert "Sent to http://me:***@host." in text
    assert "OSError: postgresql://me:***@host is away" in text
    assert "ame@" not in text


@pytest.mark.parametrize(
    "text",
    [
        "http://host:5000/a:b@c",
        "postgresql://me@host/db",
        "ssh://git@host/x",
        "git@host:a/b",
        "see http://host:80/ and write to a:b@c.de",
        "sqlite:////home/a/mlflow.db",
        "http://me:***@host",
        "https://***@host/x?token=***",
        "s3://host:9000/path/a@v1",
        "ftp://host:21/folder/me@x",
    ],
)
def test_what_holds_no_password_stays_as_it_is(text: str) -> None:
    assert masked(text) == text
    assert not has_password(text)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("https://h/x?access_token=Sesame", "https://h/x?access_token=***"),
        ("https://h/x?a=1&client_secret=Sesame&b=2", "https://h/x?a=1&client_secret=***&b=2"),
        ("https://h.blob/x?sv=1&sig=Sesame", "https://h.blob/x?sv=1&sig=***"),
        ("https://s3/x?X-Amz-Signature=Sesame", "https://s3/x?X-Amz-Signature=***"),
        ("postgresql://me:Se@same@host/db", "postgresql://me:***@host/db"),
    ],
)
def test_further_forms_of_secrets_are_hidden(text: str, hidden: str) -> None:
    assert masked(text) == hidden


def test_several_addresses_in_one_text_are_hidden() -> None:
    text = (
        "from ['https://a:Sesame@one', 'mysql+x://b:Sesa/me:x@two/db?ssl=1'] to http://Sesame@three?api_key=Sesame&a=1"
    )
    hidden = "from ['https://a:***@one', 'mysql+x://b:***@two/db?ssl=1'] to http://***@three?api_key=***&a=1"
    assert masked(text) == hidden
    assert masked(hidden) == hidden
