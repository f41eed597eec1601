"""Makes the pictures of MLflow's UI in docs/images: `python docs/make_screenshots.py`, with chromium installed.

Trains the digits of `make demo` in a temporary folder, starts `mltrain ui` on the run and photographs its pages.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
IMAGES = Path(__file__).with_name("images")
RUN = "digits_fold_0"
PATIENCE_MS = 60_000


def main() -> None:
    """Write mlflow-run.png, mlflow-charts.png and mlflow-artifacts.png."""
    with tempfile.TemporaryDirectory() as folder, _ui(_trained(Path(folder))) as address, _page(address) as page:
        _run(page)
        _charts(page)
        _artifacts(page)


def _trained(project: Path) -> Path:
    """Train the demo's run in a project of its own."""
    shutil.copytree(ROOT / "configs", project / "configs")
    for line in (
        "make-data digits --output data/digits",
        "split --raw_data data/digits/raw --folds 5",
        f"train --config configs/digits.yaml --fold 0 --run_name {RUN}",
    ):
        subprocess.run([sys.executable, "-m", "mltrain", *line.split()], cwd=project, check=True)
    return project


@contextlib.contextmanager
def _ui(project: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "mltrain", "ui", f"runs/{RUN}", "--port", "0"]
    process = subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@contextlib.contextmanager
def _page(address: str) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 820})
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        # The panel of MLflow's assistant opens by itself the first time.
        page.add_init_script("localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
        page.goto(address)
        yield page
        browser.close()


def _run(page: Page) -> None:
    """The overview: final metrics and parameters."""
    page.set_viewport_size({"width": 1280, "height": 990})
    metrics, parameters = page.get_by_placeholder("Search metrics"), page.get_by_placeholder("Search parameters")
    metrics.fill("loss")
    parameters.fill("optimizer.")
    expect(page.get_by_role("row").filter(has_text="optimizer.lr")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="val/loss")).to_be_visible()
    page.screenshot(path=IMAGES / "mlflow-run.png")
    page.set_viewport_size({"width": 1280, "height": 820})


def _charts(page: Page) -> None:
    """The curves of training and validation."""
    page.get_by_role("tab", name="Model metrics").click()
    page.get_by_placeholder("Search metric charts").fill("(train|val)/(loss|accuracy)$")
    for name in ("train/accuracy", "train/loss", "val/accuracy", "val/loss"):
        expect(page.get_by_text(f"{RUN} ({name})")).to_be_attached()
    expect(page.locator(".js-plotly-plot")).to_have_count(4)
    page.set_viewport_size({"width": 1280, "height": 1080})
    page.screenshot(path=IMAGES / "mlflow-charts.png")
    page.set_viewport_size({"width": 1280, "height": 820})


def _artifacts(page: Page) -> None:
    """The files of the run, and one of its pictures; where they lie on this machine is left out."""
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("reports", exact=True).click()
    page.get_by_text("curves.png", exact=True).click()
    picture = page.locator("img[src^='blob:'], img[src*='curves.png']").first
    expect(picture).to_be_visible()
    page.wait_for_function("image => image.complete && image.naturalWidth > 100", arg=picture.element_handle())
    page.get_by_text("file://").first.evaluate("element => { element.style.visibility = 'hidden' }")
    page.screenshot(path=IMAGES / "mlflow-artifacts.png")


if __name__ == "__main__":
    main()
