"""The statement of privacy: its figures against the accountants, and what it says of a run that leaks or is void."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mltrain.privacy.accounting import Accountant
from mltrain.privacy.claim import PrivacyClaim
from mltrain.privacy.cross_check import pld_epsilon
from mltrain.privacy.rounding import rounded_up, shown_up
from mltrain.privacy.statement import privacy_facts, short_facts, write_statement

CLAIM = PrivacyClaim(
    sample_rate=64 / 1000,
    noise_multiplier=1.1,
    max_grad_norm=0.5,
    num_samples=1000,
    batch_size=64,
    planned_steps=32,
    delta=1e-5,
    accountant="prv",
    steps_counted=24,
    steps_learned=20,
    grad_sample_mode="ghost",
    noise_source="a keystream",
    target_epsilon=3.0,
    data_digest="d" * 40,
    initial_weights={"source": "pretrained.safetensors", "sha256": "ab" * 32},
    non_private=("*", "!privacy/*", "!train/lr"),
    num_processes=2,
    num_segments=3,
    run_name="a run",
)
RDP = replace(CLAIM, accountant="rdp")  # takes no time
BY_ACCURACY = {"the chosen weights": "val/accuracy"}


@pytest.fixture(scope="module", autouse=True)
def one_cross_check() -> Iterator[None]:
    """Most statements here are of the same steps, and a cross-check takes a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mltrain.privacy.statement.pld_epsilon", cache(pld_epsilon))
        yield


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    return privacy_facts(CLAIM)


def test_the_figures_are_those_of_the_run_and_epsilon_is_that_of_every_step_counted(facts: dict[str, Any]) -> None:
    assert facts["epsilon"] == Accountant(0.064, 1.1, 1e-5, "prv").epsilon(24)
    expected = {
        "delta": 1e-5, "noise_multiplier": 1.1, "sample_rate": 0.064, "steps": 24, "steps_counted": 24,
        "steps_learned": 20, "planned_steps": 32, "max_grad_norm": 0.5, "accountant": "prv", "target_epsilon": 3.0,
        "expected_batch_size": 64, "num_samples": 1000, "grad_sample_mode": "ghost", "data_digest": "d" * 40,
        "segments": 3, "num_processes": 2, "void": None, "within_target": True, "under_way": False,
        "state": "ended", "callbacks": [], "plugins": [],
        "neighbouring_relation": "add or remove one training example; the number of training examples is public",
        "non_private_outputs": ["*", "!privacy/*", "!train/lr"],
    }  # fmt: skip
    assert expected.items() <= facts.items()
    assert facts["versions"].keys() == {"mltrain", "torch", "opacus", "dp-accounting", "cryptography"}


def test_the_cross_check_lies_a_little_below_the_claim(facts: dict[str, Any]) -> None:
    check, epsilons = facts["cross_check"], facts["accountant_epsilons"]
    if check["epsilon"] is None:
        pytest.skip(f"no cross-check here: {check['why_not']}")
    assert 0 <= check["difference"] <= 0.02
    assert check["agrees"] is True
    assert check["difference"] == epsilons["prv"] - epsilons["pld"]
    assert epsilons["pld"] < epsilons["prv"] < epsilons["rdp"]


def test_the_curve_rises_to_the_claim(facts: dict[str, Any]) -> None:
    steps, epsilons = zip(*facts["epsilon_by_steps"], strict=True)
    assert (steps[0], epsilons[0]) == (0, 0.0)
    assert (steps[-1], epsilons[-1]) == (24, facts["epsilon"])
    assert list(steps) == sorted(set(steps))
    assert list(epsilons) == sorted(epsilons)
    assert facts["epsilon_by_steps_text"] == "upper bounds of epsilon after so many steps, at delta 1e-05"


@pytest.mark.parametrize(("claim", "most"), [(replace(CLAIM, steps_counted=130), 5e-3), (RDP, 0.0)])
def test_each_point_of_the_curve_is_that_of_its_own_number_of_steps(
    claim: PrivacyClaim, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mltrain.privacy.statement.pld_epsilon", lambda **_: None)
    accountant = Accountant(0.064, 1.1, 1e-5, claim.accountant)
    points = privacy_facts(claim)["epsilon_by_steps"]
    assert len(points) == 9
    for count, epsilon in points[1::3]:
        assert 0 <= epsilon - accountant.epsilon(count) <= most


def test_both_forms_are_written_and_the_json_is_what_is_returned(tmp_path: Path) -> None:
    written = write_statement(tmp_path, RDP)
    assert json.loads((tmp_path / "privacy.json").read_text()) == json.loads(json.dumps(written))
    assert "a run" in (tmp_path / "privacy.html").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["privacy.html", "privacy.json"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"noise_multiplier": 0.0}, "No noise was added"), ({"reproducible": True}, "follow from the seed")],
)
def test_what_voids_the_statement_leaves_no_epsilon(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    void = write_statement(tmp_path, replace(RDP, **changes))
    assert reason in void["void"]
    assert (void["epsilon"], void["within_target"]) == (None, None)
    assert (short_facts(void)["epsilon"], short_facts(void)["void"]) == (None, void["void"])
    assert json.loads((tmp_path / "privacy.json").read_text())["epsilon"] is None


def test_an_epsilon_that_is_not_finite_is_no_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Accountant, "epsilon", lambda self, steps: math.inf)
    facts = privacy_facts(RDP)
    assert facts["void"] == "The accountant finds no finite epsilon."
    assert facts["cross_check"]["why_not"] == "it takes too long for an epsilon above 30"


@pytest.mark.parametrize("state", ["under way", "interrupted"])
def test_before_a_run_has_ended_only_the_claim_is_computed(
    state: Literal["under way", "interrupted"], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mltrain.privacy.statement.pld_epsilon", lambda **_: pytest.fail("it takes seconds"))
    begun = privacy_facts(replace(RDP, state=state, steps_counted=36))
    assert (begun["state"], begun["under_way"]) == (state, state == "under way")
    assert begun["epsilon"] == Accountant(0.064, 1.1, 1e-5, "rdp").epsilon(36)
    assert (begun["accountant_epsilons"]["prv"], begun["epsilon_by_steps"]) == (None, [])
    assert begun["cross_check"]["why_not"] == "the run has not ended"


def test_without_dp_accounting_the_cross_check_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    check = privacy_facts(replace(RDP, steps_counted=23))["cross_check"]
    assert (check["epsilon"], check["agrees"], check["why_not"]) == (None, None, "dp-accounting is not installed")


def test_an_accountant_that_the_claim_does_not_rest_on_may_fail() -> None:
    extreme = privacy_facts(replace(RDP, noise_multiplier=0.05, sample_rate=1.0, steps_counted=3))
    assert extreme["epsilon"] == Accountant(1.0, 0.05, 1e-5, "rdp").epsilon(3)
    assert extreme["accountant_epsilons"]["prv"] is None


def test_a_claim_below_the_cross_check_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mltrain.privacy.statement.pld_epsilon", lambda **_: 100.0)
    check = privacy_facts(RDP)["cross_check"]
    assert check["agrees"] is False
    assert check["difference"] < 0


def test_what_private_values_decided_is_not_covered() -> None:
    waived = replace(RDP, selection="best", decisions=BY_ACCURACY, accept_selection_leak=True, ema=True)
    facts = privacy_facts(waived)
    assert facts["selection"] == {
        "weights": "the averaged weights (EMA) of the checkpoint with the best val/accuracy",
        "by": "best",
        "ema": True,
        "covered": False,
        "waiver_used": True,
        "decided_by_private_values": BY_ACCURACY,
    }
    assert facts["not_covered"][0] == "The chosen weights: decided by val/accuracy, a value of private data."
    public = privacy_facts(replace(waived, validation_is_public=True, non_private=("*", "!val/*")))
    assert (public["selection"]["covered"], public["selection"]["waiver_used"]) == (True, False)
    assert not any("validation" in sentence for sentence in public["not_covered"])
    assert any("validation_is_public" in sentence for sentence in public["public"])


def test_initial_weights_must_not_know_the_data(facts: dict[str, Any]) -> None:
    assert "The initial weights: pretrained.safetensors." in facts["public"]
    [told] = facts["conditions"]
    assert "pretrained.safetensors: they must not have been learned from the private data" in told
    random = privacy_facts(replace(RDP, initial_weights=None))
    assert "The initial weights, which are random." in random["public"]
    assert random["conditions"] == []


def test_what_plugins_do_is_not_covered_and_comes_first() -> None:
    own = privacy_facts(
        replace(RDP, callbacks=("stopper", "peeper"), plugins=("mine.py",), decisions=BY_ACCURACY, selection="best")
    )
    callbacks, plugins, chosen = own["not_covered"][:3]
    assert callbacks.startswith("What the callbacks of plugins do (stopper, peeper): they see everything")
    assert plugins.startswith("Code of plugins (mine.py): it sees everything")
    assert chosen.startswith("The chosen weights")
    assert own["conditions"][:2] == [callbacks, plugins]
    assert (own["callbacks"], own["plugins"]) == (["stopper", "peeper"], ["mine.py"])


@given(value=st.floats(1e-300, 1e300), digits=st.integers(1, 6))
def test_shortened_figures_never_get_smaller(value: float, digits: int) -> None:
    short = rounded_up(value, digits)
    assert value <= short <= value * (1 + 10.0 ** (1 - digits)) * (1 + 1e-12)
    assert float(f"{short:.{digits}g}") == short
    assert rounded_up(short, digits) == short
    assert float(shown_up(value, digits)) == short
