"""Each known trap of private training, and the tests that show that it is avoided here; those without a home follow."""

from __future__ import annotations

import ast
import copy
import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from private_plans import EmptyPlan
from runs import largest_difference, weights
from safetensors.torch import load_file
from torch import nn

from mltrain.checkpoints.store import CheckpointStore
from mltrain.config.training import DPSection
from mltrain.core.errors import ConfigError
from mltrain.core.files import read_json
from mltrain.core.plugins import load_plugins
from mltrain.models.private_layers import adapt_for_privacy
from mltrain.privacy.clipping import ClippedGradients
from mltrain.privacy.private_update import PrivateUpdate
from mltrain.tracking.non_private import NON_PRIVATE, matcher
from mltrain.trainers.private_checks import probe_batch

pytestmark = pytest.mark.usefixtures("quick_reports")

KNOWLEDGE = ROOT.parent / "shared" / "knowledge" / "differential-privacy.md"
HERE = "privacy/test_traps.py"

# The trap, as the knowledge page calls it -> the files and tests that prove what is done about it.
TRAPS: dict[str, dict[str, tuple[str, ...]]] = {
    "Shuffled batches accounted as Poisson": {
        "privacy/test_poisson_plan.py": ("test_draws_are_poisson_over_all_ranks", "test_planted_faults_are_found"),
        HERE: ("test_there_is_no_way_to_turn_poisson_draws_off",),
    },
    "q and T taken from `len(loader)`": {
        "privacy/test_poisson_plan.py": (
            "test_the_rate_is_exact",
            "test_the_noise_is_calibrated_for_the_plans_own_steps",
            "test_every_rank_is_given_the_windows_that_are_accounted_for",
        )
    },
    "The normaliser leaks N": {HERE: ("test_the_sum_is_divided_by_the_configured_batch_size",)},
    "Accumulation over Poisson batches": {
        HERE: ("test_windows_cut_into_small_microbatches_teach_the_same_and_the_rate_falls_once_a_step",)
    },
    "Budget overrun": {
        "privacy/test_ledger.py": (
            "test_the_budget_is_never_passed_though_kills_lose_steps",
            "test_a_step_over_the_budget_is_not_counted_either",
        ),
        "faults/test_private_kills.py": ("test_killed_at_each_place_of_a_step",),
    },
    "Empty Poisson batches": {
        "privacy/test_empty_draws.py": (
            "test_noise_has_its_full_scale",
            "test_a_run_of_empty_draws_takes_and_counts_every_step",
        )
    },
    "Empty batch on one rank": {
        "privacy/test_two_private_processes.py": (
            "test_some_draws_of_one_rank_and_of_all_are_empty",
            "test_every_rank_takes_every_step_to_the_same_weights",
            "test_one_ledger_counts_for_both",
        )
    },
    "Same seed on every rank": {
        "privacy/test_two_private_processes.py": (
            "test_ranks_draw_apart",
            "test_noise_comes_from_one_rank_at_its_scale",
        ),
        "privacy/test_poisson_plan.py": ("test_planted_faults_are_found",),
    },
    "Resume": {
        "privacy/test_ledger.py": (
            "test_a_step_that_dies_after_it_was_counted_counts",
            "test_an_older_checkpoint_changes_nothing",
            "test_a_ledger_that_is_missing_is_refused_by_a_checkpoint_that_has_one",
        ),
        "privacy/test_poisson_plan.py": ("test_every_segment_draws_anew",),
        "faults/test_private_kills.py": (
            "test_killed_at_each_place_of_a_step",
            "test_noise_that_comes_again_would_be_seen",
        ),
    },
    "Loss that couples examples": {
        "privacy/test_coupling.py": (
            "test_coupled_losses_are_refused_in_one_line",
            "test_mixing_is_refused_by_its_key",
            "test_weights_of_examples_are_refused",
        )
    },
    "BatchNorm": {
        HERE: ("test_batch_norm_is_replaced_before_the_optimizer_is_built_and_keeps_its_scale",),
        "privacy/test_coupling.py": ("test_batch_norm_is_refused_as_the_models",),
    },
    "Diagnostics and selection are not private": {
        HERE: (
            "test_what_private_data_would_choose_is_refused",
            "test_values_of_private_data_are_tagged_and_the_last_weights_chosen",
        )
    },
    "delta": {HERE: ("test_a_delta_of_1_over_n_is_refused",), "privacy/test_accounting.py": ("test_delta",)},
    "Noise seeded by the config": {
        HERE: ("test_a_seed_gives_no_noise_again", "test_noise_that_follows_from_the_seed_voids_the_statement"),
        "privacy/test_noise.py": ("test_a_key_gives_one_stream_whatever_torch_is_seeded_with",),
    },
    "Adaptive clipping": {HERE: ("test_there_is_one_clipping_norm",)},
    "Silently not private": {HERE: ("test_noise_has_reached_the_weights_that_are_packed",)},
    "GDP accountant": {
        HERE: ("test_the_gaussian_approximation_is_no_accountant",),
        "privacy/test_accounting.py": ("test_the_gaussian_approximation_is_not_offered",),
    },
}


def test_every_trap_of_the_page_is_here() -> None:
    if not KNOWLEDGE.is_file():
        pytest.skip(f"the page is not at {KNOWLEDGE}")
    table = KNOWLEDGE.read_text(encoding="utf-8").split("| Trap |")[1].split("\n\n")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")]
    assert rows == list(TRAPS)


@pytest.mark.parametrize("trap", TRAPS)
def test_what_is_named_is_a_test(trap: str) -> None:
    for file, names in TRAPS[trap].items():
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert functions.issuperset(names), set(names) - functions


# ---- the tests that have no other home


@pytest.fixture(autouse=True)
def _quick_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes seconds at the end of each run, and other tests look at."""
    monkeypatch.setattr("mltrain.privacy.statement._pld", lambda _: None)
    monkeypatch.setattr("mltrain.workflows.session.draw_curves", lambda *_, **__: None)


def private(**dp: Any) -> dict[str, Any]:
    return {
        "training.trainer_type": "dp",
        "training.dp": {"accountant": "rdp", "grad_sample_mode": "hooks", "noise_multiplier": 1.0, **dp},
        "data.val_size": 4,
        "tracking.system_metrics.enabled": False,
    }


DESCENT = {"optimizer.name": "sgd", "optimizer.lr": 0.1, "optimizer.momentum": 0.0, "scheduler.name": "none"}


@pytest.mark.parametrize("key", ["poisson", "poisson_sampling", "sampling", "secure_mode"])
def test_there_is_no_way_to_turn_poisson_draws_off(key: str, train_vectors: Any) -> None:
    assert key not in DPSection.model_fields
    with pytest.raises(ConfigError, match=rf"unknown key|{key}"):
        train_vectors({**private(), f"training.dp.{key}": False})


@pytest.mark.parametrize("count", [1, 3, 11])
@pytest.mark.parametrize("mode", ["ghost", "hooks"])
def test_the_sum_is_divided_by_the_configured_batch_size(count: int, mode: Any) -> None:
    """Whatever a window happens to hold: neither its size nor that of the data enters."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
    twin, inputs = copy.deepcopy(model), 5 * torch.randn(count, 4)
    update = PrivateUpdate(
        ClippedGradients(model, 0.5, mode),
        torch.optim.SGD(model.parameters(), lr=1.0),
        None,
        noise_multiplier=1.0,
        max_grad_norm=0.5,
        batch_size=8,
    )
    update.add(model(inputs).square().flatten())
    update.finish(want_norm=False)
    total = torch.zeros(sum(parameter.numel() for parameter in twin.parameters()))
    for row in inputs:
        parts = torch.autograd.grad(twin(row[None]).square().sum(), [*twin.parameters()])
        gradient = torch.cat([part.flatten() for part in parts])
        total += gradient * min(1.0, 0.5 / float(gradient.norm()))
    got = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    torch.testing.assert_close(got, total / 8, rtol=1e-5, atol=1e-7)


def test_windows_cut_into_small_microbatches_teach_the_same_and_the_rate_falls_once_a_step(train_vectors: Any) -> None:
    trained = []
    for size in (3, 64):
        settings = private(reproducible=True, max_physical_batch_size=size)
        trained.append(train_vectors({**settings, "checkpointing.every_n_steps": 5, "tracking.log_every_n_steps": 1}))
    whole = trained[-1]
    rates = [rates_of(result.folder) for result in trained]
    for result in trained[:-1]:
        assert result.summary["steps"] == whole.summary["steps"] == 21
        assert largest_difference(weights(result.folder), weights(whole.folder)) < 1e-6
    assert rates[0] == rates[1]
    assert len(rates[0]) == 21
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[0][3:]))


@pytest.mark.parametrize(("mode", "physical", "most"), [("auto", 3, 3), ("auto", None, 12), ("ghost", 64, 12)])
def test_trials_before_a_run_hold_no_more_examples_than_its_microbatches(
    mode: str, physical: int | None, most: int, train_vectors: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that is cut because memory is short would not fit into a trial either."""
    sizes = []
    monkeypatch.setattr(
        "mltrain.trainers.dp.probe_batch", lambda task, size: sizes.append(size) or probe_batch(task, size)
    )
    settings = private(grad_sample_mode=mode, max_physical_batch_size=physical)
    train_vectors({**settings, "training.batch_size": 12, "training.num_epochs": 1})
    assert sizes == [most, most - 1]


def rates_of(folder: Path) -> list[float]:
    found = re.findall(r'"train/lr": ([\d.e-]+)', (folder / "metrics.jsonl").read_text())
    return [float(value) for value in found]


def test_batch_norm_is_replaced_before_the_optimizer_is_built_and_keeps_its_scale(train_vectors: Any) -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, 2))
    scale = torch.linspace(0.5, 1.5, 16)
    model[1].weight.data.copy_(scale)
    told = adapt_for_privacy(model)
    assert any("BatchNorm" in line for line in told)
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    assert any(torch.equal(parameter, scale) for parameter in model.parameters())
    result = train_vectors({**private(), "model.batch_norm": True})
    learned = weights(result.folder)
    assert not any("running" in name for name in learned)
    assert not torch.equal(learned["1.weight"], torch.ones(16))


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("checkpointing.selection", {"checkpointing.selection": "best"}),
        ("early_stopping.enabled", {"early_stopping.enabled": True}),
        ("scheduler.name", {"scheduler.name": "plateau"}),
    ],
)
def test_what_private_data_would_choose_is_refused(key: str, changes: dict[str, Any], train_vectors: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^overrides, {key}: is .*epsilon does not cover") as raised:
        train_vectors({**private(), **changes})
    assert "accept_selection_leak=true" in str(raised.value)


def test_values_of_private_data_are_tagged_and_the_last_weights_chosen(train_vectors: Any) -> None:
    result = train_vectors(private())
    patterns = result.summary[NON_PRIVATE]
    is_non_private = matcher(patterns)
    for name in ("train/loss", "train/step_loss", "train/accuracy", "val/loss", "val/accuracy", "test/loss"):
        assert is_non_private(name), name
    for name in ("epoch", "train/lr", "train/grad_norm", "privacy/epsilon", "privacy/steps"):
        assert not is_non_private(name), name
    statement = read_json(result.folder / "reports" / "privacy.json")
    assert statement["non_private_outputs"] == patterns
    assert statement["selection"]["by"] == "last"
    assert statement["selection"]["decided_by_private_values"] == {}
    newest = CheckpointStore(result.folder / "checkpoints").list()[0]
    assert newest.name == f"step-{result.summary['steps']:08d}"
    assert largest_difference(weights(result.folder), load_file(newest / "model.safetensors")) == 0


@pytest.mark.parametrize("delta", [1 / 50, 0.5])
def test_a_delta_of_1_over_n_is_refused(delta: float, train_vectors: Any) -> None:
    with pytest.raises(ConfigError, match=r"must be less than 1/N: 0\.02 for N = 50"):
        train_vectors(private(target_delta=delta))


@pytest.fixture(scope="module")
def learned(
    vectors: Mapping[str, Any], train_vectors: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, torch.Tensor]:
    """What runs of one seed pack whose draws are empty: the initial weights, and twice the same with noise."""
    import mltrain.trainers.dp as dp

    load_plugins([str(path) for path in vectors["plugins"]])
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dp, "PoissonPlan", EmptyPlan)
        patch.setattr("mltrain.privacy.statement._pld", lambda _: None)
        patch.setattr("mltrain.workflows.session.draw_curves", lambda *_, **__: None)
        for name, noise in (("initial", 0.0), ("one", 2.0), ("other", 2.0)):
            settings = private(noise_multiplier=noise, max_grad_norm=0.5, reproducible=not noise)
            settings |= {**DESCENT, "run.dir": str(tmp_path_factory.mktemp(name)), "seed": 7}
            result = train_vectors(settings)
            assert result.summary["steps"] == 21
            found[name] = torch.cat([value.flatten() for _, value in sorted(weights(result.folder).items())])
    return found


def test_noise_has_reached_the_weights_that_are_packed(learned: dict[str, torch.Tensor]) -> None:
    for name in ("one", "other"):
        change = (learned[name] - learned["initial"]).double()
        expected = 0.1 * 2.0 * 0.5 / 8 * 21**0.5
        assert len(change) == 178
        assert float(change.std()) == pytest.approx(expected, rel=4 / (2 * 178) ** 0.5)


def test_a_seed_gives_no_noise_again(learned: dict[str, torch.Tensor]) -> None:
    changes = torch.stack([learned[name] - learned["initial"] for name in ("one", "other")])
    assert abs(float(torch.corrcoef(changes)[0, 1])) < 5 / 178**0.5


def test_noise_that_follows_from_the_seed_voids_the_statement(train_vectors: Any) -> None:
    one, other = (train_vectors(private(reproducible=True)) for _ in range(2))
    assert one.summary["model_digest"] == other.summary["model_digest"]
    assert one.summary["privacy"]["epsilon"] is None
    assert "seed" in one.summary["privacy"]["void"]


def test_there_is_one_clipping_norm(train_vectors: Any) -> None:
    assert not any("adaptive" in name or "quantile" in name for name in DPSection.model_fields)
    with pytest.raises(ConfigError, match="adaptive_clipping"):
        train_vectors({**private(), "training.dp.adaptive_clipping": True})


def test_the_gaussian_approximation_is_no_accountant(train_vectors: Any) -> None:
    with pytest.raises(ConfigError, match="accountant"):
        train_vectors(private(accountant="gdp"))
