"""Two machines: two network namespaces joined by a virtual link, which is cut in mid-run and mended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, VECTORS_PLUGIN
from runs import largest_difference, weights
from warm_commands import wait_until

from mltrain.core.files import read_json

pytestmark = pytest.mark.slow

ADDRESSES = ("10.213.7.1", "10.213.7.2")
PORT = "29731"
SLOW = """
import os
import time

from mltrain.callbacks.base import Callback, register_callback


@register_callback("slow")
class Slow(Callback):
    def on_step_end(self, loop):
        time.sleep(0.2)
        if loop.position.step == 10:
            open("is_at_step_10", "w")
"""


class Network:
    """Two namespaces and the link between them."""

    def __init__(self) -> None:
        self.names = [f"mltrain-{os.getpid()}-{rank}" for rank in (0, 1)]
        self._ends = [f"mlt{os.getpid()}x{rank}"[-15:] for rank in (0, 1)]

    def make(self) -> None:
        for name in self.names:
            ip("netns", "add", name)
        first, second = self.names
        ip("link", "add", self._ends[0], "netns", first, "type", "veth", "peer", "name", self._ends[1], "netns", second)
        for name, end, address in zip(self.names, self._ends, ADDRESSES, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", end, "up")

    def set_link(self, state: str) -> None:
        """Cut the link ("down") or mend it ("up")."""
        ip("-n", self.names[0], "link", "set", self._ends[0], state)

    def remove(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    network = Network()
    try:
        network.make()
    except (OSError, subprocess.CalledProcessError) as error:
        network.remove()
        reason = getattr(error, "stderr", None) or error
        pytest.skip(f"NOT TESTED: network namespaces cannot be made here ({str(reason).strip()}); run as root, with ip")
    yield network
    network.remove()


@pytest.fixture(autouse=True)
def _link_is_up(network: Network) -> Iterator[None]:
    yield
    network.set_link("up")


class Pair:
    """The same command on both machines."""

    def __init__(self, network: Network, folder: Path, *words: str, around: tuple[str, ...] = ()) -> None:
        self._files = [folder / f"machine_{rank}.txt" for rank in (0, 1)]
        self._processes = []
        for rank, name in enumerate(network.names):
            several = ["--num_machines", "2", "--machine_rank", str(rank)]
            meeting = ["--main_process_ip", ADDRESSES[0], "--main_process_port", PORT]
            here = [*(around if rank == 1 else ()), sys.executable, "-m", "mltrain", "train", "--num_processes", "2"]
            command = ["ip", "netns", "exec", name, *here, *several, *meeting, *words]
            with self._files[rank].open("w") as output:
                process = subprocess.Popen(
                    command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=output, stderr=output
                )
            self._processes.append(process)

    def end(self) -> tuple[list[int], list[str]]:
        """Return the exit codes and what was said."""
        try:
            codes = [process.wait(240) for process in self._processes]
        finally:
            for process in self._processes:
                process.kill()
        texts = [file.read_text() for file in self._files]
        assert not any("Traceback" in text for text in texts), texts
        return codes, texts


def write_config(vectors: dict[str, Any], folder: Path) -> None:
    (folder / "slow.py").write_text(SLOW)
    config = {**vectors, "plugins": [str(VECTORS_PLUGIN), "slow.py"], "callbacks": {"slow": {}}}
    # The reports of the first rank, for which the other waits, take longest of all.
    config["training"] = {"num_epochs": 3, "batch_size": 4, "trainer_type": "accelerate", "collective_timeout_s": 25.0}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def digest(run: Path) -> str:
    summary = read_json(run / "summary.json")
    assert (summary["status"], summary["steps"], summary["num_processes"]) == ("completed", 21, 2)
    return str(summary["model_digest"])


@pytest.fixture(scope="module")
def straight(network: Network, vectors: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of two machines that nothing happened to."""
    folder = tmp_path_factory.mktemp("straight")
    write_config(vectors, folder)
    codes, texts = Pair(network, folder, "--config", "config.yaml", "--run_name", "it").end()
    assert codes == [0, 0], texts
    return folder / "runs" / "it"


def test_two_machines_equal_one_process(straight: Path, train_vectors: Any) -> None:
    assert digest(straight)
    one = train_vectors({"run.name": "one"})
    assert largest_difference(weights(one.folder), weights(straight)) < 1e-6


def test_a_cut_ends_both_with_a_line_and_nothing_is_lost(
    network: Network, straight: Path, vectors: dict[str, Any], tmp_path: Path
) -> None:
    write_config(vectors, tmp_path)
    pair = Pair(network, tmp_path, "--config", "config.yaml", "--run_name", "it")
    wait_until((tmp_path / "is_at_step_10").exists, "the run does not train")
    network.set_link("down")
    codes, texts = pair.end()
    assert codes == [75, 75]
    for other, text in zip((1, 0), texts, strict=True):
        last = text.splitlines()[-1]
        assert last.startswith(f"error: machine {other} does not answer any more. Continue with --resume"), text
    network.set_link("up")
    codes, texts = Pair(network, tmp_path, "--resume", "runs/it").end()
    assert codes == [0, 0], texts
    assert digest(tmp_path / "runs" / "it") == digest(straight)


def test_a_cut_that_is_mended_goes_on_by_itself(
    network: Network, straight: Path, vectors: dict[str, Any], tmp_path: Path
) -> None:
    write_config(vectors, tmp_path)
    pair = Pair(network, tmp_path, "--config", "config.yaml", "--run_name", "it", "--max_restarts", "1")
    wait_until((tmp_path / "is_at_step_10").exists, "the run does not train")
    network.set_link("down")
    logs = [tmp_path / f"machine_{rank}.txt" for rank in (0, 1)]
    wait_until(lambda: all(" (process " in log.read_text() for log in logs), "the ranks do not notice")
    network.set_link("up")
    codes, texts = pair.end()
    assert codes == [0, 0], texts
    assert all(text.count("Restart 1 of 1") == 1 for text in texts)
    assert digest(tmp_path / "runs" / "it") == digest(straight)


def test_a_link_that_stays_cut_ends_the_wait_for_it(network: Network, vectors: dict[str, Any], tmp_path: Path) -> None:
    write_config(vectors, tmp_path)
    bounded = ["--max_restarts", "3", "--rendezvous_timeout", "5"]
    pair = Pair(network, tmp_path, "--config", "config.yaml", *bounded)
    wait_until((tmp_path / "is_at_step_10").exists, "the run does not train")
    network.set_link("down")
    codes, texts = pair.end()
    assert codes == [75, 75]
    assert all("does not answer any more. Continue with --resume" in text.splitlines()[-1] for text in texts)


def test_a_folder_that_is_not_shared_is_refused(network: Network, vectors: dict[str, Any], tmp_path: Path) -> None:
    write_config(vectors, tmp_path)
    (tmp_path / "runs").mkdir()
    own = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs none runs && exec "$0" "$@"')
    codes, texts = Pair(network, tmp_path, "--config", "config.yaml", around=own).end()
    assert codes == [2, 2], texts
    assert "not the same folder for all processes: rank 1 does not see what rank 0 writes there" in texts[0]
    assert list((tmp_path / "runs").iterdir()) == []
