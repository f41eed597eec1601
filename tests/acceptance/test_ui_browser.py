"""`mltrain ui` as people use it: a run is trained, the command started, its page opened in a real browser."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from conftest import VECTORS_PLUGIN
from playwright.sync_api import Page, expect, sync_playwright

pytestmark = pytest.mark.slow

_PATIENCE_MS = 60_000
_CONFIG = f"""
task: vectors
plugins: [{VECTORS_PLUGIN}]
data: {{num_workers: 0}}
model: {{}}
training: {{num_epochs: 3, batch_size: 8}}
optimizer: {{lr: 0.0123}}
tracking: {{log_every_n_steps: 2, mlflow: {{experiment: vectors}}}}
"""


def start_ui(project: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mltrain", "ui", *arguments]
    # A shell starts its background jobs deaf to SIGINT, and so would this process be, were these tests such a job.
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, earlier)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A run that was sent to MLflow, and the UI on it."""
    if shutil.which("chromium") is None:
        pytest.skip("there is no chromium on this machine: the UI is not seen in a browser")
    project = tmp_path_factory.mktemp("project")
    (project / "c.yaml").write_text(_CONFIG)
    train = [sys.executable, "-m", "mltrain", "train", "--config", "c.yaml", "--run_name", "a first run"]
    subprocess.run(train, cwd=project, check=True, capture_output=True, timeout=200)
    before = sorted(project.rglob("*"))
    ui = start_ui(project, "runs/a first run", "--port", "0")
    try:
        assert ui.stdout is not None
        yield SimpleNamespace(project=project, ui=ui, address=ui.stdout.readline().strip(), before=before)
    finally:
        ui.kill() if ui.poll() is None else None
        ui.communicate()


@pytest.fixture
def page(shown: SimpleNamespace) -> Iterator[Page]:
    """The run's page."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1280, "height": 900})
        opened.set_default_timeout(_PATIENCE_MS)
        expect.set_options(timeout=_PATIENCE_MS)
        opened.goto(shown.address)
        yield opened
        browser.close()


def test_the_run_and_its_parameters_are_shown(page: Page) -> None:
    expect(page.get_by_role("heading", name="a first run")).to_be_visible()
    expect(page.get_by_text("Finished", exact=True)).to_be_visible()
    search = page.get_by_placeholder("Search parameters")
    for name, value in {"optimizer.lr": "0.0123", "training.num_epochs": "3"}.items():
        search.fill(name)
        row = page.get_by_role("row").filter(has_text=name)
        expect(row).to_contain_text(value)


def test_its_charts_are_drawn(page: Page) -> None:
    page.get_by_role("tab", name="Model metrics").click()
    page.get_by_placeholder("Search metric charts").fill("val/loss")
    expect(page.get_by_text("a first run (val/loss)")).to_be_visible()
    points = page.locator(".js-plotly-plot .scatterlayer .point")
    expect(points).to_have_count(3)


def test_its_artifacts_are_there_and_shown(page: Page) -> None:
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("config.yaml", exact=True).click()
    expect(page.get_by_text("vectors_task.py").first).to_be_visible()
    page.get_by_text("reports", exact=True).click()
    page.get_by_text("curves.png", exact=True).click()
    picture = page.locator("img[src^='blob:'], img[src*='curves.png']").first
    expect(picture).to_be_visible()
    page.wait_for_function("image => image.complete && image.naturalWidth > 100", arg=picture.element_handle())


def test_it_listens_on_loopback_alone_and_a_second_one_says_who_has_the_port(shown: SimpleNamespace) -> None:
    port = int(shown.address.split(":")[2].split("/")[0])
    family = psutil.Process(shown.ui.pid).children(recursive=True)
    listening = [
        connection.laddr
        for process in family
        for connection in process.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {(address.ip, address.port) for address in listening} == {("127.0.0.1", port)}
    assert len(family) <= 3
    second = start_ui(shown.project, "--port", str(port))
    _, told = second.communicate(timeout=60)
    assert second.returncode == 2
    assert f"port {port}: is taken by " in told
    assert len(told.splitlines()) == 1


def test_a_signal_ends_the_server_and_its_children_and_nothing_is_left(shown: SimpleNamespace) -> None:
    family = psutil.Process(shown.ui.pid).children(recursive=True)
    assert family
    shown.ui.send_signal(signal.SIGINT)
    assert shown.ui.wait(60) == 130
    assert not any(process.is_running() for process in family)
    left = {path for path in shown.project.rglob("*") if not path.name.startswith("mlflow.db-")}
    assert left == {path for path in shown.before if not path.name.startswith("mlflow.db-")}


def test_a_run_that_the_store_lacks_is_told_and_sigterm_ends_the_start(shown: SimpleNamespace, tmp_path: Path) -> None:
    copied = tmp_path / "never sent"
    shutil.copytree(shown.project / "runs" / "a first run", copied, ignore=shutil.ignore_patterns("tracking"))
    ui = start_ui(shown.project, str(copied), "--port", "0", "--tracking_uri", "sqlite:///mlflow.db")
    assert ui.stdout is not None
    address = ui.stdout.readline().strip()
    ui.terminate()
    _, told = ui.communicate(timeout=60)
    assert ui.returncode == 143
    assert address.removeprefix("http://127.0.0.1:").isdecimal()
    assert f"This store does not have the run never sent; mltrain sync {copied} sends it." in told


def test_a_store_that_mlflow_refuses_is_one_line(shown: SimpleNamespace, tmp_path: Path) -> None:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        for table in ("experiments", "runs", "alembic_version (version_num)"):
            database.execute(f"CREATE TABLE {table if '(' in table else table + ' (a)'}")
        database.execute("INSERT INTO alembic_version VALUES ('nonsense')")
        database.commit()
    ui = start_ui(tmp_path, "--port", "0")
    out, told = ui.communicate(timeout=120)
    assert (ui.returncode, out) == (2, "")
    assert told.splitlines()[-1].startswith("error: MLflow's server ended with code ")
