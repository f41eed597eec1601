"""Facts of real and of odd machines: what cannot be read is left out, and nothing fails for it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from mltrain.core import host_facts, package_versions
from mltrain.core.control_group import cpu_quota, memory_limit
from mltrain.core.disk_facts import disk
from mltrain.core.hardware import usable_cores
from mltrain.core.shared_memory import bytes_needed, fitting_workers, shared_memory
from mltrain.core.torch_facts import runs_on, torch_facts

GIB = 2**30


def tree(**files: str) -> Path:
    """Make a folder with such files, `proc__self__cgroup="..."`, and return it."""
    root = Path("root")
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


# ---- control groups ------------------------------------------------------------------------------------------------


def test_no_control_groups() -> None:
    assert cpu_quota(Path("nowhere")) is None
    assert memory_limit(Path("nowhere")) is None


def test_version_2_takes_the_least_of_a_group_and_those_around_it() -> None:
    root = tree(proc__self__cgroup="0::/job/step")
    for place, cpu, memory in (("", "max 100000", "max"), ("job", "250000 100000", "8000"), ("job/step", "max 1", "9")):
        folder = root / "sys/fs/cgroup" / place
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(cpu)
        (folder / "memory.max").write_text(memory)
    assert cpu_quota(root) == 2.5
    assert memory_limit(root) == 9


def test_version_1() -> None:
    root = tree(proc__self__cgroup="4:cpu,cpuacct:/docker/1\n3:memory:/docker/1\n1:name=systemd:/")
    for place, files in {
        "cpu,cpuacct/docker/1": {"cpu.cfs_quota_us": "150000", "cpu.cfs_period_us": "100000"},
        "cpu,cpuacct": {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"},
        "memory": {"memory.limit_in_bytes": "9223372036854771712"},
        "memory/docker/1": {"memory.limit_in_bytes": "4096\n"},
    }.items():
        folder = root / "sys/fs/cgroup" / place
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)
    assert cpu_quota(root) == 1.5
    assert memory_limit(root) == 4096


def test_a_damaged_group_sets_no_limit() -> None:
    root = tree(sys__fs__cgroup__placeholder="", proc__self__cgroup="not a line\n0::/../../etc")
    (root / "sys/fs/cgroup/cpu.max").write_text("0 0")
    (root / "sys/fs/cgroup/memory.max").write_text("plenty")
    assert cpu_quota(root) is None
    assert memory_limit(root) is None


# ---- the host ------------------------------------------------------------------------------------------------------


def test_this_host() -> None:
    processor, memory, host = host_facts.processor(), host_facts.memory(), host_facts.host()
    assert processor.usable == usable_cores() <= processor.present == os.cpu_count()
    assert processor.name
    assert memory.total == psutil.virtual_memory().total
    assert host.python == ".".join(map(str, sys.version_info[:3]))
    assert (host.compiler is not None) == bool(shutil.which("g++") or shutil.which("clang++"))
    for facts in (processor, memory, host, host_facts.nvidia()):
        json.dumps(dataclasses.asdict(facts))


def test_a_host_that_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("CXX", '"unfinished')
    nowhere = Path("nowhere")
    assert host_facts.processor(nowhere).name
    assert host_facts.memory(nowhere).limit is None
    assert dataclasses.astuple(host_facts.nvidia(nowhere)) == (0, None)
    host = host_facts.host(nowhere)
    assert (host.container, host.compiler, host.infiniband) == (None, None, ())


def test_a_host_with_nvidia_gpus() -> None:
    root = tree(
        proc__cpuinfo="processor : 0\nmodel name\t: A Processor @ 3 GHz\n",
        sys__module__nvidia__version="550.54.15\n",
        sys__bus__pci__devices__a__vendor="0x10de\n",
        sys__bus__pci__devices__a__class="0x030200\n",
        sys__bus__pci__devices__b__vendor="0x10de",
        sys__bus__pci__devices__b__class="0x040300",  # the sound of a graphics card
        sys__bus__pci__devices__c__vendor="0x8086",
        sys__bus__pci__devices__c__class="0x030000",
        sys__class__infiniband__mlx5_0__node_type="1: CA",
    )
    assert host_facts.processor(root).name == "A Processor @ 3 GHz"
    assert dataclasses.astuple(host_facts.nvidia(root)) == (1, "550.54.15")
    assert host_facts.host(root).infiniband == ("mlx5_0",)


def test_the_driver_of_proc_and_that_of_another_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    line = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 06:00:00 UTC 2025\n"
    root = tree(proc__driver__nvidia__version=line, proc__driver__nvidia__gpus__x__information="", sys__x="")
    assert dataclasses.astuple(host_facts.nvidia(root)) == (1, "580.65.06")
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 551.61\necho 551.61\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert dataclasses.astuple(host_facts.nvidia(Path("nowhere"))) == (2, "551.61")


# ---- folders and shared memory -------------------------------------------------------------------------------------


def test_the_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    found, usage = disk("run.dir", tmp_path / "not/yet", written=True), shutil.disk_usage(tmp_path)
    assert (found.path, found.total, found.writable) == (str(tmp_path / "not/yet"), usage.total, True)
    assert abs(found.free - usage.free) < GIB
    assert disk("data.data_dir", tmp_path, written=False).writable is None
    (tmp_path / "file").touch()
    assert disk("run.dir", tmp_path / "file/runs", written=True).writable is False
    assert disk("run.dir", tmp_path / ("x" * 300), written=True).problem == "File name too long"


def test_shared_memory() -> None:
    assert shared_memory(Path("nowhere")) is None
    found = shared_memory(Path())
    assert found is not None
    assert 0 <= found.free <= found.total


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("wish", [(1, 1), (4, 2), (8, 5)])
def test_what_fits_is_what_is_needed(wish: tuple[int, int], processes: int) -> None:
    need = bytes_needed(*wish, 1000, processes)
    assert fitting_workers(*wish, 1000, need, processes) == wish
    assert fitting_workers(*wish, 1000, need - 1000 * processes * 4, processes) < wish


# ---- torch and packages --------------------------------------------------------------------------------------------


def test_this_torch() -> None:
    build, devices, processor = torch_facts(host_facts.processor())
    assert (build.version, build.cuda, build.threads) == (
        torch.__version__,
        torch.version.cuda,
        torch.get_num_threads(),
    )
    assert ("gloo" in build.backends) == torch.distributed.is_gloo_available()
    assert len([device for device in devices if device.kind == "cuda"]) == torch.cuda.device_count()
    assert processor.instruction_set == torch.backends.cpu.get_cpu_capability()
    assert processor.bf16 in (True, False)


def test_a_torch_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    build, devices, processor = torch_facts(host_facts.processor())
    assert (build.version, devices, processor.bf16) == (None, (), None)
    assert build.problem.startswith("ModuleNotFoundError: ")


@pytest.mark.parametrize(
    ("architectures", "capability", "runs"),
    [
        (("sm_80", "sm_90"), (9, 0), True),
        (("sm_80", "sm_90"), (8, 6), True),
        (("sm_80", "sm_90"), (7, 5), False),
        (("sm_75", "sm_86"), (8, 0), False),
        (("sm_90a",), (9, 0), True),
        (("sm_100a", "compute_100a"), (10, 3), False),
        (("sm_90", "compute_90"), (12, 0), True),
        (("compute_90",), (8, 9), False),
        (("gfx90a", "sm_"), (9, 0), False),
        ((), (3, 5), True),
    ],
)
def test_which_gpus_a_build_has_code_for(
    architectures: tuple[str, ...], capability: tuple[int, int], runs: bool
) -> None:
    assert runs_on(architectures, capability) == runs


def test_packages_here() -> None:
    found = {package.name: package for package in package_versions.package_versions()}
    assert found["torch"].version == torch.__version__
    assert found["torch"].required
    assert [package.name for package in found.values() if package.required and package.problem] == []


def test_packages_that_are_missing_old_or_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.1.0", "numpy": "2.1.0", "odd": "of yesterday", "torchvision": "0.1"}
    wishes = ["torch>=2.10", "numpy>=2.0", "gone>=1", "odd>=1", "(unreadable", "extra; extra == 'docs'"]
    monkeypatch.setattr(package_versions, "requires", lambda name: wishes)
    monkeypatch.setattr(package_versions, "_version", versions.get)
    wrong = "import sys; print('a warning', file=sys.stderr); raise RuntimeError('operator torchvision::nms')"

    def run(command: list[str], **arguments: object) -> object:
        assert command == [sys.executable, "-c", "import torchvision"]
        return real([sys.executable, "-c", wrong], **arguments)

    real = subprocess.run
    monkeypatch.setattr(subprocess, "run", run)
    found = {package.name: package for package in package_versions.package_versions()}
    assert "extra" not in found
    assert {name: package.problem for name, package in found.items() if package.problem} == {
        "gone": "is not installed",
        "odd": "is of yesterday, and mltrain needs >=1",
        "torch": "is 2.1.0, and mltrain needs >=2.10",
        "torchvision": "cannot be imported (RuntimeError: operator torchvision::nms)",
    }
